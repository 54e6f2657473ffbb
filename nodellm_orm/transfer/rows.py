"""Which chats and ledger rows are meant, by the page, and the view in which they are read."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, func, or_, select

from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.guard import CACHED, there

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, Select, Table

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Tables

    Fields = dict[str, Any]
    """A row's values by column."""

PAGE: Final = 250
"""Rows that are read at once."""
STATE: Final = ("fence", "step", "version", "next_position", "active_turn_id", "updated_at")
"""What changes of a chat's row with everything that is written in the chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which chats and ledger rows are meant.

    Args:
        owner: whose.
        since: used at this time or later; ledger rows: made then.
        until: used before this time; ledger rows: made then.
    """

    owner: Owner
    since: datetime | None = None
    until: datetime | None = None

    @property
    def _shape(self) -> _Shape:
        return _Shape(self.owner is ANY_OWNER, self.since is not None, self.until is not None)

    @property
    def _parameters(self) -> Fields:
        given = {"b_since": self.since, "b_until": self.until}
        owned = {} if self.owner is ANY_OWNER else {"b_owner": self.owner}
        return owned | {name: value for name, value in given.items() if value is not None}

    def count(self, connection: Connection, tables: Tables) -> int:
        """How many chats are meant."""
        return int(connection.execute(_count(tables.chats, self._shape), self._parameters).scalar_one())

    def page(self, connection: Connection, tables: Tables, after: UUID | None) -> Sequence[tuple[UUID, int]]:
        """Ids of chats in their order, with the number of their messages.

        Args:
            connection: where.
            tables: the records' tables.
            after: the last id of the page before.
        """
        statement = _ids(tables.chats, self._shape, placed=after is not None)
        place = {} if after is None else {"b_after": after}
        rows = connection.execute(statement, {**self._parameters, **place, "b_limit": PAGE})
        return [(row.id, row.next_position) for row in rows]

    def ledger(
        self, connection: Connection, tables: Tables, names: tuple[str, ...], after: UUID | None, *, every: bool = False
    ) -> list[Fields]:
        """A page of ledger rows that belong to no chat, or to none that is still there.

        Args:
            connection: where.
            tables: the records' tables.
            names: the columns.
            after: the last id of the page before.
            every: also those of chats.
        """
        statement = _ledger(tables.requests, tables.chats, names, self._shape, placed=after is not None, every=every)
        place = {} if after is None else {"b_after": after}
        rows = connection.execute(statement, {**self._parameters, **place, "b_limit": PAGE})
        return [dict(row) for row in rows.mappings()]


@dataclass(frozen=True, slots=True)
class _Shape:
    """Which conditions a statement has."""

    any_owner: bool
    since: bool
    until: bool


@contextmanager
def one_view(connection: Connection) -> Iterator[bool]:
    """See the database as it is now until the end of the block, where the connection is in no transaction yet.

    Args:
        connection: where.

    Yields:
        Whether that is so; otherwise each statement sees what is committed by then.
    """
    if connection.in_transaction() or connection.in_nested_transaction():
        yield False
        return
    name = connection.dialect.name
    if name == "sqlite":
        driver: Any = connection.connection.driver_connection
        if driver.in_transaction:
            yield False
            return
        connection.exec_driver_sql("BEGIN")
    elif name in {"postgresql", "mysql", "mariadb"}:
        connection.execution_options(isolation_level="REPEATABLE READ")
    else:
        yield False
        return
    try:
        yield True
    finally:
        connection.rollback()


def sizes(connection: Connection, tables: Tables, ids: Sequence[UUID], owner: Owner) -> Mapping[UUID, int]:
    """How many messages chats have; those that are not there for an owner are left out.

    Args:
        connection: where.
        tables: the records' tables.
        ids: the chats.
        owner: whose.
    """
    statement = _sizes(tables.chats, any_owner=owner is ANY_OWNER)
    owned = {} if owner is ANY_OWNER else {"b_owner": owner}
    found: dict[UUID, int] = {}
    for start in range(0, len(ids), PAGE):
        rows = connection.execute(statement, {**owned, "b_ids": ids[start : start + PAGE]})
        found |= {row.id: row.next_position for row in rows}
    return found


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


def _conditions(owner: ColumnElement[Any], moment: ColumnElement[Any], shape: _Shape) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if not shape.any_owner:
        conditions.append(owner.is_not_distinct_from(bindparam("b_owner", type_=owner.type)))
    if shape.since:
        conditions.append(moment >= bindparam("b_since", type_=moment.type))
    if shape.until:
        conditions.append(moment < bindparam("b_until", type_=moment.type))
    return conditions


@lru_cache(maxsize=CACHED)
def _count(chats: Table, shape: _Shape) -> Select[Any]:
    return select(func.count()).select_from(chats).where(there(chats), *_used(chats, shape))


def _used(chats: Table, shape: _Shape) -> list[ColumnElement[bool]]:
    return _conditions(chats.c.owner, chats.c.updated_at, shape)


@lru_cache(maxsize=CACHED)
def _ids(chats: Table, shape: _Shape, *, placed: bool) -> Select[Any]:
    conditions = [there(chats), *_used(chats, shape)]
    if placed:
        conditions.append(chats.c.id > bindparam("b_after", type_=chats.c.id.type))
    ids = select(chats.c.id, chats.c.next_position).where(*conditions)
    return ids.order_by(chats.c.id).limit(bindparam("b_limit"))


@lru_cache(maxsize=CACHED)
def _sizes(chats: Table, *, any_owner: bool) -> Select[Any]:
    among = chats.c.id.in_(bindparam("b_ids", expanding=True, type_=chats.c.id.type))
    owned = _conditions(chats.c.owner, chats.c.updated_at, _Shape(any_owner, since=False, until=False))
    return select(chats.c.id, chats.c.next_position).where(among, there(chats), *owned)


@lru_cache(maxsize=CACHED)
def _ledger(
    requests: Table, chats: Table, names: tuple[str, ...], shape: _Shape, *, placed: bool, every: bool
) -> Select[Any]:
    conditions = _conditions(requests.c.owner, requests.c.created_at, shape)
    if placed:
        conditions.append(requests.c.id > bindparam("b_after", type_=requests.c.id.type))
    if not every:
        of = select(chats.c.id).where(chats.c.id == requests.c.chat_id, there(chats)).exists()
        conditions.append(or_(requests.c.chat_id.is_(None), and_(requests.c.chat_id.is_not(None), ~of)))
    columns = [requests.c[name] for name in names]
    return select(*columns).where(*conditions).order_by(requests.c.id).limit(bindparam("b_limit"))
