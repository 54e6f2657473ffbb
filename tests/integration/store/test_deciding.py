"""Deciding on calls that wait for a person, in every journal alike: once, beside no turn, bound to the arguments."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.errors import ChatBusyError, ChatError, ChatNotFoundError
from nodellm_orm.ports.approvals import Decision, approval_digest
from nodellm_orm.ports.entries import CallFinished, TurnEnded
from nodellm_orm.ports.ownership import Outdated
from tests.integration.store.samples import (
    ENDED,
    LEASE,
    answer,
    begin,
    begun,
    call,
    closed,
    completed,
    opened_call,
    result,
)

if TYPE_CHECKING:
    from uuid import UUID

    from nodellm_orm.domain.parts import ToolCallPart
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.ownership import Hold
    from nodellm_orm.ports.states import CallState

SUSPENDED = TurnEnded(status="suspended", reason="approval")


async def waiting(journal: Journal, *asked: ToolCallPart, lease: float = LEASE, ends: bool = True) -> Hold:
    """A chat whose last turn has calls that wait, and is suspended for that."""
    turn = await begun(journal, lease=lease)
    said = answer(1, *asked)
    calls = [opened_call(said, one, place, "awaiting_approval") for place, one in enumerate(asked)]
    ending: tuple[Entry, ...] = (SUSPENDED,) if ends else ()
    return await journal.record(turn.hold, (closed(turn.opened), said, *calls, *ending))


async def calls_of(journal: Journal, chat_id: UUID) -> list[CallState]:
    """The calls of the last turn as stored."""
    last = (await journal.load(chat_id, "ada")).last_turn
    assert last is not None
    return list(last.calls)


async def test_an_approved_call_is_pending_and_bound_to_its_arguments(journal: Journal) -> None:
    """Approving says who and when, and what exactly; nothing else of the chat changes."""
    asked = call("refund")
    hold = await waiting(journal, asked)
    before = await journal.load(hold.chat_id, "ada")

    decided = await journal.decide(hold.chat_id, "ada", Decision(call_id=asked.call_id, by="bea"))

    (stored,) = await calls_of(journal, hold.chat_id)
    assert stored == decided
    assert (stored.status, stored.result, stored.attempts, stored.answered) == ("pending", None, 0, False)
    assert (stored.decided_by, stored.altered) == ("bea", False)
    assert stored.approved_sha256 == approval_digest("refund", asked.arguments)
    assert stored.decided_at is not None
    assert stored.decided_at.utcoffset() is not None
    after = await journal.load(hold.chat_id, "ada")
    assert after.messages == before.messages
    assert after.last_turn is not None
    assert (after.last_turn.status, after.last_turn.reason, after.last_turn.takeovers) == ("suspended", "approval", 0)


async def test_a_denied_call_has_its_reason_as_result(journal: Journal) -> None:
    """Denying says who, when and why; the other calls go on waiting."""
    asked, other = call("refund"), call("pay")
    hold = await waiting(journal, asked, other)

    await journal.decide(hold.chat_id, "ada", Decision(call_id=asked.call_id, denial="Not this week: \x00 é"))

    denied, left = await calls_of(journal, hold.chat_id)
    assert (denied.status, denied.result, denied.error) == ("denied", "Not this week: \x00 é", None)
    assert (denied.decided_by, denied.approved_sha256) == (None, None)
    assert denied.decided_at is not None
    assert (left.status, left.decided_at) == ("awaiting_approval", None)


async def test_the_same_decision_again_changes_nothing(journal: Journal) -> None:
    """Whoever makes it, and whatever he says: the first decision stays as it is on the row."""
    yes, no = call("refund"), call("pay")
    hold = await waiting(journal, yes, no)
    first = [
        await journal.decide(hold.chat_id, "ada", Decision(call_id=yes.call_id, by="bea")),
        await journal.decide(hold.chat_id, "ada", Decision(call_id=no.call_id, denial="no", by="bea")),
    ]

    again = [
        await journal.decide(hold.chat_id, "ada", Decision(call_id=yes.call_id, by="cyd")),
        await journal.decide(hold.chat_id, "ada", Decision(call_id=no.call_id, denial="never", by="cyd")),
    ]

    assert again == first == await calls_of(journal, hold.chat_id)


async def test_the_other_decision_is_refused_and_told_who_made_the_first(journal: Journal) -> None:
    """A decision is not taken back: the error says who made it, and when."""
    yes, no = call("refund"), call("pay")
    hold = await waiting(journal, yes, no)
    approved = await journal.decide(hold.chat_id, "ada", Decision(call_id=yes.call_id, by="bea"))
    await journal.decide(hold.chat_id, "ada", Decision(call_id=no.call_id, denial="no"))
    before = await calls_of(journal, hold.chat_id)

    with pytest.raises(ChatError, match=rf"{yes.call_id} of refund was approved by bea at") as caught:
        await journal.decide(hold.chat_id, "ada", Decision(call_id=yes.call_id, denial="no", by="cyd"))
    with pytest.raises(ChatError, match=rf"{no.call_id} of pay was denied at 2"):
        await journal.decide(hold.chat_id, "ada", Decision(call_id=no.call_id, by="cyd"))

    assert approved.decided_at is not None
    assert approved.decided_at.isoformat(timespec="seconds") in str(caught.value)
    assert await calls_of(journal, hold.chat_id) == before


@pytest.mark.parametrize("owner", ["bob", None, "ADA"])
async def test_only_the_owner_s_chat_is_found(journal: Journal, owner: str | None) -> None:
    """Another owner's decision is told that there is no such chat, whether or not there is such a call."""
    asked = call()
    hold = await waiting(journal, asked)
    for call_id in (asked.call_id, "none"):
        with pytest.raises(ChatNotFoundError, match="there is no chat"):
            await journal.decide(hold.chat_id, owner, Decision(call_id=call_id))

    assert (await calls_of(journal, hold.chat_id))[0].status == "awaiting_approval"


async def test_a_call_that_is_not_there_names_those_that_wait(journal: Journal) -> None:
    """The error lists what could be decided on; a call of another chat is none of this one."""
    here, there = call("refund"), call("pay")
    hold = await waiting(journal, here)
    await waiting(journal, there)

    for call_id in ("none", there.call_id, here.call_id.upper(), f"{here.call_id} "):
        with pytest.raises(ChatNotFoundError, match=rf"wait for a decision: {here.call_id} \(refund\)"):
            await journal.decide(hold.chat_id, "ada", Decision(call_id=call_id))
    await journal.decide(hold.chat_id, "ada", Decision(call_id=here.call_id))
    with pytest.raises(ChatNotFoundError, match="no call of it waits"):
        await journal.decide(hold.chat_id, "ada", Decision(call_id="none"))


@pytest.mark.parametrize("status", ["pending", "running", "unknown"])
async def test_a_call_that_never_waited_is_not_decided_on(journal: Journal, status: str) -> None:
    """Only calls that wait are decided on."""
    asked = call("refund")
    turn = await begun(journal)
    said = answer(1, asked)
    ended = TurnEnded(status="suspended", reason="tool_limit")
    await journal.record(turn.hold, (closed(turn.opened), said, opened_call(said, asked, status=status), ended))

    for denial in (None, "no"):
        with pytest.raises(ChatError, match=rf"does not wait for a decision \(it is {status}\)"):
            await journal.decide(turn.hold.chat_id, "ada", Decision(call_id=asked.call_id, denial=denial))

    assert (await calls_of(journal, turn.hold.chat_id))[0].decided_at is None


async def test_a_running_chat_is_busy(journal: Journal) -> None:
    """While a worker holds the chat nothing is decided, but what was decided so before is confirmed."""
    asked, other = call("refund"), call("pay")
    hold = await waiting(journal, asked, other)
    approved = await journal.decide(hold.chat_id, "ada", Decision(call_id=asked.call_id, by="bea"))
    held = await journal.take_over(hold.chat_id, "ada", hold.turn_id, worker="w2", lease=LEASE)

    with pytest.raises(ChatBusyError) as caught:
        await journal.decide(hold.chat_id, "ada", Decision(call_id=other.call_id))
    again = await journal.decide(hold.chat_id, "ada", Decision(call_id=asked.call_id))

    assert (caught.value.turn_id, again) == (hold.turn_id, approved)
    assert [state.status for state in await calls_of(journal, hold.chat_id)] == ["pending", "awaiting_approval"]
    await journal.record(held, (SUSPENDED,))


async def test_an_interrupted_turn_is_decided_on_and_stays_its_worker_s(journal: Journal) -> None:
    """A lease that has ended does not keep anybody from deciding; a worker that lives after all goes on."""
    asked = call("refund")
    hold = await waiting(journal, asked, lease=ENDED, ends=False)

    await journal.decide(hold.chat_id, "ada", Decision(call_id=asked.call_id, by="bea"))
    await journal.record(hold, (SUSPENDED,))

    (state,) = await calls_of(journal, hold.chat_id)
    assert (state.status, state.decided_by) == ("pending", "bea")


async def test_copies_loaded_before_a_decision_are_outdated(journal: Journal) -> None:
    """A turn that was planned without knowing of the decision is not begun."""
    asked = call("refund")
    hold = await waiting(journal, asked)
    snapshot = await journal.load(hold.chat_id, "ada")
    await journal.decide(hold.chat_id, "ada", Decision(call_id=asked.call_id))

    with pytest.raises(Outdated):
        await begin(journal, snapshot)

    await begin(journal, await journal.load(hold.chat_id, "ada"))


async def test_who_decided_stays_when_a_new_turn_closes_the_call(journal: Journal) -> None:
    """An approved call that is abandoned is skipped, and its row still tells who approved it."""
    asked = call("refund")
    hold = await waiting(journal, asked)
    state = await journal.decide(hold.chat_id, "ada", Decision(call_id=asked.call_id, by="bea"))
    finished = CallFinished(id=state.id, status="skipped", result="not run", error="closed by a new turn")

    await begin(journal, await journal.load(hold.chat_id, "ada"), closing=(finished, result(2, asked)))

    old = await journal.turn(hold.chat_id, "ada", hold.turn_id)
    assert [(c.status, c.decided_by, c.approved_sha256) for c in old.calls] == [
        ("skipped", "bea", state.approved_sha256)
    ]
    with pytest.raises(ChatError, match="was approved by bea"):
        await journal.decide(hold.chat_id, "ada", Decision(call_id=asked.call_id, denial="no"))


async def test_a_completed_turn_s_decision_is_confirmed(journal: Journal) -> None:
    """Who clicks twice is told the same, however far the conversation has come meanwhile."""
    asked = call("refund")
    hold = await waiting(journal, asked)
    await journal.decide(hold.chat_id, "ada", Decision(call_id=asked.call_id, by="bea"))
    held = await journal.take_over(hold.chat_id, "ada", hold.turn_id, worker="w2", lease=LEASE)
    (state,) = await calls_of(journal, hold.chat_id)
    done = CallFinished(id=state.id, status="succeeded", result="done")
    await journal.record(held, (done, TurnEnded(status="completed", reason="stop")))
    await completed(journal, await journal.load(hold.chat_id, "ada"))

    again = await journal.decide(hold.chat_id, "ada", Decision(call_id=asked.call_id, by="cyd"))

    assert (again.status, again.decided_by) == ("succeeded", "bea")


async def test_of_opposite_decisions_at_once_exactly_one_is_made(journal: Journal) -> None:
    """Of many who decide at the same time one wins; those who agree with him are content, the others are told."""
    asked = call("refund")
    hold = await waiting(journal, asked)
    decisions = [
        Decision(call_id=asked.call_id, by=f"p{number}", denial="no" if number % 2 else None) for number in range(6)
    ]

    async def decide(decision: Decision) -> bool:
        try:
            await journal.decide(hold.chat_id, "ada", decision)
        except ChatError:
            return False
        return True

    made = await asyncio.gather(*(decide(decision) for decision in decisions))

    (state,) = await calls_of(journal, hold.chat_id)
    winner = next(decision for decision in decisions if decision.by == state.decided_by)
    assert made == [decision.approved == winner.approved for decision in decisions]
    assert state.status == ("pending" if winner.approved else "denied")


def test_a_digest_is_of_exactly_this_name_and_this_text() -> None:
    """A blank, the order of members, or what is name and what is argument make another call of it."""
    digests = {
        approval_digest("pay", '{"a":1}'),
        approval_digest("pay", '{"a": 1}'),
        approval_digest("pay", '{"a":1.0}'),
        approval_digest("Pay", '{"a":1}'),
        approval_digest('pay","{', "}"),
        approval_digest("pay", '","{}'),
        approval_digest("pay", '{"a":"é"}'),
        approval_digest("pay", '{"a":"\\u00e9"}'),
    }

    assert len(digests) == 8
    assert approval_digest("pay", '{"a":1}') == approval_digest("pay", '{"a":1}')
    assert replace(Decision(call_id="x"), denial="no").approved is False
