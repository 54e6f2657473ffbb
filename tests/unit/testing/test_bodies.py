"""Fake provider bodies: streams say what the whole bodies say, and the same words give the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.jsontext import dumps, encode, loads
from nodellm_orm.testing import (
    FakeCall,
    FakeThinking,
    anthropic_body,
    anthropic_error,
    anthropic_stream,
    openai_chat_body,
    openai_chat_stream,
    openai_error,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = [FakeCall("get_weather", {"city": "Zürich"}), FakeCall("now", id="mine")]


def payloads(events: list[bytes]) -> Iterator[Any]:
    """The JSON of every event but the terminal marker; each is one event on the wire."""
    for event in events:
        assert event.endswith(b"\n\n")
        assert event.count(b"\n\n") == 1
        name, _, data = event.rpartition(b"data: ")
        if data != b"[DONE]\n\n":
            payload: Any = loads(data)
            if name:
                assert name == f"event: {payload['type']}\n".encode()
            yield payload


@given(st.text(), st.booleans())
def test_an_openai_stream_says_what_the_body_says(text: str, interleaved: bool) -> None:  # noqa: FBT001 — drawn
    """Text and calls put together again, with the same usage, reason, model and id."""
    whole: Any = openai_chat_body(text, tool_calls=CALLS, usage=(3, 4), cached_tokens=1, reasoning_tokens=2)
    events = openai_chat_stream(
        text, tool_calls=CALLS, usage=(3, 4), cached_tokens=1, reasoning_tokens=2, interleaved=interleaved
    )
    assert events[-1] == b"data: [DONE]\n\n"
    content, reason, usage = "", None, None
    calls: dict[int, dict[str, str]] = {}
    for chunk in payloads(events):
        assert (chunk["id"], chunk["model"], chunk["object"]) == (whole["id"], whole["model"], "chat.completion.chunk")
        usage = chunk["usage"] or usage
        for choice in chunk["choices"]:
            content += choice["delta"].get("content") or ""
            reason = choice["finish_reason"] or reason
            for piece in choice["delta"].get("tool_calls", ()):
                call = calls.setdefault(piece["index"], {"name": "", "arguments": "", "id": ""})
                call["id"] += piece.get("id", "")
                call["name"] += piece["function"].get("name", "")
                call["arguments"] += piece["function"]["arguments"]
    message = whole["choices"][0]["message"]
    assert content == message["content"]
    assert reason == whole["choices"][0]["finish_reason"] == "tool_calls"
    assert usage == whole["usage"]
    assert list(calls.values()) == [
        {"name": call["function"]["name"], "arguments": call["function"]["arguments"], "id": call["id"]}
        for call in message["tool_calls"]
    ]


def test_interleaved_calls_take_turns() -> None:
    """The second call begins before the first has ended."""
    indices = [
        chunk["choices"][0]["delta"]["tool_calls"][0]["index"]
        for chunk in payloads(openai_chat_stream(tool_calls=CALLS, interleaved=True, usage=None))
        if chunk["choices"][0]["delta"].get("tool_calls")
    ]
    assert indices[:4] == [0, 1, 0, 1]
    assert openai_chat_stream(interleaved=True) == openai_chat_stream()


def test_openai_bodies_say_only_what_they_are_told() -> None:
    """No usage, a refusal, another reason: what is given stands, what is not is left out or ``null``."""
    body: Any = openai_chat_body(refusal="No.", usage=None, finish_reason="content_filter", model="m", id="i")
    assert "usage" not in body
    assert (body["model"], body["id"]) == ("m", "i")
    choice = body["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": "No."}
    spoken: Any = openai_chat_body("Hi")
    assert spoken["choices"][0]["finish_reason"] == "stop"
    silent = list(payloads(openai_chat_stream(usage=None)))
    assert silent[0]["choices"][0]["delta"]["content"] is None
    assert all(chunk["usage"] is None for chunk in silent)


def test_arguments_may_be_any_text() -> None:
    """A string is sent as it stands, valid JSON or not."""
    body: Any = openai_chat_body(tool_calls=[FakeCall("f", '{"a":')])
    assert body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a":'


@given(st.text(), st.booleans())
def test_an_anthropic_stream_says_what_the_body_says(text: str, pings: bool) -> None:  # noqa: FBT001 — drawn
    """Blocks put together again, with the same usage, reason, model and id."""
    thinking = [FakeThinking("Let me see."), FakeThinking("", "b3RoZXI=")]
    said = anthropic_body(text, thinking=thinking, tool_calls=CALLS, usage=(3, 4), cache_read=1, cache_write=2)
    whole = loads(dumps(said))
    events = anthropic_stream(
        text, thinking=thinking, tool_calls=CALLS, usage=(3, 4), cache_read=1, cache_write=2, pings=pings
    )
    assert any(event.startswith(b"event: ping") for event in events) is pings
    message: Any = {}
    blocks: list[Any] = []
    for event in payloads(events):
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                assert event["index"] == len(blocks)
                blocks.append(event["content_block"])
            case "content_block_delta":
                fold(blocks[event["index"]], event["delta"])
            case "message_delta":
                message["stop_reason"] = event["delta"]["stop_reason"]
                message["usage"] |= event["usage"]
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = loads(block["input"])
    assert {**message, "content": blocks} == whole
    assert events[-1].startswith(b"event: message_stop\n")


def fold(block: Any, delta: Any) -> None:
    """Add a delta to its block."""
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] += delta["signature"]
        case _:
            block["input"] = (block["input"] or "") + delta["partial_json"]


def test_anthropic_bodies_say_only_what_they_are_told() -> None:
    """Without text there is no text block; another reason stands."""
    body: Any = anthropic_body(stop_reason="max_tokens", model="m", id="i")
    assert (body["content"], body["stop_reason"], body["model"], body["id"]) == ([], "max_tokens", "m", "i")
    spoken: Any = anthropic_body("Hi")
    assert spoken["stop_reason"] == "end_turn"
    kinds = [event["type"] for event in payloads(anthropic_stream(pings=False))]
    assert kinds == ["message_start", "message_delta", "message_stop"]


def test_errors_have_the_form_of_their_provider() -> None:
    """With the class and code given."""
    assert openai_error("no", type="insufficient_quota", code="q") == {
        "error": {"message": "no", "type": "insufficient_quota", "param": None, "code": "q"}
    }
    assert anthropic_error("no", type="overloaded_error") == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "no"},
        "request_id": "req_1",
    }


@pytest.mark.parametrize("make", [openai_chat_stream, anthropic_stream])
def test_the_same_words_give_the_same_bytes(make: Any) -> None:
    """Nothing in them is random or a time."""
    assert make("Hello", tool_calls=CALLS) == make("Hello", tool_calls=CALLS)
    assert encode(dumps(openai_chat_body("é"))) == encode(dumps(openai_chat_body("é")))
