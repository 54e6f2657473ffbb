"""The database's clock jumps by an hour: a turn is taken over too early or too late, and nobody writes in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm.errors import ChatBusyError, StaleChatError
from nodellm_orm.ports.entries import TurnEnded
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from tests.integration.store.samples import ENDED, LEASE, answer, begin, begun, closed, with_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

NOW: Final = {
    "sqlite": ("'now'", "'now', '{0} seconds'"),
    "postgresql": ("clock_timestamp()", "(clock_timestamp() + interval '{0} seconds')"),
    "mysql": ("UTC_TIMESTAMP(6)", "TIMESTAMPADD(SECOND, {0}, UTC_TIMESTAMP(6))"),
}
"""How statements ask for the time, and how they would for another."""
HOUR: Final = 3600


class Clock:
    """The database's clock, which can be put forward and back."""

    offset = 0
    """Seconds that it is ahead."""
    asked = 0
    """How many statements have asked for the time."""


@pytest.fixture
def clock() -> Clock:
    """The clock that `workers` run on."""
    return Clock()


@pytest.fixture
async def workers(tables: AsyncEngine, clock: Clock) -> AsyncIterator[tuple[SqlJournal, SqlJournal]]:
    """Two processes, as far as the database can tell, on a database whose clock can jump."""
    now, then = NOW[tables.dialect.name]
    engines = [create_async_engine(tables.url) for _ in range(2)]
    for engine in engines:

        @event.listens_for(engine.sync_engine, "before_cursor_execute", retval=True)
        def jump(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> tuple[str, Any]:
            clock.asked += now in statement
            return statement.replace(now, then.format(clock.offset)) if clock.offset else statement, parameters

    first, second = (SqlJournal(open_access(engine, RECORDS), RECORDS) for engine in engines)
    yield first, second
    for engine in engines:
        await engine.dispose()


@pytest.mark.fault("B40")
async def test_an_hour_ahead_a_living_worker_is_succeeded_too_early(
    workers: tuple[SqlJournal, SqlJournal], clock: Clock
) -> None:
    """Its turn is taken over although it lives; whatever it writes then is refused, and the chat has one answer."""
    first, second = workers
    turn = await begun(first)
    clock.offset = HOUR
    assert turn.turn_id in {found.turn_id for found in await second.interrupted(limit=1000)}
    hold = await second.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=LEASE)
    with pytest.raises(StaleChatError):
        await first.record(turn.hold, (closed(turn.opened), answer(1)))
    assert await first.renew([turn.hold]) == {turn.turn_id}
    await second.record(hold, (answer(1), TurnEnded(status="completed")))
    seen = await first.load(turn.hold.chat_id, "ada")
    assert (seen.fence, len(seen.messages)) == (2, 2)
    assert clock.asked > 0


@pytest.mark.fault("B40")
async def test_an_hour_ahead_whoever_beats_first_keeps_his_chat(
    workers: tuple[SqlJournal, SqlJournal], clock: Clock
) -> None:
    """A worker whose heartbeat comes before anybody else's look goes on as if nothing had happened."""
    first, second = workers
    turn = await begun(first)
    clock.offset = HOUR
    assert await first.renew([turn.hold]) == frozenset()
    with pytest.raises(ChatBusyError):
        await second.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=LEASE)
    await first.record(turn.hold, (closed(turn.opened), answer(1), TurnEnded(status="completed")))
    assert (await second.load(turn.hold.chat_id, "ada")).fence == 1


@pytest.mark.fault("B40")
async def test_an_hour_back_a_dead_worker_is_succeeded_late(
    workers: tuple[SqlJournal, SqlJournal], clock: Clock
) -> None:
    """Its lease seems to last an hour longer: the chat is busy until then, and nothing else; cancelling frees it."""
    first, second = workers
    dead, other = await begun(first), await begun(first)
    clock.offset = -HOUR
    for turn in (dead, other):
        assert turn.turn_id not in {found.turn_id for found in await second.interrupted(limit=1000)}
        with pytest.raises(ChatBusyError):
            await second.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=LEASE)
    assert await second.cancel(other.hold.chat_id, "ada")
    await begin(second, await second.load(other.hold.chat_id, "ada"))
    clock.offset += HOUR + int(LEASE) + 1
    hold = await second.take_over(dead.hold.chat_id, "ada", dead.turn_id, worker="w2", lease=LEASE)
    await second.record(hold, (answer(1), TurnEnded(status="completed")))


@pytest.mark.fault("B40")
async def test_an_hour_back_a_living_worker_goes_on(workers: tuple[SqlJournal, SqlJournal], clock: Clock) -> None:
    """Its points and beats are as good as before, and from the next beat on its lease is as long as it should be."""
    first, second = workers
    turn, _, opened = await with_call(first)
    clock.offset = -HOUR
    assert await first.renew([turn.hold]) == frozenset()
    hold = await first.record(turn.hold, (answer(2),))
    clock.offset += int(LEASE) + 1
    assert (await second.take_over(hold.chat_id, "ada", hold.turn_id, worker="w2", lease=ENDED)).fence == 2
    (state,) = (await second.turn(hold.chat_id, "ada", hold.turn_id)).calls
    assert state.id == opened.id
