"""What the database's user may do, tried with statements that match no row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, false, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from nodellm_orm.store.failures import Nature, nature, translate
from nodellm_orm.upkeep.doctor.checks import error, ok, skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Table
    from sqlalchemy.sql import Executable

    from nodellm_orm.store.define import Records
    from nodellm_orm.upkeep.doctor.checks import Check

_NAME: Final = "privileges"


def check_rights(connection: Connection, records: Records) -> list[Check]:
    """Rows of every table can be read, written, changed and deleted.

    Args:
        connection: to the database; what is tried is undone.
        records: whose tables.
    """
    inspector = inspect(connection)
    tables = [table for table in records.tables if inspector.has_table(table.name, schema=table.schema)]
    if not tables:
        return [skipped(_NAME, "there are no tables to try them on")]
    denied: dict[str, list[str]] = {}
    why: DBAPIError | None = None
    for table in tables:
        for verb, statement in _statements(table):
            failure = _tried(connection, statement)
            if failure is not None and nature(failure) in {Nature.LOST, Nature.TRANSIENT, Nature.SLOW}:
                raise failure
            if failure is not None:
                why = failure
                denied.setdefault(verb, []).append(table.name)
    if why is not None:
        what = "; ".join(f"{verb} on {', '.join(names)}" for verb, names in denied.items())
        return [error(_NAME, f"refused: {what:.300}", str(translate(why)))]
    return [ok(_NAME, "rows can be read, written, changed and deleted"), _creating(connection)]


def _statements(table: Table) -> Iterator[tuple[str, Executable]]:
    column = next(iter(table.columns))
    yield "SELECT", select(column).where(false())
    yield "INSERT", insert(table).from_select(list(table.columns), select(*table.columns).where(false()))
    yield "UPDATE", update(table).where(false()).values({column.name: column})
    yield "DELETE", delete(table).where(false())


def _tried(connection: Connection, statement: Executable) -> DBAPIError | None:
    try:
        if connection.dialect.name == "sqlite":
            connection.execute(statement)
            return None
        # A refused statement ends the transaction on PostgreSQL, unless it is in a savepoint.
        with connection.begin_nested() as savepoint:
            connection.execute(statement)
            savepoint.rollback()
    except DBAPIError as failure:
        return failure
    return None


def _creating(connection: Connection) -> Check:
    """Whether the user may make tables, which only migrations need."""
    name, may = "DDL", True
    match connection.dialect.name:
        case "postgresql":
            may = bool(connection.scalar(text("SELECT has_schema_privilege(current_schema(), 'CREATE')")))
        case "mysql" | "mariadb":
            grants = [str(row[0]).upper() for row in connection.execute(text("SHOW GRANTS"))]
            may = any("ALL PRIVILEGES" in grant or _grants_create(grant) for grant in grants)
        case _:
            pass
    told: Any = "this user may create tables" if may else "this user may not create tables: migrate as another one"
    return ok(name, told)


def _grants_create(grant: str) -> bool:
    given = grant.removeprefix("GRANT ").partition(" ON ")[0]
    return "CREATE" in [word.strip() for word in given.split(",")]
