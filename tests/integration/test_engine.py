"""The engine with the recommended settings."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import traceback
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.pool import NullPool, StaticPool

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.store.engine import DEADLINE_OPTION, make_engine
from nodellm_orm.store.schema import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import TextClause
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from tests.integration.databases import DatabaseKind

SECRET = "geheim"
mysql_only = pytest.mark.parametrize("database_kind", [pytest.param("mysql", marks=pytest.mark.mysql)])
sqlite_only = pytest.mark.parametrize("database_kind", ["sqlite"])


@pytest.fixture
async def made(database: str) -> AsyncIterator[AsyncEngine]:
    """An engine of `make_engine` on an empty database."""
    engine = make_engine(database, deadline=9.0)
    yield engine
    await engine.dispose()


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ("sqlite:///chats.db", "sqlite+aiosqlite:///chats.db"),
        ("sqlite://", "sqlite+aiosqlite://"),
        ("postgresql://u@h/d", "postgresql+asyncpg://u@h/d"),
        ("postgres://u@h:5432/d", "postgresql+asyncpg://u@h:5432/d"),
        ("postgresql://u@h/d?sslmode=require", "postgresql+asyncpg://u@h/d?ssl=require"),
        ("mysql://u@h/d", "mysql+aiomysql://u@h/d?charset=utf8mb4"),
        ("mariadb://u@h/d", "mariadb+aiomysql://u@h/d?charset=utf8mb4"),
        ("postgresql+asyncpg://u@h/d?ssl=disable", "postgresql+asyncpg://u@h/d?ssl=disable"),
    ],
)
def test_a_url_without_a_driver_gets_ours(given: str, chosen: str) -> None:
    """Users write the URL that their hosting company gives them."""
    assert str(make_engine(given).url) == chosen


@pytest.mark.fault("E25")
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@host:port/name",
        f"user:{SECRET}@host",
        f"postgresql:user:{SECRET}@host",
        f"oracle://user:{SECRET}@host/name",
        f"mysql://user:{SECRET}@host/name?charset=latin1",
        f"postgresql+psycopg2://user:{SECRET}@host/name",
        f"postgresql+nosuchdriver://user:{SECRET}@host/name",
        f"sqlite+pysqlite:///{SECRET}.db",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str) -> None:
    """Malformed, unknown, lossy or synchronous: the error says what to write, and quotes no secret."""
    with pytest.raises(ConfigurationError) as caught:
        make_engine(url)

    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_missing_driver_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver for MySQL is an extra; the command can be copied from the error."""
    monkeypatch.setitem(sys.modules, "aiomysql", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'nodellm_orm\[mysql\]'"):
        make_engine("mysql://user@host/name")


@pytest.mark.parametrize("deadline", [0, -1.0, float("nan"), float("inf")])
def test_a_deadline_is_a_positive_number(deadline: float) -> None:
    """No deadline at all is not offered."""
    with pytest.raises(ConfigurationError, match="positive number of seconds"):
        make_engine("sqlite://", deadline=deadline)


def test_an_unknown_option_is_refused() -> None:
    """A typing error in an option is ours to report."""
    with pytest.raises(ConfigurationError, match="pool_siez"):
        make_engine("sqlite:///chats.db", pool_siez=3)


async def test_options_win(database: str) -> None:
    """What a user says about the engine counts more than what is recommended; the rest stays."""
    engine = make_engine(
        database, poolclass=NullPool, hide_parameters=False, execution_options={"mine": 1}, connect_args={}
    )
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1

    assert isinstance(engine.sync_engine.pool, NullPool)
    assert not engine.sync_engine.hide_parameters
    assert engine.get_execution_options() == {DEADLINE_OPTION: 30.0, "mine": 1}
    await engine.dispose()


async def test_the_store_can_read_the_deadline(made: AsyncEngine) -> None:
    """The engine carries its deadline, so that every durable point obeys it."""
    assert made.get_execution_options()[DEADLINE_OPTION] == 9.0


@pytest.mark.fault("B33")
async def test_statements_see_what_others_have_committed(made: AsyncEngine, database_kind: DatabaseKind) -> None:
    """READ COMMITTED on PostgreSQL and MySQL: a second read in one transaction is not stale."""
    async with made.begin() as connection:
        await connection.execute(text("CREATE TABLE t (n INTEGER)"))
        await connection.execute(text("INSERT INTO t VALUES (1)"))
    if database_kind == "sqlite":
        return

    async with made.connect() as reader:
        assert await reader.scalar(text("SELECT n FROM t")) == 1
        async with made.begin() as writer:
            await writer.execute(text("UPDATE t SET n = 2"))
        assert await reader.scalar(text("SELECT n FROM t")) == 2


@pytest.mark.fault("B34")
async def test_an_update_that_changes_nothing_counts_its_row(made: AsyncEngine) -> None:
    """Guards count rows: a row that was found counts, also where its values stay (MySQL's own count would be 0)."""
    async with made.begin() as connection:
        await connection.execute(text("CREATE TABLE t (n INTEGER)"))
        await connection.execute(text("INSERT INTO t VALUES (1)"))
        result = await connection.execute(text("UPDATE t SET n = 1 WHERE n = 1"))

    assert result.rowcount == 1


@pytest.mark.fault("B20")
async def test_every_character_survives(made: AsyncEngine) -> None:
    """Characters beyond the basic plane go through connection and columns unchanged."""
    async with made.connect() as connection:
        assert await connection.scalar(text("SELECT :sent"), {"sent": "a🌍é漢"}) == "a🌍é漢"


@mysql_only
@pytest.mark.fault("B20")
@pytest.mark.parametrize("lax", ["''", "'NO_ENGINE_SUBSTITUTION'"])
async def test_mysql_refuses_rather_than_truncates(database: str, lax: str) -> None:
    """A value that is too long is an error also where the server is not strict; its other modes stay."""
    engine = make_engine(database, connect_args={"sql_mode": lax})
    async with engine.begin() as connection:
        mode = await connection.scalar(text("SELECT @@sql_mode"))
        await connection.execute(text("CREATE TABLE t (word VARCHAR(3))"))
        with pytest.raises(DBAPIError, match="Data too long"):
            await connection.execute(text("INSERT INTO t VALUES ('four')"))
    await engine.dispose()

    assert set(str(mode).split(",")) == {"STRICT_TRANS_TABLES", lax.strip("'")} - {""}


async def test_errors_show_no_values(made: AsyncEngine) -> None:
    """What people wrote to a model does not get into logs by way of a database error."""
    await migrate(made)
    statement = text("INSERT INTO llm_texts (owner, sha256) VALUES (:owner, :text)")

    async with made.connect() as connection:
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(statement, {"owner": SECRET, "text": SECRET})

    assert "hide_parameters" in str(caught.value)
    assert SECRET not in str(caught.value).partition("[SQL")[2]


@pytest.mark.fault("B04")
@pytest.mark.parametrize(
    "database_kind",
    [pytest.param("postgresql", marks=pytest.mark.postgresql), pytest.param("mysql", marks=pytest.mark.mysql)],
)
async def test_a_connection_that_died_in_the_pool_is_replaced(made: AsyncEngine, database_kind: DatabaseKind) -> None:
    """A server that restarted or closed an idle connection is not noticed by the next caller."""
    own, kill = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({0})"),
        "mysql": ("SELECT CONNECTION_ID()", "KILL {0}"),
    }[database_kind]
    async with made.connect() as killer:
        async with made.connect() as idle:
            number = await idle.scalar(text(own))
        await killer.execute(text(kill.format(number)))

        async with made.connect() as fresh:
            assert await fresh.scalar(text(own)) != number


@sqlite_only
async def test_sqlite_is_set_up_on_every_connection(made: AsyncEngine) -> None:
    """Write-ahead log, foreign keys and patience; the second connection has them too."""
    async with made.connect() as first, made.connect() as second:
        for connection in (first, second):
            assert await pragma(connection, "journal_mode") == "wal"
            assert await pragma(connection, "foreign_keys") == 1
            assert await pragma(connection, "busy_timeout") == 3000


async def pragma(connection: AsyncConnection, name: str) -> object:
    """A setting of a SQLite connection."""
    return await connection.scalar(text(f"PRAGMA {name}"))


@sqlite_only
async def test_a_savepoint_belongs_to_its_transaction(made: AsyncEngine) -> None:
    """What was released is rolled back with the transaction around it, though nothing was written before it."""
    await migrate(made)
    async with AsyncSession(made) as session:
        async with session.begin_nested():
            await session.execute(insert())
        await session.rollback()

    async with made.connect() as connection:
        assert await connection.scalar(text("SELECT COUNT(*) FROM llm_texts")) == 0


@pytest.mark.fault("B09")
@sqlite_only
async def test_writers_on_sqlite_wait_for_each_other(made: AsyncEngine) -> None:
    """Many writers at once on one file: all of them get through."""
    await migrate(made)

    async def write(number: int) -> None:
        async with AsyncSession(made) as session:
            async with session.begin_nested():
                await session.execute(insert(str(number)))
            await session.commit()

    await asyncio.gather(*(write(number) for number in range(30)))

    async with made.connect() as connection:
        assert await connection.scalar(text("SELECT COUNT(*) FROM llm_texts")) == 30


@sqlite_only
async def test_engines_that_open_a_new_file_at_once_all_work(database: str) -> None:
    """Switching the write-ahead log on is done by one of them, without an error for the others."""
    engines = [make_engine(database) for _ in range(8)]

    async def mode(engine: AsyncEngine) -> object:
        async with engine.connect() as connection:
            return await pragma(connection, "journal_mode")

    try:
        modes = await asyncio.gather(*(mode(engine) for engine in engines))
    finally:
        for engine in engines:
            await engine.dispose()
    assert modes == ["wal"] * 8


@sqlite_only
async def test_a_file_that_others_read_gets_its_log_when_they_are_done(database: str) -> None:
    """The write-ahead log cannot be switched on while somebody reads: a new connection tries for a while."""
    with closing(reader_of(database)) as reader:
        asyncio.get_running_loop().call_later(0.1, reader.rollback)
        engine = make_engine(database)
        async with engine.connect() as connection:
            assert await pragma(connection, "journal_mode") == "wal"
        await engine.dispose()


@sqlite_only
async def test_a_file_that_others_read_for_good_works_without_the_log(database: str) -> None:
    """Without the write-ahead log everything works; it is only slower."""
    with closing(reader_of(database)):
        engine = make_engine(database)
        async with engine.connect() as connection:
            assert await pragma(connection, "journal_mode") == "delete"
            assert await pragma(connection, "busy_timeout") == 10_000
        await engine.dispose()


def reader_of(database: str) -> sqlite3.Connection:
    """A connection in the middle of a read transaction, on a file without a write-ahead log."""
    reader = sqlite3.connect(str(make_url(database).database), isolation_level=None)
    reader.execute("CREATE TABLE t (n INTEGER)")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    return reader


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:?uri=true", "sqlite+aiosqlite://"]
)
async def test_a_database_in_memory_has_one_connection(url: str) -> None:
    """What one user wrote, the next one reads."""
    engine = make_engine(url)
    await migrate(engine)
    async with AsyncSession(engine) as session, session.begin():
        await session.execute(insert())

    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT COUNT(*) FROM llm_texts")) == 1
        assert await pragma(connection, "foreign_keys") == 1
    assert isinstance(engine.sync_engine.pool, StaticPool)
    await engine.dispose()


@sqlite_only
async def test_a_read_only_file_can_be_read(made: AsyncEngine) -> None:
    """An engine on a file that may not be written opens it all the same."""
    await migrate(made)
    await made.dispose()

    engine = make_engine(f"sqlite:///file:{made.url.database}?mode=ro&uri=true")
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT COUNT(*) FROM llm_texts")) == 0
    await engine.dispose()


def insert(digest: str = "d") -> TextClause:
    """Write a row."""
    statement = (
        "INSERT INTO llm_texts (owner, sha256, text, created_at) VALUES ('', :digest, '', '2026-01-01 00:00:00')"
    )
    return text(statement).bindparams(digest=digest)
