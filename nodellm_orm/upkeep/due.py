"""Which chats a purge is about: old enough and idle, or an owner's, oldest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import and_, func, or_, select

from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.deletion import idle

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, Table

    from nodellm_orm.ports.owners import Owner

    Place: TypeAlias = tuple[datetime, UUID]
    """Where a chat stands in the order in which they are deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is to be deleted."""

    owner: Owner
    before: datetime | None
    """Only chats last used before; ``None``: all of the owner's, whatever goes on in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueChat:
    """A chat to be deleted."""

    id: UUID
    owner: str | None
    created_at: datetime

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.created_at, self.id


def read_now(connection: Connection) -> datetime:
    """The time by the database's clock."""
    return connection.execute(select(DatabaseNow())).scalar_one()


def due_chats(connection: Connection, chats: Table, due: Due, after: Place | None, limit: int) -> list[DueChat]:
    """The next chats to be deleted, those first whose deletion has begun.

    Args:
        connection: where.
        chats: the table.
        due: which.
        after: the last one that was seen.
        limit: chats at most.
    """
    # No chat is younger than its last use: the index on created_at leaves out those that cannot be meant.
    found = select(chats.c.id, chats.c.owner, chats.c.created_at).where(*_conditions(chats, due))
    if after is not None:
        created, chat_id = chats.c.created_at, chats.c.id
        found = found.where(or_(created > after[0], and_(created == after[0], chat_id > after[1])))
    rows = connection.execute(found.order_by(chats.c.created_at, chats.c.id).limit(limit)).mappings()
    return [DueChat(**row) for row in rows]


def count_due(connection: Connection, chats: Table, due: Due) -> int:
    """How many chats are to be deleted."""
    return connection.execute(select(func.count()).select_from(chats).where(*_conditions(chats, due))).scalar_one()


def _conditions(chats: Table, due: Due) -> list[ColumnElement[bool]]:
    conditions: list[Any] = [] if due.owner is ANY_OWNER else [chats.c.owner.is_not_distinct_from(due.owner)]
    if due.before is not None:
        conditions += [chats.c.created_at < due.before, chats.c.updated_at < due.before, idle(chats)]
    return conditions
