"""Tables of the host whose rows keep a chat from being deleted, as the database itself knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import column, func, inspect, literal, select, table

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection, Select

    from nodellm_orm.store.define import Tables

_OBLIGING: Final = frozenset({"CASCADE", "SET NULL", "SET DEFAULT"})
"""What a foreign key may say, so that the database itself sees to its rows."""


def referrers(connection: Connection, tables: Tables, chat_id: UUID) -> tuple[str, ...]:
    """Names of the tables with a row that refers to a chat and would be left dangling, sorted.

    Args:
        connection: where.
        tables: ours, which do not count.
        chat_id: the chat.
    """
    chats, ours = tables.chats, {(each.schema, each.name) for each in tables}
    found: set[tuple[str | None, str]] = set()
    for (schema, name), keys in _foreign_keys(connection, chats.schema):
        for key in keys:
            if (schema, name) in ours or key["referred_table"] != chats.name or not _holds(key):
                continue
            source = table(name, *(column(each) for each in key["constrained_columns"]), schema=schema)
            referring = source.c[key["constrained_columns"][0]] == literal(chat_id, chats.c.id.type)
            if connection.execute(select(literal(1)).select_from(source).where(referring).limit(1)).first():
                found.add((schema, name))
    if found and connection.dialect.name == "postgresql":
        partitions = set(connection.scalars(_partitions(tables)))
        found = {(schema, name) for schema, name in found if name not in partitions}
    return tuple(sorted(name if schema is None else f"{schema}.{name}" for schema, name in found))


def _partitions(tables: Tables) -> Select[Any]:
    """Names of the tables that hold the rows of ours, where PostgreSQL divides these: each has the foreign key too."""
    classes = table("pg_class", column("oid"), column("relname"), column("relispartition"), schema="pg_catalog")
    parts, roots = classes.alias(), classes.alias()
    of_root = roots.c.oid == func.pg_partition_root(parts.c.oid)
    ours = roots.c.relname.in_([each.name for each in tables])
    return select(parts.c.relname).join(roots, of_root).where(parts.c.relispartition, ours)


def _holds(key: Any) -> bool:
    """Whether a foreign key refers to the id, and forbids that it goes."""
    action = str(key.get("options", {}).get("ondelete") or "").upper()
    return list(key["referred_columns"]) in ([], ["id"]) and action not in _OBLIGING


def _foreign_keys(connection: Connection, schema: str | None) -> list[tuple[tuple[str | None, str], Any]]:
    inspector = inspect(connection)
    places = {None, schema}
    return [item for place in places for item in inspector.get_multi_foreign_keys(schema=place).items()]
