"""Marks on hours of the ledger whose sums in the roll-up are out of date, and the row that those lock who write to it.

Whoever changes or adds a row of the ledger that is not young any more marks its hour in the same transaction. What is
young, less than a quarter of an hour old by the database's clock at the statement that writes it, needs no mark:
`refresh_rollup` adds no hour up before every row of it is at least twice as old, and before every transaction that
might have written to it when it was young has ended (`reporting.underway`). So a turn pays nothing.

A mark is a row of its own: markers do not wait for each other, nor for whoever adds up. He deletes the marks that he
sees, and reads the ledger afterwards; a mark that he does not see stays, and its hour is read from the ledger.
"""

from __future__ import annotations

import secrets
from datetime import UTC
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Double, insert, literal, select, update
from sqlalchemy.dialects import mysql, postgresql, sqlite

from nodellm_orm.store.clock import DatabaseLater
from nodellm_orm.store.guard import CACHED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy import Connection, Insert, Table, Update

    from nodellm_orm.store.define import Tables

YOUNG: Final = 900.0
"""Seconds for which a row of the ledger may be changed without a word."""
_ROW: Final = {"name": "hours"}
"""The only row of the table that tells how far the roll-up is."""


def young(requests: Table) -> ColumnElement[bool]:
    """Whether a row of the ledger is young, by the database's clock at this very statement.

    Args:
        requests: the ledger.
    """
    return requests.c.created_at > DatabaseLater(literal(-YOUNG, Double()))


def hour_of(moment: datetime) -> datetime:
    """The hour that a moment is in.

    Args:
        moment: with its zone.
    """
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def mark(connection: Connection, tables: Tables, moments: Iterable[datetime]) -> None:
    """Mark the hours of some moments.

    Args:
        connection: in the transaction that changes or adds the rows.
        tables: the records' tables.
        moments: when the rows were made.
    """
    hours = sorted({hour_of(moment) for moment in moments})
    if hours:
        connection.execute(
            _insert(tables.usage_stale), [{"hour": hour, "id": UUID(bytes=secrets.token_bytes(16))} for hour in hours]
        )


def mark_old(connection: Connection, tables: Tables, rows: ColumnElement[bool], parameters: dict[str, Any]) -> None:
    """Mark the hours of those rows that are not young any more, after they were changed.

    Args:
        connection: in the transaction that has changed them.
        tables: the records' tables.
        rows: the condition for them; some more do no harm.
        parameters: of the condition.
    """
    requests = tables.requests
    old = select(requests.c.created_at).where(rows, ~young(requests))
    mark(connection, tables, connection.scalars(old, parameters).all())


def hold(connection: Connection, tables: Tables) -> datetime | None:
    """Be the only one who writes to the roll-up until the transaction ends.

    Args:
        connection: in a transaction.
        tables: the records' tables.

    Returns:
        Until when hours have been added up.
    """
    rollup = tables.usage_rollup
    if not connection.execute(_lock(rollup)).rowcount:
        connection.execute(_insert_absent(connection.dialect.name, rollup), _ROW)
        connection.execute(_lock(rollup))
    until: datetime | None = connection.scalar(select(rollup.c.added_until))
    return until


@lru_cache(maxsize=CACHED)
def _insert(stale: Table) -> Insert:
    return insert(stale)


@lru_cache(maxsize=CACHED)
def _lock(rollup: Table) -> Update:
    return update(rollup).values(added_until=rollup.c.added_until)


@lru_cache(maxsize=CACHED)
def _insert_absent(dialect: str, rollup: Table) -> Insert:
    if dialect == "postgresql":
        return postgresql.insert(rollup).on_conflict_do_nothing()
    if dialect == "sqlite":
        return sqlite.insert(rollup).on_conflict_do_nothing()
    # INSERT IGNORE would also turn values that do not fit into warnings.
    return mysql.insert(rollup).on_duplicate_key_update(added_until=rollup.c.added_until)
