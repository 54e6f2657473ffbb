"""Fake bodies of the Responses format: streams say what whole bodies say, and the same words give the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.jsontext import dumps, loads
from nodellm_orm.testing import FakeCall, FakeThinking, openai_responses_body, openai_responses_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = [FakeCall("get_weather", {"city": "Zürich"}), FakeCall("now", id="mine")]
THOUGHTS = [FakeThinking("Let me see."), FakeThinking("", "b3RoZXI=")]


def payloads(events: list[bytes]) -> Iterator[Any]:
    """The JSON of every event; each is one event on the wire, with a name and a number."""
    for number, event in enumerate(events):
        assert event.endswith(b"\n\n")
        assert event.count(b"\n\n") == 1
        name, _, data = event.partition(b"\ndata: ")
        payload: Any = loads(data)
        assert name == f"event: {payload['type']}".encode()
        assert payload["sequence_number"] == number
        yield payload


@given(st.none() | st.text(), st.none() | st.text(), st.none() | st.just("max_output_tokens"))
def test_a_stream_says_what_the_body_says(text: str | None, refusal: str | None, incomplete: str | None) -> None:
    """Items put together again, and the whole response in the last event."""
    options: dict[str, Any] = {
        "thinking": THOUGHTS,
        "tool_calls": CALLS,
        "refusal": refusal,
        "incomplete": incomplete,
        "usage": (3, 4),
        "cached_tokens": 1,
        "reasoning_tokens": 2,
    }
    whole: Any = openai_responses_body(text, **options)
    said = loads(dumps(whole))
    items: list[Any] = []
    pieces: dict[tuple[int, str], str] = {}
    last: Any = None
    for event in payloads(openai_responses_stream(text, **options)):
        match event["type"].removeprefix("response."):
            case "output_item.added":
                assert event["output_index"] == len(items)
                assert event["item"].get("encrypted_content") in {None, "provisional"}
            case "output_item.done":
                items.append(event["item"])
            case kind if kind.endswith(".delta"):
                key = (event["output_index"], kind)
                pieces[key] = pieces.get(key, "") + event["delta"]
            case _:
                last = event
    assert items == whole["output"]
    assert last["type"] == f"response.{whole['status']}"
    assert last["response"] == said
    expected = "".join(
        [
            THOUGHTS[0].text,
            text or "",
            refusal or "",
            *(item["arguments"] for item in items if item["type"] == "function_call"),
        ]
    )
    assert "".join(pieces.values()) == expected


def test_bodies_say_only_what_they_are_told() -> None:
    """Without text there is no message; usage may be missing; further items stand as they are."""
    search: Any = {"type": "web_search_call", "id": "ws_1"}
    body: Any = openai_responses_body(usage=None, further=[search], model="m", id="resp_i")
    assert (body["output"], body["usage"], body["model"], body["id"]) == ([search], None, "m", "resp_i")
    assert (body["status"], body["incomplete_details"]) == ("completed", None)
    phased: Any = openai_responses_body("Hi", phase="final_answer", id="resp_i")
    [message] = phased["output"]
    assert (message["id"], message["phase"]) == ("msg_i", "final_answer")
    cut: Any = openai_responses_body("Half", incomplete="max_output_tokens")
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_the_same_words_give_the_same_bytes() -> None:
    """Nothing in them is random or a time, and the items of two responses have different ids."""
    assert openai_responses_stream("Hello", tool_calls=CALLS) == openai_responses_stream("Hello", tool_calls=CALLS)
    first: Any = openai_responses_body("Hi", thinking=THOUGHTS, tool_calls=CALLS)["output"]
    second: Any = openai_responses_body("Hi", thinking=THOUGHTS, tool_calls=CALLS, id="resp_2")["output"]
    assert {item["id"] for item in first}.isdisjoint({item["id"] for item in second})
