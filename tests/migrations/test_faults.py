"""Revisions on tables that are full, large, or hold what nobody can read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest
from sqlalchemy import (
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Uuid,
    insert,
    select,
    text,
)

from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store import revisions
from nodellm_orm.store.engine import make_engine
from nodellm_orm.store.schema import check, downgrade, migrate, sql
from tests.migrations.definitions import VIEWS, definitions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Column, Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

Rows: TypeAlias = "dict[str, dict[str, Any]]"
"""Values by table and column."""
LATER: Final = revisions.known()[1:]
"""Every revision that may find tables with rows in them."""
BROKEN: Final = '{"broken": [1, NaN, \'x\', "\\ud800'
"""What no JSON parser reads."""
GIVEN: Final[dict[str, Any]] = {
    "role": "assistant",
    "status": "failed",
    "operation": "chat",
    "kind": "image",
    "redacted": False,
    "active_slot": None,
}
"""Columns that take a few values only."""
NETWORKED: Final = [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("postgresql", "mysql")]
HARMLESS: Final = (
    r"CREATE (OR REPLACE )?(SQL SECURITY INVOKER )?VIEW ",
    r"DROP VIEW ",
    r"CREATE TABLE ",
    r"CREATE (UNIQUE )?INDEX CONCURRENTLY ",
    r"DROP INDEX CONCURRENTLY ",
    r"ALTER TABLE \S+ ADD COLUMN (?!.*(PRIMARY KEY|UNIQUE|REFERENCES|GENERATED|random|now\())",
    r"ALTER TABLE \S+ ADD CONSTRAINT .* NOT VALID$",
    r"UPDATE llm_alembic_version ",
    r"(BEGIN|COMMIT)$",
)
"""What takes as long on a million rows as on one, and locks no row of theirs."""


def reflected(connection: Connection) -> dict[str, Table]:
    """Our tables as the database describes them now, what others refer to first."""
    metadata = MetaData()
    metadata.reflect(connection)
    return {table.name: table for table in metadata.sorted_tables if not table.name.endswith("alembic_version")}


def value_of(column: Column[Any], chat: Any) -> Any:
    """Something that the column takes; where it is text, nothing that can be parsed."""
    name = column.name
    kind: Any = column.type
    if name in GIVEN:
        return GIVEN[name]
    if name in {"chat_id", "id"} and column.primary_key:
        return chat
    match kind:
        case Uuid():
            return new_id()
        case DateTime():
            return datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC if kind.timezone else None)
        case LargeBinary():
            return None if column.nullable else b"\x00\xff"
        case Integer() | Numeric():
            return 7
        case _:
            length = getattr(kind, "length", None)
            return BROKEN if length is None else (new_id().hex if length == 32 and name.endswith("id") else "é " * 5)


def fill(connection: Connection) -> None:
    """A row in every table, without the help of the records, which are of a later revision."""
    key = new_id()
    chat: Any = key if connection.dialect.name == "postgresql" else key.hex
    for table in reflected(connection).values():
        row = {column.name: value_of(column, chat) for column in table.c}
        if table.name == "llm_messages":
            row["status"] = "complete"
        if table.name == "llm_requests":
            row["chat_id"] = chat
        if table.name == "llm_blobs" and connection.dialect.name == "mysql":
            row["data"] = text("X'00FF'")
        connection.execute(insert(table).values(row))


@pytest.fixture
async def filled(database: str) -> AsyncIterator[AsyncEngine]:
    """The first revision, with a row in every table."""
    engine = make_engine(database)
    try:
        await migrate(engine, revision="0001")
        async with engine.begin() as connection:
            await connection.run_sync(fill)
        yield engine
    finally:
        await engine.dispose()


async def everything(engine: AsyncEngine, *, of: Rows | None = None) -> Rows:
    """The row of every table, as the database itself has it.

    Args:
        engine: the database.
        of: an earlier look; only its tables and columns are looked at.
    """

    def read(connection: Connection) -> Rows:
        tables = {name: table for name, table in reflected(connection).items() if of is None or name in of}
        rows = {name: connection.execute(select(table)).mappings().one() for name, table in tables.items()}
        return {
            name: {column: value for column, value in row.items() if of is None or column in of[name]}
            for name, row in rows.items()
        }

    async with engine.connect() as connection:
        return await connection.run_sync(read)


async def test_every_table_is_filled(filled: AsyncEngine) -> None:
    """What follows is about rows in all tables, and about texts that are no JSON."""
    rows = await everything(filled)
    assert len(rows) == 9
    assert rows["llm_messages"]["parts"] == rows["llm_chats"]["metadata"] == BROKEN


@pytest.mark.fault("D01")
@pytest.mark.fault("D02")
@pytest.mark.fault("D11")
async def test_revisions_leave_rows_as_they_are_whatever_is_in_them(filled: AsyncEngine) -> None:
    """Up one by one, and down again, no row is read as JSON, lost or changed."""
    before = await everything(filled)
    for revision in LATER:
        await migrate(filled, revision=revision)
    await check(filled)
    assert await everything(filled, of=before) == before
    await downgrade(filled, revision="0001")
    assert await everything(filled) == before
    await migrate(filled)
    await check(filled)


# ── large tables ──────────────────────────────────────────────────────────────────────────────────────────────────


def statements(script: str) -> list[str]:
    """The statements of a script, each on one line."""
    plain = "\n".join(line for line in script.splitlines() if not line.startswith("--"))
    return [" ".join(statement.split()) for statement in plain.split(";\n") if statement.strip()]


@pytest.mark.fault("D06")
@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
@pytest.mark.parametrize(("lower", "upper"), list(pairwise(revisions.known())))
def test_no_revision_says_what_takes_long_on_many_rows(dialect: str, lower: str, upper: str) -> None:
    """Every statement is of a kind whose time does not depend on the rows: no old table is indexed or rewritten."""
    script = sql(dialect, from_revision=lower, revision=upper)
    said = statements(script)
    assert said
    slow = [s for s in said if not any(re.match(pattern, s, re.IGNORECASE) for pattern in HARMLESS)]
    made = [f" ON {match[1]} (" for s in said if (match := re.match(r"CREATE TABLE (\w+)", s))]
    assert [s for s in slow if not s.startswith("CREATE INDEX") or not any(new in s for new in made)] == []


_PLACES: Final = {
    "postgresql": "SELECT relname, relfilenode FROM pg_class JOIN pg_tables ON tablename = relname "
    "WHERE schemaname = current_schema()",
    "mysql": "SELECT NAME, TABLE_ID FROM information_schema.INNODB_TABLES WHERE NAME LIKE CONCAT(DATABASE(), '/%')",
    "mariadb": "SELECT NAME, TABLE_ID FROM information_schema.INNODB_SYS_TABLES "
    "WHERE NAME LIKE CONCAT(DATABASE(), '/%')",
}
"""A table's name, and a number that is another one once the table was written anew."""
_ANEW: Final = {
    "postgresql": "ALTER TABLE llm_requests ALTER COLUMN attempt TYPE NUMERIC",
    "mysql": "ALTER TABLE llm_requests MODIFY attempt DECIMAL(20) NOT NULL",
}
"""A change that writes a table anew."""


@pytest.mark.fault("D06")
@pytest.mark.parametrize("database_kind", NETWORKED)
async def test_no_revision_writes_a_table_anew(filled: AsyncEngine) -> None:
    """What the database itself says of it: every table and index is in the same place after all revisions."""
    kind = "mariadb" if getattr(filled.dialect, "is_mariadb", False) else filled.dialect.name

    async def places() -> dict[str, int]:
        async with filled.connect() as connection:
            found = (await connection.execute(text(_PLACES[kind]))).all()
        ours = {name.rpartition("/")[2]: number for name, number in found}
        return {name: number for name, number in ours.items() if not name.endswith("alembic_version")}

    before = await places()
    assert {"llm_messages", "llm_requests"} <= before.keys()
    await migrate(filled)
    after = await places()
    assert {name: after[name] for name in before} == before
    async with filled.begin() as connection:
        for view in VIEWS:
            await connection.execute(text(f"DROP VIEW {view}"))
        await connection.execute(text(_ANEW[filled.dialect.name]))
    assert {name for name, number in (await places()).items() if number != after[name]} == {"llm_requests"}


# ── SQLite ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("D09")
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_sqlite_keeps_keys_indexes_and_references(filled: AsyncEngine) -> None:
    """After every step down and up the definitions are the same, references hold and are enforced, and rows stay."""
    rows = await everything(filled)
    await migrate(filled)
    made = await definitions(filled)
    assert sum("FOREIGN KEY" in line for lines in made.values() for line in lines) == 5
    for lower in reversed(revisions.known()[:-1]):
        await downgrade(filled, revision=lower)
        async with filled.connect() as connection:
            assert await connection.scalar(text("PRAGMA foreign_keys")) == 1
            assert (await connection.execute(text("PRAGMA foreign_key_check"))).all() == []
            with pytest.raises(Exception, match="FOREIGN KEY constraint failed"):
                await connection.execute(text("DELETE FROM llm_chats"))
            await connection.rollback()
        await migrate(filled)
        assert await definitions(filled) == made
        assert await everything(filled, of=rows) == rows
        async with filled.connect() as connection:
            assert await connection.scalar(text("PRAGMA integrity_check")) == "ok"
