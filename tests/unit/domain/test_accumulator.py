"""The fold of a stream: pieces in any interleaving give the answer that the unstreamed body would have given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.events import (
    Finished,
    PartReceived,
    RefusalDelta,
    ResponseStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageReported,
)
from nodellm_orm.domain.messages import Completion, FinishReason
from nodellm_orm.domain.parts import OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.domain.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodellm_orm.domain.events import Event

STOP, LENGTH, CALLS = FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALL


def fold(events: Iterable[Event], *, complete: bool = True) -> Completion:
    """What an accumulator makes of the events."""
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.completion(complete=complete)


def call(name: str, arguments: str, *, truncated: bool = False) -> ToolCallPart:
    """A call as it comes out of a fold, named like its id."""
    return ToolCallPart(call_id=name, wire_id=name, name=name, arguments=arguments, truncated=truncated)


def begun(name: str, arguments: str = "") -> ToolCallDelta:
    """The first event of a call."""
    return ToolCallDelta(index=name, wire_id=name, name=name, arguments=arguments)


@pytest.mark.fault("A42")
@given(st.data())
def test_the_interleaving_of_parts_does_not_matter(data: st.DataObject) -> None:
    """However the pieces of several parts are mixed, each part gets its own, in the order of first events."""
    wanted = {"a": '{"x": 1}', "b": '{"y": [2, 3]}', "c": "{}"}
    openings: list[Event] = [begun(name) for name in wanted]
    queues: dict[str, list[Event]] = {}
    for name, text in wanted.items():
        cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=4)))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        queues[name] = [ToolCallDelta(index=name, arguments=piece) for piece in pieces]
    order = data.draw(st.permutations([name for name, queue in queues.items() for _ in queue]))
    mixed = [queues[name].pop(0) for name in order]
    folded = fold([*openings, *mixed, Finished(reason=CALLS)])
    assert folded.parts == tuple(call(name, text) for name, text in wanted.items())
    assert folded.finish_reason is CALLS


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=())), st.data())
def test_text_is_the_same_however_it_was_cut(text: str, data: st.DataObject) -> None:
    """A character cut between its surrogate halves is whole again."""
    units = text.encode("utf-16-le", "surrogatepass")
    halves = [units[at : at + 2].decode("utf-16-le", "surrogatepass") for at in range(0, len(units), 2)]
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=len(halves), max_size=len(halves)))
    pieces, at = [], 0
    for size in sizes:
        pieces.append("".join(halves[at : at + size]))
        at += size
    events = [TextDelta(index=0, text=piece) for piece in pieces]
    assert fold(events).text == units.decode("utf-16-le", "surrogatepass")


def test_kinds_of_parts_keep_the_order_of_their_first_events() -> None:
    """Thinking, text, refusal, calls and whole parts stand where they began."""
    opaque = OpaquePart(payload='{"type":"web_search"}')
    folded = fold(
        [
            ResponseStarted(model="m-1"),
            ThinkingDelta(index=0, text="hm", field="reasoning"),
            TextDelta(index=1, text="I "),
            PartReceived(index=2, part=opaque),
            begun("f", '{"a":'),
            ThinkingDelta(index=0, text="m", signature="c2", opaque='{"z":1}'),
            TextDelta(index=1, text="am", extra='{"citations":[]}'),
            ToolCallDelta(index="f", arguments="1}", extra='{"type":"function"}'),
            ThinkingDelta(index=0, signature="ln"),
            ResponseStarted(response_id="r-1"),
            Finished(reason=CALLS, raw="tool_use"),
        ]
    )
    assert folded == Completion(
        parts=(
            ThinkingPart(text="hmm", signature="c2ln", field="reasoning", opaque='{"z":1}'),
            TextPart(text="I am", extra='{"citations":[]}'),
            opaque,
            ToolCallPart(call_id="f", wire_id="f", name="f", arguments='{"a":1}', extra='{"type":"function"}'),
        ),
        finish_reason=CALLS,
        raw_finish_reason="tool_use",
        usage=Usage(),
        model="m-1",
        response_id="r-1",
    )


def test_the_final_form_of_a_part_replaces_its_pieces_in_place() -> None:
    """A part that arrives whole at the end stands where its first piece stood."""
    folded = fold(
        [
            TextDelta(index=0, text="dra"),
            TextDelta(index=1, text="!"),
            PartReceived(index=0, part=TextPart(text="done")),
        ]
    )
    assert folded.parts == (TextPart(text="done"), TextPart(text="!"))


@pytest.mark.fault("A44")
def test_parts_in_which_nothing_was_said_do_not_exist() -> None:
    """Blocks that were opened and left empty are not in the answer; signed or annotated ones are."""
    folded = fold(
        [
            TextDelta(index=0),
            ThinkingDelta(index=1),
            ToolCallDelta(index=2),
            RefusalDelta(index=3, text=""),
            ThinkingDelta(index=4, signature=""),
            ThinkingDelta(index=5, opaque='{"encrypted":"x"}'),
            TextDelta(index=6, extra="{}"),
        ]
    )
    assert folded.parts == (
        ThinkingPart(signature=""),
        ThinkingPart(opaque='{"encrypted":"x"}'),
        TextPart(text="", extra="{}"),
    )


@pytest.mark.fault("A38")
def test_a_call_without_id_is_kept_without_one() -> None:
    """A missing id stays missing: the runtime gives the call one of its own."""
    folded = fold([ToolCallDelta(index=0, name="f"), Finished(reason=STOP)])
    assert folded.parts == (ToolCallPart(call_id="", wire_id=None, name="f", arguments="{}"),)


@pytest.mark.fault("A45")
def test_usage_is_replaced_by_what_is_stated_later() -> None:
    """Cumulative counts replace earlier ones, and what was never stated stays unknown."""
    folded = fold(
        [
            UsageReported(usage=Usage(input_tokens=10, output_tokens=1, other_tokens={"audio": 1})),
            UsageReported(usage=Usage(output_tokens=5, other_tokens={"searches": 2})),
        ]
    )
    assert folded.usage == Usage(input_tokens=10, output_tokens=5, other_tokens={"audio": 1, "searches": 2})
    assert folded.usage.cached_tokens is None


def test_a_stream_that_said_nothing_is_an_empty_answer_of_unknown_end() -> None:
    """Nothing is made up."""
    assert fold([]) == Completion(parts=(), finish_reason=FinishReason.UNKNOWN, usage=Usage())


@pytest.mark.fault("A43")
@pytest.mark.parametrize(
    ("reason", "events", "settled", "truncated"),
    [
        (CALLS, [TextDelta(index=0, text="no call")], STOP, []),
        (STOP, [begun("f", "{}")], CALLS, [False]),
        (LENGTH, [TextDelta(index=0, text="lon")], LENGTH, []),
        (LENGTH, [begun("f", '{"a":')], LENGTH, [True]),
        (LENGTH, [begun("f", '{"a":1}'), begun("g", '{"b":')], LENGTH, [False, True]),
        (LENGTH, [begun("f", '{"a":1}')], CALLS, [False]),
        (LENGTH, [begun("f")], LENGTH, [True]),
        (LENGTH, [begun("f", "{}"), begun("g")], LENGTH, [False, True]),
        (FinishReason.UNKNOWN, [begun("f")], CALLS, [False]),
        (FinishReason.CONTENT_FILTER, [begun("f", "{}")], FinishReason.CONTENT_FILTER, [False]),
        (FinishReason.PAUSE, [begun("f", "{}")], FinishReason.PAUSE, [False]),
        (FinishReason.ERROR, [begun("f", "{}")], FinishReason.ERROR, [False]),
        (STOP, [RefusalDelta(index=0, text="I won't")], FinishReason.CONTENT_FILTER, []),
        (LENGTH, [RefusalDelta(index=0, text="I won't")], FinishReason.CONTENT_FILTER, []),
        (CALLS, [RefusalDelta(index=0, text="but"), begun("f", "{}")], CALLS, [False]),
    ],
)
def test_the_finish_reason_is_derived_where_providers_cannot_be_trusted(
    reason: FinishReason, events: list[Event], settled: FinishReason, truncated: list[bool]
) -> None:
    """Filters outrank calls, calls outrank length, length outranks stop; a call cut off in its arguments is marked."""
    folded = fold([*events, Finished(reason=reason)])
    assert folded.finish_reason is settled
    assert [part.truncated for part in folded.tool_calls] == truncated


def test_a_refusal_is_kept_as_one() -> None:
    """Its words are a part of their own, not text."""
    folded = fold([RefusalDelta(index=0, text="I "), RefusalDelta(index=0, text="won't"), Finished(reason=STOP)])
    assert folded.parts == (RefusalPart(text="I won't"),)
    assert folded.text == ""


def test_the_last_finish_counts() -> None:
    """A provider that states the reason twice means the later one."""
    events = [Finished(reason=STOP, raw="a"), Finished(reason=LENGTH, raw="b")]
    assert (fold(events).finish_reason, fold(events).raw_finish_reason) == (LENGTH, "b")


@pytest.mark.fault("A13")
def test_calls_of_a_broken_stream_are_all_marked() -> None:
    """When the stream broke off, no call in it may run, complete as it looks."""
    folded = fold([TextDelta(index=0, text="par"), begun("f", '{"a":1}'), begun("g")], complete=False)
    assert not folded.complete
    assert folded.parts == (
        TextPart(text="par"),
        call("f", '{"a":1}', truncated=True),
        call("g", "{}", truncated=True),
    )


def test_the_fold_can_be_read_on_the_way() -> None:
    """What has arrived so far is an answer of its own, and reading it changes nothing."""
    accumulator = Accumulator()
    accumulator.add(TextDelta(index=0, text="a"))
    assert accumulator.completion(complete=False).text == "a"
    accumulator.add(TextDelta(index=0, text="b"))
    assert accumulator.completion().text == "ab"
