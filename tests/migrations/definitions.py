"""What a database says about its own tables and views, as text that can be compared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

VIEWS = frozenset({"llm_usage", "llm_usage_daily", "llm_chat_costs", "llm_failures"})
"""What the migrations make beside the tables of the records."""

_POSTGRES_COLUMNS = """
    SELECT c.table_name, c.column_name, c.data_type, c.character_maximum_length, c.numeric_precision, c.numeric_scale,
           c.datetime_precision, c.is_nullable, c.column_default, c.collation_name
    FROM information_schema.columns c WHERE c.table_schema = :schema ORDER BY c.table_name, c.ordinal_position
"""
_POSTGRES_REST = """
    SELECT t.relname, k.conname, pg_get_constraintdef(k.oid) FROM pg_constraint k
    JOIN pg_class t ON t.oid = k.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname = :schema
    UNION ALL SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = :schema
    UNION ALL SELECT viewname, 'view', definition FROM pg_views WHERE schemaname = :schema
    ORDER BY 1, 2, 3
"""


async def definitions(engine: AsyncEngine, *, schema: str = "public") -> dict[str, list[str]]:
    """The definition of each table and view, by name.

    Args:
        engine: the database.
        schema: the schema to look at, on PostgreSQL.
    """
    read = {"sqlite": _sqlite, "postgresql": lambda connection: _postgresql(connection, schema)}
    async with engine.connect() as connection:
        return await connection.run_sync(read.get(engine.dialect.name, _mysql))


async def tables_of(engine: AsyncEngine, *, schema: str = "public") -> set[str]:
    """The names of all tables and views."""
    return set(await definitions(engine, schema=schema))


def _sqlite(connection: Connection) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table, sql in connection.execute(text("SELECT tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL")):
        plain = " ".join(sql.split())
        found.setdefault(table, []).append(_in_order(plain) if plain.startswith("CREATE TABLE") else plain)
    return {table: sorted(lines) for table, lines in found.items()}


def _in_order(create: str) -> str:
    """A table as SQLite tells of it, columns before constraints: a column that was added comes last of all there."""
    name, _, inside = create.partition("(")
    items, depth = [""], 0
    for character in inside.strip().removesuffix(")"):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            items.append("")
        else:
            items[-1] += character
    constraints = ("CONSTRAINT ", "PRIMARY KEY", "UNIQUE ", "CHECK ", "FOREIGN KEY")
    ordered = sorted((item.strip() for item in items), key=lambda item: item.startswith(constraints))
    return f"{name.strip()} ({', '.join(ordered)})"


def _postgresql(connection: Connection, schema: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for query in (_POSTGRES_COLUMNS, _POSTGRES_REST):
        for table, *rest in connection.execute(text(query), {"schema": schema}):
            found.setdefault(table, []).append(repr(rest))
    return found


def _mysql(connection: Connection) -> dict[str, list[str]]:
    names = connection.scalars(text("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"))
    return {name: _mysql_table(connection, name) for name in names.all()}


def _mysql_table(connection: Connection, name: str) -> list[str]:
    row = connection.execute(text(f"SHOW CREATE TABLE `{name}`")).one()
    lines = [line.strip().rstrip(",") for line in re.split(r"\n", row[1])]
    columns = [line for line in lines if line.startswith("`")]
    # Keys are listed in the order in which they were made, which means nothing.
    return [*columns, *sorted(line for line in lines if not line.startswith("`"))]
