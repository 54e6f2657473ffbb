"""The look at a database: one that is fit has no complaints, and each thing that is wrong is told with its remedy."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import event, func, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from nodellm_orm import make_engine, migrate
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.schema import downgrade
from nodellm_orm.upkeep.doctor.checks import severity
from nodellm_orm.upkeep.doctor.database import check_database
from tests.acceptance.healthy import healthy
from tests.integration.databases import empty_database, migrated_database, server_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.upkeep.doctor.checks import Check
    from tests.integration.databases import DatabaseKind

PASSWORD: Final = "never-shown"
on_mysql = pytest.mark.mysql
on_postgresql = pytest.mark.postgresql


def named(checks: Sequence[Check], name: str) -> Check:
    """The one check of a name."""
    (found,) = [check for check in checks if check.name == name]
    return found


def complaints(checks: Sequence[Check]) -> list[tuple[str, str]]:
    """Name and status of what is not fine."""
    return [(check.name, check.status) for check in checks if check.status in {"warning", "error"}]


@asynccontextmanager
async def prepared(kind: DatabaseKind, folder: Path, *statements: str) -> AsyncIterator[str]:
    """The URL of a database with our tables, in which further statements have been run."""
    async with migrated_database(kind, folder) as url:
        engine = make_engine(url)
        await run(engine, *statements)
        await engine.dispose()
        yield url


async def run(engine: AsyncEngine, *statements: str) -> None:
    """Run statements, each committed."""
    for statement in statements:
        async with engine.begin() as connection:
            await connection.execute(text(statement))


async def test_a_fit_database_has_no_complaints(database: str) -> None:
    """With our tables and an engine of ours, everything is looked at and fine (B20, B34)."""
    checks = await check_database(database)
    assert complaints(checks) == []
    assert severity(checks) == 0
    assert {check.status for check in checks} == {"ok"}
    names = {check.name for check in checks}
    assert {"server", "migrations", "privileges", "text", "row count", "isolation", "clock", "pool"} <= names
    assert len(names) == len(checks)


async def test_nothing_is_changed(engine: AsyncEngine) -> None:
    """After the look the tables hold what they held, and no table is left behind."""
    await healthy(engine)

    async def state() -> dict[str, Any]:
        async with engine.connect() as connection:
            rows = {
                table.name: await connection.scalar(select(func.count()).select_from(table)) for table in RECORDS.tables
            }
            chats = (await connection.execute(select(RECORDS.tables.chats).order_by("id"))).all()
            tables = await connection.run_sync(lambda c: sorted(c.dialect.get_table_names(c)))
        return {"rows": rows, "chats": chats, "tables": tables}

    before = await state()
    await check_database(engine)
    assert await state() == before


@pytest.mark.parametrize("kind", ["engine", "sessionmaker", "session"])
async def test_a_host_s_own_engine_is_looked_at_as_it_is(engine: AsyncEngine, kind: str) -> None:
    """Given what a host has, its settings are told; a session's transaction is left alone."""
    sessions = async_sessionmaker(engine)
    async with sessions() as session:
        await session.execute(text("SELECT 1"))
        transaction = session.get_transaction()
        checks = await check_database({"engine": engine, "sessionmaker": sessions, "session": session}[kind])
        assert session.get_transaction() is transaction
    named_so = {"sqlite": [("journal mode", "warning")], "mysql": [("wait_timeout", "warning")]}
    assert complaints(checks) == named_so.get(engine.dialect.name, [])
    assert all(check.remedy for check in checks if check.status == "warning")


async def test_a_session_in_a_host_s_transaction_keeps_it(engine: AsyncEngine) -> None:
    """On a single connection with a transaction open, as in a rollback fixture, that transaction survives the look."""
    async with engine.connect() as connection:
        await connection.begin()
        await connection.execute(text("CREATE TEMPORARY TABLE mine (n INTEGER)"))
        await connection.execute(text("INSERT INTO mine VALUES (1)"))
        async with AsyncSession(connection, join_transaction_mode="create_savepoint") as session:
            checks = await check_database(session)
        assert connection.in_transaction()
        assert await connection.scalar(text("SELECT n FROM mine")) == 1
        await connection.rollback()
    assert {check.name for check in checks} >= {"privileges", "row count"}


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_missing_tables(database_kind: DatabaseKind, tmp_path: Path) -> None:
    """An empty database is an error that names the command which makes the tables."""
    async with empty_database(database_kind, tmp_path) as url:
        engine = make_engine(url)
        await run(engine, "CREATE TABLE other (n INTEGER)")
        await engine.dispose()
        checks = await check_database(url)
    assert complaints(checks) == [("migrations", "error")]
    assert "no tables llm_*" in named(checks, "migrations").message
    assert "nodellm-orm db upgrade" in str(named(checks, "migrations").remedy)
    assert named(checks, "privileges").status == "skipped"


async def test_an_old_revision(database: str) -> None:
    """Tables of an earlier release are an error that names the command which upgrades them (D07)."""
    engine = make_engine(database)
    await downgrade(engine, revision="0001")
    await engine.dispose()
    found = named(await check_database(database), "migrations")
    assert found.status == "error"
    assert "revision 0001, behind" in found.message
    assert "nodellm-orm db upgrade" in str(found.remedy)


async def test_a_newer_revision(database: str) -> None:
    """Tables of a later release are an error: this package must be replaced, not the tables (D12)."""
    engine = make_engine(database)
    await run(engine, "UPDATE llm_alembic_version SET version_num = '9999'")
    await engine.dispose()
    found = named(await check_database(database), "migrations")
    assert found.status == "error"
    assert "9999, which is newer" in found.message
    assert "install the release" in str(found.remedy)


async def test_a_table_or_column_that_is_gone(database: str) -> None:
    """A current revision without all tables and columns is an error that names them."""
    engine = make_engine(database)
    await run(engine, "DROP TABLE llm_thinking", "ALTER TABLE llm_attachments DROP COLUMN url")
    await engine.dispose()
    found = named(await check_database(database), "migrations")
    assert found.status == "error"
    assert "llm_thinking, llm_attachments.url" in found.message


# ── reaching it ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("E25")
@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://app:{PASSWORD}@127.0.0.1:1/app",
        f"mysql://app:{PASSWORD}@127.0.0.1:1/app",
        f"oracle://app:{PASSWORD}@127.0.0.1/app",
        f"postgresql://app:{PASSWORD}@127.0.0.1:port/app",
    ],
)
async def test_a_database_that_cannot_be_reached(url: str) -> None:
    """It is one error with a remedy, in which there is no password."""
    (found,) = await check_database(url, deadline=5)
    assert (found.name, found.status) == ("database", "error")
    assert found.remedy
    assert PASSWORD not in f"{found.message}{found.remedy}"


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Looking for a SQLite file that does not exist is an error, and makes none."""
    (found,) = await check_database(f"sqlite:///{tmp_path / 'none.db'}")
    assert (found.name, found.status) == ("database", "error")
    assert "nodellm-orm db upgrade" in str(found.remedy)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 — one look at a local folder blocks nobody


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A file of something else is an error of ours, with a remedy."""
    (tmp_path / "a.db").write_bytes(b"no database at all" * 100)
    checks = await check_database(f"sqlite:///{tmp_path / 'a.db'}")
    assert named(checks, "database").status == "error"


async def test_what_is_no_session() -> None:
    """Something that names no database is an error like any other."""
    (found,) = await check_database(7)
    assert (found.name, found.status) == ("database", "error")


# ── SQLite ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_damaged_file(tmp_path: Path) -> None:
    """Pages that were overwritten are found."""
    async with prepared("sqlite", tmp_path) as url:
        engine = make_engine(url)
        await healthy(engine)
        await run(engine, "PRAGMA wal_checkpoint(TRUNCATE)")
        await engine.dispose()
        path = tmp_path / str(make_url(url).database)
        data = bytearray(path.read_bytes())
        data[-8192:] = b"\xff" * 8192
        path.write_bytes(data)
        checks = await check_database(url)
    assert ("integrity", "error") in complaints(checks)


async def test_a_file_that_is_opened_read_only(tmp_path: Path) -> None:
    """What cannot be written through this connection is an error with its remedy."""
    async with prepared("sqlite", tmp_path) as url:
        path = make_url(url).database
        checks = await check_database(f"sqlite+aiosqlite:///file:{path}?mode=ro&uri=true")
    found = named(checks, "privileges")
    assert found.status == "error"
    assert "INSERT on llm_chats" in found.message
    assert "SELECT" not in found.message
    assert "writable" in str(found.remedy)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
async def test_a_file_that_this_user_may_not_write(tmp_path: Path) -> None:
    """The file, and the folder that its write-ahead log needs, are named."""
    async with prepared("sqlite", tmp_path) as url:
        path = str(make_url(url).database)
        os.chmod(path, 0o444)  # noqa: PTH101 — one look at a local folder blocks nobody
        checks = await check_database(url)
        os.chmod(path, 0o644)  # noqa: PTH101 — see above
    assert named(checks, "file").status == "error"
    assert os.path.basename(path) in named(checks, "file").message  # noqa: PTH119 — see above


async def test_an_engine_that_does_not_wait_for_locks(tmp_path: Path) -> None:
    """A host's engine that gives up at once, or keeps no write-ahead log, is warned of."""
    async with empty_database("sqlite", tmp_path) as url:
        engine = create_async_engine(url, connect_args={"timeout": 0})
        await migrate(engine)
        checks = await check_database(engine)
        await engine.dispose()
    assert complaints(checks) == [("journal mode", "warning"), ("lock timeout", "warning")]
    assert "make_engine" in str(named(checks, "journal mode").remedy)


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────────────


@on_postgresql
async def test_a_user_who_may_only_read(tmp_path: Path) -> None:
    """What the user may not do is named, with the tables."""
    async with prepared("postgresql", tmp_path) as url:
        role = make_url(url).database
        engine = make_engine(url)
        await run(
            engine,
            f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
            f"GRANT UPDATE, INSERT ON llm_chats TO {role}",
        )
        try:
            checks = await check_database(engine_as(engine, role))
        finally:
            await run(engine, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
            await engine.dispose()
    found = named(checks, "privileges")
    assert found.status == "error"
    assert "INSERT on llm_turns" in found.message
    assert "DELETE on llm_chats" in found.message
    assert "SELECT" not in found.message


def engine_as(engine: AsyncEngine, role: str | None) -> AsyncEngine:
    """An engine whose connections have the rights of a role."""
    return create_async_engine(engine.url, poolclass=NullPool, connect_args={"server_settings": {"role": str(role)}})


@on_postgresql
async def test_settings_of_a_postgresql_server(tmp_path: Path) -> None:
    """A database that is not UTF8, short time limits and read-only transactions are told."""
    async with empty_database("postgresql", tmp_path) as url:
        engine = make_engine(url)
        name = f"{make_url(url).database}_latin1"
        autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        async with autocommit.connect() as connection:
            await connection.execute(
                text(f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
            )
            await connection.execute(text(f"ALTER DATABASE {name} SET statement_timeout = '200ms'"))
            await connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        try:
            latin = make_url(url).set(database=name).render_as_string(hide_password=False)
            checks = await check_database(latin)
        finally:
            async with autocommit.connect() as connection:
                await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            await engine.dispose()
    told = dict(complaints(checks))
    assert (told["encoding"], told["time limits"], told["read-only"]) == ("error", "warning", "error")
    assert "LATIN1" in named(checks, "encoding").message
    assert "statement_timeout" in str(named(checks, "time limits").remedy)


# ── MySQL and MariaDB ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B20")
@on_mysql
async def test_tables_that_cannot_hold_every_character(tmp_path: Path) -> None:
    """Columns or a database in latin1, and keys compared without case, are told with what mends them (B20)."""
    async with prepared(
        "mysql",
        tmp_path,
        "ALTER TABLE llm_thinking MODIFY text LONGTEXT CHARACTER SET latin1 COLLATE latin1_bin NOT NULL",
    ) as url:
        engine = make_engine(url)
        await run(engine, f"ALTER DATABASE {make_url(url).database} CHARACTER SET latin1")
        narrow = await check_database(url)
        column = named(narrow, "charset of the tables")
        await run(
            engine,
            str(column.remedy).partition("then: ")[2],
            "ALTER TABLE llm_requests MODIFY provider VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
            f"ALTER DATABASE {make_url(url).database} CHARACTER SET utf8mb4",
        )
        folding = await check_database(url)
        await run(engine, str(named(folding, "charset of the tables").remedy).partition("then: ")[2])
        mended = await check_database(url)
        await engine.dispose()
    assert complaints(narrow) == [("charset of the tables", "error"), ("charset of the database", "warning")]
    assert column.message.endswith(": llm_thinking.text")
    assert "latin1" in named(narrow, "charset of the database").message
    assert complaints(folding) == [("charset of the tables", "error")]
    assert "llm_requests.provider" in named(folding, "charset of the tables").message
    assert complaints(mended) == []


@pytest.mark.fault("B20")
@on_mysql
async def test_a_connection_in_latin1_that_is_not_strict(tmp_path: Path) -> None:
    """A host's engine with a narrow charset, a lax mode and no test of its connections is told each (B20)."""
    async with prepared("mysql", tmp_path) as url:
        engine = create_async_engine(
            make_url(url).update_query_dict({"charset": "latin1"}),
            connect_args={"init_command": "SET SESSION sql_mode = ''"},
        )
        checks = await check_database(engine)
        await engine.dispose()
    told = dict(complaints(checks))
    assert told["charset of the connection"] == "error"
    assert (told["sql_mode"], told["wait_timeout"]) == ("error", "warning")
    assert "utf8mb4" in str(named(checks, "charset of the connection").remedy)


@pytest.mark.fault("B34")
@on_mysql
async def test_updates_that_change_nothing_must_count(tmp_path: Path) -> None:
    """A connection without FOUND_ROWS reports 0 rows for an UPDATE that changes nothing: an error (B34)."""
    async with prepared("mysql", tmp_path) as url:
        engine = create_async_engine(url, poolclass=NullPool)

        def without(_dialect: object, _record: object, _arguments: object, options: dict[str, Any]) -> None:
            options["client_flag"] = 0

        event.listen(engine.sync_engine, "do_connect", without)
        checks = await check_database(engine)
        await engine.dispose()
    assert named(checks, "row count").status == "error"
    assert "FOUND_ROWS" in str(named(checks, "row count").remedy)


@on_mysql
async def test_a_table_without_transactions(tmp_path: Path) -> None:
    """A table of another storage engine is an error with the statement that mends it."""
    async with prepared("mysql", tmp_path, "ALTER TABLE llm_texts ENGINE=Aria") as url:
        checks = await check_database(url)
    assert complaints(checks) == [("storage engine", "error")]
    assert named(checks, "storage engine").remedy == "ALTER TABLE llm_texts ENGINE=InnoDB"


@on_mysql
async def test_a_mysql_user_who_may_not_delete(tmp_path: Path) -> None:
    """Missing privileges are named, and that the user may not create tables is only told."""
    async with prepared("mysql", tmp_path) as url:
        database = str(make_url(url).database)
        user = f"u{database[-12:]}"
        administrator = make_engine(url)
        await run(
            administrator,
            f"CREATE USER {user}@'%' IDENTIFIED BY '{PASSWORD}'",
            f"CREATE USER {user}@localhost IDENTIFIED BY '{PASSWORD}'",
            *(f"GRANT SELECT, INSERT, UPDATE ON {database}.* TO {user}@{host}" for host in ("'%'", "localhost")),
        )
        try:
            theirs = server_url("mysql").set(username=user, password=PASSWORD, database=database)
            limited = await check_database(theirs.render_as_string(hide_password=False))
            await run(
                administrator, *(f"GRANT DELETE ON {database}.* TO {user}@{host}" for host in ("'%'", "localhost"))
            )
            enough = await check_database(theirs.render_as_string(hide_password=False))
        finally:
            await run(administrator, *(f"DROP USER {user}@{host}" for host in ("'%'", "localhost")))
            await administrator.dispose()
    assert named(limited, "privileges").status == "error"
    assert named(limited, "privileges").message.startswith("refused: DELETE on llm_chats")
    assert complaints(enough) == []
    assert "may not create tables" in named(enough, "DDL").message
    assert named(enough, "row count").status == "skipped"


# ── the pool ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_pool_that_is_small_for_what_is_expected(database: str) -> None:
    """Told how many turns are expected at once, a pool far too small for them is warned of, and no other is."""
    few, many = (
        await check_database(database, concurrency=50),
        await check_database(database, concurrency=2000),
    )
    assert named(few, "pool").status == "ok"
    assert named(many, "pool").status == "warning"
    assert "pool_size=200" in str(named(many, "pool").remedy)
