"""The end of a chat: its content goes in short transactions, its ledger rows stay.

The first transaction takes the chat away from everybody, its worker included: it holds itself from then on (see
`guard.there`), nothing finds it, and its open attempts are unknown. An ordinary chat is gone with that transaction. Of
a long one the rows go batch by batch, the chat's own row last: whatever ends the process in between leaves a chat that
is as old as can be, so that the next deletion, and every purge, finishes it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, delete, null, or_, select, update
from sqlalchemy.exc import IntegrityError

from nodellm_orm.errors import ChatError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.closing import lose_attempts
from nodellm_orm.store.guard import CACHED, chat_parameters, executed, row_of, there
from nodellm_orm.store.referrers import referrers
from nodellm_orm.store.unreferenced import release_blobs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, Delete, Select, Table, Update

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Tables

BATCH: Final = 1000
"""Rows that one transaction deletes, unless said otherwise; far below every database's limit of parameters."""
LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When a chat was last used whose deletion has begun: whoever looks for old chats finds it first."""
_CHILDREN: Final = ("tool_calls", "thinking", "attachments", "messages", "turns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """How many rows have been deleted."""

    chats: int = 0
    turns: int = 0
    messages: int = 0
    tool_calls: int = 0
    thinking: int = 0
    attachments: int = 0
    blobs: int = 0

    def __add__(self, other: Removed) -> Removed:
        """Both together."""
        names = [field.name for field in fields(Removed)]
        return Removed(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(slots=True, kw_only=True)
class Removal:
    """One transaction of a deletion: it may be run again, and what is gone already is not missed.

    Args:
        tables: the records' tables.
        chat_id: the chat.
        owner: whose.
        batch: rows at most.
        first: whether it is the deletion's first: then what the chat's worker left open is closed, too.
        unused_since: only if the chat has not been used since, and no worker has it.
    """

    tables: Tables
    chat_id: UUID
    owner: Owner
    batch: int
    first: bool
    unused_since: datetime | None = None
    _done: Removed | None = None
    """What an earlier attempt has deleted, the chat's own row included, if it was committed."""

    def __call__(self, connection: Connection) -> Removed | None:
        """Delete up to ``batch`` rows.

        Returns:
            What was deleted; ``None`` when there is no such chat, or not one to be deleted.

        Raises:
            ChatError: rows of the host refer to the chat; nothing is deleted.
            ReferencedError: likewise, noticed by the database.
        """
        chats = self.tables.chats
        key = chat_parameters(self.chat_id, self.owner)
        claim = _claim(chats, any_owner=self.owner is ANY_OWNER, unused=self.unused_since is not None)
        if not executed(connection, claim, {**key, "b_since": self.unused_since}):
            return None
        if self.first:
            lose_attempts(connection, self.tables, self.chat_id)
        removed, left = self._children(connection)
        if left:
            if self.first and (names := referrers(connection, self.tables, self.chat_id)):
                raise referred(self.chat_id, names)
            return removed
        try:
            gone = connection.execute(_remove_chat(chats), {"b_chat": self.chat_id}).rowcount
        except IntegrityError as error:
            raise ReferencedError from error
        self._done = removed + Removed(chats=gone)
        return self._done

    def confirm(self, connection: Connection) -> Removed | None:
        """What an earlier attempt has deleted, if it was the last that there was to do, and was committed."""
        if self._done is None:
            return None
        key = chat_parameters(self.chat_id, ANY_OWNER)
        still = connection.execute(_owner_of(self.tables.chats), key).first() is not None
        return None if still else self._done

    def _children(self, connection: Connection) -> tuple[Removed, bool]:
        """Delete rows of the chat; says whether some may be left."""
        counts: dict[str, int] = {}
        room = self.batch
        for name in _CHILDREN:
            table: Table = getattr(self.tables, name)
            rows = connection.execute(_some(table), {"b_chat": self.chat_id, "b_limit": room}).all()
            if rows:
                connection.execute(_remove(table), {"b_chat": self.chat_id, "b_ids": [row.id for row in rows]})
                counts[name] = len(rows)
                room -= len(rows)
            if rows and name == "attachments":
                counts["blobs"] = self._release(connection, {row.sha256 for row in rows} - {None})
            if not room:
                return Removed(**counts), True
        return Removed(**counts), False

    def _release(self, connection: Connection, digests: set[str]) -> int:
        owner = connection.scalar(_owner_of(self.tables.chats), chat_parameters(self.chat_id, ANY_OWNER))
        return release_blobs(connection, self.tables, owner, digests)


class ReferencedError(Exception):
    """The database does not let a chat go, because rows of the host refer to it."""


async def remove(
    access: Access,
    tables: Tables,
    chat_id: UUID,
    owner: Owner,
    *,
    batch: int = BATCH,
    unused_since: datetime | None = None,
    told: Callable[[Removed], Awaitable[None]] | None = None,
) -> Removed:
    """Delete a chat with everything in it; its ledger rows stay.

    Args:
        access: the database.
        tables: the records' tables.
        chat_id: the chat.
        owner: whose.
        batch: rows a transaction.
        unused_since: only if it has not been used since, and no worker has it.
        told: told of each transaction.

    Returns:
        What was deleted: ``chats`` is 0 when there was none, or when somebody else was faster.

    Raises:
        ChatError: rows of the host refer to the chat; a chat of which nothing was deleted before is as it was.
    """
    total, first = Removed(), True
    while True:
        step = Removal(tables=tables, chat_id=chat_id, owner=owner, batch=batch, first=first, unused_since=unused_since)
        try:
            removed = await access.run(step, confirm=step.confirm)
        except ReferencedError as error:
            names = await access.read(lambda connection: referrers(connection, tables, chat_id))
            raise referred(chat_id, names) from error.__cause__
        if removed is None:
            return total
        total += removed
        if told is not None:
            await told(removed)
        if removed.chats:
            return total
        first = False


def is_stored(connection: Connection, tables: Tables, chat_id: UUID, owner: Owner) -> bool:
    """Whether there is something to delete: a chat of this owner, also one whose deletion was broken off.

    Args:
        connection: where.
        tables: the records' tables.
        chat_id: the chat.
        owner: whose.
    """
    row = select(tables.chats.c.id).where(*row_of(tables.chats, owner))
    return connection.execute(row, chat_parameters(chat_id, owner)).first() is not None


def referred(chat_id: UUID, names: Sequence[str]) -> ChatError:
    """The error for a chat that rows of the host refer to.

    Args:
        chat_id: the chat.
        names: the tables, as far as they are known.
    """
    where = ", ".join(names) or "another table"
    msg = (
        f"chat {chat_id} cannot be deleted: rows of {where} refer to it; delete them first, or declare that foreign "
        "key with ON DELETE CASCADE or ON DELETE SET NULL"
    )
    return ChatError(msg)


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


def idle(chats: Table) -> ColumnElement[bool]:
    """The condition that no worker has a chat, or only one that is gone.

    Args:
        chats: the table.
    """
    return or_(chats.c.active_turn_id.is_(None), chats.c.lease_until < DatabaseNow(), ~there(chats))


@lru_cache(maxsize=CACHED)
def _claim(chats: Table, *, any_owner: bool, unused: bool) -> Update:
    conditions = row_of(chats, ANY_OWNER if any_owner else None)
    if unused:
        since = bindparam("b_since", type_=chats.c.updated_at.type)
        conditions.append(and_(chats.c.updated_at < since, idle(chats)))
    return (
        update(chats)
        .where(*conditions)
        .values(
            active_turn_id=chats.c.id,
            lease_owner=null(),
            lease_until=null(),
            fence=chats.c.fence + 1,
            title=null(),
            instructions="[]",
            settings="{}",
            metadata={},
            created_at=LONG_AGO,
            updated_at=LONG_AGO,
        )
    )


@lru_cache(maxsize=CACHED)
def _owner_of(chats: Table) -> Select[Any]:
    return select(chats.c.owner).where(*row_of(chats, ANY_OWNER))


@lru_cache(maxsize=CACHED)
def _some(table: Table) -> Select[Any]:
    columns = [table.c.id, table.c.sha256] if "sha256" in table.c else [table.c.id]
    return select(*columns).where(table.c.chat_id == bindparam("b_chat")).limit(bindparam("b_limit"))


@lru_cache(maxsize=CACHED)
def _remove(table: Table) -> Delete:
    ids = bindparam("b_ids", expanding=True, type_=table.c.id.type)
    return delete(table).where(table.c.chat_id == bindparam("b_chat"), table.c.id.in_(ids))


@lru_cache(maxsize=CACHED)
def _remove_chat(chats: Table) -> Delete:
    return delete(chats).where(*row_of(chats, ANY_OWNER), ~there(chats))
