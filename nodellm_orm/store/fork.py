"""A branch of a chat: its row and a copy of the parent's, one INSERT … SELECT a table, however long the chat is.

Nothing of the parent is locked. Its fence and step are compared before the first row is copied and after the last:
if neither has moved, the copies are of one moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, insert, null, select

from nodellm_orm.ports.branches import branch_of
from nodellm_orm.ports.entries import CallAnswered, CallFinished, MessageAdded
from nodellm_orm.ports.ownership import Outdated
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.entries import Scope, apply
from nodellm_orm.store.guard import CACHED, chat_parameters, found, of_chat, state_of
from nodellm_orm.store.heads import add_messages, added_columns
from nodellm_orm.store.mapping import head_row
from nodellm_orm.store.reading import load
from nodellm_orm.store.sizes import check_sizes
from nodellm_orm.store.unreferenced import hold_blobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection, Insert, Table

    from nodellm_orm.ports.branches import Cut
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.states import ChatHead, Snapshot
    from nodellm_orm.store.define import Tables

_OWN: Final = (
    *("id", "owner", "next_position", "title", "model", "provider", "api", "instructions", "settings", "metadata"),
    *("parent_chat_id", "fork_position"),
)
"""Columns of the branch's row that are not the parent's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A branch about to be made: run it as a transaction, confirm it when its outcome is unknown."""

    tables: Tables
    head: ChatHead
    cut: Cut
    closing: Sequence[Entry]

    def __call__(self, connection: Connection) -> Snapshot:
        """Make the branch.

        Raises:
            ChatNotFoundError, Outdated: see `Journal.fork`; nothing is written.
            IntegrityError: the id is taken.
        """
        if not self._insert(connection):
            found(self._parent(connection), self.cut.chat_id)
            raise Outdated
        tables = self.tables
        copied = {"b_branch": self.head.id, "b_parent": self.cut.chat_id, "b_length": self.cut.length}
        connection.execute(_copy_messages(tables.messages), copied)
        for table in (tables.thinking, tables.tool_calls, tables.attachments):
            connection.execute(_copy_of_messages(table, tables.messages), copied)
        self._close(connection)
        hold_blobs(connection, tables, self.head.owner, self.head.id)
        state = self._parent(connection)
        if state is None or (state.fence, state.step) != (self.cut.fence, self.cut.step):
            raise Outdated
        return load(connection, tables, self.head.id, self.head.owner, None)

    def confirm(self, connection: Connection) -> Snapshot | None:
        """The branch, if it has been made after all."""
        if state_of(connection, self.tables.chats, self.head.id, self.head.owner) is None:
            return None
        return branch_of(load(connection, self.tables, self.head.id, self.head.owner, None), self.cut.chat_id)

    def _parent(self, connection: Connection) -> Any:
        return state_of(connection, self.tables.chats, self.cut.chat_id, self.cut.owner)

    @property
    def _results(self) -> list[MessageAdded]:
        return [entry for entry in self.closing if isinstance(entry, MessageAdded)]

    def _insert(self, connection: Connection) -> bool:
        """The branch's row, with what a host has added to the parent's; none if the parent has moved on."""
        head, tables = self.head, self.tables
        length = self.cut.length + len(self._results)
        row = {"id": head.id, "owner": head.owner, "next_position": length, **head_row(tables.keeping.head(head))}
        row = tables.sealer.sealed("chats", row, owner=head.owner, key=head.id)
        check_sizes(connection, [row])
        guard = {"b_fence": self.cut.fence, "b_step": self.cut.step}
        values = {f"n_{name}": value for name, value in row.items()}
        parameters = {**chat_parameters(self.cut.chat_id, self.cut.owner), **guard, **values}
        return connection.execute(_insert_branch(tables.chats), parameters).rowcount == 1

    def _close(self, connection: Connection) -> None:
        """Results for the calls that the parent has left open."""
        if not self.closing:
            return
        results = [(entry.id, entry.message) for entry in self._results]
        add_messages(connection, self.tables, self.head, self.cut.length, results)
        outcomes = [entry for entry in self.closing if isinstance(entry, CallFinished | CallAnswered)]
        # No turn of the branch has made these calls, and none is named by their outcomes.
        scope = Scope(chat_id=self.head.id, turn_id=self.cut.chat_id, owner=self.head.owner, labels={})
        apply(connection, self.tables, scope, outcomes)


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=CACHED)
def _insert_branch(chats: Table) -> Insert:
    own = {name: bindparam(f"n_{name}", type_=chats.c[name].type) for name in _OWN}
    hosts = {name: chats.c[name] for name in added_columns(chats) if _given(chats.c[name])}
    values = {**own, **hosts, "created_at": DatabaseNow(), "updated_at": DatabaseNow()}
    unmoved = and_(chats.c.fence == bindparam("b_fence"), chats.c.step == bindparam("b_step"))
    row = select(*values.values()).select_from(chats).where(*of_chat(chats, None), unmoved)
    return insert(chats).from_select(list(values), row).execution_options(preserve_rowcount=True)


@lru_cache(maxsize=CACHED)
def _copy_messages(messages: Table) -> Insert:
    values = {**_copied(messages), "turn_id": null()}
    kept = and_(messages.c.chat_id == bindparam("b_parent"), messages.c.position < bindparam("b_length"))
    return insert(messages).from_select(list(values), select(*values.values()).select_from(messages).where(kept))


@lru_cache(maxsize=CACHED)
def _copy_of_messages(table: Table, messages: Table) -> Insert:
    """What belongs to the messages that are copied."""
    values = _copied(table)
    joined = table.join(messages, and_(messages.c.chat_id == table.c.chat_id, messages.c.id == table.c.message_id))
    kept = and_(table.c.chat_id == bindparam("b_parent"), messages.c.position < bindparam("b_length"))
    return insert(table).from_select(list(values), select(*values.values()).select_from(joined).where(kept))


def _copied(table: Table) -> dict[str, ColumnElement[Any]]:
    """All columns as they are, a host's own among them; the chat is the branch."""
    columns: dict[str, ColumnElement[Any]] = {column.name: column for column in table.c if _given(column)}
    return {**columns, "chat_id": bindparam("b_branch", type_=table.c.chat_id.type)}


def _given(column: Any) -> bool:
    """Whether a column's values are given, not made by the database."""
    return column.computed is None and column.identity is None
