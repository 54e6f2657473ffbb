"""Entries of a durable point as rows: at most one statement for each kind of entry."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, assert_never

from sqlalchemy import Integer, bindparam, case, delete, insert, null, update

from nodellm_orm.ports.entries import (
    AttemptClosed,
    AttemptOpened,
    CallAnswered,
    CallFinished,
    CallOpened,
    CallStarted,
    HistorySuperseded,
    MessageAdded,
    MessageRevised,
    MessageSuperseded,
    TurnEnded,
    TurnReleased,
)
from nodellm_orm.ports.statuses import RELEASED
from nodellm_orm.store.absent import insert_absent
from nodellm_orm.store.attachments import attachment_rows, blob_rows
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.closing import close_attempts, closing_parameters
from nodellm_orm.store.guard import CACHED
from nodellm_orm.store.mapping import attempt_row, call_row, message_row, thinking_rows
from nodellm_orm.store.sizes import check_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Delete, Insert, Table, Update

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.store.define import Tables
    from nodellm_orm.store.mapping import Row
    from nodellm_orm.store.sealing import Sealer


_REVISED: Final = (
    *("content", "parts", "status", "finish_reason", "raw_finish_reason"),
    *("model", "provider", "api", "endpoint"),
)
"""Columns of a message that change when it grows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the rows of a point belong to."""

    chat_id: UUID
    turn_id: UUID
    owner: str | None
    labels: Mapping[str, JsonValue]
    """The chat's metadata, copied to the ledger."""


@dataclass(slots=True)
class _Rows:
    """The rows of a point by statement, in the order they are run."""

    retired: list[Row] = field(default_factory=list)
    messages: list[Row] = field(default_factory=list)
    revised: list[Row] = field(default_factory=list)
    outdated: list[Row] = field(default_factory=list)
    superseded: list[Row] = field(default_factory=list)
    thinking: list[Row] = field(default_factory=list)
    detached: list[Row] = field(default_factory=list)
    attachments: list[Row] = field(default_factory=list)
    calls: list[Row] = field(default_factory=list)
    attempts: list[Row] = field(default_factory=list)
    closed: list[Row] = field(default_factory=list)
    started: list[Row] = field(default_factory=list)
    finished: list[Row] = field(default_factory=list)
    answered: list[Row] = field(default_factory=list)
    ended: list[Row] = field(default_factory=list)
    released: list[Row] = field(default_factory=list)

    def add(self, scope: Scope, entry: Entry) -> None:
        """Put an entry where it belongs."""
        where: Row = {"b_chat": scope.chat_id}
        match entry:
            case MessageAdded():
                self.messages.append(message_row(scope.chat_id, scope.turn_id, entry.id, entry.message))
                self.thinking += thinking_rows(scope.chat_id, entry)
                self.attachments += attachment_rows(scope.chat_id, entry.id, entry.message)
            case MessageRevised():
                row = message_row(scope.chat_id, scope.turn_id, entry.id, entry.message)
                self.revised.append({**where, "b_id": entry.id, **{f"b_{name}": row[name] for name in _REVISED}})
                self.outdated.append({**where, "b_id": entry.id})
                self.thinking += thinking_rows(scope.chat_id, entry)
                if files := attachment_rows(scope.chat_id, entry.id, entry.message):
                    self.detached.append({**where, "b_id": entry.id})
                    self.attachments += files
            case MessageSuperseded():
                self.superseded.append({**where, "b_id": entry.id})
            case HistorySuperseded():
                self.retired.append({**where, "b_first": entry.first})
            case CallOpened():
                self.calls.append(call_row(scope.chat_id, scope.turn_id, entry))
            case AttemptOpened():
                made_for = {"chat_id": scope.chat_id, "turn_id": scope.turn_id, "owner": scope.owner}
                self.attempts.append({**attempt_row(entry), **made_for, "labels": dict(scope.labels)})
            case AttemptClosed():
                self.closed.append(closing_parameters(scope.chat_id, entry))
            case CallStarted():
                self.started.append({**where, "b_id": entry.id})
            case CallFinished():
                outcome = {"b_status": entry.status, "b_result": entry.result, "b_error": entry.error}
                self.finished.append({**where, "b_id": entry.id, **outcome})
            case CallAnswered():
                self.answered.append({**where, "b_id": entry.id, "b_message": entry.result_message_id})
            case TurnEnded():
                self.ended.append(
                    {
                        **where,
                        "b_id": scope.turn_id,
                        "b_status": entry.status,
                        "b_reason": entry.reason,
                        "b_error_type": entry.error_type,
                        "b_error_message": entry.error_message,
                    }
                )
            case TurnReleased():
                self.released.append({**where, "b_id": scope.turn_id})
            case _:
                assert_never(entry)

    def seal(self, sealer: Sealer, owner: str | None) -> None:
        """Encrypt the content of all rows, where it is to be encrypted."""
        self.messages = sealer.sealed_rows("messages", self.messages, owner=owner)
        self.revised = sealer.sealed_rows("messages", self.revised, owner=owner, prefix="b_")
        self.thinking = sealer.sealed_rows("thinking", self.thinking, owner=owner)
        self.attachments = sealer.sealed_rows("attachments", self.attachments, owner=owner)
        self.calls = sealer.sealed_rows("tool_calls", self.calls, owner=owner)
        self.finished = sealer.sealed_rows("tool_calls", self.finished, owner=owner, prefix="b_")
        self.ended = sealer.sealed_rows("turns", self.ended, owner=owner, prefix="b_")


def apply(connection: Connection, tables: Tables, scope: Scope, entries: Sequence[Entry]) -> None:
    """Write entries; the chat's row is locked already.

    Args:
        connection: in a transaction.
        tables: where to.
        scope: chat and turn they belong to.
        entries: what happened.

    Raises:
        StorageError: a value is larger than what the server accepts; nothing has been sent.
    """
    rows = _Rows()
    entries = tables.keeping.entries(entries)
    for entry in entries:
        rows.add(scope, entry)
    rows.seal(tables.sealer, scope.owner)
    messages = [entry.message for entry in entries if isinstance(entry, MessageAdded | MessageRevised)]
    for statement, values in (
        (_supersede_history(tables.messages), rows.retired),
        (insert_dated(tables.messages), rows.messages),
        (_revise_message(tables.messages), rows.revised),
        (_supersede_message(tables.messages), rows.superseded),
        (_forget(tables.thinking), rows.outdated),
        (insert_plain(tables.thinking), rows.thinking),
        (_forget(tables.attachments), rows.detached),
        (insert_plain(tables.attachments), rows.attachments),
        (insert_absent(connection.dialect.name, tables.blobs), blob_rows(scope.owner, messages, tables.sealer)),
        (insert_calls(tables.tool_calls), rows.calls),
        (insert_dated(tables.requests), rows.attempts),
    ):
        send(connection, statement, values)
    close_attempts(connection, tables, rows.closed)
    for statement, values in (
        (_start_call(tables.tool_calls), rows.started),
        (_finish_call(tables.tool_calls), rows.finished),
        (_answer_call(tables.tool_calls), rows.answered),
        (_end_turn(tables.turns), rows.ended),
        (_release_turn(tables.turns), rows.released),
    ):
        send(connection, statement, values)


def send(connection: Connection, statement: Insert | Update | Delete, rows: Sequence[Row]) -> None:
    """Run one statement for all rows, or none if there are none."""
    if rows:
        check_sizes(connection, rows)
        connection.execute(statement, rows[0] if len(rows) == 1 else rows)


@lru_cache(maxsize=CACHED)
def insert_plain(table: Table) -> Insert:
    """New rows."""
    return insert(table)


@lru_cache(maxsize=CACHED)
def insert_dated(table: Table) -> Insert:
    """New rows that tell when they were made, by the database's clock."""
    return insert(table).values(created_at=DatabaseNow())


@lru_cache(maxsize=CACHED)
def _revise_message(messages: Table) -> Update:
    return _of(messages).values({name: _typed(messages, name) for name in _REVISED})


@lru_cache(maxsize=CACHED)
def _supersede_message(messages: Table) -> Update:
    return _of(messages).values(superseded_at=DatabaseNow())


@lru_cache(maxsize=CACHED)
def _supersede_history(messages: Table) -> Update:
    """All that is there from a place on; what was superseded before keeps its time."""
    return (
        update(messages)
        .where(
            messages.c.chat_id == bindparam("b_chat"),
            messages.c.position >= bindparam("b_first", type_=messages.c.position.type),
            messages.c.superseded_at.is_(None),
        )
        .values(superseded_at=DatabaseNow())
    )


@lru_cache(maxsize=CACHED)
def _forget(table: Table) -> Delete:
    """What belonged to a message as it was before."""
    return delete(table).where(table.c.chat_id == bindparam("b_chat"), table.c.message_id == bindparam("b_id"))


@lru_cache(maxsize=CACHED)
def insert_calls(calls: Table) -> Insert:
    """New calls; those that start at once are dated."""
    running = bindparam("b_running", type_=Integer()) == 1
    return insert(calls).values(started_at=case((running, DatabaseNow()), else_=null()))


def _of(table: Table) -> Update:
    return update(table).where(table.c.chat_id == bindparam("b_chat"), table.c.id == bindparam("b_id"))


@lru_cache(maxsize=CACHED)
def _start_call(calls: Table) -> Update:
    return _of(calls).values(status="running", attempts=calls.c.attempts + 1, started_at=DatabaseNow())


@lru_cache(maxsize=CACHED)
def _finish_call(calls: Table) -> Update:
    outcome = {name: _typed(calls, name) for name in ("status", "result", "error")}
    return _of(calls).values(**outcome, finished_at=DatabaseNow())


@lru_cache(maxsize=CACHED)
def _answer_call(calls: Table) -> Update:
    return _of(calls).values(result_message_id=bindparam("b_message", type_=calls.c.result_message_id.type))


@lru_cache(maxsize=CACHED)
def _end_turn(turns: Table) -> Update:
    outcome = {name: _typed(turns, name) for name in ("status", "reason", "error_type", "error_message")}
    return _of(turns).values(**outcome, active_slot=null(), finished_at=DatabaseNow())


@lru_cache(maxsize=CACHED)
def _release_turn(turns: Table) -> Update:
    return _of(turns).values(reason=RELEASED)


def _typed(table: Table, name: str) -> Any:
    return bindparam(f"b_{name}", type_=table.c[name].type)
