"""Decisions on messages: which of them a turn takes the place of, and where a branch may leave its parent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.messages import Message, user
from nodellm_orm.domain.parts import SummaryPart, TextPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.settings import Settings
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.entries import MessageAdded
from nodellm_orm.ports.states import CallState, ChatHead, Snapshot, TurnState
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.runtime.revision import Revision, cut_at

if TYPE_CHECKING:
    from nodellm_orm.ports.statuses import TurnStatus


def said(text: str = "so", *calls: str, partial: bool = False) -> Message:
    """The model's message."""
    asked = [ToolCallPart(call_id=call, name="t", arguments="{}") for call in calls]
    return Message(role="assistant", parts=(TextPart(text=text), *asked), status="partial" if partial else "complete")


def answered(call: str) -> Message:
    """A call's result."""
    return Message(role="tool", parts=(ToolResultPart(call_id=call, name="t", content="x"),))


def placed(*messages: Message) -> tuple[Message, ...]:
    """Messages of a chat in which nothing was superseded."""
    return tuple(replace(message, position=position) for position, message in enumerate(messages))


def snapshot(*messages: Message, last: TurnState | None = None) -> Snapshot:
    """A chat as stored."""
    conversation = placed(*messages)
    return Snapshot(
        head=ChatHead(id=new_id(), owner="ada", settings=Settings()),
        messages=conversation,
        message_ids=tuple(new_id() for _ in conversation),
        fence=7,
        step=3,
        next_position=len(conversation),
        last_turn=last,
    )


def turn(status: TurnStatus, *calls: str, expired: bool = False, first: int = 0) -> TurnState:
    """The last turn, with calls that have no results."""
    states = tuple(
        CallState(
            id=new_id(),
            message_id=new_id(),
            position=place,
            call=ToolCallPart(call_id=call, name="t", arguments="{}"),
            status="running",
        )
        for place, call in enumerate(calls)
    )
    return TurnState(id=new_id(), position=0, status=status, calls=states, expired=expired, first_position=first)


def test_the_last_question_is_answered_anew() -> None:
    """Everything up to the last user's message stays, whatever follows it."""
    messages = placed(user("a"), said(), user("b"), said("x", "c"), answered("c"), said())
    assert Revision().kept(messages) == 3
    assert Revision().kept(messages[:3]) == 3
    assert Revision().kept(placed(said())) is None
    assert Revision().kept(()) is None


def test_a_summary_is_no_question() -> None:
    """A summary that stands for earlier messages is neither answered anew nor edited."""
    summary = Message(role="user", parts=(SummaryPart(text="s", until=1),))
    messages = placed(user("a"), said(), summary)
    assert Revision().kept(messages) == 1
    assert Revision(edited=2).kept(messages) is None


def test_an_edited_question_goes_with_all_that_follows() -> None:
    """What comes before it stays; only a user's message of this very chat is one."""
    messages = placed(user("a"), said(), user("b"), said())
    assert Revision(edited=2).kept(messages) == Revision(edited=messages[2]).kept(messages) == 2
    for wrong in (1, 9, -1, replace(messages[2], parts=user("other").parts), user("b")):
        assert Revision(edited=wrong).kept(messages) is None


@pytest.mark.parametrize("at", [None, 3])
def test_open_calls_at_the_end_are_closed(at: int | None) -> None:
    """The end of a chat whose last turn does not run is a place for a branch: its open calls get results."""
    parent = snapshot(user("a"), said(), user("b"), said("x", "c", "d"), last=turn("failed", "c", "d"))
    cut, closing = cut_at(parent, at, new_id)
    assert (cut.last, cut.length, cut.fence, cut.step) == (3, 4, 7, 3)
    results = [entry.message for entry in closing if isinstance(entry, MessageAdded)]
    assert [(message.position, message.tool_results[0].call_id) for message in results] == [(4, "c"), (5, "d")]


def test_an_interrupted_turn_is_closed_and_a_running_one_is_left_out() -> None:
    """While a turn runs, the branch ends before the calls that it waits for."""
    messages = (user("a"), said("x", "c"))
    assert cut_at(snapshot(*messages, last=turn("running", "c", expired=True)), None, new_id)[0].last == 1
    running = snapshot(*messages, last=turn("running", "c"))
    assert cut_at(running, None, new_id)[0].last == 0
    with pytest.raises(ConfigurationError, match="fork at 0, before them"):
        cut_at(running, 1, new_id)


def test_a_growing_answer_is_left_out_and_a_broken_off_one_is_kept() -> None:
    """What a stream has stored so far is no answer yet; once its turn has ended, it is part of the conversation."""
    messages = (user("a"), said("so f", partial=True))
    assert cut_at(snapshot(*messages, last=turn("running")), None, new_id)[0].last == 0
    assert cut_at(snapshot(*messages, last=turn("cancelled")), None, new_id)[0].last == 1


def test_an_empty_chat_has_an_empty_branch() -> None:
    """There is nothing to copy, and no place to name."""
    cut, closing = cut_at(snapshot(), None, new_id)
    assert (cut.last, cut.length, closing) == (None, 0, [])
    with pytest.raises(ConfigurationError, match="there are none"):
        cut_at(snapshot(), 0, new_id)


@given(st.lists(st.integers(min_value=0, max_value=3), min_size=1, max_size=6))
def test_a_branch_never_ends_between_a_call_and_its_result(rounds: list[int]) -> None:
    """At every position a fork is either whole or refused with places that are possible."""
    messages: list[Message] = [user("go")]
    for number, count in enumerate(rounds):
        names = [f"c{number}_{n}" for n in range(count)]
        messages += [said("x", *names), *(answered(name) for name in names)]
    parent = snapshot(*messages, last=turn("completed"))
    possible = set()
    for position in range(len(messages)):
        kept = parent.messages[: position + 1]
        asked = {call.call_id for message in kept for call in message.tool_calls}
        whole = asked == {result.call_id for message in kept for result in message.tool_results}
        if whole:
            possible.add(position)
            assert cut_at(parent, position, new_id) == (cut_at(parent, parent.messages[position], new_id))
        else:
            with pytest.raises(ConfigurationError, match=f"fork at {max(possible)}, before them or at [0-9]+, behind"):
                cut_at(parent, position, new_id)
    assert cut_at(parent, None, new_id)[0].last == len(messages) - 1
