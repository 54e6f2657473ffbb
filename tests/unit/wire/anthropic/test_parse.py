"""Whole bodies: which parts, counts and reasons they become, and what is refused."""

from __future__ import annotations

import pytest

from nodellm_orm import errors
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.usage import Usage
from nodellm_orm.testing.bodies import FakeCall, FakeThinking, anthropic_body, anthropic_error
from tests.unit.wire.anthropic.asking import WIRE, body


def test_a_plain_answer() -> None:
    """Text, model, id, reason and tokens of a short answer."""
    answer = WIRE.parse(encode(dumps(anthropic_body("It is 21 °C."))), ModelProfile())
    assert answer.parts == (TextPart(text="It is 21 °C."),)
    assert (answer.finish_reason, answer.raw_finish_reason) == (FinishReason.STOP, "end_turn")
    assert (answer.model, answer.response_id, answer.complete) == ("claude-haiku-4-5", "msg_1", True)
    assert answer.usage == Usage(input_tokens=11, cached_tokens=0, cache_write_tokens=0, output_tokens=7)


def test_thinking_then_calls() -> None:
    """Thinking keeps its signature, also without text, and calls their ids, in the order received."""
    fake = anthropic_body(
        thinking=[FakeThinking("Hm."), FakeThinking("", "c2ln")], tool_calls=[FakeCall("f", {"a": 1}), FakeCall("g")]
    )
    answer = WIRE.parse(encode(dumps(fake)), ModelProfile())
    assert answer.parts == (
        ThinkingPart(text="Hm.", signature="c2lnbmF0dXJl"),
        ThinkingPart(text="", signature="c2ln"),
        ToolCallPart(call_id="toolu_0", wire_id="toolu_0", name="f", arguments='{"a":1}'),
        ToolCallPart(call_id="toolu_1", wire_id="toolu_1", name="g", arguments="{}"),
    )
    assert answer.finish_reason is FinishReason.TOOL_CALL


def test_hidden_thinking_is_kept_verbatim() -> None:
    """A redacted block stays as it is, key order included."""
    answer = WIRE.parse(
        body({"data": "ZW5j", "type": "redacted_thinking"}, {"type": "text", "text": "Hi"}), ModelProfile()
    )
    assert answer.parts[0] == ThinkingPart(redacted=True, opaque='{"data":"ZW5j","type":"redacted_thinking"}')


def test_thinking_with_more_than_text_and_signature_is_kept_verbatim() -> None:
    """A member that this version does not know makes the whole block opaque state."""
    block = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln", "binding": {"v": 2}}
    part = WIRE.parse(body(block), ModelProfile()).parts[0]
    assert part == ThinkingPart(text="Hm.", signature="c2ln", opaque=dumps(block))


def test_arguments_keep_digits_order_and_repeated_keys() -> None:
    """Arguments are the JSON received, without the blanks between its tokens."""
    raw = (
        b'{"content":[{"type":"tool_use","id":"t","name":"f",'
        b'"input":{"z": 1.50, "a": 1e5, "big": 12345678901234567890123, "a": "\\u00e9\\ud83d\\ude00\\ud83d"}}]}'
    )
    (call,) = WIRE.parse(raw, ModelProfile()).tool_calls
    assert call.arguments == '{"z":1.50,"a":1e5,"big":12345678901234567890123,"a":"é😀\ud83d"}'


def test_text_and_calls_keep_members_this_version_does_not_know() -> None:
    """Citations of a text and the caller of a call are kept beside them."""
    citations = [{"type": "char_location", "cited_text": "x", "start_char_index": 0}]
    answer = WIRE.parse(
        body(
            {"type": "text", "text": "Hi", "citations": citations},
            {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "direct"}},
        ),
        ModelProfile(),
    )
    assert answer.parts[0] == TextPart(text="Hi", extra=dumps({"citations": citations}))
    assert answer.tool_calls[0].extra == '{"caller":{"type":"direct"}}'


@pytest.mark.parametrize(
    "block",
    [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"q": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"encrypted_content": "x"}]},
        {"type": "compaction", "content": None, "encrypted_content": "x"},
        {"type": "not_yet_invented", "deep": [{"er": None}]},
        {"no": "type"},
        {"type": "text", "text": 7},
    ],
)
def test_other_blocks_are_kept_verbatim(block: dict[str, object]) -> None:
    """Server tools, new blocks and known ones in a form that was not expected are opaque, never dropped."""
    assert WIRE.parse(body(block), ModelProfile()).parts == (OpaquePart(payload=dumps(block)),)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("pause_turn", FinishReason.PAUSE),
        ("something_new", FinishReason.UNKNOWN),
        (None, FinishReason.UNKNOWN),
    ],
)
def test_why_it_stopped(word: str | None, reason: FinishReason) -> None:
    """Every word of the API has its reason, and the word itself is kept."""
    answer = WIRE.parse(body({"type": "text", "text": "Hi"}, stop_reason=word), ModelProfile())
    assert (answer.finish_reason, answer.raw_finish_reason) == (reason, word)


def test_a_refusal_keeps_its_explanation() -> None:
    """What the provider says of a refusal is a part of the answer."""
    details = {"type": "refusal", "category": "cyber", "explanation": "I cannot help with that."}
    answer = WIRE.parse(body(stop_reason="refusal", stop_details=details), ModelProfile())
    assert answer.parts == (RefusalPart(text="I cannot help with that.", category="cyber"),)
    assert answer.finish_reason is FinishReason.CONTENT_FILTER


@pytest.mark.parametrize(
    ("details", "parts"),
    [
        (None, ()),
        ({"type": "refusal", "category": None, "explanation": None}, ()),
        ({"type": "refusal", "category": "bio"}, (RefusalPart(text="(refused: bio)", category="bio"),)),
        ({"type": "refusal", "explanation": "No."}, (RefusalPart(text="No."),)),
    ],
)
def test_a_refusal_without_words(details: dict[str, object] | None, parts: tuple[RefusalPart, ...]) -> None:
    """A refusal that explains nothing is stored with what is known of it, if only that it is one."""
    answer = WIRE.parse(body(stop_reason="refusal", stop_details=details), ModelProfile())
    assert answer.parts == parts
    assert answer.finish_reason is FinishReason.CONTENT_FILTER


def test_what_is_said_beside_the_content() -> None:
    """The container of the model's code, and a tier and speed that are not the standard ones, are kept with it."""
    container = {"id": "container_1", "expires_at": "2026-04-24T11:13:36Z"}
    usage = {"service_tier": "priority", "speed": "fast"}
    answer = WIRE.parse(body({"type": "text", "text": "Hi"}, container=container, usage=usage), ModelProfile())
    record = dumps({"container": container, "service_tier": "priority", "speed": "fast"})
    assert answer.parts == (TextPart(text="Hi"), OpaquePart(payload=record))
    plain = body({"type": "text", "text": "Hi"}, container=None, usage={"service_tier": "standard", "speed": None})
    assert WIRE.parse(plain, ModelProfile()).parts == (TextPart(text="Hi"),)


@pytest.mark.parametrize("cut", [30, 60, 100])
def test_a_body_that_was_cut_off_may_be_asked_for_again(cut: int) -> None:
    """Half a body is a broken connection, not another protocol."""
    with pytest.raises(errors.ProviderConnectionError, match="ask again") as caught:
        WIRE.parse(encode(dumps(anthropic_body("Hello")))[:cut], ModelProfile())
    assert caught.value.retryable


def test_a_call_that_the_limit_met_is_not_to_be_run() -> None:
    """With max_tokens, the last call may lack half of its input, even where it is sound JSON; earlier ones do not."""
    calls = [{"type": "tool_use", "id": i, "name": "f", "input": {"path": "/"}} for i in ("a", "b")]
    answer = WIRE.parse(body(*calls, stop_reason="max_tokens"), ModelProfile())
    assert [call.truncated for call in answer.tool_calls] == [False, True]
    assert answer.finish_reason is FinishReason.LENGTH


def test_cached_tokens_are_part_of_the_prompt() -> None:
    """Input counts everything sent, and the hour-long cache and the server's searches are told apart."""
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 200,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 25},
        "output_tokens": 40,
        "output_tokens_details": {"thinking_tokens": 15},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0, "code_runs": 1},
        "service_tier": "standard",
    }
    assert WIRE.parse(body(usage=usage), ModelProfile()).usage == Usage(
        input_tokens=240,
        cached_tokens=200,
        cache_write_tokens=30,
        output_tokens=40,
        reasoning_tokens=15,
        other_tokens={"cache_write_1h_tokens": 25, "web_searches": 2, "code_runs": 1},
    )


def test_tokens_of_compactions_and_advisors_are_named() -> None:
    """What ran beside the answer is not in the totals and therefore counted on its own."""
    iterations = [
        {"type": "message", "input_tokens": 5, "output_tokens": 6},
        {"type": "advisor_message", "input_tokens": 7, "cache_read_input_tokens": 1, "output_tokens": 9},
        {"type": "advisor_message", "input_tokens": 2, "output_tokens": 1},
    ]
    usage = WIRE.parse(
        body(usage={"input_tokens": 5, "output_tokens": 6, "iterations": iterations}), ModelProfile()
    ).usage
    assert usage.other_tokens == {"advisor_message_input_tokens": 10, "advisor_message_output_tokens": 10}


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": -3, "output_tokens": "7"}, {"input_tokens": 1.5}, []])
def test_counts_that_are_none_stay_unknown(usage: object) -> None:
    """Missing, negative or malformed counts are unknown, never 0."""
    assert WIRE.parse(body(usage=usage), ModelProfile()).usage == Usage()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"hello"',
        b"<html><body>502 Bad Gateway</body></html>",
        b"{}",
        b'{"content":null}',
        b'{"content":"text"}',
        b'{"content":["text"]}',
        b'{"content":[{"type":"text","text":"\xff"}]}',
        b'{"content":[{"type":"tool_use","id":"t","name":"f","input":{"x":NaN}}]}',
        b'{"content":[{"type":"x","y":' + b"[" * 5000 + b"]" * 5000 + b"}]}",
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    """Anything but a message is a protocol error that says what to look at."""
    with pytest.raises(errors.ProtocolError, match="check base_url"):
        WIRE.parse(data, ModelProfile())


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("overloaded_error", errors.OverloadedError),
        ("rate_limit_error", errors.RateLimitError),
        ("authentication_error", errors.AuthenticationError),
        ("api_error", errors.ServerError),
        ("invalid_request_error", errors.BadRequestError),
    ],
)
def test_an_error_under_a_good_status_is_an_error(kind: str, cls: type[errors.ProviderError]) -> None:
    """A 200 whose body is an error raises the class of its type, with the request id of the body."""
    with pytest.raises(errors.ProviderError) as caught:
        WIRE.parse(encode(dumps(anthropic_error("no luck", type=kind))), ModelProfile())
    assert type(caught.value) is cls
    assert caught.value.request_id == "req_1"
    assert "no luck" in str(caught.value)
