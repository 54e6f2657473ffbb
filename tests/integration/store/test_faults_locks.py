"""Transactions that meet others: whichever of them the database breaks off, each point is there once, or is refused."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm.errors import ChatBusyError, StorageError
from nodellm_orm.store.access import open_access
from nodellm_orm.store.engine import make_engine
from nodellm_orm.store.failures import code_of
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from tests.integration.store.blocking import Pause, Refusals, holding, somebody_waits
from tests.integration.store.samples import COST, USAGE, Begun, answer, begin, begun, closed, completed, head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.databases import DatabaseKind

NETWORKED: Final = [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("postgresql", "mysql")]
TOUCH_CHAT: Final = "UPDATE llm_chats SET title = title WHERE id = :id"
TOUCH_REQUEST: Final = "UPDATE llm_requests SET attempt = attempt WHERE id = :id"


@pytest.fixture(scope="module", params=NETWORKED)
def sql_kind(request: pytest.FixtureRequest) -> DatabaseKind:
    """The databases on which several transactions write at once."""
    kind: DatabaseKind = request.param
    return kind


@pytest.fixture
async def host(tables: AsyncEngine) -> AsyncIterator[Callable[..., tuple[AsyncEngine, SqlJournal]]]:
    """Makes an engine as a host would set it up, and a journal on it."""
    engines: list[AsyncEngine] = []

    def make(
        postgresql: dict[str, str] | None = None, mysql: str = "", *, deadline: float | None = None, **options: Any
    ) -> tuple[AsyncEngine, SqlJournal]:
        settings = {"server_settings": postgresql or {}} if tables.dialect.name == "postgresql" else {}
        if mysql and tables.dialect.name == "mysql":
            settings = {"init_command": f"SET SESSION {mysql}"}  # type: ignore[dict-item]  # another driver's option
        engine = create_async_engine(tables.url, connect_args=settings, **options)
        engines.append(engine)
        return engine, SqlJournal(open_access(engine, RECORDS, deadline=deadline), RECORDS)

    yield make
    for engine in engines:
        await engine.dispose()


def native(tables: AsyncEngine, value: Any) -> Any:
    """An id as SQL text of one's own binds it."""
    return value if tables.dialect.name == "postgresql" else value.hex


def chat_held(tables: AsyncEngine, turn: Begun) -> AbstractAsyncContextManager[Any]:
    """Somebody's transaction that has locked the chat's row."""
    return holding(tables, TOUCH_CHAT, id=native(tables, turn.hold.chat_id))


def request_held(tables: AsyncEngine, turn: Begun) -> AbstractAsyncContextManager[Any]:
    """Somebody's transaction that has locked the row of the open attempt, which a point comes to after the chat's."""
    return holding(tables, TOUCH_REQUEST, id=native(tables, turn.opened.id))


async def once(journal: SqlJournal, turn: Begun) -> None:
    """See that the answer was recorded once, with its tokens and its cost."""
    seen = await journal.load(turn.hold.chat_id, "ada")
    assert (seen.fence, seen.next_position, len(seen.messages)) == (1, 2, 2)
    totals = await journal.totals(turn.hold.chat_id, "ada")
    assert (totals.requests, totals.usage, totals.cost) == (1, USAGE, COST.total)


# ── deadlocks and conflicts ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B06")
async def test_a_point_that_is_the_victim_of_a_deadlock_is_made_again(host: Any, tables: AsyncEngine) -> None:
    """Locked crosswise with a transaction of the host's, ours is broken off, made again, and counted once."""
    engine, journal = host({"deadlock_timeout": "20ms"})
    turn = await begun(journal)
    refusals, pause = Refusals(engine), Pause(engine, "UPDATE llm_requests")
    async with request_held(tables, turn) as other:
        if tables.dialect.name == "postgresql":
            await other.execute(text("SET LOCAL deadlock_timeout = '60s'"))  # who looks first is broken off
        else:  # InnoDB breaks off whoever has written less
            row = {"owner": turn.turn_id.hex, "text": "x", "created_at": datetime(2026, 1, 1, tzinfo=UTC)}
            rows = [{**row, "sha256": str(number)} for number in range(50)]
            await other.execute(insert(RECORDS.tables.texts), rows)
        recording = asyncio.create_task(journal.record(turn.hold, (closed(turn.opened), answer(1))))
        await pause.reached.wait()  # ours holds the chat by now
        crossing = asyncio.create_task(other.execute(text(TOUCH_CHAT), {"id": native(tables, turn.hold.chat_id)}))
        await somebody_waits(tables)
        pause.go.set()
        await crossing
    hold = await recording
    assert refusals.codes == [{"postgresql": "40P01", "mysql": 1213}[tables.dialect.name]]
    assert hold.step == 2
    await once(journal, turn)


@pytest.mark.fault("B07")
async def test_a_point_that_cannot_be_serialized_is_made_again(host: Any, tables: AsyncEngine) -> None:
    """Where a host forces SERIALIZABLE on all transactions, a point whose row was changed meanwhile is made again."""
    if tables.dialect.name != "postgresql":
        pytest.skip("MariaDB lets transactions wait for each other instead")
    engine, journal = host()

    @event.listens_for(engine.sync_engine, "begin")
    def force(connection: Connection) -> None:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")

    turn = await begun(journal)
    refusals = Refusals(engine)
    async with chat_held(tables, turn) as other:
        recording = asyncio.create_task(journal.record(turn.hold, (closed(turn.opened), answer(1))))
        await somebody_waits(tables)
        await other.commit()
    assert (await recording).step == 2
    assert refusals.codes == ["40001"]
    await once(journal, turn)


# ── locks and limits ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B08")
@pytest.mark.parametrize("held", [chat_held, request_held])
async def test_a_lock_that_comes_too_late_is_asked_for_again(host: Any, tables: AsyncEngine, held: Any) -> None:
    """The point is rolled back, also what it had written before the lock, and made again when the lock can be had."""
    engine, journal = host({"lock_timeout": "50ms"}, "innodb_lock_wait_timeout = 1")
    turn = await begun(journal)
    refusals, again = Refusals(engine), Pause(engine, "UPDATE llm_chats", after=1)
    async with held(tables, turn):
        recording = asyncio.create_task(journal.record(turn.hold, (closed(turn.opened), answer(1))))
        await again.reached.wait()
    again.go.set()
    assert (await recording).step == 2
    assert refusals.codes == [{"postgresql": "55P03", "mysql": 1205}[tables.dialect.name]]
    await once(journal, turn)


@pytest.mark.fault("B08")
async def test_a_lock_that_is_never_given_is_a_storage_error(host: Any, tables: AsyncEngine) -> None:
    """Within its deadline the point gives up, leaves nothing, and can be made later with the same hold."""
    _, journal = host({"lock_timeout": "50ms"}, "innodb_lock_wait_timeout = 1", deadline=0.5)
    turn = await begun(journal)
    async with chat_held(tables, turn):
        with pytest.raises(StorageError, match=r"did not answer within 0\.5 seconds; check .*locks"):
            await journal.record(turn.hold, (closed(turn.opened), answer(1)))
    patient = host()[1]
    await patient.record(turn.hold, (closed(turn.opened), answer(1)))
    await once(patient, turn)


@pytest.mark.fault("B12")
@pytest.mark.parametrize("ends", [True, False], ids=["in time", "never"])
async def test_a_statement_over_the_servers_time_limit_is_tried_once_more(
    host: Any,
    tables: AsyncEngine,
    ends: bool,  # noqa: FBT001 — a parameter of the test
) -> None:
    """A statement that the server breaks off is tried once more; broken off again, it is an error that says so."""
    engine, journal = host({"statement_timeout": "150ms"}, "max_statement_time = 0.15")
    turn = await begun(journal)
    refusals, again = Refusals(engine), Pause(engine, "UPDATE llm_chats", after=1)
    async with chat_held(tables, turn) as other:
        recording = asyncio.create_task(journal.record(turn.hold, (closed(turn.opened), answer(1))))
        await again.reached.wait()
        if ends:
            await other.rollback()
        again.go.set()
        if not ends:
            with pytest.raises(StorageError, match="time limit"):
                await recording
    if ends:
        assert (await recording).step == 2
    else:
        await journal.record(turn.hold, (closed(turn.opened), answer(1)))
    assert refusals.codes == [{"postgresql": "57014", "mysql": 1969}[tables.dialect.name]] * (1 if ends else 2)
    await once(journal, turn)


# ── stale reads ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B33")
async def test_what_others_committed_while_we_waited_is_seen(host: Any, tables: AsyncEngine) -> None:
    """On a host's engine at REPEATABLE READ a turn that finds its chat taken says so by what is there now."""
    engine, journal = host(isolation_level="REPEATABLE READ")
    other_engine, winner = host(isolation_level="REPEATABLE READ")
    snapshot = await journal.create(head())
    pause, refusals = Pause(other_engine, "INSERT INTO llm_turns"), Refusals(engine)
    winning = asyncio.create_task(begin(winner, snapshot))
    await pause.reached.wait()  # it has taken the chat, and not committed yet
    beginning = asyncio.create_task(begin(journal, snapshot, worker="w2"))
    await somebody_waits(tables)
    pause.go.set()
    turn = await winning
    with pytest.raises(ChatBusyError) as caught:
        await beginning
    assert refusals.codes == []
    assert caught.value.turn_id == turn.turn_id
    seen = await journal.load(snapshot.head.id, "ada")
    assert (seen.fence, seen.message_ids) == (1, (turn.asked.id,))


@pytest.mark.fault("B33")
async def test_a_repeatable_read_beside_it_sees_the_past(host: Any, tables: AsyncEngine) -> None:
    """The fault itself: the host's own transaction does not see what a turn has committed; ours, begun then, does."""
    engine, journal = host(isolation_level="REPEATABLE READ")
    turn = await begun(journal)
    step = text("SELECT step FROM llm_chats WHERE id = :id")
    async with engine.connect() as connection:
        before = await connection.scalar(step, {"id": native(tables, turn.hold.chat_id)})
        hold = await journal.record(turn.hold, (closed(turn.opened), answer(1)))
        after = await connection.scalar(step, {"id": native(tables, turn.hold.chat_id)})
    assert (before, after, hold.step) == (1, 1, 2)
    await once(journal, turn)


# ── SQLite ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A SQLite file with a write-ahead log, in which a reader keeps its snapshot."""
    engine = make_engine(f"sqlite:///{tmp_path / 'chats.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(RECORDS.metadata.create_all)
    yield engine
    await engine.dispose()


@pytest.mark.fault("B10")
async def test_a_snapshot_that_is_too_old_cannot_be_written_from(file: AsyncEngine) -> None:
    """The fault itself: who reads first and writes after another's commit is refused at once, however patient."""
    journal = SqlJournal(open_access(file, RECORDS), RECORDS)
    snapshot = await journal.create(head())
    async with file.connect() as connection:
        await connection.exec_driver_sql("BEGIN")
        await connection.execute(text("SELECT COUNT(*) FROM llm_chats"))
        await completed(journal, snapshot)
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(text("UPDATE llm_chats SET title = title"))
        assert code_of(caught.value) == 5
        assert "SNAPSHOT" in str(getattr(caught.value.orig, "sqlite_errorname", ""))


@pytest.mark.fault("B10")
async def test_every_transaction_that_writes_begins_with_a_write(file: AsyncEngine) -> None:
    """So it has the lock before it reads anything, and many workers at once meet no snapshot that is too old."""
    first: list[str] = []
    fresh: set[int] = set()

    @event.listens_for(file.sync_engine, "begin")
    def began(connection: Connection) -> None:
        fresh.add(id(connection))

    @event.listens_for(file.sync_engine, "before_cursor_execute")
    def executed(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        word = statement.lstrip().split(maxsplit=1)[0].upper()
        if id(connection) in fresh and word != "PRAGMA":
            fresh.discard(id(connection))
            first.append(word)
        elif word in {"INSERT", "UPDATE", "DELETE"}:
            assert first[-1] != "SELECT", statement

    journal = SqlJournal(open_access(file, RECORDS), RECORDS)
    chat = await completed(journal, await journal.create(head()))
    await journal.append(chat.head, chat.fence, [])
    turn = await begun(journal)
    await journal.renew([turn.hold])
    await journal.cancel(turn.hold.chat_id, "ada")
    await journal.delete(turn.hold.chat_id, "ada")
    assert "UPDATE" in first
    event.remove(file.sync_engine, "before_cursor_execute", executed)
    event.remove(file.sync_engine, "begin", began)

    refusals = Refusals(file)
    chats = [await journal.create(head()) for _ in range(12)]
    done = await asyncio.gather(*(completed(journal, chat) for chat in chats))
    assert [snapshot.next_position for snapshot in done] == [2] * 12
    assert refusals.codes == []
