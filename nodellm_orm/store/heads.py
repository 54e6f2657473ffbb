"""Chats outside a turn: creating one, saving its head, adding messages from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, literal, select

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.journal import ANY_OWNER, MessageAdded, Outdated
from nodellm_orm.store.absent import insert_absent
from nodellm_orm.store.attachments import attachment_rows, blob_rows
from nodellm_orm.store.begin import head_values
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.entries import insert_dated, insert_plain, send
from nodellm_orm.store.guard import (
    CACHED,
    busy,
    chat_parameters,
    executed,
    found,
    of_chat,
    state_of,
    touch,
)
from nodellm_orm.store.mapping import head_of, head_row, message_row, thinking_rows
from nodellm_orm.store.reading import load
from nodellm_orm.store.records import RECORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Insert, Select, Table, Update

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.journal import ChatHead, Snapshot
    from nodellm_orm.store.define import Tables


_OURS = frozenset(column.name for column in RECORDS.tables.chats.c)
"""Columns of a chat that every set of records has."""


def further_values(chats: Table, values: Mapping[str, object]) -> dict[str, object]:
    """Values for the columns that a host has added.

    Args:
        chats: the table.
        values: by column.

    Raises:
        ConfigurationError: for a column that there is not, and for one of ours.
    """
    added = sorted({column.name for column in chats.c} - _OURS)
    if unknown := sorted(values.keys() - set(added)):
        known = ", ".join(added) or "none; define_records(chat=...) adds some"
        msg = (
            f"values are for columns that you added to the chats, and {', '.join(unknown)} is none; there are: {known}"
        )
        raise ConfigurationError(msg)
    return dict(values)


def create(
    connection: Connection,
    tables: Tables,
    head: ChatHead,
    messages: Sequence[tuple[UUID, Message]],
    further: Mapping[str, object],
) -> Snapshot:
    """Store a new chat.

    Args:
        connection: in a transaction.
        tables: where to.
        head: the chat.
        messages: what it begins with.
        further: values of the host's own columns.

    Raises:
        IntegrityError: the id is taken.
    """
    row = {**further, "id": head.id, "owner": head.owner, "next_position": len(messages), **head_row(head)}
    send(connection, _insert_chat(tables.chats), [row])
    _add(connection, tables, head, 0, messages)
    return load(connection, tables, head.id, head.owner)


def exists(connection: Connection, tables: Tables, chat_id: UUID) -> bool:
    """Whether there is a chat of that id, whoever owns it."""
    return connection.execute(_exists(tables.chats), {"b_chat": chat_id}).first() is not None


def save(connection: Connection, tables: Tables, head: ChatHead) -> ChatHead:
    """Save a chat's head.

    Raises:
        ChatNotFoundError: no such chat for its owner.
        Outdated: the head was changed since its version.
    """
    values = {f"b_head_{name}": value for name, value in head_row(head).items()}
    key = {**chat_parameters(head.id, head.owner), "b_version": head.version}
    if not executed(connection, _save(tables.chats), {**key, **values}):
        found(state_of(connection, tables.chats, head.id, head.owner), head.id)
        raise Outdated
    row = connection.execute(_stamps(tables.chats), {"b_chat": head.id}).one()
    return replace(head, version=row.version, created_at=row.created_at, updated_at=row.updated_at)


def saved(connection: Connection, tables: Tables, head: ChatHead) -> ChatHead | None:
    """The head as stored, if it is what saving this one would have made of it."""
    key = chat_parameters(head.id, head.owner)
    row = connection.execute(_head(tables.chats), key).mappings().first()
    stored = None if row is None else head_of(row)
    if stored is None or stored.version != head.version + 1 or head_row(stored) != head_row(head):
        return None
    return stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Messages from elsewhere about to be added to a chat."""

    tables: Tables
    head: ChatHead
    fence: int
    messages: Sequence[tuple[UUID, Message]]

    def __call__(self, connection: Connection) -> Snapshot:
        """Add them.

        Raises:
            ChatNotFoundError, ChatBusyError, Outdated: see `Journal.append`; nothing is written.
        """
        chats, head = self.tables.chats, self.head
        key = chat_parameters(head.id, head.owner)
        added = {"b_fence": self.fence, "b_count": len(self.messages)}
        if not executed(connection, _grow(chats), {**key, **added}):
            state = found(state_of(connection, chats, head.id, head.owner), head.id)
            if state.active_turn_id is not None:
                raise busy(head.id, state.active_turn_id, state.lease_until)
            raise Outdated
        after = connection.scalar(_next_position(chats), {"b_chat": head.id})
        _add(connection, self.tables, head, after - len(self.messages), self.messages)
        return load(connection, self.tables, head.id, head.owner)

    def confirm(self, connection: Connection) -> Snapshot | None:
        """The chat, if the messages have been added after all."""
        snapshot = load(connection, self.tables, self.head.id, self.head.owner)
        return snapshot if {key for key, _ in self.messages} & set(snapshot.message_ids) else None


def _add(
    connection: Connection, tables: Tables, head: ChatHead, first: int, messages: Sequence[tuple[UUID, Message]]
) -> None:
    placed = [
        MessageAdded(id=key, message=replace(message, position=position))
        for position, (key, message) in enumerate(messages, first)
    ]
    rows = [message_row(head.id, None, entry.id, entry.message) for entry in placed]
    thinking = [row for entry in placed for row in thinking_rows(head.id, entry)]
    attachments = [row for entry in placed for row in attachment_rows(head.id, entry.id, entry.message)]
    blobs = blob_rows(head.owner, (entry.message for entry in placed))
    send(connection, insert_dated(tables.messages), rows)
    send(connection, insert_plain(tables.thinking), thinking)
    send(connection, insert_plain(tables.attachments), attachments)
    send(connection, insert_absent(connection.dialect.name, tables.blobs), blobs)


@lru_cache(maxsize=CACHED)
def _insert_chat(chats: Table) -> Insert:
    return insert(chats).values(created_at=DatabaseNow(), updated_at=DatabaseNow())


@lru_cache(maxsize=CACHED)
def _exists(chats: Table) -> Select[Any]:
    return select(chats.c.id).where(*of_chat(chats, ANY_OWNER))


@lru_cache(maxsize=CACHED)
def _save(chats: Table) -> Update:
    unchanged = chats.c.version == bindparam("b_version")
    return touch(chats).where(*of_chat(chats, None), unchanged).values(head_values(chats))


@lru_cache(maxsize=CACHED)
def _head(chats: Table) -> Select[Any]:
    return select(chats).where(*of_chat(chats, None))


@lru_cache(maxsize=CACHED)
def _stamps(chats: Table) -> Select[Any]:
    return select(chats.c.version, chats.c.created_at, chats.c.updated_at).where(*of_chat(chats, ANY_OWNER))


@lru_cache(maxsize=CACHED)
def _grow(chats: Table) -> Update:
    return (
        touch(chats)
        .where(*of_chat(chats, None), chats.c.active_turn_id.is_(None), chats.c.fence == bindparam("b_fence"))
        .values(
            fence=chats.c.fence + 1,
            step=literal(0),
            next_position=chats.c.next_position + bindparam("b_count", type_=chats.c.next_position.type),
        )
    )


@lru_cache(maxsize=CACHED)
def _next_position(chats: Table) -> Select[Any]:
    return select(chats.c.next_position).where(*of_chat(chats, ANY_OWNER))
