"""Taking over: how often, what a worker leaves behind that lets go, and what has ended meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nodellm_orm.errors import ChatBusyError, ChatNotFoundError, StaleChatError
from nodellm_orm.ports.entries import TurnEnded, TurnReleased
from nodellm_orm.ports.ownership import Exhausted, Outdated
from nodellm_orm.runtime.clock import new_id
from tests.integration.store.samples import ENDED, LEASE, answer, attempt, begin, begun, closed, with_call

if TYPE_CHECKING:
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.ownership import Hold
    from nodellm_orm.ports.statuses import TurnStatus
    from tests.integration.store.samples import Begun

LIMIT = 3


async def dies(journal: Journal, turn: Begun, times: int) -> None:
    """Workers that take the turn over and die of it, one after the other."""
    for number in range(times):
        worker = f"dying {number}"
        await journal.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker=worker, lease=ENDED, limit=LIMIT)


async def taken(journal: Journal, hold: Hold, **options: bool) -> Hold:
    """A take-over that succeeds."""
    return await journal.take_over(hold.chat_id, "ada", hold.turn_id, worker="w9", lease=LEASE, limit=LIMIT, **options)


@pytest.mark.fault("C43")
async def test_a_turn_that_kills_its_workers_fails_at_last(journal: Journal) -> None:
    """At the take-over after the last one allowed the turn has failed, and the next turn begins."""
    turn, _, _ = await with_call(journal, lease=ENDED)
    stopped = await journal.record(turn.hold, (attempt(2),))
    await dies(journal, turn, LIMIT)

    with pytest.raises(Exhausted) as caught:
        await taken(journal, turn.hold)

    assert caught.value.takeovers == LIMIT
    state = await journal.turn(turn.hold.chat_id, "ada", turn.turn_id)
    assert (state.status, state.error_type, state.takeovers, state.expired) == ("failed", "TakeoverLimit", LIMIT, False)
    assert [a.status for a in state.attempts] == ["ok", "unknown"]
    assert [c.status for c in state.calls] == ["unknown"]
    assert turn.turn_id not in {found.turn_id for found in await journal.interrupted(limit=1000)}
    with pytest.raises(StaleChatError):
        await journal.record(stopped, (answer(2),))
    await begin(journal, await journal.load(turn.hold.chat_id, "ada"))


@pytest.mark.fault("C43")
async def test_a_person_may_try_such_a_turn_again(journal: Journal) -> None:
    """The failed turn is taken up again on demand; when its worker dies once more, that was it again."""
    turn = await begun(journal, lease=ENDED)
    await dies(journal, turn, LIMIT)
    with pytest.raises(Exhausted):
        await taken(journal, turn.hold)

    await journal.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="person", lease=ENDED, limit=LIMIT)

    assert (await journal.turn(turn.hold.chat_id, "ada", turn.turn_id)).status == "running"
    with pytest.raises(Exhausted):
        await taken(journal, turn.hold)


@pytest.mark.parametrize("status", ["suspended", "failed", "cancelled"])
async def test_taking_up_again_counts_for_nothing(journal: Journal, status: TurnStatus) -> None:
    """A turn that ended in good order may be taken up as often as one likes, whatever the limit."""
    turn = await begun(journal)
    hold = await journal.record(turn.hold, (closed(turn.opened), TurnEnded(status=status)))
    for _ in range(2):
        hold = await journal.take_over(hold.chat_id, "ada", hold.turn_id, worker="w2", lease=LEASE, limit=0)
        await journal.record(hold, (TurnEnded(status=status),))
    assert (await journal.turn(hold.chat_id, "ada", hold.turn_id)).takeovers == 0


async def test_limit_of_none_is_no_limit(journal: Journal) -> None:
    """Without a limit take-overs are only counted."""
    turn = await begun(journal, lease=ENDED)
    for _ in range(7):
        await journal.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=ENDED)
    assert (await journal.turn(turn.hold.chat_id, "ada", turn.turn_id)).takeovers == 7


@pytest.mark.fault("C44")
async def test_a_turn_that_is_let_go_of_is_free_at_once(journal: Journal) -> None:
    """It is listed as interrupted although its lease was long, and the hold is good for nothing more."""
    turn, _, _ = await with_call(journal)
    hold = await journal.record(turn.hold, (answer(2), TurnReleased()))

    state = await journal.turn(hold.chat_id, "ada", hold.turn_id)
    assert (state.status, state.reason, state.expired) == ("running", "released", True)
    assert hold.turn_id in {found.turn_id for found in await journal.interrupted(limit=1000)}
    for used in (hold, turn.hold):
        with pytest.raises(StaleChatError):
            await journal.record(used, (answer(3),))
    assert await journal.renew([hold]) == {hold.turn_id}
    assert (await journal.turn(hold.chat_id, "ada", hold.turn_id)).expired


@pytest.mark.fault("C44")
async def test_a_turn_that_was_let_go_of_does_not_count(journal: Journal) -> None:
    """Taking over from a worker that let go says nothing against the turn, even at the limit."""
    turn = await begun(journal, lease=ENDED)
    await dies(journal, turn, LIMIT)
    snapshot = await journal.load(turn.hold.chat_id, "ada")
    hold = await journal.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=LEASE)
    await journal.record(hold, (TurnReleased(),))

    again = await taken(journal, hold)

    state = await journal.turn(hold.chat_id, "ada", hold.turn_id)
    assert (state.status, state.reason, state.takeovers) == ("running", None, LIMIT + 1)
    assert again.fence > hold.fence > snapshot.fence


async def test_a_question_after_a_turn_that_was_let_go_of(journal: Journal) -> None:
    """The next turn may begin at once; the one before has failed, and the reason is gone."""
    turn = await begun(journal)
    await journal.record(turn.hold, (TurnReleased(),))

    await begin(journal, await journal.load(turn.hold.chat_id, "ada"))

    state = await journal.turn(turn.hold.chat_id, "ada", turn.turn_id)
    assert (state.status, state.reason, state.error_type) == ("failed", None, "Interrupted")


@pytest.mark.parametrize("status", ["suspended", "failed", "cancelled", "completed"])
async def test_only_what_is_interrupted_is_taken_where_that_is_asked_for(journal: Journal, status: TurnStatus) -> None:
    """A turn that was ended since it was listed is not taken up again by a worker."""
    turn = await begun(journal, lease=ENDED)
    (listed,) = [found for found in await journal.interrupted(limit=1000) if found.turn_id == turn.turn_id]
    hold = await journal.take_over(listed.chat_id, "ada", listed.turn_id, worker="w2", lease=LEASE, interrupted=True)
    with pytest.raises(ChatBusyError):
        await taken(journal, hold, interrupted=True)
    await journal.record(hold, (TurnEnded(status=status),))

    with pytest.raises(Outdated):
        await taken(journal, hold, interrupted=True)

    assert (await journal.turn(turn.hold.chat_id, "ada", turn.turn_id)).status == status


async def test_a_chat_that_is_not_there_is_not_found(journal: Journal) -> None:
    """Only a turn can be outdated; a chat that is not there is not found."""
    with pytest.raises(ChatNotFoundError):
        await journal.take_over(new_id(), "ada", new_id(), worker="w", lease=LEASE)
