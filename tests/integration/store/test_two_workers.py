"""Two workers and one chat: one of them wins, the other writes nothing, whatever their own clocks say."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm.errors import ChatBusyError, StaleChatError
from nodellm_orm.ports.ownership import Outdated, Repeated
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from tests.integration.store.samples import ENDED, LEASE, Begun, answer, attempt, begin, completed, head, with_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
async def other_journal(tables: AsyncEngine) -> AsyncIterator[SqlJournal]:
    """Another process, as far as the database can tell: an engine of its own."""
    engine = create_async_engine(tables.url)
    yield SqlJournal(open_access(engine, RECORDS), RECORDS)
    await engine.dispose()


async def test_of_two_that_begin_at_once_one_wins(sql_journal: SqlJournal, other_journal: SqlJournal) -> None:
    """Exactly one of many simultaneous turns begins; the others are told that the chat is busy."""
    for _ in range(3):
        snapshot = await sql_journal.create(head())
        outcomes = await asyncio.gather(
            *(begin(journal, snapshot, worker=f"w{n}") for n, journal in enumerate((sql_journal, other_journal) * 3)),
            return_exceptions=True,
        )
        winners = [outcome for outcome in outcomes if isinstance(outcome, Begun)]
        assert len(winners) == 1
        assert all(isinstance(o, ChatBusyError | Outdated) for o in outcomes if o not in winners)
        seen = await other_journal.load(snapshot.head.id, "ada")
        assert (seen.fence, seen.next_position, len(seen.messages)) == (1, 1, 1)
        assert seen.last_turn is not None
        assert seen.last_turn.id == winners[0].turn_id


async def test_of_two_with_one_key_one_runs(sql_journal: SqlJournal, other_journal: SqlJournal) -> None:
    """The same idempotency key sent many times at once begins one turn; the others are told which."""
    snapshot = await sql_journal.create(head())
    outcomes = await asyncio.gather(
        *(begin(journal, snapshot, key="k") for journal in (sql_journal, other_journal) * 3), return_exceptions=True
    )
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Begun)]
    others = [outcome for outcome in outcomes if outcome is not winner]
    assert [o.turn.id for o in others if isinstance(o, Repeated)] == [winner.turn_id] * 5


async def test_of_two_that_take_over_one_wins(sql_journal: SqlJournal, other_journal: SqlJournal) -> None:
    """An interrupted turn is taken over once."""
    turn, _, _ = await with_call(sql_journal, lease=ENDED)
    outcomes = await asyncio.gather(
        *(
            journal.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker=f"w{n}", lease=LEASE)
            for n, journal in enumerate((sql_journal, other_journal) * 3)
        ),
        return_exceptions=True,
    )
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ChatBusyError) for outcome in outcomes) == 5
    assert (await sql_journal.turn(turn.hold.chat_id, "ada", turn.turn_id)).takeovers == 1


async def test_of_two_new_turns_on_an_interrupted_one_one_wins(
    sql_journal: SqlJournal, other_journal: SqlJournal
) -> None:
    """An interrupted turn is replaced once."""
    first = await sql_journal.create(head())
    await begin(sql_journal, first, lease=ENDED)
    seen = await sql_journal.load(first.head.id, "ada")
    outcomes = await asyncio.gather(
        *(begin(journal, seen) for journal in (sql_journal, other_journal) * 3), return_exceptions=True
    )
    assert sum(isinstance(outcome, Begun) for outcome in outcomes) == 1
    after = await sql_journal.load(first.head.id, "ada")
    assert (after.fence, after.next_position) == (2, 2)


@pytest.mark.fault("C45")
async def test_a_worker_that_wakes_up_late_writes_nothing(sql_journal: SqlJournal, other_journal: SqlJournal) -> None:
    """After a take-over every point and every renewal of the first worker is refused; the second goes on."""
    turn, _, _ = await with_call(sql_journal, lease=ENDED)
    hold = await other_journal.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=LEASE)
    before = await sql_journal.load(turn.hold.chat_id, "ada")
    for zombie in (turn.hold, replace(turn.hold, step=turn.hold.step + 1), replace(turn.hold, worker="w2")):
        with pytest.raises(StaleChatError):
            await sql_journal.record(zombie, (answer(2), attempt(2)))
    assert await sql_journal.renew([turn.hold]) == {turn.turn_id}
    assert await sql_journal.load(turn.hold.chat_id, "ada") == before
    assert (await other_journal.record(hold, (answer(2),))).step == 2


@pytest.mark.fault("C61")
async def test_leases_run_on_the_databases_clock(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """Nothing that a worker sends is a time: the lease ends when the database says so."""
    snapshot = await sql_journal.create(head())
    turn = await begin(sql_journal, snapshot, lease=LEASE)
    state = await sql_journal.turn(snapshot.head.id, "ada", turn.turn_id)
    now = {
        "sqlite": "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')",
        "postgresql": "SELECT CAST(clock_timestamp() AT TIME ZONE 'UTC' AS text)",
        "mysql": "SELECT CAST(UTC_TIMESTAMP(6) AS CHAR)",
    }[tables.dialect.name]
    async with tables.connect() as connection:
        told = str((await connection.exec_driver_sql(now)).scalar_one())
    assert state.lease_until is not None
    left = state.lease_until - state.lease_until.fromisoformat(f"{told}+00:00")
    assert LEASE - 20 < left.total_seconds() <= LEASE


async def test_many_chats_are_worked_on_at_once(sql_journal: SqlJournal, other_journal: SqlJournal) -> None:
    """Turns of different chats do not stand in each other's way."""
    chats = [await sql_journal.create(head()) for _ in range(8)]
    done = await asyncio.gather(*(completed((sql_journal, other_journal)[n % 2], chat) for n, chat in enumerate(chats)))
    assert [snapshot.next_position for snapshot in done] == [2] * 8
