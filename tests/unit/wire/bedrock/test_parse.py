"""Bodies and streams to values: both say the same, and neither loses what it does not understand."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import MediaPart, OpaquePart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import (
    BadRequestError,
    ContextWindowError,
    OverloadedError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)
from nodellm_orm.testing import (
    FakeCall,
    FakeThinking,
    bedrock_body,
    bedrock_event,
    bedrock_exception,
    bedrock_stream,
    event_frame,
)
from tests.unit.wire.bedrock.asking import WIRE, block, body, read, stream

PROFILE = ModelProfile()
PIXEL = base64.b64encode(b"\x89PNG picture").decode()
SERVER = {"toolUseId": "s1", "name": "nova_code_interpreter", "type": "server_tool_use"}
ANSWERED = {"toolUseId": "s1", "status": "success", "type": "nova_code_interpreter_result"}


def parsed(*content: dict[str, Any], **members: Any) -> Any:
    return WIRE.parse(body(*content, **members), PROFILE)


def test_an_answer_of_every_kind_of_part() -> None:
    """Thinking, text, calls and server parts come in their order, digits and key order of arguments as they were."""
    answer = WIRE.parse(
        b'{"output":{"message":{"role":"assistant","content":['
        b'{"reasoningContent":{"reasoningText":{"text":"Hm.","signature":"c2ln"}}},'
        b'{"reasoningContent":{"redactedContent":"aGk="}},'
        b'{"text":"Look:"},'
        b'{"toolUse":{"input":{"n":1.50,"a":[]},"name":"f","toolUseId":"t1","type":"tool_use"}},'
        b'{"toolUse":{"input":{"q":1e5},"name":"g","toolUseId":"t2","type":"server_tool_use"}}]}},'
        b'"stopReason":"tool_use","usage":{"inputTokens":3,"outputTokens":4,"totalTokens":7}}',
        PROFILE,
    )
    assert answer.parts == (
        ThinkingPart(text="Hm.", signature="c2ln"),
        ThinkingPart(redacted=True, opaque='{"reasoningContent":{"redactedContent":"aGk="}}'),
        TextPart(text="Look:"),
        ToolCallPart(call_id="t1", wire_id="t1", name="f", arguments='{"n":1.50,"a":[]}'),
        OpaquePart(payload='{"toolUse":{"toolUseId":"t2","name":"g","input":{"q":1e5},"type":"server_tool_use"}}'),
    )
    assert answer.finish_reason is FinishReason.TOOL_CALL
    assert answer.usage == Usage(input_tokens=3, output_tokens=4)
    assert (answer.model, answer.response_id) == (None, None)


def test_citations_are_kept_with_their_text() -> None:
    """Cited text is text, with where it comes from beside it; a block of citations alone is an empty text with them."""
    citation = {"title": "t", "location": {"web": {"url": "https://example.com", "domain": "example.com"}}}
    whole = {"citationsContent": {"content": [{"text": "Ruby "}, {"text": "3."}], "citations": [citation]}}
    alone = {"citationsContent": {"citations": [citation]}}
    odd = {"citationsContent": {"content": [{"picture": 1}], "citations": [citation]}}
    first, second, third = parsed(whole, alone, odd).parts
    kept = json.dumps({"citationsContent": {"citations": [citation]}}, separators=(",", ":"))
    assert first == TextPart(text="Ruby 3.", extra=kept)
    assert second == TextPart(text="", extra=kept)
    assert isinstance(third, OpaquePart)
    assert json.loads(third.payload) == odd
    streamed = read(
        stream(block(0, {"text": "Ruby "}, {"text": "3."}, {"citation": citation}), block(1, {"citation": citation}))
    )
    assert streamed.parts == (first, second)


def test_an_image_that_the_model_made() -> None:
    """It is a file, in one piece or in several; one of an unknown format, or from elsewhere, is kept as it came."""
    image = {"image": {"format": "png", "source": {"bytes": PIXEL}}}
    (part,) = parsed(image).parts
    assert isinstance(part, MediaPart)
    assert (part.media, part.media_type, part.data) == ("image", "image/png", b"\x89PNG picture")
    assert part.sha256
    pieces = [base64.b64encode(piece).decode() for piece in (b"\x89PNG", b" picture")]
    deltas = [{"image": {"source": {"bytes": piece}}} for piece in pieces]
    assert read(stream(block(0, *deltas, start={"image": {"format": "png"}}))).parts == (part,)
    for odd in (
        {"image": {"format": "heic", "source": {"bytes": PIXEL}}},
        {"image": {"format": "png", "source": {"bytes": "no base 64"}}},
        {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/k"}}}},
        {"image": {"format": "png", "source": {"bytes": PIXEL}, "error": {"message": "blurred"}}},
    ):
        (kept,) = parsed(odd).parts
        assert isinstance(kept, OpaquePart)
        assert json.loads(kept.payload) == odd
        start = {"image": {"format": odd["image"]["format"]}}
        rest = {name: value for name, value in odd["image"].items() if name != "format"}
        (streamed,) = read(stream(block(0, {"image": rest}, start=start))).parts
        assert isinstance(streamed, OpaquePart)
        assert json.loads(streamed.payload) == odd


def test_server_tools_in_pieces() -> None:
    """A call of the provider's own tool and its result are the same blocks, streamed or whole."""
    call = {"toolUse": {**SERVER, "input": {"snippet": "1 + 1"}}}
    told = {"toolResult": {**ANSWERED, "content": [{"json": {"out": 2}}, {"text": "It is two."}]}}
    streamed = read(
        stream(
            block(
                0,
                {"toolUse": {"input": '{"snippet": '}},
                {"toolUse": {"input": '"1 + 1"}'}},
                start={"toolUse": SERVER},
            ),
            block(
                1,
                {"toolResult": [{"json": {"out": 2}}]},
                {"toolResult": [{"text": "It is "}]},
                {"toolResult": [{"text": "two."}]},
                start={"toolResult": ANSWERED},
            ),
        )
    )
    assert streamed.parts == parsed(call, told).parts
    assert [json.loads(part.payload) for part in streamed.parts if isinstance(part, OpaquePart)] == [call, told]
    for pieces, expected in (([], {}), (["{half"], {"INVALID_JSON": "{half"})):
        deltas = [{"toolUse": {"input": piece}} for piece in pieces]
        (part,) = read(stream(block(0, *deltas, start={"toolUse": SERVER}))).parts
        assert isinstance(part, OpaquePart)
        assert json.loads(part.payload) == {"toolUse": {**SERVER, "input": expected}}


@pytest.mark.parametrize(
    "unknown",
    [{"somethingNew": {"a": 1, "b": [{}]}}, {"somethingNew": "words"}, {"guardContent": {"text": {"text": "x"}}}],
)
def test_unknown_blocks_are_kept(unknown: dict[str, Any]) -> None:
    """A block of a kind that does not exist yet is kept as it came, between the others."""
    before, kept, after = parsed({"text": "a"}, unknown, {"text": "b"}).parts
    assert (before, after) == (TextPart(text="a"), TextPart(text="b"))
    assert isinstance(kept, OpaquePart)
    assert json.loads(kept.payload) == unknown


def test_unknown_blocks_and_events_of_a_stream() -> None:
    """Pieces of an unknown block become one, and events that do not exist yet are passed over."""
    events = stream(
        block(
            0,
            {"somethingNew": {"text": "a", "n": 1}},
            {"somethingNew": {"text": "b", "n": 2}},
            start={"somethingNew": {"id": "x"}},
        )
    )
    events.insert(1, bedrock_event("somethingElse", {"a": 1}))
    events.insert(1, event_frame({":message-type": "event", ":event-type": "initial-response"}, b""))
    (part,) = read(events).parts
    assert isinstance(part, OpaquePart)
    assert json.loads(part.payload) == {"somethingNew": {"id": "x", "text": "ab", "n": 2}}


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("malformed_model_output", "error"),
        ("malformed_tool_use", "error"),
        ("tool_use", "stop"),
        ("something_new", "unknown"),
    ],
)
def test_reasons_to_stop(word: str, reason: str) -> None:
    """Each word has its meaning, and is kept; without any call ``tool_use`` is a plain end."""
    whole, streamed = parsed({"text": "a"}, stop=word), read(stream(block(0, {"text": "a"}), stop=word))
    assert whole == streamed
    assert (whole.finish_reason.value, whole.raw_finish_reason) == (reason, word)


def test_a_call_that_the_limit_met() -> None:
    """Its arguments may be half of what was meant, even if they are sound: it is never run."""
    call = {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}}
    start = {"toolUse": {"toolUseId": "t", "name": "f"}}
    whole = parsed(call, stop="max_tokens")
    assert whole == read(stream(block(0, {"toolUse": {"input": '{"a": 1}'}}, start=start), stop="max_tokens"))
    assert whole.finish_reason is FinishReason.LENGTH
    assert whole.tool_calls[0].truncated
    (half,) = read(stream(block(0, {"toolUse": {"input": '{"a": '}}, start=start), stop="max_tokens")).tool_calls
    assert (half.arguments, half.truncated) == ('{"a": ', True)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"inputTokens": 2, "outputTokens": 5, "cacheReadInputTokens": 0, "cacheWriteInputTokens": 1322},
         Usage(input_tokens=1324, output_tokens=5, cached_tokens=0, cache_write_tokens=1322)),
        ({"inputTokens": 2, "outputTokens": 5, "cacheReadInputTokens": 1322, "cacheWriteInputTokens": 0},
         Usage(input_tokens=1324, output_tokens=5, cached_tokens=1322, cache_write_tokens=0)),
        ({"inputTokens": 2, "outputTokens": 5, "cacheReadInputTokenCount": 7, "cacheWriteInputTokenCount": 1},
         Usage(input_tokens=10, output_tokens=5, cached_tokens=7, cache_write_tokens=1)),
        ({"inputTokens": 1, "outputTokens": 1, "cacheWriteInputTokens": 30, "cacheReadInputTokens": 0,
          "cacheDetails": [{"ttl": "5m", "inputTokens": 10}, {"ttl": "1h", "inputTokens": 20}]},
         Usage(input_tokens=31, output_tokens=1, cached_tokens=0, cache_write_tokens=30,
               other_tokens={"cache_write_1h_tokens": 20})),
        ({"inputTokens": 1, "outputTokens": 1, "cacheDetails": [{"ttl": "5m", "inputTokens": 10}]},
         Usage(input_tokens=11, output_tokens=1, cache_write_tokens=10)),
        ({"inputTokens": 1, "outputTokens": 1, "serverToolUsage": {"webSearchRequests": 2, "other": 0}},
         Usage(input_tokens=1, output_tokens=1, other_tokens={"web_searches": 2})),
        ({"outputTokens": 1, "cacheReadInputTokens": 5}, Usage(output_tokens=1, cached_tokens=5)),
        ({"inputTokens": -1, "outputTokens": "1"}, Usage()),
        ({}, Usage()),
    ],
)  # fmt: skip
def test_token_counts(stated: dict[str, Any], expected: Usage) -> None:
    """Cached tokens are part of the prompt, what is not stated is unknown, and an hour's writes are told apart."""
    assert parsed({"text": "a"}, usage=stated).usage == expected
    assert read(stream(block(0, {"text": "a"}), usage=stated or {"x": 1})).usage == expected


TEXTS = st.text(max_size=30)
CALLS = st.lists(
    st.builds(
        FakeCall,
        st.sampled_from(["f", "get_weather"]),
        st.dictionaries(TEXTS, st.integers() | TEXTS | st.lists(st.booleans(), max_size=2), max_size=3),
    ),
    max_size=3,
)


@given(
    text=st.none() | TEXTS,
    thinking=st.lists(st.builds(FakeThinking, TEXTS, st.sampled_from(["c2ln", "c2lnbmF0dXJl"])), max_size=2),
    calls=CALLS,
    cut=st.integers(min_value=1, max_value=64),
)
def test_a_stream_says_what_its_body_says(
    text: str | None, thinking: list[FakeThinking], calls: list[FakeCall], cut: int
) -> None:
    """Whatever the answer, body and stream are one value, however the stream was cut."""
    whole = WIRE.parse(encode(dumps(bedrock_body(text, thinking=thinking, tool_calls=calls))), PROFILE)
    events = b"".join(bedrock_stream(text, thinking=thinking, tool_calls=calls))
    assert read(events[at : at + cut] for at in range(0, len(events), cut)) == whole


def test_a_stream_is_complete_with_its_reason_to_stop() -> None:
    """Without the frame of counts, or with half of it, the answer is complete and its counts are unknown."""
    events = bedrock_stream("Hello, world", usage=(3, 4))
    whole = read(events)
    assert whole.usage == Usage(input_tokens=3, output_tokens=4)
    for ending in ([], [events[-1][:-1]], [events[-1][:5]], [bedrock_exception("throttlingException", "later")]):
        found = read([*events[:-1], *ending])
        assert (found.text, found.finish_reason) == ("Hello, world", FinishReason.STOP)
        assert found.usage == Usage()


def test_a_stream_that_ends_before_is_interrupted() -> None:
    """Wherever it ends before the reason to stop, it is not complete, also without a single frame."""
    events = bedrock_stream("Hello, world")
    end = len(b"".join(events[:-1]))
    whole = b"".join(events)
    for size in range(end):
        with pytest.raises(StreamInterruptedError):
            read([whole[:size]])
    tolerant = ModelProfile(requires_finish=False)
    assert read(events[:-2], tolerant).text == "Hello, world"
    with pytest.raises(StreamInterruptedError):
        read([], tolerant)


def test_a_flipped_bit_is_an_error() -> None:
    """A damaged frame is never read as something else; what came before it is kept."""
    events = bedrock_stream("Hello, world")
    damaged = bytearray(events[2])
    damaged[-10] ^= 1
    parser = WIRE.stream(PROFILE)
    assert len(parser.feed(events[0] + events[1] + bytes(damaged))) >= 2
    with pytest.raises(ProtocolError, match="damaged"):
        parser.feed(b"")
    with pytest.raises(ProtocolError, match="damaged"):
        parser.close()


@pytest.mark.parametrize(
    ("exception", "members", "cls"),
    [
        ("throttlingException", {"message": "Too many tokens, please wait before trying again."}, RateLimitError),
        ("throttlingException", {"message": "Too many tokens per day, please wait."}, QuotaExceededError),
        ("serviceUnavailableException", {"message": "try again"}, OverloadedError),
        ("internalServerException", {"message": "oops"}, ServerError),
        ("modelStreamErrorException", {"message": "oops"}, ServerError),
        ("modelStreamErrorException", {"message": "oops", "originalStatusCode": 503}, OverloadedError),
        ("modelStreamErrorException", {"message": "oops", "originalStatusCode": 429}, RateLimitError),
        ("modelStreamErrorException",
         {"message": "failed", "originalStatusCode": 400, "originalMessage": "prompt is too long"}, ContextWindowError),
        ("modelTimeoutException", {"message": "slow"}, ProviderTimeoutError),
        ("validationException", {"message": "wrong"}, BadRequestError),
        ("validationException", {"message": "Input is too long for requested model."}, ContextWindowError),
        ("somethingNewException", {"message": "wrong"}, ServerError),
    ],
)  # fmt: skip
def test_exceptions_inside_a_stream(exception: str, members: dict[str, Any], cls: type[ProviderError]) -> None:
    """Each has its class; the text before it is given first, also when both come in the same bytes."""
    events = bedrock_stream("Hello, world")[:3]
    failed = bedrock_exception(exception, **members)
    parser = WIRE.stream(PROFILE)
    assert parser.feed(b"".join([*events, failed]))
    with pytest.raises(ProviderError) as caught:
        parser.feed(b"")
    assert type(caught.value) is cls
    assert members["message"] in str(caught.value)
    assert members.get("originalMessage", "") in str(caught.value)


def test_errors_that_are_no_exception() -> None:
    """A frame of the kind ``error`` has its words in its headers."""
    frame = event_frame({":message-type": "error", ":error-code": "InternalError", ":error-message": "oops"}, b"")
    with pytest.raises(ServerError, match="oops"):
        read([*bedrock_stream("a")[:2], frame])


def test_hidden_thinking_in_pieces() -> None:
    """Pieces of bytes, in base 64 each, are one block; what is no base 64 is joined as it is."""
    halves = [base64.b64encode(half).decode() for half in (b"hid", b"den!")]
    for pieces, whole in ((halves, base64.b64encode(b"hidden!").decode()), (["?", "!"], "?!")):
        deltas = [{"reasoningContent": {"redactedContent": piece}} for piece in pieces]
        (part,) = read(stream(block(0, *deltas))).parts
        assert isinstance(part, ThinkingPart)
        assert json.loads(part.opaque or "") == {"reasoningContent": {"redactedContent": whole}}
    plain = {"somethingNew": "words"}
    (part,) = read(stream(block(0, {"somethingNew": "more"}, start=plain))).parts
    assert part == OpaquePart(payload='{"somethingNew":"more"}')


def test_what_follows_the_last_frame_is_not_read() -> None:
    """Behind the counts there is nothing that matters."""
    assert read([*bedrock_stream("a"), b"\x00" * 40]).text == "a"


@pytest.mark.parametrize(
    "events",
    [
        [bedrock_event("contentBlockDelta", {"delta": {"text": "a"}})],
        [bedrock_event("contentBlockDelta", {"contentBlockIndex": 0, "delta": []})],
        [bedrock_event("contentBlockStart", {"contentBlockIndex": 0})],
        [event_frame({":message-type": "event", ":event-type": "contentBlockDelta"}, b"[]")],
        [event_frame({":message-type": "event", ":event-type": "contentBlockDelta"}, b'{"a":')],
    ],
)
def test_events_of_another_form_are_refused(events: list[bytes]) -> None:
    """An event about no block, about nothing, or that is no object is an error with a remedy."""
    with pytest.raises(ProtocolError, match="proxy"):
        read(events)


def test_a_whole_answer_in_place_of_a_stream() -> None:
    """A proxy that does not stream is understood, and an error of its own is an error."""
    document = json.dumps(bedrock_body("Hi.")).encode()
    assert read([document[:3], document[3:]]).text == "Hi."
    with pytest.raises(ProviderError, match="no such thing"):
        read([b'{"message":"no such thing"}'])
    with pytest.raises(ProtocolError, match="HTML"):
        read([b"<html></html>"])
    with pytest.raises(StreamInterruptedError):
        read([document[:-5]])


@pytest.mark.parametrize(
    ("sent", "cls", "words"),
    [
        (b"", ProtocolError, "JSON"),
        (b"<html></html>", ProtocolError, "HTML"),
        (b'{"output":', ProviderConnectionError, "cut off"),
        (b'{"output":{"message":{"content":[]}}}', ProtocolError, "reason to stop"),
        (b'{"output":{"message":{}},"stopReason":"end_turn"}', ProtocolError, "content"),
        (b'{"output":{"message":{"content":["x"]}},"stopReason":"end_turn"}', ProtocolError, "not an object"),
        (b'{"Message":"no"}', ProviderError, "no"),
        (b'{"__type":"com.amazon#ThrottlingException","message":"slower"}', RateLimitError, "slower"),
    ],
)
def test_bodies_that_are_no_answer(sent: bytes, cls: type[ProviderError], words: str) -> None:
    """Another protocol, half an answer and an error with a status of success are errors that say so."""
    with pytest.raises(cls, match=words):
        WIRE.parse(sent, PROFILE)


def test_an_empty_answer() -> None:
    """An answer without any block is one."""
    assert parsed().parts == ()
