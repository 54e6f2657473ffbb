"""Streams: what each chunk does, and what is not an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodellm_orm import errors
from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.events import Finished, ResponseStarted, TextDelta, ThinkingDelta, ToolCallDelta
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import OpaquePart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.testing import FakeCall, FakeThinking, gemini_body, gemini_stream
from tests.unit.wire.gemini.asking import PROFILE, SIGNED, WIRE, body, chunk, fed, framed, read

_HI = chunk({"text": "Hi"})
_END = chunk({"text": ""}, finish="STOP")


@pytest.mark.parametrize("calls", [(), (FakeCall("get_weather", {"city": "Zürich"}), FakeCall("now", id="mine"))])
def test_a_stream_says_what_the_body_says(calls: tuple[FakeCall, ...]) -> None:
    """The same answer streamed and unstreamed gives the same parts, reason and usage."""
    words = {"tool_calls": calls, "thinking": [FakeThinking("Let me see.")] if calls else (), "cached_tokens": 2}
    whole = WIRE.parse(encode(dumps(gemini_body("Let me look.", **words))), PROFILE)  # type: ignore[arg-type] # one dict for both
    assert read(gemini_stream("Let me look.", **words)) == whole  # type: ignore[arg-type] # as above


def test_text_is_handed_on_as_it_comes() -> None:
    """Each piece of text, thought and call is an event of its own, never repeated; names are said once."""
    events = fed(
        chunk({"text": "Hm", "thought": True})
        + chunk({"text": "A"})
        + chunk({"text": "B"}, {"functionCall": {"name": "f"}})
    )
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["A", "B"]
    assert [e.text for e in events if isinstance(e, ThinkingDelta)] == ["Hm"]
    assert [e.name for e in events if isinstance(e, ToolCallDelta)] == ["f"]
    assert sum(isinstance(e, ResponseStarted) for e in events) == 1


def test_words_go_on_but_never_across_a_signature() -> None:
    """Pieces of one kind are one part; a signed part stands alone, at the start as at the end."""
    answer = read(
        [
            chunk({"text": "a", "thought": True}),
            chunk({"text": "b", "thought": True}),
            chunk({"text": "A", "thoughtSignature": "c2ln"}),
            chunk({"text": "B"}),
            chunk({"text": ""}),
            chunk({"text": "C"}),
            chunk({"text": "", "thoughtSignature": "c2ln"}, finish="STOP"),
        ]
    )
    assert answer.parts == (
        ThinkingPart(text="ab"),
        TextPart(text="A", extra=SIGNED),
        TextPart(text="BC"),
        TextPart(text="", extra=SIGNED),
    )


def test_parallel_calls_in_chunks_of_their_own() -> None:
    """Every call is one, also two of the same name without ids."""
    same = {"functionCall": {"name": "f", "args": {}}}
    answer = read([chunk({**same, "thoughtSignature": "c2ln"}), chunk(same), chunk(same, finish="STOP")])
    assert answer.tool_calls == (
        ToolCallPart(call_id="", name="f", arguments="{}", extra=SIGNED),
        ToolCallPart(call_id="", name="f", arguments="{}"),
        ToolCallPart(call_id="", name="f", arguments="{}"),
    )
    assert answer.finish_reason is FinishReason.TOOL_CALL


def test_text_on_both_sides_of_code() -> None:
    """What the server ran stands where it was run."""
    code = {"executableCode": {"code": "1"}}
    answer = read([_HI, chunk(code), chunk({"text": "A"}), chunk({"text": "B"}, finish="STOP")])
    assert answer.parts == (TextPart(text="Hi"), OpaquePart(payload=dumps(code)), TextPart(text="AB"))


def test_usage_is_cumulative() -> None:
    """The counts of the last chunk are the counts."""
    first = {"promptTokenCount": 169, "totalTokenCount": 169}
    last = {"promptTokenCount": 79, "candidatesTokenCount": 12, "thoughtsTokenCount": 3, "totalTokenCount": 94}
    answer = read([chunk({"text": "A"}, usageMetadata=first), chunk({"text": "B"}, finish="STOP", usageMetadata=last)])
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.reasoning_tokens) == (79, 15, 3)


def test_a_chunk_after_the_reason_to_stop() -> None:
    """Counts that come behind the reason are taken in."""
    late = framed({"usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 6}})
    assert read([_HI, _END, late]).usage.output_tokens == 6


def test_sources_of_the_last_chunk() -> None:
    """Grounding comes late and belongs to the text that has been said, not to the empty one at the end."""
    early = chunk({"text": "A"}, candidate={"groundingMetadata": {"webSearchQueries": ["x"]}})
    grounding = {"webSearchQueries": ["x", "y"]}
    late = chunk({"text": "", "thoughtSignature": "c2ln"}, finish="STOP", candidate={"groundingMetadata": grounding})
    answer = read([early, late])
    assert answer.parts == (
        TextPart(text="A", extra=dumps({"groundingMetadata": grounding})),
        TextPart(text="", extra=SIGNED),
    )
    assert answer.usage.other_tokens == {"web_searches": 2}


def test_a_blocked_question() -> None:
    """Feedback on the prompt in place of candidates ends the answer."""
    answer = read([framed({"promptFeedback": {"blockReason": "SAFETY"}})])
    assert (answer.finish_reason, answer.raw_finish_reason) == (FinishReason.CONTENT_FILTER, "SAFETY")


def test_a_blocked_answer_keeps_its_text() -> None:
    """What had been said when the filter struck is kept, and why it did is said once."""
    end = chunk(finish="SAFETY", candidate={"finishMessage": "Unsafe."})
    answer = read([_HI, end, end])
    assert (answer.text, answer.finish_reason) == ("Hi", FinishReason.CONTENT_FILTER)
    assert len(answer.parts) == 2


def test_it_finishes_once() -> None:
    """Older models give their reason in every chunk."""
    events = fed(chunk({"text": "A"}, finish="STOP") + chunk({"text": "B"}, finish="STOP"))
    assert [e.reason for e in events if isinstance(e, Finished)] == [FinishReason.STOP]
    assert read([chunk({"text": "A"}, finish="STOP") + chunk({"text": "B"}, finish="STOP")]).text == "AB"


@pytest.mark.parametrize("end", [b"", b"data: {", b'data: {"candidates":[{"content":{"parts":[{"text":"x"}]}}]}'])
def test_a_stream_without_a_reason_to_stop_is_interrupted(end: bytes) -> None:
    """No reason, or one whose line is not complete: what came is not an answer."""
    with pytest.raises(errors.StreamInterruptedError, match="ask again"):
        read([_HI + end])


def test_a_last_event_without_a_blank_line_is_complete() -> None:
    """The blank line after the last event may be missing, and rubbish after the reason costs nothing."""
    assert read([(_HI + _END).rstrip()]) == read([_HI + _END])
    assert read([_HI + _END + b'data: {"usageM']) == read([_HI + _END])


def test_an_empty_stream_is_interrupted() -> None:
    """A body without a byte is no answer either, also from servers that never say why they stop."""
    for profile in (PROFILE, replace(PROFILE, requires_finish=False)):
        with pytest.raises(errors.StreamInterruptedError):
            read([b""], profile)


def test_servers_that_never_say_why_they_stop() -> None:
    """Where the profile says that the reason may be missing, the answer stands without it."""
    answer = read([_HI], replace(PROFILE, requires_finish=False))
    assert (answer.text, answer.finish_reason) == ("Hi", FinishReason.UNKNOWN)


def test_other_protocols_last_word_says_nothing() -> None:
    """Gateways may add it, and comments."""
    assert read([b": hi\n\n" + _HI + _END + b"data: [DONE]\n\n"]) == read([_HI + _END])


@pytest.mark.parametrize(
    ("code", "status", "cls"),
    [
        (503, "UNAVAILABLE", errors.OverloadedError),
        (500, "INTERNAL", errors.ServerError),
        (429, "RESOURCE_EXHAUSTED", errors.RateLimitError),
        (400, "INVALID_ARGUMENT", errors.BadRequestError),
    ],
)
def test_an_error_in_a_stream(code: int, status: str, cls: type[errors.ProviderError]) -> None:
    """What came before an error is handed on, then the error is raised as the class of its words."""
    parser, whole = WIRE.stream(PROFILE), Accumulator()
    for item in parser.feed(_HI + framed({"error": {"code": code, "message": "no luck", "status": status}})):
        whole.add(item)
    assert whole.completion(complete=False).text == "Hi"
    with pytest.raises(errors.ProviderError, match="no luck") as caught:
        parser.close()
    assert type(caught.value) is cls


def test_an_error_after_the_answer_costs_nothing() -> None:
    """The answer is all there, with what is read at its end."""
    error = framed({"error": {"code": 500, "message": "late", "status": "INTERNAL"}})
    cited = chunk({"text": "A"}, finish="STOP", candidate={"citationMetadata": {"citationSources": []}})
    assert read([cited + error + _HI]) == read([cited])


@pytest.mark.parametrize("data", [b'data: {"candidates":\n\n', b"data: null\n\n", b"data: [1]\n\n", b"data: \xff\n\n"])
def test_what_is_not_the_protocol_is_refused(data: bytes) -> None:
    """Broken JSON, broken UTF-8 and what is no object are protocol errors, with advice."""
    with pytest.raises(errors.ProtocolError, match=r"check|ask again"):
        fed(data)


def test_one_document_in_place_of_a_stream() -> None:
    """A server that does not stream, or streams a list, is understood at the end."""
    whole = body({"text": "Hi"})
    listed = b"[" + body({"text": "H"}, finish=None) + b"\r\n," + body({"text": "i"}) + b"]"
    for data in (whole, listed, b"\r\n" + listed):
        assert read(data[at : at + 7] for at in range(0, len(data), 7)).text == "Hi"
    for data in (whole[:-9], listed[:-9], b"[" + body({"text": "H"}, finish=None) + b"]"):
        with pytest.raises(errors.StreamInterruptedError):
            read([data])
    with pytest.raises(errors.OverloadedError):
        read([b'[{"error":{"code":503,"status":"UNAVAILABLE","message":"no"}}]'])
    with pytest.raises(errors.ProtocolError):
        read([b"<html>502</html>"])


def test_a_broken_stream_keeps_what_had_come() -> None:
    """Text of an interrupted answer is there, and its calls are marked."""
    whole = Accumulator()
    for item in fed(_HI + chunk({"functionCall": {"name": "f", "args": {}}})):
        whole.add(item)
    partial = whole.completion(complete=False)
    assert partial.text == "Hi"
    assert [call.truncated for call in partial.tool_calls] == [True]


def test_half_of_a_character_in_two_pieces() -> None:
    """A character that the model's tokens split is joined again."""
    assert read([chunk({"text": "\ud83d"}) + chunk({"text": "\ude00"}, finish="STOP")]).text == "😀"
