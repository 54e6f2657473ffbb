"""Streams: whatever servers do to their chunks, they fold into the answer that the unstreamed body gives."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.events import TextDelta, ThinkingDelta, ToolCallDelta
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.domain.parts import OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import (
    AuthenticationError,
    BadRequestError,
    NodeLLMError,
    OverloadedError,
    ProtocolError,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)
from nodellm_orm.testing import FakeCall, openai_chat_body, openai_chat_stream
from tests.unit.wire.openai_chat.asking import (
    DONE,
    LENIENT,
    PLAIN,
    TAGGED,
    WIRE,
    body,
    chunk,
    data,
    fed,
    folded,
    stop,
    streamed,
)

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Completion

_USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def fragment(index: int | None = None, id: str | None = None, name: str | None = None, arguments: Any = None) -> bytes:  # noqa: A002 — the wire's name
    """A chunk with one fragment of a call; what is ``None`` is missing."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    call = {"index": index, "id": id, "function": function}
    return chunk({"tool_calls": [{key: value for key, value in call.items() if value is not None}]})


def calls(*pieces: bytes) -> list[tuple[str | None, str, str]]:
    """Id, name and arguments of the calls in a stream."""
    answer = streamed(*pieces, stop("tool_calls"), DONE)
    assert answer.finish_reason == ("tool_call" if answer.tool_calls else "stop")
    return [(call.wire_id, call.name, call.arguments) for call in answer.tool_calls]


def partial_text(
    *pieces: bytes, error: type[ProviderError], profile: ModelProfile = PLAIN
) -> tuple[str, ProviderError]:
    """The text that had arrived when the stream failed, and how it failed."""
    folder, parser = Accumulator(), WIRE.stream(profile)
    with pytest.raises(error) as caught:  # noqa: PT012 — where it fails depends on the cut
        for piece in pieces:
            for event in parser.feed(piece):
                folder.add(event)
        parser.close()
    assert type(caught.value) is error
    return folder.completion(complete=False).text, caught.value


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_stream_folds_into_its_body(interleaved: bool) -> None:  # noqa: FBT001 — both cases
    """Text, interleaved calls, usage and finish reason, as OpenAI streams them."""
    tools = [FakeCall("f", '{"city": "Oslo"}', "c1"), FakeCall("g", '{"n": [1, 2]}', "c2")]
    stream = openai_chat_stream("It is cold.", tool_calls=tools, cached_tokens=3, interleaved=interleaved)
    whole = openai_chat_body("It is cold.", tool_calls=tools, cached_tokens=3)
    assert streamed(*stream) == WIRE.parse(encode(dumps(whole)), ModelProfile())


def test_text_is_given_as_it_comes() -> None:
    """Each piece is an event of its own; empty ones are none."""
    parser = WIRE.stream(PLAIN)
    parser.feed(chunk({"role": "assistant", "content": ""}))
    assert parser.feed(chunk({"content": "Hel"})) == [TextDelta(index="text:1", text="Hel")]
    assert parser.feed(chunk({"content": "lo"})) == [TextDelta(index="text:1", text="lo")]


@pytest.mark.fault("A42")
def test_fragments_are_put_together_by_index() -> None:
    """Interleaved, with gaps, out of order."""
    assert calls(
        fragment(5, "b", "g", ""),
        fragment(2, "a", "f", ""),
        fragment(5, arguments='{"x"'),
        fragment(2, arguments="{"),
        fragment(5, arguments=":1}"),
        fragment(2, arguments="}"),
    ) == [("b", "g", '{"x":1}'), ("a", "f", "{}")]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        # The index is missing: ids, then the place in the stream, tell calls apart.
        ([fragment(None, "a", "f", "{"), fragment(None, arguments="}")], [("a", "f", "{}")]),
        (
            [fragment(None, "a", "f", "{"), fragment(None, "b", "g", "[1"), fragment(None, "a", None, "}")],
            [("a", "f", "{}"), ("b", "g", "[1")],
        ),
        (
            [fragment(None, None, "f", "{}"), fragment(None, None, "g", "{}")],
            [(None, "f", "{}"), (None, "g", "{}")],
        ),
        (
            [fragment(None, None, "f", '{"x":1}'), fragment(None, None, "f", '{"x":2}')],
            [(None, "f", '{"x":1}'), (None, "f", '{"x":2}')],
        ),
        # The index is always 0.
        (
            [fragment(0, "a", "f", "{}"), fragment(0, "b", "f", "{"), fragment(0, None, None, "}")],
            [("a", "f", "{}"), ("b", "f", "{}")],
        ),
        ([fragment(0, None, "f", "{}"), fragment(0, None, "g", "{}")], [(None, "f", "{}"), (None, "g", "{}")]),
        # Id and name stand on every fragment.
        ([fragment(0, "a", "f", "{"), fragment(0, "a", "f", "}")], [("a", "f", "{}")]),
        ([fragment(0, None, "f", "{"), fragment(0, None, "f", "}")], [(None, "f", "{}")]),
        ([fragment(0, "a", "f"), fragment(0, "", "", "{}")], [("a", "f", "{}")]),
        ([fragment(0, None, "f", '{"x":{}'), fragment(0, None, "f", "}")], [(None, "f", '{"x":{}}')]),
        # The same id twice in one answer.
        ([fragment(0, "a", "f", "{}"), fragment(1, "a", "f", "{}")], [("a", "f", "{}"), ("a", "f", "{}")]),
        # Arguments of other shapes.
        ([fragment(0, "a", "f", {"x": 1})], [("a", "f", '{"x":1}')]),
        ([fragment(0, "a", "f", "null")], [("a", "f", "{}")]),
        ([fragment(0, "a", "f")], [("a", "f", "{}")]),
        ([fragment(0, "a", "f", "nu"), fragment(0, None, None, "ll")], [("a", "f", "{}")]),
        ([fragment(0, "a", "f", '{"x"'), fragment(0, arguments=": tru")], [("a", "f", '{"x": tru')]),
        # Nothing at all.
        ([fragment(0)], []),
        ([chunk({"tool_calls": None}), chunk({"tool_calls": [None]}), chunk({"tool_calls": []})], []),
    ],
)
@pytest.mark.fault("A36")
def test_fragments_of_look_alikes_are_told_apart(
    pieces: list[bytes], expected: list[tuple[str | None, str, str]]
) -> None:
    """Missing or constant indexes, repeated ids and names, arguments of every shape."""
    assert calls(*pieces) == expected


def test_several_whole_calls_in_one_chunk_are_several_calls() -> None:
    """Gemini's compatible endpoint sends them so, without ids and all under one index."""
    call = {"index": 0, "function": {"name": "f", "arguments": "{}"}}
    assert calls(chunk({"tool_calls": [call, call]})) == [(None, "f", "{}"), (None, "f", "{}")]


def test_members_beyond_a_call_survive_fragments() -> None:
    """A signature that comes with a later fragment is kept with the call."""
    later = {"index": 0, "function": {"arguments": "}"}, "extra_content": {"google": {"thought_signature": "c2ln"}}}
    answer = streamed(fragment(0, "a", "f", "{"), chunk({"tool_calls": [later]}), DONE)
    assert answer.tool_calls[0].extra == '{"extra_content":{"google":{"thought_signature":"c2ln"}}}'


@pytest.mark.fault("A45")
@pytest.mark.parametrize(
    "pieces",
    [
        [chunk({"content": "x"}, "stop"), data({"choices": [], "usage": _USAGE}), DONE],
        [chunk({"content": "x"}, "stop", usage=_USAGE), DONE],
        [chunk({"content": "x"}, "stop"), chunk({"content": ""}, None, usage=_USAGE), DONE],
        [
            chunk({"content": "x"}, usage={"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}),
            chunk({}, "stop", usage=_USAGE),
            DONE,
        ],
        [
            chunk({"content": "x"}, "stop", usage=None),
            data({"choices": [], "usage": _USAGE}),
            data({"usage": {}}),
            DONE,
        ],
    ],
    ids=["own chunk", "last choice", "after finish", "cumulative", "then empty"],
)
def test_usage_is_the_last_that_was_stated(pieces: list[bytes]) -> None:
    """In a chunk of its own, with a choice, after the finish reason, on every chunk: never added up."""
    answer = streamed(*pieces)
    assert answer.usage == Usage(input_tokens=10, output_tokens=5)
    assert (answer.finish_reason, answer.raw_finish_reason) == ("stop", "stop")


def test_a_repeated_finish_reason_is_the_same_one() -> None:
    """OpenRouter says it twice."""
    assert streamed(chunk({"content": "x"}, "length"), stop("length"), DONE).finish_reason == "length"


def test_azures_chunks_around_an_answer_are_harmless() -> None:
    """No choices and an empty model at first, a null delta at last."""
    answer = streamed(
        data({"choices": [], "model": "", "id": "", "prompt_filter_results": [{}]}),
        chunk({"role": "assistant", "content": "", "refusal": None}),
        chunk({"content": "x"}),
        data({"choices": [{"index": 0, "delta": None, "finish_reason": None, "content_filter_offsets": {}}]}),
        stop(),
        DONE,
    )
    assert (answer.parts, answer.model, answer.response_id) == ((TextPart(text="x"),), "m1", "c1")


def test_other_choices_are_left_out() -> None:
    """Only the first one is the answer, also where the others finish first."""
    other = {"index": 1, "delta": {"content": "y"}, "finish_reason": "length"}
    answer = streamed(chunk({"content": "x"}), data({"choices": [other]}), stop(), DONE)
    assert (answer.text, answer.finish_reason) == ("x", "stop")


def test_a_whole_message_after_its_pieces_is_not_added() -> None:
    """Some servers end a stream with the whole message; without pieces before it, it is the answer."""
    last = data({"choices": [{"index": 0, "message": {"content": "ab"}, "finish_reason": "stop"}]})
    assert streamed(chunk({"content": "a"}), chunk({"content": "b"}), last, DONE).text == "ab"
    assert streamed(last, DONE).text == "ab"


def test_refusals_are_put_together() -> None:
    """Pieces of a refusal make one, and the answer counts as filtered."""
    answer = streamed(chunk({"refusal": "I wo"}), chunk({"refusal": "n't."}), stop(), DONE)
    assert answer.parts == (RefusalPart(text="I won't."),)
    assert answer.finish_reason == "content_filter"


@pytest.mark.fault("A47")
def test_thinking_comes_in_its_field_beside_nulls() -> None:
    """DeepSeek sends both members on every delta, one of them null."""
    events = fed(
        [
            chunk({"content": None, "reasoning_content": ""}),
            chunk({"content": None, "reasoning_content": "H"}),
            chunk({"content": None, "reasoning_content": "m."}),
            chunk({"content": "x", "reasoning_content": None}),
            stop(),
            DONE,
        ]
    )
    assert [event.text for event in events if isinstance(event, ThinkingDelta)] == ["H", "m."]
    assert folded(events).parts == (ThinkingPart(text="Hm.", field="reasoning_content"), TextPart(text="x"))


@pytest.mark.fault("A47")
def test_structured_thinking_grows_by_type_and_index() -> None:
    """Text and its encrypted form share an index; strings grow, signatures replace, the plain copy is not added."""

    def details(plain: str | None, *items: dict[str, object]) -> bytes:
        return chunk({"content": "", "reasoning": plain, "reasoning_details": list(items)})

    text = {"type": "reasoning.text", "index": 0, "format": "f"}
    answer = streamed(
        details(None),
        details("H", {**text, "text": "H", "signature": ""}),
        details("m.", {**text, "text": "m."}),
        details(None, {**text, "text": "", "signature": "c2ln"}),
        details(None, {"type": "reasoning.encrypted", "index": 0, "data": "a", "id": "r"}),
        details(None, {"type": "reasoning.encrypted", "index": 0, "data": "b", "id": "r"}),
        chunk({"content": "x"}),
        stop(),
        DONE,
    )
    whole = [
        {**text, "text": "Hm.", "signature": "c2ln"},
        {"type": "reasoning.encrypted", "index": 0, "data": "ab", "id": "r"},
    ]
    assert answer == WIRE.parse(body({"reasoning": "Hm.", "reasoning_details": whole, "content": "x"}), ModelProfile())


def test_encrypted_thinking_keeps_its_place_before_the_text() -> None:
    """A trace without readable text is a part all the same."""
    item = {"type": "reasoning.encrypted", "index": 0, "data": "a"}
    answer = streamed(chunk({"reasoning_details": [item]}), chunk({"content": "x"}), stop(), DONE)
    assert answer == WIRE.parse(body({"reasoning_details": [item], "content": "x"}), ModelProfile())
    assert isinstance(answer.parts[0], ThinkingPart)


def test_items_of_content_are_put_together() -> None:
    """Mistral streams thinking as items and then text as a string."""

    def thought(text: str, **members: object) -> bytes:
        return chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}], **members}]})

    answer = streamed(thought("H"), thought("m."), thought("", closed=True), chunk({"content": "x"}), stop(), DONE)
    item = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}], "closed": True}
    assert answer == WIRE.parse(body({"content": [item, {"type": "text", "text": "x"}]}), ModelProfile())


def test_items_that_are_not_understood_keep_their_place() -> None:
    """A reference between two texts stays between them."""
    items: list[object] = [
        {"type": "text", "text": "a"},
        {"type": "reference", "ids": [1]},
        {"type": "text", "text": "b"},
    ]
    answer = streamed(*(chunk({"content": [item]}) for item in items), stop(), DONE)
    assert answer == WIRE.parse(body({"content": items}), ModelProfile())
    assert isinstance(answer.parts[1], OpaquePart)


def test_annotations_are_collected() -> None:
    """Those of several chunks make one list, kept beside the text."""
    answer = streamed(
        chunk({"content": "x"}), chunk({"annotations": [{"n": 1}]}), chunk({"annotations": [{"n": 2}]}), stop(), DONE
    )
    assert answer == WIRE.parse(body({"content": "x", "annotations": [{"n": 1}, {"n": 2}]}), ModelProfile())


@pytest.mark.parametrize(
    "text",
    [
        "<think>Hm.</think>\n\nYes",
        "Hm.</think>Yes",
        "<thinking> a < b </thinking>Yes",
        "<th",
        "a <thi",
        "Yes",
        "<think>Hm.",
    ],
)
def test_tags_are_found_across_chunks(text: str) -> None:
    """Character by character the thinking is the same as in the body."""
    answer = streamed(*(chunk({"content": character}) for character in text), stop(), DONE, profile=TAGGED)
    assert answer == WIRE.parse(body({"content": text}), TAGGED)


def test_no_piece_of_a_tag_is_shown() -> None:
    """What may be the beginning of a tag waits until it is one or not."""
    parser = WIRE.stream(TAGGED)
    assert [e for e in parser.feed(chunk({"content": " <thi"})) if isinstance(e, TextDelta | ThinkingDelta)] == []
    assert parser.feed(chunk({"content": "nk>Hm. </th"})) == [ThinkingDelta(index="tags", text="Hm. ")]
    assert parser.feed(chunk({"content": "ink>\nYes"})) == [TextDelta(index="text:1", text="Yes")]


@pytest.mark.fault("A11")
@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b": ping\n\n"],
        [chunk({"content": "x"})],
        [chunk({"content": "x"}), data({"choices": [], "usage": _USAGE})],
    ],
)
def test_a_stream_without_its_end_is_interrupted(pieces: list[bytes]) -> None:
    """Neither a finish reason nor the last marker: what had arrived is no answer."""
    text, error = partial_text(*pieces, error=StreamInterruptedError)
    assert text == ("x" if len(pieces) and b'"x"' in pieces[0] else "")
    assert error.retryable


@pytest.mark.parametrize(
    "end", [[stop()], [DONE], [stop(), DONE], [b"data: [DONE]"], [b"data:[DONE]\n"], [stop(), b"data: [DO"]]
)
def test_either_mark_ends_a_stream(end: list[bytes]) -> None:
    """A finish reason or the last marker, with or without its line end, or cut where nothing more can come."""
    answer = streamed(chunk({"content": "x"}), *end)
    assert (answer.text, answer.finish_reason, answer.complete) == ("x", "stop", True)


def test_a_lenient_profile_needs_no_mark() -> None:
    """Some servers never send any: the parts then say why the model stopped."""
    assert streamed(chunk({"content": "x"}), profile=LENIENT).finish_reason == "stop"
    assert streamed(fragment(0, "a", "f", "{}"), profile=LENIENT).finish_reason == "tool_call"
    assert streamed(chunk({"role": "assistant"}), profile=LENIENT).finish_reason == "unknown"


@pytest.mark.parametrize("profile", [PLAIN, LENIENT])
@pytest.mark.parametrize("pieces", [[], [b"\n"], [b": ping\n\n"]])
def test_nothing_at_all_is_interrupted_for_every_profile(profile: ModelProfile, pieces: list[bytes]) -> None:
    """A body without a single choice is no answer anywhere."""
    partial_text(*pieces, error=StreamInterruptedError, profile=profile)


@pytest.mark.fault("A12")
@pytest.mark.parametrize("profile", [PLAIN, LENIENT])
@pytest.mark.parametrize("before", [[], [stop()]])
def test_an_event_that_is_cut_is_an_interruption(profile: ModelProfile, before: list[bytes]) -> None:
    """Half a chunk at the end is never dropped silently."""
    half = chunk({"content": "more"})[:40]
    text, _ = partial_text(chunk({"content": "x"}), *before, half, error=StreamInterruptedError, profile=profile)
    assert text == "x"


def test_an_event_that_only_lacks_its_line_end_is_whole() -> None:
    """The last chunk counts when its JSON is complete."""
    assert streamed(chunk({"content": "x"}), stop().rstrip()).finish_reason == "stop"


@pytest.mark.fault("A14")
@pytest.mark.parametrize(
    "bad", [b"data: {nope}\n\n", b'data: {"a": 1\n\n', b"data: text\n\n", b"data: 7\n\n", b"data: []\n\n"]
)
def test_a_complete_event_that_is_no_chunk_is_a_protocol_error(bad: bytes) -> None:
    """Text that had come before it, in the same bytes too, is kept."""
    text, error = partial_text(chunk({"content": "x"}) + bad, error=ProtocolError)
    assert text == "x"
    assert "; " in str(error) or "check" in str(error)


@pytest.mark.fault("A15")
def test_bytes_that_are_not_utf8_are_a_protocol_error() -> None:
    """They are never replaced by something else."""
    text, _ = partial_text(chunk({"content": "x"}), b"data: \xff\n\n", error=ProtocolError)
    assert text == "x"


@pytest.mark.fault("A18")
@pytest.mark.parametrize(
    ("bad", "cls"),
    [
        (data({"error": {"message": "m", "type": "overloaded_error"}}), OverloadedError),
        (data({"error": {"message": "m", "type": "server_error"}}), ServerError),
        (data({"error": {"message": "m", "code": 429}, "choices": []}), RateLimitError),
        (data({"error": {"message": "m", "code": "invalid_api_key"}}), AuthenticationError),
        (data({"error": "m"}), ServerError),
        (data({"object": "error", "message": "m", "code": 400}), BadRequestError),
        (data({"detail": "m"}), ServerError),
        (b"event: error\n" + data({"error": {"message": "m", "code": "tool_use_failed"}}), BadRequestError),
        (b"event: error\n" + data({"message": "m", "code": 503}), OverloadedError),
        (b"event: error\ndata: m\n\n", ServerError),
        (chunk({"content": ""}, "error", error={"code": 502, "message": "m"}), ServerError),
        (data({"choices": [{"index": 0, "delta": {}, "error": {"code": 429, "message": "m"}}]}), RateLimitError),
    ],
)
def test_an_error_in_the_stream_is_that_error(bad: bytes, cls: type[ProviderError]) -> None:
    """Its class is what its words stand for; what had come before it, in the same bytes too, is kept."""
    for pieces in (
        [chunk({"content": "x"}), bad],
        [chunk({"content": "x"}) + bad],
        [chunk({"content": "x"}), bad, DONE],
    ):
        text, error = partial_text(*pieces, error=cls)
        assert text == "x"
        assert ": m;" in str(error)
    text, _ = partial_text(bad, error=cls)
    assert text == ""


def test_the_usage_of_a_failed_stream_is_kept() -> None:
    """Tokens were spent all the same."""
    folder, parser = Accumulator(), WIRE.stream(PLAIN)
    for event in parser.feed(chunk({"content": "x"}) + chunk({}, error={"code": 502, "message": "m"}, usage=_USAGE)):
        folder.add(event)
    with pytest.raises(ServerError):
        parser.feed(b"")
    assert folder.completion(complete=False).usage == Usage(input_tokens=10, output_tokens=5)


@pytest.mark.parametrize(("reason", "complete"), [("stop", True), ("tool_calls", True), ("length", False)])
def test_an_error_after_a_complete_answer_costs_nothing(reason: str, complete: bool) -> None:  # noqa: FBT001 — the expectation
    """The answer is all there; one that was cut by its length is not."""
    pieces = [chunk({"content": "x"}), stop(reason), data({"error": {"message": "m", "code": 500}, "usage": _USAGE})]
    if complete:
        answer = streamed(*pieces)
        assert (answer.text, answer.usage.input_tokens, answer.raw_finish_reason) == ("x", 10, reason)
    else:
        partial_text(*pieces, error=ServerError)


def test_nothing_counts_after_the_last_marker() -> None:
    """Further chunks, errors and rubbish are not even read."""
    answer = streamed(
        chunk({"content": "x"}),
        stop() + DONE + chunk({"content": "y"}),
        data({"error": {"message": "m"}}),
        b"data: {\n\n\xff",
    )
    assert answer.text == "x"


def test_the_last_marker_alone_is_no_answer() -> None:
    """A stream of nothing but its end is not an empty answer."""
    partial_text(DONE, error=ProtocolError)
    partial_text(data({"choices": []}), DONE, error=ProtocolError)


@pytest.mark.fault("A23")
@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_a_body_that_is_no_stream_is_read_as_a_body(cut: int) -> None:
    """A server that ignores ``stream`` and the content type still gives its answer, or its error."""
    whole = b"\n" + body({"content": "x", "tool_calls": [{"id": "a", "function": {"name": "f"}}]}, usage=_USAGE)
    pieces = [whole[at : at + cut] for at in range(0, len(whole), cut)]
    assert streamed(*pieces) == WIRE.parse(whole, ModelProfile())
    partial_text(data({"error": {"message": "m", "type": "overloaded_error"}})[6:], error=OverloadedError)
    partial_text(whole[:-3], error=StreamInterruptedError)
    partial_text(b"<html>", b"</html>", error=ProtocolError)


@pytest.mark.fault("A26")
def test_a_body_that_is_no_stream_has_a_limit() -> None:
    """An endless document is refused before it fills the memory."""
    partial_text(b'{"x": "', *[b"x" * 1024 * 1024] * 17, error=ProtocolError)


@pytest.mark.fault("A16")
def test_comments_and_line_ends_of_every_kind_are_read() -> None:
    """CRLF, comments between chunks, data without a space, a byte order mark, events of other names."""
    stream = (
        b"\xef\xbb\xbf: OPENROUTER PROCESSING\r\n\r\n"
        + chunk({"content": "\u20ac"}).replace(b"\n", b"\r\n").replace(b"data: ", b"data:")
        + b": ping\n\nevent: chunk\n"
        + stop()
        + DONE.replace(b"\n", b"\r")
    )
    single = [stream[at : at + 1] for at in range(len(stream))]
    assert streamed(stream) == streamed(*single)
    assert streamed(stream).text == "\u20ac"


_WORDS = st.text(max_size=6)
_NAMES = st.text(min_size=1, max_size=3)


@st.composite
def _messages(draw: st.DrawFn) -> dict[str, Any]:
    """A whole message: tags and text, a refusal, thinking of one of two kinds, calls."""
    opening = draw(st.sampled_from(["", "<think>", "<think>Hm.</think>", "Hm.</think>"]))
    message: dict[str, Any] = {"content": opening + draw(_WORDS), "refusal": draw(_WORDS), "tool_calls": []}
    for _ in range(draw(st.integers(0, 3))):
        function = {"name": draw(_NAMES), "arguments": draw(_WORDS)}
        message["tool_calls"].append({"id": draw(_NAMES), "function": function})
    if draw(st.booleans()):
        message["reasoning_content"] = draw(_WORDS)
        return message
    message["reasoning_details"] = []
    for place in range(draw(st.integers(0, 2))):
        detail = {"type": "reasoning.text", "index": place, "text": draw(_WORDS)}
        if draw(st.booleans()):
            detail["signature"] = draw(_WORDS)
        message["reasoning_details"].append(detail)
    return message


def _split(data: st.DataObject, text: str) -> list[str]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]


def _as_stream(data: st.DataObject, message: dict[str, Any], finish: str) -> bytes:
    """The chunks that a message may be sent in: every string in pieces, the calls' fragments in turn."""
    chunks = [chunk({"role": "assistant", "content": None})]
    chunks += [chunk({"reasoning_content": piece}) for piece in _split(data, message.get("reasoning_content", ""))]
    for place, detail in enumerate(message.get("reasoning_details", [])):
        head = {"type": detail["type"], "index": place}
        chunks += [chunk({"reasoning_details": [{**head, "text": piece}]}) for piece in _split(data, detail["text"])]
        if "signature" in detail:
            chunks.append(chunk({"reasoning_details": [{**head, "signature": detail["signature"]}]}))
    chunks += [chunk({"content": piece}) for piece in _split(data, message["content"])]
    chunks += [chunk({"refusal": piece}) for piece in _split(data, message["refusal"])]
    queues = []
    for place, call in enumerate(message["tool_calls"]):
        function = call["function"]
        chunks.append(fragment(place, call["id"], function["name"], ""))
        queues.append([fragment(place, arguments=piece) for piece in _split(data, function["arguments"])])
    chunks += [queue[turn] for turn in range(5) for queue in queues if turn < len(queue)]
    return b"".join([*chunks, stop(finish), DONE])


@given(
    message=_messages(),
    finish=st.sampled_from(["stop", "length", "tool_calls", "odd"]),
    profile=st.sampled_from([PLAIN, TAGGED]),
    data=st.data(),
)
def test_any_stream_of_a_message_gives_what_its_body_gives(
    message: dict[str, Any], finish: str, profile: ModelProfile, data: st.DataObject
) -> None:
    """However strings, fragments and bytes are cut, the completion is that of the unstreamed body."""
    stream = _as_stream(data, message, finish)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]
    assert streamed(*pieces, profile=profile) == WIRE.parse(body(message, finish=finish), profile)


_ODD = st.sampled_from(
    [
        chunk({"content": "x"}),
        chunk({"content": "<think>"}),
        chunk({"content": "</think>"}),
        chunk({"content": [{"type": "text", "text": "y"}, {"type": "thinking", "thinking": "z"}, None]}),
        chunk(None),
        chunk([]),
        fragment(0, "a", "f", "{"),
        fragment(None, None, "f", "}"),
        fragment(0, None, None, "}"),
        chunk({"reasoning": "r", "reasoning_details": [{"type": "t"}, 7]}),
        data({"choices": [], "usage": _USAGE}),
        data({"choices": None}),
        stop(),
        stop("length"),
        b": c\n\n",
        b"\r\n",
        b"event: error\n",
        data({"error": {"message": "m", "code": 429}}),
        b"data: {",
        b"data: \xe2\x82",
        DONE,
    ]
)


def _outcome(pieces: list[bytes], profile: ModelProfile) -> tuple[Completion, str]:
    folder, parser = Accumulator(), WIRE.stream(profile)
    try:
        for piece in pieces:
            for event in parser.feed(piece):
                folder.add(event)
        for event in parser.close():
            folder.add(event)
    except NodeLLMError as error:
        return folder.completion(complete=False), str(error)
    return folder.completion(), ""


@pytest.mark.fault("A16")
@given(chunks=st.lists(_ODD, max_size=9), profile=st.sampled_from([PLAIN, LENIENT, TAGGED]), data=st.data())
def test_any_cut_of_any_stream_has_the_same_outcome(
    chunks: list[bytes], profile: ModelProfile, data: st.DataObject
) -> None:
    """Sound or broken: the same parts, and the same error after them."""
    stream = b"".join(chunks)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]
    whole = _outcome([stream], profile)
    assert _outcome(pieces, profile) == whole
    assert _outcome([stream[at : at + 1] for at in range(len(stream))], profile) == whole


def test_a_long_answer_is_read_in_small_pieces() -> None:
    """Arguments of 100,000 characters in 20,000 fragments come out whole."""
    pieces = [fragment(0, "a", "f", '{"x": "'), *[fragment(0, "a", "f", "y" * 5)] * 20_000, fragment(0, arguments='"}')]
    answer = streamed(*pieces, stop("tool_calls"), DONE)
    assert answer.tool_calls == (
        ToolCallPart(call_id="a", wire_id="a", name="f", arguments='{"x": "' + "y" * 100_000 + '"}'),
    )


def test_calls_are_announced_as_they_come() -> None:
    """The name with the first fragment, the arguments piece by piece."""
    events = fed([fragment(0, "a", "f", ""), fragment(0, arguments="{}"), stop("tool_calls"), DONE])
    deltas = [event for event in events if isinstance(event, ToolCallDelta)]
    assert [(delta.wire_id, delta.name, delta.arguments) for delta in deltas] == [("a", "f", ""), ("a", "f", "{}")]
