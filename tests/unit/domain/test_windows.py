"""Windows: what is sent is whole turns from the end of a conversation, and a summary of what was before."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.messages import FinishReason, Message, Role
from nodellm_orm.domain.parts import (
    MediaPart,
    OpaquePart,
    Part,
    RefusalPart,
    SummaryPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from nodellm_orm.domain.windows import (
    EVERYTHING,
    Window,
    estimate,
    first_kept,
    first_loaded,
    is_summary,
    sent,
    summarised,
    turns_of,
)
from nodellm_orm.errors import ConfigurationError

TEXTS = st.text(max_size=40)
LIMITS = st.none() | st.integers(1, 12)
WINDOWS = st.builds(Window, turns=LIMITS, tokens=st.none() | st.integers(1, 120))


def said(role: Role, text: str, position: int | None = None) -> Message:
    """A message of text."""
    return Message(role=role, parts=(TextPart(text=text),), position=position)


def summary(until: int, position: int, text: str = "in short") -> Message:
    """A summary in a conversation."""
    parts = (SummaryPart(text=text, until=until),)
    return Message(role="assistant", parts=parts, position=position, finish_reason=FinishReason.SUMMARY)


@st.composite
def conversations(draw: st.DrawFn, *, summaries: bool = True) -> list[Message]:
    """Conversations as they are stored: calls are answered at once, summaries stand for what was before."""
    messages: list[Message] = []

    def add(role: Role, *parts: Part) -> None:
        messages.append(Message(role=role, parts=parts, position=len(messages)))

    kinds = ["question", "answer", "tools", "system", *(["summary"] if summaries else [])]
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=14)):
        match kind:
            case "question":
                add("user", TextPart(text=draw(TEXTS)))
            case "tools":
                ids = [f"call_{len(messages)}_{number}" for number in range(draw(st.integers(1, 3)))]
                add("assistant", *(ToolCallPart(call_id=key, name="look", arguments="{}") for key in ids))
                for key in ids:
                    add("tool", ToolResultPart(call_id=key, name="look", content=draw(TEXTS)))
            case "summary":
                starts = [start for start in turns_of(messages) if start]
                if starts:
                    messages.append(summary(draw(st.sampled_from(starts)) - 1, len(messages)))
            case _:
                add("assistant" if kind == "answer" else "system", TextPart(text=draw(TEXTS)))
    return messages


# ── what is sent ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(conversations(), WINDOWS)
def test_calls_and_their_results_are_never_split(messages: list[Message], window: Window) -> None:
    """Every call that is sent has its results behind it, and no result is sent without its call."""
    kept = sent(messages, window)
    calls = [call.call_id for message in kept for call in message.tool_calls]
    assert [result.call_id for message in kept for result in message.tool_results] == calls


@given(conversations(), WINDOWS)
def test_what_is_sent_is_the_end_of_the_history(messages: list[Message], window: Window) -> None:
    """The very objects, in order, up to the last one; before them at most the last summary, as a user's text."""
    last, rest = summarised(messages)
    kept = sent(messages, window)
    own = kept if last is None else kept[1:]
    assert [id(message) for message in own] == [id(message) for message in rest[len(rest) - len(own) :]]
    if last is not None:
        assert (kept[0].role, last.content in kept[0].content) == ("user", True)
        assert kept[0] is sent(messages, window)[0]
    assert not any(is_summary(message) for message in kept)


@given(conversations(), WINDOWS)
def test_turns_are_whole_and_the_last_is_always_sent(messages: list[Message], window: Window) -> None:
    """It is cut where a turn begins, and everything from the last question on is there, however small the window."""
    _, rest = summarised(messages)
    first = first_kept(rest, window)
    assert not rest or first in turns_of(rest)
    assert not rest or first <= turns_of(rest)[-1]


@given(conversations(), WINDOWS, WINDOWS)
def test_a_wider_window_shows_no_less(messages: list[Message], one: Window, other: Window) -> None:
    """Of two windows the one that lies within the other shows an end of what that shows."""
    turns, tokens = ((a and b and max(a, b)) for a, b in ((one.turns, other.turns), (one.tokens, other.tokens)))
    wide = Window(turns=turns, tokens=tokens)
    assert one.within(wide)
    assert first_kept(messages, one) >= first_kept(messages, wide)
    assert len(sent(messages, one)) <= len(sent(messages, wide))


@given(conversations(), st.integers(1, 12), st.integers(1, 120))
def test_the_tighter_limit_holds(messages: list[Message], turns: int, tokens: int) -> None:
    """With both limits as much is sent as the tighter one allows."""
    both = sent(messages, Window(turns=turns, tokens=tokens))
    assert both in (sent(messages, Window(turns=turns)), sent(messages, Window(tokens=tokens)))
    assert len(both) == min(len(sent(messages, Window(turns=turns))), len(sent(messages, Window(tokens=tokens))))


@given(conversations(), st.integers(1, 120))
def test_tokens_are_not_exceeded_but_by_the_last_turn(messages: list[Message], tokens: int) -> None:
    """Whatever is sent beside the last turn fits together with its question and the summary."""
    last, rest = summarised(messages)
    kept = sent(messages, Window(tokens=tokens))
    answered = len(rest) - turns_of(rest)[-1] - 1 if rest else 0
    counted = kept[: len(kept) - answered]
    if len(counted) > (1 if last is None else 2):
        assert sum(estimate(message) for message in counted) <= tokens


@given(conversations(), WINDOWS, st.lists(st.sampled_from(["assistant", "tool"]), max_size=4))
def test_the_cut_stays_while_a_question_is_answered(messages: list[Message], window: Window, added: list[Role]) -> None:
    """What is added behind the last question moves nothing: requests of one turn are prefixes of each other."""
    asked = [*messages, said("user", "and now?", len(messages))]
    later = [*asked, *(said(role, "x" * 500, len(asked) + n) for n, role in enumerate(added))]
    before = sent(asked, window)
    assert sent(later, window)[: len(before)] == before


def test_turns_are_counted_from_the_end() -> None:
    """The new question is one of them, and so is what was said before the first question."""
    messages = [said("assistant", "hello"), said("user", "a"), said("assistant", "b"), said("user", "c")]
    assert [m.content for m in sent(messages, Window(turns=1))] == ["c"]
    assert [m.content for m in sent(messages, Window(turns=2))] == ["a", "b", "c"]
    assert [m.content for m in sent(messages, Window(turns=3))] == ["hello", "a", "b", "c"]
    assert sent([], Window(turns=1)) == ()


def test_messages_from_elsewhere_belong_to_the_turn_they_follow() -> None:
    """A system message stays with the turn before it; a user's is a turn of its own."""
    messages = [said("user", "a"), said("system", "b"), said("assistant", "c"), said("user", "d"), said("user", "e")]
    assert [m.content for m in sent(messages, Window(turns=2))] == ["d", "e"]
    assert [m.content for m in sent(messages, Window(turns=3))] == ["a", "b", "c", "d", "e"]


# ── summaries ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_summary_stands_in_place_of_what_it_covers() -> None:
    """It comes first as a text that says what it is, and what it covers is left out."""
    messages = [said("user", "a", 0), said("assistant", "b", 1), said("user", "c", 2), summary(1, 3)]
    told, kept = sent([*messages, said("user", "d", 4)])[0], sent([*messages, said("user", "d", 4)])[1:]
    assert "<summary>\nin short\n</summary>" in told.content
    assert [m.content for m in kept] == ["c", "d"]


def test_only_the_last_summary_counts() -> None:
    """An earlier one is covered by it, wherever it stands."""
    messages = [
        said("user", "a", 0),
        said("user", "b", 1),
        summary(0, 2, "old"),
        said("user", "c", 3),
        summary(1, 4, "new"),
    ]
    contents = [message.content for message in sent(messages)]
    assert len(contents) == 2
    assert "new" in contents[0]
    assert contents[1] == "c"


def test_a_summary_is_sent_whatever_the_window() -> None:
    """It counts as tokens, and leaves less room for the turns behind it."""
    messages = [said("user", "a", 0), summary(0, 1, "x" * 100), *(said("user", f"{n}" * 20, n) for n in range(2, 6))]
    assert len(sent(messages, Window(tokens=1))) == 2
    wide = Window(tokens=estimate(sent(messages)[0]) + 2 * estimate(messages[-1]))
    assert len(sent(messages, wide)) == 3
    assert len(sent(messages, Window(turns=2))) == 3


# ── what is loaded ────────────────────────────────────────────────────────────────────────────────────────────────────


@given(conversations(summaries=False), WINDOWS, conversations(summaries=False))
def test_what_is_loaded_is_enough_for_all_that_follows(
    messages: list[Message], window: Window, later: list[Message]
) -> None:
    """Whatever is said next, a process that loaded a part sends what one sends that knows everything."""
    first = first_loaded(messages, window, None)
    following = [replace(m, position=len(messages) + n) for n, m in enumerate(later)]
    asked = [*following, said("user", "and now?", len(messages) + len(following))]
    assert sent([*messages[first:], *asked], window) == sent([*messages, *asked], window)


@given(conversations(), WINDOWS, st.integers(0, 30))
def test_the_last_turn_is_loaded_whole(messages: list[Message], window: Window, needed: int) -> None:
    """What the chat's last turn has written is there, from the question on that it belongs to."""
    first = first_loaded(messages, window, needed)
    assert first <= first_kept(messages, window)
    assert all(m in messages[first:] for m in messages if (m.position or 0) >= needed) or needed >= len(messages)
    assert not messages or first in turns_of(messages)


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3"])
@pytest.mark.parametrize("name", ["turns", "tokens"])
def test_a_limit_is_a_whole_number_of_at_least_one(name: str, limit: object) -> None:
    """Anything else is refused, by the name of the limit."""
    with pytest.raises(ConfigurationError, match=rf"{name} of a history window is a whole number of at least 1"):
        Window(**{name: limit})  # type: ignore[arg-type]  # what is refused


def test_windows_lie_within_each_other() -> None:
    """A window is within another that reaches as far back or further by each of its limits."""
    chain = [Window(turns=1, tokens=5), Window(turns=1), Window(turns=3), EVERYTHING]
    assert all(narrow.within(wide) and not wide.within(narrow) for narrow, wide in pairwise(chain))
    assert not Window(tokens=1).within(Window(turns=1))
    assert EVERYTHING.within(EVERYTHING)


@pytest.mark.parametrize(
    ("parts", "tokens"),
    [
        ((), 4),
        ((TextPart(text="four"), RefusalPart(text="s")), 6),
        ((TextPart(text="é" * 4),), 6),
        ((TextPart(text="\ud800\0"),), 7),
        ((ThinkingPart(text="hmm", signature="x" * 1000),), 5),
        ((ToolCallPart(call_id="c" * 40, name="look", arguments="{}"),), 6),
        ((ToolResultPart(call_id="c", name="look", content="12345678"),), 6),
        ((OpaquePart(payload="{}"), SummaryPart(text="so", until=3)), 5),
        ((MediaPart(media="image", media_type="image/png", data=b"x" * 9999), TextPart(text="what?")), 1506),
    ],
)
def test_tokens_are_estimated_from_bytes(parts: tuple[Part, ...], tokens: int) -> None:
    """Four bytes a token, four tokens a message, 1500 a file; no tokenizer, no model, no setting has a part in it."""
    assert estimate(Message(role="user", parts=parts)) == tokens
