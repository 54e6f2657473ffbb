"""What a session may be, and what happens to it: engines, factories, sessions, single connections, the caller's own."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import String, create_engine, event, func, inspect, select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker
from sqlalchemy.pool import AsyncAdaptedQueuePool

from nodellm_orm.errors import ChatBusyError, ChatNotFoundError, ConfigurationError, SessionStateError, StorageError
from nodellm_orm.ports.ownership import Repeated
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from tests.integration.store.samples import begin, completed, head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy.engine import ExceptionContext


class HostBase(DeclarativeBase):
    """A host's own tables."""


class Note(HostBase):
    """A row of the host's."""

    __tablename__ = "host_notes"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    words: Mapped[str] = mapped_column(String(50))


@pytest.fixture(scope="module", name="tables")
async def tables_with_the_hosts(tables: AsyncEngine) -> AsyncEngine:
    """The host's tables beside ours."""
    async with tables.begin() as connection:
        await connection.run_sync(HostBase.metadata.create_all)
    return tables


@pytest.fixture
async def memory() -> AsyncIterator[AsyncEngine]:
    """SQLite in memory, where everybody has the same connection."""
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.run_sync(RECORDS.metadata.create_all)
        await connection.run_sync(HostBase.metadata.create_all)
    yield engine
    await engine.dispose()


def journal_of(session: object, **options: Any) -> SqlJournal:
    return SqlJournal(open_access(session, RECORDS, **options), RECORDS)


async def notes(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(select(func.count()).select_from(Note))).scalar_one()


async def clear(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(Note.__table__.delete())  # type: ignore[attr-defined]  # a Table


# ── engines, factories, sessions ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("form", ["engine", "factory", "session", "scoped"])
async def test_each_form_of_a_session_names_the_database(tables: AsyncEngine, form: str) -> None:
    """An engine, a factory, a session and a scoped session all lead to the same chats, on connections of their own."""
    factory = async_sessionmaker(tables)
    async with factory() as session:
        scoped = async_scoped_session(factory, scopefunc=asyncio.current_task)
        forms = {"engine": tables, "factory": factory, "session": session, "scoped": scoped}
        journal = journal_of(forms[form])
        await journal.settle()
        done = await completed(journal, await journal.create(head()))
        assert await journal_of(tables).load(done.head.id, "ada") == done
        assert journal.concurrent
        assert journal.database == journal_of(tables).database
        assert not session.in_transaction()
        await scoped.remove()


@pytest.mark.parametrize("wrong", ["url", "engine", "session", "factory", "connection", "none", "unbound", "sync_bind"])
async def test_what_names_no_database_is_refused(tables: AsyncEngine, wrong: str) -> None:
    """Anything else is refused at once, with a word on what to pass."""
    sync = create_engine("sqlite://")
    async with tables.connect() as connection:
        given = {
            "url": "sqlite+aiosqlite:///x.db",
            "engine": sync,
            "session": Session(sync),
            "factory": sessionmaker(sync),
            "connection": connection,
            "none": None,
            "unbound": AsyncSession(),
            "sync_bind": async_sessionmaker(sync),  # type: ignore[call-overload]  # the mistake
        }[wrong]
        with pytest.raises(ConfigurationError, match=r"async_sessionmaker|AsyncSession"):
            open_access(given, RECORDS)
    sync.dispose()


@pytest.mark.parametrize("options", [{"transactions": "mine"}, {"transactions": "caller"}, {"deadline": 0.0}])
async def test_options_that_do_not_go_together_are_refused(tables: AsyncEngine, options: dict[str, Any]) -> None:
    """An unknown mode, the caller's transaction without a session, and no time at all are refused."""
    with pytest.raises(ConfigurationError):
        open_access(tables, RECORDS, **options)


async def test_a_session_with_several_binds_is_asked_for_ours(tables: AsyncEngine, tmp_path: Path) -> None:
    """Of several databases the one that chats are written to is taken."""
    other = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'other.db'}")
    async with AsyncSession(binds={HostBase: other, RECORDS.chat: tables}) as session:
        assert open_access(session, RECORDS).engine is tables.sync_engine
    await other.dispose()


@pytest.mark.fault("B39")
async def test_a_session_that_routes_reads_elsewhere_is_taken_at_its_writes(
    tables: AsyncEngine, tmp_path: Path
) -> None:
    """A chat is carried on from the primary, never from a replica."""
    replica = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'replica.db'}")

    class Routing(Session):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **options: Any) -> Any:
            del mapper, options
            return (tables if clause is not None and clause.is_dml else replica).sync_engine

    async with AsyncSession(sync_session_class=Routing) as session:
        assert open_access(session, RECORDS).engine is tables.sync_engine
    await replica.dispose()


@pytest.mark.fault("B13")
async def test_nothing_is_checked_out_between_points(tables: AsyncEngine) -> None:
    """Two turns with one connection between them both go on: none keeps it while it waits for its provider."""
    engine = create_async_engine(tables.url, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0)
    journal = journal_of(engine)
    first, second = await journal.create(head()), await journal.create(head())
    await begin(journal, first)
    assert isinstance(engine.pool, AsyncAdaptedQueuePool)
    assert engine.pool.checkedout() == 0
    await completed(journal, second)
    assert engine.pool.checkedout() == 0
    await engine.dispose()


# ── what a host has set up stays as it is ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE"])
async def test_points_are_whole_whatever_the_host_has_chosen(tables: AsyncEngine, level: str) -> None:
    """On an engine that commits by itself, a point that fails leaves nothing; and the engine is left as it was."""
    engine = create_async_engine(tables.url, isolation_level=level)
    async with engine.connect() as connection:
        before = await connection.get_isolation_level()
    journal = journal_of(engine)
    snapshot = await journal.create(head())
    await begin(journal, snapshot, key="k")
    done = await journal.load(snapshot.head.id, "ada")
    assert await journal.cancel(snapshot.head.id, "ada")
    free = await journal.load(snapshot.head.id, "ada")
    with pytest.raises(Repeated):
        await begin(journal, free, key="k")
    assert await journal.load(snapshot.head.id, "ada") == free
    assert free.messages == done.messages
    async with engine.connect() as connection:
        assert await connection.get_isolation_level() == before
    await engine.dispose()


async def test_a_sqlite_host_that_begins_by_itself_is_left_to_it(tmp_path: Path) -> None:
    """With the driver's own BEGIN switched off and an explicit one instead, points are whole all the same."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'chats.db'}")

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    async with engine.begin() as connection:
        await connection.run_sync(RECORDS.metadata.create_all)
    journal = journal_of(engine)
    snapshot = await journal.create(head())
    await begin(journal, snapshot, key="k")
    await journal.cancel(snapshot.head.id, "ada")
    free = await journal.load(snapshot.head.id, "ada")
    with pytest.raises(Repeated):
        await begin(journal, free, key="k")
    assert await journal.load(snapshot.head.id, "ada") == free
    await engine.dispose()


@pytest.mark.fault("B09")
async def test_a_locked_sqlite_database_is_waited_for(tmp_path: Path) -> None:
    """A point waits for another writer even where the host's driver does not wait at all."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'chats.db'}"
    engine = create_async_engine(url, connect_args={"timeout": 0})
    async with engine.begin() as connection:
        await connection.run_sync(RECORDS.metadata.create_all)
    journal = journal_of(engine)
    snapshot = await journal.create(head())
    refused = asyncio.Event()

    @event.listens_for(engine.sync_engine, "handle_error")
    def handle(context: ExceptionContext) -> None:
        assert isinstance(context.original_exception, sqlite3.OperationalError)
        refused.set()

    writer = create_async_engine(url)
    async with writer.connect() as connection:
        await connection.exec_driver_sql("UPDATE llm_chats SET title = title")
        waiting = asyncio.create_task(begin(journal, snapshot))
        await refused.wait()
        await connection.rollback()
    assert (await waiting).hold.fence == 1
    await writer.dispose()
    await engine.dispose()


@pytest.mark.fault("B09")
async def test_a_sqlite_database_that_stays_locked_is_a_storage_error(tmp_path: Path) -> None:
    """When another writer never ends, the point gives up within its deadline and writes nothing."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'chats.db'}"
    engine = create_async_engine(url, connect_args={"timeout": 0})
    async with engine.begin() as connection:
        await connection.run_sync(RECORDS.metadata.create_all)
    patient, journal = journal_of(engine), journal_of(engine, deadline=0.2)
    snapshot = await patient.create(head())
    writer = create_async_engine(url)
    async with writer.connect() as connection:
        await connection.exec_driver_sql("UPDATE llm_chats SET title = title")
        with pytest.raises(StorageError, match=r"within 0\.2 seconds"):
            await begin(journal, snapshot)
    assert await patient.load(snapshot.head.id, "ada") == snapshot
    await writer.dispose()
    await engine.dispose()


# ── the caller's session ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B38")
async def test_the_callers_pending_work_is_committed_once(tables: AsyncEngine) -> None:
    """Before a turn his rows are committed; his objects stay usable without a query, and his session as he set it."""
    await clear(tables)
    async with AsyncSession(tables) as session:
        journal = journal_of(session)
        note, flushed = Note(id=1, words="one"), Note(id=2, words="two")
        session.add(flushed)
        await session.flush()
        session.add(note)
        commits: list[object] = []
        event.listen(session.sync_session, "after_commit", commits.append)
        await journal.settle()
        assert await notes(tables) == 2
        assert len(commits) == 1
        assert inspect(note).expired_attributes == set()
        assert (note.words, flushed.words) == ("one", "two")
        assert session.sync_session.expire_on_commit
        assert not session.in_transaction()
        await completed(journal, await journal.create(head()))
        await journal.settle()
        assert not session.in_transaction()
        assert len(commits) == 1


@pytest.mark.parametrize("block", ["begin", "begin_nested", "begin_twice"])
async def test_an_explicit_block_is_refused_before_anything_is_written(tables: AsyncEngine, block: str) -> None:
    """Inside begin() or begin_nested() a turn cannot commit: it says so, and the caller's work is as before."""
    await clear(tables)
    async with AsyncSession(tables) as session:
        journal = journal_of(session)

        @asynccontextmanager
        async def opened() -> AsyncIterator[None]:
            if block == "begin_nested":
                async with session.begin_nested():
                    yield
            elif block == "begin":
                async with session.begin():
                    yield
            else:
                async with session.begin(), session.begin_nested():
                    yield

        async with opened():
            session.add(Note(id=1, words="one"))
            with pytest.raises(SessionStateError, match=r"block|begin_nested"):
                await journal.settle()
            assert session.in_transaction()
            # Nothing of his is lost or done ahead of time: the block ends as he wrote it.
            await session.flush()
            assert (await session.get(Note, 1)) is not None
        await session.rollback()


async def test_a_session_whose_transaction_failed_is_refused(tables: AsyncEngine) -> None:
    """A session that needs a rollback is told so."""
    await clear(tables)
    async with AsyncSession(tables) as session:
        journal = journal_of(session)
        session.add_all([Note(id=1, words="one"), Note(id=1, words="again")])
        with pytest.raises(SessionStateError, match="roll"):
            await journal.settle()
        with pytest.raises(SessionStateError, match="rollback"):
            await journal.settle()
        await session.rollback()
        await journal.settle()


async def test_the_callers_own_mistake_is_told_without_values(tables: AsyncEngine) -> None:
    """Rows of the caller that the database refuses are told, with the cause but without what was in them."""
    await clear(tables)
    async with tables.begin() as connection:
        await connection.execute(Note.__table__.insert(), {"id": 5, "words": "secret"})  # type: ignore[attr-defined]
    async with AsyncSession(tables) as session:
        journal = journal_of(session)
        session.add(Note(id=5, words="confidential"))
        with pytest.raises(SessionStateError) as caught:
            await journal.settle()
        assert caught.value.__cause__ is not None
        assert "confidential" not in f"{caught.value} {caught.value.__cause__}"


async def test_a_session_that_is_closed_for_good_is_refused(tables: AsyncEngine) -> None:
    """A session that accepts nothing more is not overlooked; one that was merely reset is as good as new."""
    session = AsyncSession(tables, close_resets_only=False)
    journal = journal_of(session)
    await session.execute(text("SELECT 1"))
    await session.close()
    with pytest.raises(SessionStateError, match="closed"):
        await journal.settle()
    async with AsyncSession(tables) as reset:
        journal = journal_of(reset)
    await journal.settle()
    assert (await completed(journal, await journal.create(head()))).next_position == 2


async def test_reading_leaves_the_callers_work_alone(tables: AsyncEngine) -> None:
    """Loading and listing commit nothing and roll nothing back."""
    await clear(tables)
    made = await journal_of(tables).create(head())
    async with AsyncSession(tables) as session:
        journal = journal_of(session)
        session.add(Note(id=1, words="one"))
        await session.flush()
        assert await journal.load(made.head.id, "ada") == made
        await journal.summaries("ada")
        assert session.in_transaction()
        await session.rollback()
    assert await notes(tables) == 0


# ── one connection ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_rollback_fixture_leaves_nothing(tables: AsyncEngine) -> None:
    """On a session bound to one connection everything is savepoints, which the fixture's rollback takes back."""
    async with tables.connect() as connection:
        outer = await connection.begin()
        session = AsyncSession(connection, join_transaction_mode="create_savepoint")
        journal = journal_of(session)
        assert not journal.concurrent
        done = await completed(journal, await journal.create(head()))
        await journal.settle()
        assert await journal.load(done.head.id, "ada") == done
        with pytest.raises(ChatNotFoundError):
            await journal.load(done.head.id, "bob")
        chats = [await journal.create(head()) for _ in range(3)]
        await asyncio.gather(*(completed(journal, chat) for chat in chats))
        await session.close()
        await outer.rollback()
    with pytest.raises(ChatNotFoundError):
        await journal_of(tables).load(done.head.id, "ada")


async def test_a_point_that_fails_on_one_connection_leaves_the_rest(tables: AsyncEngine) -> None:
    """A refused point goes back to its savepoint; what the test has written before is still there."""
    async with tables.connect() as connection, connection.begin() as outer:
        async with AsyncSession(connection, join_transaction_mode="create_savepoint") as session:
            journal = journal_of(session)
            snapshot = await journal.create(head())
            await begin(journal, snapshot)
            busy = await journal.load(snapshot.head.id, "ada")
            with pytest.raises(ChatBusyError):
                await begin(journal, busy)
            assert await journal.load(snapshot.head.id, "ada") == busy
        await outer.rollback()


async def test_a_factory_on_one_connection_and_no_transaction_commits(tables: AsyncEngine) -> None:
    """Where the connection has no transaction open, each point is a transaction of its own."""
    async with tables.connect() as connection:
        journal = journal_of(async_sessionmaker(connection))
        done = await completed(journal, await journal.create(head()))
        assert not connection.in_transaction()
    assert await journal_of(tables).load(done.head.id, "ada") == done


async def test_a_closed_connection_is_refused(tables: AsyncEngine) -> None:
    """A session whose only connection is gone is told so."""
    async with tables.connect() as connection:
        session = AsyncSession(connection)
        journal = journal_of(session)
    with pytest.raises(SessionStateError, match="closed"):
        await journal.settle()
    with pytest.raises(SessionStateError, match="closed"):
        await journal.create(head())
    await session.close()


async def test_in_memory_sqlite_takes_turns(memory: AsyncEngine) -> None:
    """With one connection for everybody, many turns at once are run one point after the other."""
    journal = journal_of(memory)
    assert not journal.concurrent
    chats = await asyncio.gather(*(journal.create(head()) for _ in range(5)))
    done = await asyncio.gather(*(completed(journal, chat) for chat in chats))
    assert [snapshot.next_position for snapshot in done] == [2] * 5


async def test_in_memory_sqlite_keeps_the_callers_transaction(memory: AsyncEngine) -> None:
    """Reading and writing beside an open transaction of the host on the same connection neither ends nor commits it."""
    journal = journal_of(memory)
    made = await journal.create(head())
    async with AsyncSession(memory) as session:
        session.add(Note(id=1, words="one"))
        await session.flush()
        assert await journal.load(made.head.id, "ada") == made
        assert (await session.execute(select(func.count()).select_from(Note))).scalar_one() == 1
        await completed(journal, made)
        await session.rollback()
    assert await notes(memory) == 0
    assert await journal.load(made.head.id, "ada") == made


async def test_in_memory_sqlite_settles_a_session(memory: AsyncEngine) -> None:
    """A session's pending rows are committed before the turn, so that the turn is too."""
    async with AsyncSession(memory) as session:
        journal = journal_of(session)
        session.add(Note(id=1, words="one"))
        await session.flush()
        await journal.settle()
        done = await completed(journal, await journal.create(head()))
        await session.rollback()
    assert await notes(memory) == 1
    assert await journal.load(done.head.id, "ada") == done


# ── the caller's transaction ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B37")
@pytest.mark.parametrize("ending", ["commit", "rollback"])
async def test_the_callers_transaction_decides(tables: AsyncEngine, ending: str) -> None:
    """With transactions="caller" everything is in the caller's transaction: his commit keeps it, his rollback not."""
    await clear(tables)
    async with AsyncSession(tables) as session:
        journal = journal_of(session, transactions="caller")
        session.add(Note(id=1, words="one"))
        await journal.settle()
        done = await completed(journal, await journal.create(head()))
        assert session.in_transaction()
        assert not journal.concurrent
        busy = await begin(journal, done)
        with pytest.raises(ChatBusyError):
            await begin(journal, await journal.load(done.head.id, "ada"))
        assert (await journal.load(done.head.id, "ada")).message_ids[-1] == busy.asked.id
        await getattr(session, ending)()
    kept = ending == "commit"
    assert await notes(tables) == (1 if kept else 0)
    if kept:
        assert (await journal_of(tables).load(done.head.id, "ada")).next_position == 3
    else:
        with pytest.raises(ChatNotFoundError):
            await journal_of(tables).load(done.head.id, "ada")


async def test_the_callers_explicit_block_is_his_transaction(tables: AsyncEngine) -> None:
    """Inside session.begin() the caller's transaction is used as it is."""
    async with AsyncSession(tables) as session, session.begin():
        journal = journal_of(session, transactions="caller")
        await journal.settle()
        made = await journal.create(head())
    assert (await journal_of(tables).load(made.head.id, "ada")).head == made.head
