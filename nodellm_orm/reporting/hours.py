"""Transactions that add up an hour of the ledger: the next one, or one that was marked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, delete, func, insert, select, update

from nodellm_orm.reporting.functions import Total
from nodellm_orm.reporting.keys import model_of
from nodellm_orm.reporting.statement import TOKENS
from nodellm_orm.reporting.underway import refuse_locked
from nodellm_orm.store.guard import CACHED
from nodellm_orm.store.stale import hold, hour_of, mark
from nodellm_orm.store.types import ValueRefusedError
from nodellm_orm.store.usage_columns import EACH_OWNER, EVERYBODY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Delete, Select, Table

    from nodellm_orm.store.define import Tables
    from nodellm_orm.store.usage_columns import Scope

HOUR: Final = timedelta(hours=1)
_BATCH: Final = 500
"""Rows that are sent at once."""
_GROUP: Final = ("owner", "provider", "model", "operation", "status")
_SUMS: Final = ("requests", "unpriced", *TOKENS, "cost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a transaction has come to."""

    until: datetime
    """Until when hours have been added up."""
    added: bool
    """Whether it has added one, or found that there was nothing."""


def add_next(connection: Connection, tables: Tables, until: datetime) -> Step:
    """Add up the first hour, behind those that have been, in which there is anything.

    Args:
        connection: in a transaction.
        tables: the records' tables.
        until: how far at most; a whole hour.

    Raises:
        UnderWayError: somebody's transaction has written to that hour, and has not ended.
    """
    done = hold(connection, tables)
    if done is not None and done >= until:
        return Step(until=done, added=False)
    first = _first(connection, tables.requests, done, until)
    upper = until if first is None else hour_of(first) + HOUR
    refuse_locked(connection, tables.requests, done, upper)
    first = _first(connection, tables.requests, done, upper)  # one that is older may have come meanwhile
    if first is not None:
        upper = hour_of(first) + HOUR
        _add(connection, tables, hour_of(first))
    connection.execute(update(tables.usage_rollup).values(added_until=upper))
    return Step(until=upper, added=first is not None)


def correct(connection: Connection, tables: Tables, hour: datetime) -> bool:
    """Add up an hour again, unless somebody else has meanwhile.

    Args:
        connection: in a transaction.
        tables: the records' tables.
        hour: one that is marked.

    Returns:
        Whether its sums are those of the ledger now.
    """
    hold(connection, tables)
    marked = select(tables.usage_stale.c.id).where(tables.usage_stale.c.hour == hour).limit(1)
    return connection.scalar(marked) is not None and _add(connection, tables, hour)


def _first(connection: Connection, requests: Table, since: datetime | None, until: datetime) -> datetime | None:
    """When the first request of a time was made."""
    created = requests.c.created_at
    when = [created < until] if since is None else [created >= since, created < until]
    found: datetime | None = connection.scalar(select(func.min(created)).where(*when))
    return found


def _add(connection: Connection, tables: Tables, hour: datetime) -> bool:
    """Put the ledger's sums in the place of those that there are; says whether they could be kept."""
    # The marks first: what is marked from here on is not among them, and stays marked.
    stale, sums = tables.usage_stale, tables.usage_hours
    marks = connection.scalars(select(stale.c.id).where(stale.c.hour == hour)).all()
    for ids in _batches(marks):
        connection.execute(_delete_marks(stale), {"b_hour": hour, "b_ids": ids})
    connection.execute(_delete_sums(sums), {"b_hour": hour})
    groups = [dict(row) for row in connection.execute(_groups(tables.requests), _limits(hour)).mappings()]
    try:
        for rows in _batches([*_rows(EVERYBODY, hour, _joined(groups)), *_rows(EACH_OWNER, hour, groups)]):
            connection.execute(insert(sums), rows)
    except ValueRefusedError:
        # A sum that no column holds: the hour remains one that is read from the ledger.
        connection.execute(_delete_sums(sums), {"b_hour": hour})
        mark(connection, tables, [hour])
        return False
    return True


def _limits(hour: datetime) -> dict[str, Any]:
    return {"b_hour": hour, "b_end": hour + HOUR}


def _joined(groups: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sums over all owners."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for group in groups:
        key = tuple(group[name] for name in _GROUP[1:])
        known = found.setdefault(key, {**group, "owner": None, **dict.fromkeys(_SUMS)})
        for name in _SUMS:
            if group[name] is not None:
                known[name] = group[name] if known[name] is None else known[name] + group[name]
    return [*found.values()]


def _rows(scope: Scope, hour: datetime, groups: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for group in groups:
        # Texts may have halves of characters in them, which only their representation tells apart.
        named = ascii([group[name] for name in _GROUP])
        yield {"scope": scope, "hour": hour, "digest": hashlib.sha256(named.encode()).hexdigest(), **group}


def _batches(rows: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(rows), _BATCH):
        yield list(rows[start : start + _BATCH])


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=CACHED)
def _groups(requests: Table) -> Select[Any]:
    r = requests.c
    created = r.created_at
    model = model_of(requests).label("model")
    groups = [r.owner, r.provider, model, r.operation, r.status]
    return (
        select(
            *groups,
            func.count().label("requests"),
            (func.count() - func.count(r.cost)).label("unpriced"),
            *(Total(r[name]).label(name) for name in TOKENS),
            Total(r.cost, money=True).label("cost"),
        )
        .where(created >= bindparam("b_hour", type_=created.type), created < bindparam("b_end", type_=created.type))
        .group_by(r.owner, r.provider, model_of(requests), r.operation, r.status)
    )


@lru_cache(maxsize=CACHED)
def _delete_marks(stale: Table) -> Delete:
    ids = bindparam("b_ids", expanding=True, type_=stale.c.id.type)
    return delete(stale).where(stale.c.hour == bindparam("b_hour"), stale.c.id.in_(ids))


@lru_cache(maxsize=CACHED)
def _delete_sums(sums: Table) -> Delete:
    return delete(sums).where(sums.c.scope.in_((EVERYBODY, EACH_OWNER)), sums.c.hour == bindparam("b_hour"))
