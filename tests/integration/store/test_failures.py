"""What a caller is told when the database fails: always an error of ours, with what to do, and never with content."""

from __future__ import annotations

import sqlite3
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from nodellm_orm.domain.messages import user
from nodellm_orm.errors import NodeLLMError, SchemaVersionError, StorageError
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from tests.integration.store.samples import answer, begin, begun, completed, head

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine


def journal_of(engine: AsyncEngine, **options: Any) -> SqlJournal:
    return SqlJournal(open_access(engine, RECORDS, **options), RECORDS)


def busy_error() -> OperationalError:
    original = sqlite3.OperationalError("database is locked")
    original.sqlite_errorcode = sqlite3.SQLITE_BUSY_SNAPSHOT
    return OperationalError("UPDATE x", {}, original)


async def test_missing_tables_say_how_to_make_them(engine: AsyncEngine) -> None:
    """On a database without the tables every method says to migrate."""
    journal = journal_of(engine)
    for attempted in (journal.create(head()), journal.load(new_id(), "ada"), journal.summaries("ada")):
        with pytest.raises(SchemaVersionError, match="db upgrade"):
            await attempted


async def test_older_tables_say_how_to_upgrade_them(engine: AsyncEngine) -> None:
    """Tables that lack a column say to migrate too."""
    async with engine.begin() as connection:
        await connection.run_sync(RECORDS.metadata.create_all)
        await connection.execute(text("ALTER TABLE llm_chats DROP COLUMN step"))
    journal = journal_of(engine)
    with pytest.raises(SchemaVersionError, match="db upgrade"):
        await journal.create(head())
    assert "nodellm" in str(engine.url)


@pytest.mark.fault("B13")
async def test_a_pool_without_a_free_connection_is_told(tables: AsyncEngine) -> None:
    """When the host keeps all connections, the error speaks of the pool."""
    engine = create_async_engine(
        tables.url, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05
    )
    async with engine.connect():
        with pytest.raises(StorageError, match="pool"):
            await journal_of(engine).load(new_id(), "ada")
    await engine.dispose()


@pytest.mark.fault("E25")
@pytest.mark.parametrize(
    "url", ["postgresql+asyncpg://me:s3cret@127.0.0.1:1/x", "mysql+aiomysql://me:s3cret@127.0.0.1:1/x"]
)
async def test_a_server_that_is_not_there_is_told_without_the_password(url: str) -> None:
    """A refused connection is a storage error; nothing of it, causes included, shows the password."""
    engine = create_async_engine(url)
    with pytest.raises(StorageError, match=r"reach|lost or refused") as caught:
        await journal_of(engine, deadline=5.0).load(new_id(), "ada")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    await engine.dispose()


@pytest.mark.fault("E25")
async def test_a_wrong_password_is_told_without_it(tables: AsyncEngine) -> None:
    """A user whom the server does not let in is told so."""
    if tables.dialect.name == "sqlite":
        pytest.skip("SQLite has no users")
    engine = create_async_engine(tables.url.set(username="nobody_such", password="s3cret"))
    with pytest.raises(StorageError) as caught:
        await journal_of(engine, deadline=5.0).load(new_id(), "ada")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    await engine.dispose()


async def test_what_a_database_refuses_is_told_without_content(tables: AsyncEngine) -> None:
    """A row that breaks a rule of the host's is a storage error that shows neither values nor parameters."""
    journal = journal_of(tables)
    turn = await begun(journal)
    clash = answer(1, text="confidential")
    await journal.record(turn.hold, (clash,))
    other = await begun(journal)
    later = await journal.record(other.hold, (answer(1),))
    said = answer(2, text="confidential")
    with pytest.raises(StorageError) as caught:
        await journal.record(later, (said, said.__class__(id=other.asked.id, message=answer(3).message)))
    shown = "".join(traceback.format_exception(caught.value))
    assert "confidential" not in shown
    assert caught.value.details["code"] is not None
    assert (await journal.load(other.hold.chat_id, "ada")).next_position == 2


@pytest.mark.fault("B11")
async def test_a_full_disk_is_told_and_nothing_is_half_written(tmp_path: Path) -> None:
    """When the disk is full the point is refused as a whole, and works again once there is room."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'chats.db'}")
    limits = {"pages": 1_000_000}

    @event.listens_for(engine.sync_engine, "begin")
    def limit(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {limits['pages']}")

    async with engine.begin() as connection:
        await connection.run_sync(RECORDS.metadata.create_all)
    journal = journal_of(engine)
    turn = await begun(journal)
    before = await journal.load(turn.hold.chat_id, "ada")
    limits["pages"] = 1
    with pytest.raises(StorageError, match="disk"):
        await journal.record(turn.hold, (answer(1, text="x" * 500_000),))
    limits["pages"] = 1_000_000
    assert (await journal.load(turn.hold.chat_id, "ada")).messages == before.messages
    await journal.record(turn.hold, (answer(1, text="x" * 500_000),))
    await engine.dispose()


@pytest.mark.fault("B05")
async def test_a_read_only_database_is_told(tmp_path: Path) -> None:
    """A database that may only be read can be read; writing to it says what is wrong."""
    path = tmp_path / "chats.db"
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    async with engine.begin() as connection:
        await connection.run_sync(RECORDS.metadata.create_all)
    made = await journal_of(engine).create(head())
    await engine.dispose()
    readonly = create_async_engine(f"sqlite+aiosqlite:///file:{path}?mode=ro&uri=true")
    journal = journal_of(readonly)
    assert await journal.load(made.head.id, "ada") == made
    with pytest.raises(StorageError, match="read-only"):
        await begin(journal, made)
    await readonly.dispose()


@pytest.mark.fault("B22")
async def test_a_message_over_the_packet_limit_is_refused_before_it_is_sent(tables: AsyncEngine) -> None:
    """On MySQL such a message is told by its size, the connection lives on and the hold is still good."""
    if tables.dialect.name != "mysql":
        pytest.skip("only MySQL has such a limit")
    async with tables.connect() as connection:
        limit = int((await connection.execute(text("SELECT @@max_allowed_packet"))).scalar_one())
    journal = journal_of(tables)
    turn = await begun(journal)
    with pytest.raises(StorageError, match="max_allowed_packet"):
        await journal.record(turn.hold, (answer(1, text='"' * (limit // 3)),))
    await journal.record(turn.hold, (answer(1, text="x" * (limit // 4)),))


async def test_a_transaction_that_met_others_is_run_again(tables: AsyncEngine) -> None:
    """A transient failure rolls everything back and runs the whole transaction again, on a fresh connection."""
    access = open_access(tables, RECORDS)
    owner = f"again {new_id()}"
    failures = 3

    def work(connection: Connection) -> int:
        nonlocal failures
        connection.execute(
            RECORDS.tables.texts.insert(), {"owner": owner, "sha256": "x", "text": "t", "created_at": moment}
        )
        if failures:
            failures -= 1
            raise busy_error()
        return failures

    moment = (await journal_of(tables).create(head())).head.created_at
    assert await access.run(work) == 0
    async with tables.connect() as connection:
        counted = text("SELECT COUNT(*) FROM llm_texts WHERE owner = :owner")
        assert (await connection.execute(counted, {"owner": owner})).scalar_one() == 1


@pytest.mark.fault("B09")
async def test_a_transaction_that_never_succeeds_is_given_up(tmp_path: Path) -> None:
    """Trying again is bounded; in the end the cause is chained."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'chats.db'}")
    tries = 0

    def work(_: Connection) -> None:
        nonlocal tries
        tries += 1
        raise busy_error()

    with pytest.raises(StorageError, match="busy") as caught:
        await open_access(engine, RECORDS).run(work)
    assert isinstance(caught.value.__cause__, OperationalError)
    assert 1 < tries < 50
    await engine.dispose()


async def test_a_mistake_in_the_program_is_not_disguised(tables: AsyncEngine) -> None:
    """What is not the database's doing passes as it is, and rolls back."""

    def work(_: Connection) -> None:
        msg = "a mistake"
        raise ZeroDivisionError(msg)

    with pytest.raises(ZeroDivisionError):
        await open_access(tables, RECORDS).run(work)
    with pytest.raises(ZeroDivisionError):
        await open_access(tables, RECORDS).read(work)


async def test_values_that_do_not_fit_are_refused_in_our_words(tables: AsyncEngine) -> None:
    """A name that is too long is an error of ours, and nothing is written."""
    journal = journal_of(tables)
    with pytest.raises(NodeLLMError, match="at most 255"):
        await journal.create(head("x" * 300))
    done = await completed(journal, await journal.create(head(), [(new_id(), user("x"))]))
    assert done.next_position == 3
