"""Whether the tables are there, and of this release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect

from nodellm_orm.errors import SchemaVersionError
from nodellm_orm.store import revisions
from nodellm_orm.upkeep.doctor.checks import error, ok, told_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from nodellm_orm.store.define import Records
    from nodellm_orm.upkeep.doctor.checks import Check

_NAME: Final = "migrations"
_UPGRADE: Final = "nodellm-orm db upgrade (or `await migrate(engine)` at start-up)"


def check_migrations(connection: Connection, records: Records) -> Check:
    """The revision is this package's, and every table and column it needs is there.

    Args:
        connection: to the database.
        records: whose tables.
    """
    naming, head = records.naming, revisions.known()[-1]
    try:
        revision = revisions.stored(connection, naming)
    except SchemaVersionError as failure:
        return told_of(_NAME, failure)
    if revision is not None and revision not in revisions.known():
        told = f"the tables are at revision {revision:.40}, which is newer than this package's {head}"
        return error(_NAME, told, "install the release that made them, or a later one")
    tables, columns = _missing(connection, records)
    if revision is None:
        made = len(list(records.tables)) - len(tables)
        told = f"there are no tables {naming.prefix}*" if not made else f"tables {naming.prefix}* without a revision"
        return error(_NAME, told, _UPGRADE)
    if revision != head:
        return error(_NAME, f"the tables are at revision {revision}, behind this package's {head}", _UPGRADE)
    if tables or columns:
        told = f"revision {revision}, and yet these are missing: {', '.join((*tables, *columns)):.300}"
        return error(_NAME, told, "restore them from a backup; no migration makes them again")
    return ok(_NAME, f"revision {revision}, which is current")


def _missing(connection: Connection, records: Records) -> tuple[list[str], list[str]]:
    """Tables and columns that are not there."""
    inspector = inspect(connection)
    tables: list[str] = []
    columns: list[str] = []
    for table in records.tables:
        if not inspector.has_table(table.name, schema=table.schema):
            tables.append(table.name)
            continue
        there = {column["name"] for column in inspector.get_columns(table.name, schema=table.schema)}
        columns += [f"{table.name}.{column.name}" for column in table.columns if column.name not in there]
    return tables, columns
