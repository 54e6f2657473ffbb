"""Chats outside a turn: creating one, saving its head, adding messages from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, insert, literal, select

from nodellm_orm.errors import ConfigurationError, StorageError
from nodellm_orm.ports.entries import MessageAdded
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.ownership import Outdated
from nodellm_orm.ports.refused import chat_busy
from nodellm_orm.store.absent import insert_absent
from nodellm_orm.store.attachments import attachment_rows, blob_rows
from nodellm_orm.store.begin import head_values
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.entries import insert_dated, insert_plain, send
from nodellm_orm.store.failures import code_of, translate
from nodellm_orm.store.guard import (
    CACHED,
    chat_parameters,
    executed,
    found,
    of_chat,
    row_of,
    state_of,
    touch,
)
from nodellm_orm.store.mapping import head_of, head_row, message_row, thinking_rows
from nodellm_orm.store.mixins import needs_value
from nodellm_orm.store.reading import load
from nodellm_orm.store.records import RECORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Insert, Select, Table, Update
    from sqlalchemy.exc import IntegrityError

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.errors import NodeLLMError
    from nodellm_orm.ports.states import ChatHead, Snapshot
    from nodellm_orm.store.define import Tables


_OURS = frozenset(column.name for column in RECORDS.tables.chats.c)
"""Columns of a chat that every set of records has."""


def added_columns(chats: Table) -> list[str]:
    """Names of the columns that a host has added to the chats, sorted."""
    return sorted({column.name for column in chats.c} - _OURS)


def further_values(chats: Table, values: Mapping[str, object]) -> dict[str, object]:
    """Values for the columns that a host has added.

    Args:
        chats: the table.
        values: by column.

    Raises:
        ConfigurationError: for a column that there is not, for one of ours, and for one that is missing.
    """
    added = added_columns(chats)
    if unknown := sorted(values.keys() - set(added)):
        known = ", ".join(added) or "none; define_records(chat=...) adds some"
        msg = (
            f"values are for columns that you added to the chats, and {', '.join(unknown)} is none; there are: {known}"
        )
        raise ConfigurationError(msg)
    required = [name for name in added if needs_value(chats.c[name])]
    if missing := [name for name in required if values.get(name) is None]:
        given = ", ".join(f'"{name}": …' for name in missing)
        msg = (
            f"{chats.name} needs a value for {', '.join(missing)}, which you added as NOT NULL and without a default; "
            f"pass values={{{given}}} when a chat is created"
        )
        raise ConfigurationError(msg)
    return dict(values)


def refused(chats: Table, error: IntegrityError) -> NodeLLMError:
    """The error for a chat whose row breaks a constraint, although its id is free: one of the host's own.

    Args:
        chats: the table.
        error: the database's.
    """
    added = added_columns(chats)
    if not added:
        return translate(error)
    msg = (
        f"a constraint of your own columns of {chats.name} ({', '.join(added)}) refused the chat: a row that one of "
        "them refers to is not there, or a value is taken or forbidden; nothing was stored, correct the values"
    )
    return StorageError(msg, details={"code": code_of(error)})


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
    kept = head_row(tables.keeping.head(head))
    row = {**further, "id": head.id, "owner": head.owner, "next_position": len(messages), **kept}
    send(connection, _insert_chat(tables.chats), [tables.sealer.sealed("chats", row, owner=head.owner, key=head.id)])
    add_messages(connection, tables, head, 0, messages)
    return tables.keeping.recalled(load(connection, tables, head.id, head.owner), head, messages)


def exists(connection: Connection, tables: Tables, chat_id: UUID) -> bool:
    """Whether there is a chat of that id, whoever owns it, and although it may be on its way out."""
    return connection.execute(_exists(tables.chats), {"b_chat": chat_id}).first() is not None


def save(connection: Connection, tables: Tables, head: ChatHead) -> ChatHead:
    """Save a chat's head.

    Raises:
        ChatNotFoundError: no such chat for its owner.
        Outdated: the head was changed since its version.
    """
    row = tables.sealer.sealed("chats", head_row(tables.keeping.head(head)), owner=head.owner, key=head.id)
    values = {f"b_head_{name}": value for name, value in row.items()}
    key = {**chat_parameters(head.id, head.owner), "b_version": head.version}
    if not executed(connection, _save(tables.chats), {**key, **values}):
        found(state_of(connection, tables.chats, head.id, head.owner), head.id)
        raise Outdated
    stamps = connection.execute(_stamps(tables.chats), {"b_chat": head.id}).one()
    return replace(head, version=stamps.version, created_at=stamps.created_at, updated_at=stamps.updated_at)


def saved(connection: Connection, tables: Tables, head: ChatHead) -> ChatHead | None:
    """The head as stored, if it is what saving this one would have made of it."""
    key = chat_parameters(head.id, head.owner)
    row = connection.execute(_head(tables.chats), key).mappings().first()
    stored = None if row is None else head_of(tables.sealer.opened("chats", row, owner=head.owner, key=head.id))
    kept = tables.keeping.head(head)
    if stored is None or stored.version != head.version + 1 or head_row(stored) != head_row(kept):
        return None
    return replace(stored, title=head.title, instructions=head.instructions)


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
                raise chat_busy(head.id, state.active_turn_id, state.lease_until)
            raise Outdated
        after = connection.scalar(_next_position(chats), {"b_chat": head.id})
        add_messages(connection, self.tables, head, after - len(self.messages), self.messages)
        return load(connection, self.tables, head.id, head.owner, None)

    def confirm(self, connection: Connection) -> Snapshot | None:
        """The chat, if the messages have been added after all."""
        snapshot = load(connection, self.tables, self.head.id, self.head.owner, None)
        return snapshot if {key for key, _ in self.messages} & set(snapshot.message_ids) else None


def add_messages(
    connection: Connection, tables: Tables, head: ChatHead, first: int, messages: Sequence[tuple[UUID, Message]]
) -> None:
    """Add messages that no turn has made.

    Args:
        connection: in a transaction.
        tables: where to.
        head: their chat.
        first: position of the first.
        messages: with their ids.
    """
    placed = [
        MessageAdded(id=key, message=tables.keeping.message(replace(message, position=position)))
        for position, (key, message) in enumerate(messages, first)
    ]
    rows = [message_row(head.id, None, entry.id, entry.message) for entry in placed]
    thinking = [row for entry in placed for row in thinking_rows(head.id, entry)]
    attachments = [row for entry in placed for row in attachment_rows(head.id, entry.id, entry.message)]
    sealer, owner = tables.sealer, head.owner
    blobs = blob_rows(owner, (entry.message for entry in placed), sealer)
    send(connection, insert_dated(tables.messages), sealer.sealed_rows("messages", rows, owner=owner))
    send(connection, insert_plain(tables.thinking), sealer.sealed_rows("thinking", thinking, owner=owner))
    send(connection, insert_plain(tables.attachments), sealer.sealed_rows("attachments", attachments, owner=owner))
    send(connection, insert_absent(connection.dialect.name, tables.blobs), blobs)


@lru_cache(maxsize=CACHED)
def _insert_chat(chats: Table) -> Insert:
    return insert(chats).values(created_at=DatabaseNow(), updated_at=DatabaseNow())


@lru_cache(maxsize=CACHED)
def _exists(chats: Table) -> Select[Any]:
    return select(chats.c.id).where(*row_of(chats, ANY_OWNER))


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
