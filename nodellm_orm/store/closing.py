"""The end of attempts as rows of the ledger: closed by their worker, or lost with him.

An old row, that the roll-up may have added up already, is marked in the same transaction (`store.stale`). The usual
one is young, and closed by one statement that says so.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, case, exists, null, or_, update

from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.guard import CACHED, executed, of_chat
from nodellm_orm.store.mapping import closing_row
from nodellm_orm.store.sizes import check_sizes
from nodellm_orm.store.stale import mark_old, young

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, Table, Update

    from nodellm_orm.ports.entries import AttemptClosed
    from nodellm_orm.ports.ownership import Hold
    from nodellm_orm.store.define import Tables
    from nodellm_orm.store.mapping import Row

_CLOSED: Final = (
    *("status", "http_status", "error_type", "request_id", "model", "message_id", "latency_ms", "first_token_ms"),
    *("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "other_tokens"),
    *("cost", "input_cost", "output_cost", "prices", "price_source"),
)
"""Columns of an attempt that change when it is closed."""


def closing_parameters(chat_id: UUID, entry: AttemptClosed) -> Row:
    """What the statements that close an attempt ask for.

    Args:
        chat_id: the chat it was made for.
        entry: what came of it.
    """
    values = {f"b_{name}": value for name, value in closing_row(entry).items()}
    return {"b_chat": chat_id, "b_id": entry.id, **values}


def close_attempts(connection: Connection, tables: Tables, rows: Sequence[Row]) -> None:
    """Close attempts of a turn: a statement each, as long as they are young.

    Args:
        connection: in a transaction that has locked the chat.
        tables: the records' tables.
        rows: their `closing_parameters`.
    """
    requests = tables.requests
    check_sizes(connection, rows)
    for row in rows:
        if not executed(connection, _close(requests, old=False), row) and executed(
            connection, _close(requests, old=True), row
        ):
            mark_old(connection, tables, _attempt(requests), {name: row[name] for name in ("b_chat", "b_id")})


def account(connection: Connection, tables: Tables, hold: Hold, closed: Sequence[AttemptClosed]) -> None:
    """Close ledger rows of a chat that is gone; see `Journal.account`.

    Args:
        connection: in a transaction.
        tables: where to.
        hold: the one that was lost.
        closed: what came of its attempts.
    """
    for entry in closed:
        row = closing_parameters(hold.chat_id, entry)
        if executed(connection, _account(tables.requests, tables.chats), row):
            mark_old(connection, tables, tables.requests.c.id == bindparam("b_id"), {"b_id": entry.id})


def lose_attempts(connection: Connection, tables: Tables, chat_id: UUID, turn_id: UUID | None = None) -> None:
    """Nobody will tell what became of the open attempts of a turn, or of a whole chat.

    Args:
        connection: in a transaction that has locked the chat.
        tables: the records' tables.
        chat_id: the chat.
        turn_id: the turn; ``None``: all of them.
    """
    requests = tables.requests
    theirs = requests.c.chat_id == bindparam("b_chat")
    key: dict[str, Any] = {"b_chat": chat_id}
    if turn_id is not None:
        theirs = and_(theirs, requests.c.turn_id == bindparam("b_turn"))
        key["b_turn"] = turn_id
    if connection.execute(_lose(requests, whole_chat=turn_id is None), key).rowcount:
        mark_old(connection, tables, and_(theirs, requests.c.status == "unknown"), key)


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


def _typed(table: Table, name: str) -> Any:
    return bindparam(f"b_{name}", type_=table.c[name].type)


def _attempt(requests: Table) -> ColumnElement[bool]:
    return and_(requests.c.id == bindparam("b_id"), requests.c.chat_id == bindparam("b_chat"))


@lru_cache(maxsize=CACHED)
def _close(requests: Table, *, old: bool) -> Update:
    values = {name: _typed(requests, name) for name in _CLOSED}
    which = [_attempt(requests)] if old else [_attempt(requests), young(requests)]
    return update(requests).where(*which).values(values)


@lru_cache(maxsize=CACHED)
def _account(requests: Table, chats: Table) -> Update:
    # Of an owner who was erased, nothing may come back that leads to him.
    erased = requests.c.chat_id.is_(None)
    values: dict[str, Any] = {name: _typed(requests, name) for name in _CLOSED if name != "message_id"}
    values["request_id"] = case((erased, null()), else_=values["request_id"])
    return (
        update(requests)
        .where(
            requests.c.id == bindparam("b_id"),
            or_(requests.c.chat_id == bindparam("b_chat"), erased),
            requests.c.status == "unknown",
            ~exists().where(*of_chat(chats, ANY_OWNER)),
        )
        .values(values)
    )


@lru_cache(maxsize=CACHED)
def _lose(requests: Table, *, whole_chat: bool) -> Update:
    """Make attempts unknown that are ``started``."""
    theirs = [requests.c.chat_id == bindparam("b_chat"), requests.c.status == "started"]
    if not whole_chat:
        theirs.append(requests.c.turn_id == bindparam("b_turn"))
    return update(requests).where(*theirs).values(status="unknown")
