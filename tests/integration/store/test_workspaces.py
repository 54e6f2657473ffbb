"""A tool's own transaction: it ends with the point that is written in it, once, whatever becomes of its connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from nodellm_orm.errors import SessionStateError, StaleChatError, StorageError
from nodellm_orm.ports.workspace import Withdrawn
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from tests.acceptance.bookings import Booking, HostBase, Seat, booked
from tests.integration.store.proxy import wire_to
from tests.integration.store.samples import ENDED, LEASE, answer, begun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.ports.workspace import Workspace
    from tests.integration.databases import DatabaseKind
    from tests.integration.store.proxy import Cut, Wire


@pytest.fixture
async def seats(tables: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """The database, with tables of the host's in it, that of the seats empty."""
    async with tables.begin() as connection:
        await connection.run_sync(HostBase.metadata.create_all)
        await connection.execute(delete(Seat))
    yield tables
    pool: Any = tables.sync_engine.pool
    assert pool.checkedout() == 0


async def taken(engine: AsyncEngine) -> list[str]:
    """The seats that are there."""
    async with AsyncSession(engine) as session:
        return sorted((await session.scalars(select(Seat.name))).all())


async def write(workspace: Workspace, seat: str = "1A") -> None:
    """What a tool does."""
    workspace.session.add(Seat(name=seat))
    await workspace.complete()


async def test_rows_and_point_are_committed_together(sql_journal: SqlJournal, seats: AsyncEngine) -> None:
    """Both are there afterwards, the hold goes on, and the floor is free."""
    turn, floor = await begun(sql_journal), asyncio.Lock()
    workspace = sql_journal.workspace(floor)
    assert (workspace.used, floor.locked()) == (False, False)
    await write(workspace)
    assert (workspace.used, floor.locked(), await taken(seats)) == (True, True, [])
    hold = await workspace.record(turn.hold, (said := answer(1),))
    assert (workspace.used, floor.locked(), await taken(seats)) == (False, False, ["1A"])
    assert (await sql_journal.load(hold.chat_id, "ada")).message_ids[-1] == said.id
    await sql_journal.record(hold, (answer(2),))


async def test_what_is_discarded_is_gone(sql_journal: SqlJournal, seats: AsyncEngine) -> None:
    """Nothing stays of it, however often it is discarded, and its session refuses whatever follows."""
    floor = asyncio.Lock()
    workspace = sql_journal.workspace(floor)
    session = workspace.session
    await session.execute(select(Seat))
    session.add(Seat(name="1A"))
    await session.flush()
    await workspace.discard()
    await workspace.discard()
    assert (floor.locked(), await taken(seats)) == (False, [])
    with pytest.raises(SessionStateError, match="over"):
        await session.execute(select(Seat))
    with pytest.raises(SessionStateError, match="over"):
        workspace.session.expunge_all()


async def test_a_lost_chat_undoes_the_rows(sql_journal: SqlJournal, seats: AsyncEngine) -> None:
    """A worker that was succeeded while the tool ran writes neither the point nor the tool's rows."""
    turn = await begun(sql_journal, lease=ENDED)
    workspace = sql_journal.workspace(asyncio.Lock())
    await sql_journal.take_over(turn.hold.chat_id, "ada", turn.turn_id, worker="w2", lease=LEASE)
    await write(workspace)
    with pytest.raises(StaleChatError):
        await workspace.record(turn.hold, (answer(1),))
    assert await taken(seats) == []
    assert (await sql_journal.load(turn.hold.chat_id, "ada")).next_position == 1


async def test_the_floor_is_waited_for(sql_journal: SqlJournal, seats: AsyncEngine) -> None:
    """The first statement waits until nobody else of the round writes; discarded meanwhile, it is refused."""
    floor = asyncio.Lock()
    workspace = sql_journal.workspace(floor)
    async with floor:
        writing = asyncio.create_task(workspace.session.execute(select(Seat)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not workspace.used
        with pytest.raises(SessionStateError, match="two tasks"):
            await workspace.session.connection()
        await workspace.discard()
    with pytest.raises(SessionStateError, match="over"):
        await writing
    assert not floor.locked()
    assert await taken(seats) == []


async def test_a_session_tells_its_engine_without_a_connection(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """Whoever asks a session where it is, as `create_chat` does, is told the engine."""
    workspace = sql_journal.workspace(asyncio.Lock())
    assert workspace.session.get_bind() is tables.sync_engine
    assert not workspace.used


async def test_a_renewal_beside_a_workspace(sql_journal: SqlJournal, seats: AsyncEngine) -> None:
    """The heartbeat and a tool's transaction do not wait for each other in a circle, whatever the tool has locked."""
    holds = [(await begun(sql_journal)).hold for _ in range(8)]
    workspace = sql_journal.workspace(asyncio.Lock())
    workspace.session.add(Booking(chat_id=holds[4].chat_id, seat="1A"))
    await workspace.complete()
    renewal = asyncio.create_task(sql_journal.renew(holds))
    await asyncio.wait({renewal}, timeout=0.2)
    hold = await workspace.record(holds[4], (answer(1),))
    assert await renewal == frozenset()
    assert await booked(seats) == ["1A"]
    assert await sql_journal.renew([*holds[:4], hold, *holds[5:]]) == frozenset()


# ── connections that break ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def wired(seats: AsyncEngine, sql_kind: DatabaseKind) -> AsyncIterator[tuple[Wire, AsyncEngine]]:
    """An engine whose connections go through a wire that can be cut."""
    if sql_kind == "sqlite":
        pytest.skip("SQLite has no wire")
    async with wire_to(seats.url) as (wire, url):
        engine = create_async_engine(url, isolation_level="READ COMMITTED")
        yield wire, engine
        pool: Any = engine.sync_engine.pool
        assert pool.checkedout() == 0
        await engine.dispose()


@pytest.mark.fault("B01")
@pytest.mark.fault("B02")
@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_connection_lost_around_the_commit(
    wired: tuple[Wire, AsyncEngine], seats: AsyncEngine, cut: Cut
) -> None:
    """It is looked up: committed, everything is there; not committed, nothing is, and the hold is still good."""
    wire, engine = wired
    far = SqlJournal(open_access(engine, RECORDS), RECORDS)
    turn = await begun(far)
    workspace = far.workspace(asyncio.Lock())
    await write(workspace)
    wire.cut = cut
    if cut == "after":
        hold = await workspace.record(turn.hold, (answer(1),))
        assert await taken(seats) == ["1A"]
    else:
        with pytest.raises(Withdrawn) as caught:
            await workspace.record(turn.hold, (answer(1),))
        assert caught.value.__cause__ is not None
        hold = turn.hold
        assert await taken(seats) == []
    assert wire.cuts == 1
    await far.record(hold, (answer(2 if cut == "after" else 1),))


@pytest.mark.fault("B03")
@pytest.mark.parametrize("cut", ["mute", "swallow"])
async def test_a_commit_without_an_answer(wired: tuple[Wire, AsyncEngine], seats: AsyncEngine, cut: Cut) -> None:
    """After the deadline the rows are asked; while the server still has the transaction, nobody knows."""
    wire, engine = wired
    hasty = SqlJournal(open_access(engine, RECORDS, deadline=1.0), RECORDS)
    turn = await begun(hasty)
    workspace = hasty.workspace(asyncio.Lock())
    await write(workspace)
    wire.cut = cut
    if cut == "mute":
        assert (await workspace.record(turn.hold, (answer(1),))).step == 2
        assert await taken(seats) == ["1A"]
        return
    with pytest.raises((Withdrawn, StorageError)):
        await workspace.record(turn.hold, (answer(1),))
    assert await taken(seats) == []


@pytest.mark.fault("B04")
async def test_an_idle_connection_that_was_killed_is_replaced(
    wired: tuple[Wire, AsyncEngine], seats: AsyncEngine
) -> None:
    """The tool does not notice that the pool's connection was closed while it was idle."""
    _, engine = wired
    far = SqlJournal(open_access(engine, RECORDS), RECORDS)
    turn = await begun(far)
    ask = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}[engine.dialect.name]
    kill = {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"}[engine.dialect.name]
    async with engine.connect() as connection:
        number = int((await connection.exec_driver_sql(ask)).scalar_one())
    async with seats.connect() as connection:
        await connection.execute(text(kill.format(number)))
    workspace = far.workspace(asyncio.Lock())
    await write(workspace)
    await workspace.record(turn.hold, (answer(1),))
    assert await taken(seats) == ["1A"]


async def test_a_cancelled_statement_takes_the_transaction_with_it(
    wired: tuple[Wire, AsyncEngine], seats: AsyncEngine
) -> None:
    """A tool that goes on after its statement was cancelled cannot record what is no longer there."""
    _, engine = wired
    far = SqlJournal(open_access(engine, RECORDS), RECORDS)
    turn = await begun(far)
    workspace = far.workspace(asyncio.Lock())
    workspace.session.add(Seat(name="1A"))
    await workspace.session.commit()
    sleep = {"postgresql": "SELECT pg_sleep(60)", "mysql": "SELECT SLEEP(60)"}[engine.dialect.name]
    sleeping = asyncio.create_task(workspace.session.execute(text(sleep)))
    done, _ = await asyncio.wait({sleeping}, timeout=0.2)
    assert not done
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    await workspace.session.rollback()
    await workspace.complete()
    with pytest.raises(Withdrawn):
        await workspace.record(turn.hold, (answer(1),))
    assert await taken(seats) == []
    await far.record(turn.hold, (answer(1),))
