"""Reading a chat: its head, messages and last turn in a constant number of queries, and pages of its history."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, select

from nodellm_orm.domain.windows import EVERYTHING, first_loaded
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.refused import check_limit, turn_not_found
from nodellm_orm.ports.states import Snapshot
from nodellm_orm.store.attachments import with_contents
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.excerpt import first_position, summary_row
from nodellm_orm.store.guard import CACHED, chat_parameters, not_found, of_chat
from nodellm_orm.store.mapping import CALL_COLUMNS, attempt_of, call_of, head_of, message_of, turn_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import ToolCallPart
    from nodellm_orm.domain.windows import Window
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.states import TurnState
    from nodellm_orm.store.define import Tables


def load(
    connection: Connection, tables: Tables, chat_id: UUID, owner: Owner, window: Window | None = EVERYTHING
) -> Snapshot:
    """The chat as stored, in four queries or two, and one more for the contents of files; with a window two more.

    Head and last turn come from one statement, and messages only up to the place it tells, so that what another
    worker writes meanwhile is seen as a whole or not at all.

    Args:
        connection: where.
        tables: the records' tables.
        chat_id: the chat.
        owner: whose.
        window: how much of it; ``None``: as much as its own settings say.

    Raises:
        ChatNotFoundError: no such chat for this owner.
    """
    statement = _chat_with_last_turn(tables.chats, tables.turns, tables.messages, any_owner=owner is ANY_OWNER)
    row = connection.execute(statement, chat_parameters(chat_id, owner)).mappings().first()
    if row is None:
        not_found(chat_id)
    head = head_of(tables.sealer.opened("chats", row, owner=row["owner"], key=chat_id))
    window = window or head.settings.history_window or EVERYTHING
    needed = row["first_position"] if row["turn_id"] is not None else None
    since, rows, said = _excerpt(connection, tables, row, window, needed)
    if since and head.settings.compacted:
        summary = summary_row(connection, _message_columns(tables.messages), chat_id, since)
        if summary is not None:
            rows, said = [summary, *rows], [*_opened(tables, row["owner"], [summary]), *said]
    messages = with_contents(connection, tables, row["owner"], said)
    retired = len(rows) < row["next_position"] and not since
    return Snapshot(
        head=head,
        messages=messages,
        since=since,
        window=window,
        message_ids=tuple(message["id"] for message in rows),
        fence=row["fence"],
        next_position=row["next_position"],
        last_turn=_turn(connection, tables, row, _calls_of(messages)) if row["turn_id"] is not None else None,
        step=row["step"],
        retired_call_ids=_retired(connection, tables, chat_id) if retired else frozenset(),
    )


def _excerpt(
    connection: Connection, tables: Tables, row: RowMapping, window: Window, needed: int | None
) -> tuple[int, Sequence[RowMapping], list[Message]]:
    """The messages that a window needs and their rows, and the position they begin at; 0 where none is left out."""
    until = {"b_chat": row["chat_id"], "b_until": row["next_position"]}
    if window == EVERYTHING:
        rows = connection.execute(_messages(tables.messages), until).mappings().all()
        return 0, rows, _opened(tables, row["owner"], rows)
    since = first_position(connection, tables, until, window, needed)
    rows = connection.execute(_messages_since(tables.messages), {**until, "b_since": since}).mappings().all()
    # The database leaves no turn out that is needed; here those go that are not.
    messages = _opened(tables, row["owner"], rows)
    first = first_loaded(messages, window, needed)
    return rows[first]["position"] if first else since, rows[first:], messages[first:]


def turn(connection: Connection, tables: Tables, chat_id: UUID, owner: Owner, turn_id: UUID) -> TurnState:
    """One turn with its calls and attempts.

    Raises:
        ChatNotFoundError: no such chat or turn for this owner.
    """
    statement = _one_turn(tables.chats, tables.turns, tables.messages, any_owner=owner is ANY_OWNER)
    row = connection.execute(statement, {**chat_parameters(chat_id, owner), "b_turn": turn_id}).mappings().first()
    if row is None:
        raise turn_not_found(chat_id, turn_id)
    return turn_state(connection, tables, row)


def turn_state(connection: Connection, tables: Tables, row: RowMapping) -> TurnState:
    """The state of a turn whose row has been read, with what belongs to it."""
    parameters = {"b_chat": row["chat_id"], "b_turn": row["turn_id"]}
    rows = connection.execute(_messages_of_turn(tables.messages), parameters).mappings().all()
    messages = with_contents(connection, tables, row["owner"], _opened(tables, row["owner"], rows))
    state = _turn(connection, tables, row, _calls_of(messages))
    spoken = {message["id"]: said for message, said in zip(rows, messages, strict=True)}
    return replace(state, spoken=MappingProxyType(spoken))


def turn_by_key(connection: Connection, tables: Tables, chat_id: UUID, owner: Owner, key: str) -> TurnState | None:
    """The turn of a chat that was begun with an idempotency key."""
    statement = _turn_with_key(tables.chats, tables.turns, tables.messages, any_owner=owner is ANY_OWNER)
    row = connection.execute(statement, {**chat_parameters(chat_id, owner), "b_key": key}).mappings().first()
    return None if row is None else turn_state(connection, tables, row)


def history(
    connection: Connection,
    tables: Tables,
    chat_id: UUID,
    owner: Owner,
    *,
    limit: int,
    before: int | None,
    after: int | None,
) -> tuple[Message, ...]:
    """A page of messages in position order: the first after a place, or the last before one."""
    check_limit(limit)
    backwards = before is not None and after is None
    statement = _page(
        tables.chats,
        tables.messages,
        any_owner=owner is ANY_OWNER,
        before=before is not None,
        after=after is not None,
        backwards=backwards,
    )
    bounds = {"b_before": before, "b_after": after, "b_limit": limit}
    parameters = {**chat_parameters(chat_id, owner), **{name: v for name, v in bounds.items() if v is not None}}
    rows = connection.execute(statement, parameters).mappings().all()
    if not rows:
        not_found(chat_id)
    # A chat without a message on this page is one row of NULLs.
    page = _opened(tables, rows[0]["owner"], [row for row in rows if row["id"] is not None])
    if backwards:
        page.reverse()
    return with_contents(connection, tables, rows[0]["owner"], page)


def _turn(connection: Connection, tables: Tables, row: RowMapping, parts: Mapping[str, ToolCallPart]) -> TurnState:
    parameters = {"b_chat": row["chat_id"], "b_turn": row["turn_id"]}
    calls = connection.execute(_calls(tables.tool_calls, tables.messages), parameters).mappings()
    attempts = connection.execute(_attempts(tables.requests), parameters).mappings()
    sealer, owner = tables.sealer, row["owner"]
    opened = (sealer.opened("tool_calls", call, owner=owner, key=call["id"]) for call in calls)
    return turn_of(
        sealer.opened("turns", row, owner=owner, key=row["turn_id"], prefix="turn_"),
        tuple(call_of(call, parts) for call in opened),
        tuple(attempt_of(a) for a in attempts),
    )


def _opened(tables: Tables, owner: str | None, rows: Iterable[RowMapping]) -> list[Message]:
    """The messages of rows, decrypted where they are encrypted."""
    return [message_of(tables.sealer.opened("messages", row, owner=owner, key=row["id"])) for row in rows]


def _retired(connection: Connection, tables: Tables, chat_id: UUID) -> frozenset[str]:
    """Ids of the calls of superseded messages; asked for only where there are such messages."""
    statement = _retired_calls(tables.tool_calls, tables.messages)
    return frozenset(connection.scalars(statement, {"b_chat": chat_id}))


def _calls_of(messages: Iterable[Message]) -> dict[str, ToolCallPart]:
    return {call.call_id: call for message in messages for call in message.tool_calls}


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


def _turn_columns(chats: Table, turns: Table, messages: Table) -> list[ColumnElement[Any]]:
    first = (
        select(func.min(messages.c.position))
        .where(messages.c.chat_id == turns.c.chat_id, messages.c.turn_id == turns.c.id)
        .scalar_subquery()
    )
    names = (
        *("id", "position", "status", "reason", "settings", "takeovers"),
        *("error_type", "error_message", "idempotency_key", "request_hash"),
    )
    return [
        *(turns.c[name].label(f"turn_{name}") for name in names),
        func.coalesce(first, chats.c.next_position).label("first_position"),
        (chats.c.lease_until < DatabaseNow()).label("lease_expired"),
    ]


def _any(any_owner: bool) -> Owner:  # noqa: FBT001 — a cache key made a value again
    return ANY_OWNER if any_owner else None


@lru_cache(maxsize=CACHED)
def _chat_with_last_turn(chats: Table, turns: Table, messages: Table, *, any_owner: bool) -> Select[Any]:
    others = turns.alias("others")
    last = select(func.max(others.c.position)).where(others.c.chat_id == chats.c.id).scalar_subquery()
    joined = chats.outerjoin(turns, and_(turns.c.chat_id == chats.c.id, turns.c.position == last))
    columns = [*_chat_columns(chats), *_turn_columns(chats, turns, messages)]
    return select(*columns).select_from(joined).where(*of_chat(chats, _any(any_owner)))


def _chat_columns(chats: Table) -> list[ColumnElement[Any]]:
    names = (
        *("id", "owner", "title", "model", "provider", "api", "instructions", "settings", "metadata"),
        *("parent_chat_id", "fork_position", "lease_until", "fence", "step", "next_position", "version"),
        *("created_at", "updated_at"),
    )
    return [*(chats.c[name] for name in names), chats.c.id.label("chat_id")]


def _turns_of_chat(chats: Table, turns: Table, messages: Table, *, any_owner: bool) -> Select[Any]:
    joined = chats.join(turns, turns.c.chat_id == chats.c.id)
    owned = [chats.c.id.label("chat_id"), chats.c.owner, chats.c.lease_until]
    columns = [*owned, *_turn_columns(chats, turns, messages)]
    return select(*columns).select_from(joined).where(*of_chat(chats, _any(any_owner)))


@lru_cache(maxsize=CACHED)
def _one_turn(chats: Table, turns: Table, messages: Table, *, any_owner: bool) -> Select[Any]:
    found = _turns_of_chat(chats, turns, messages, any_owner=any_owner)
    return found.where(turns.c.id == bindparam("b_turn"))


@lru_cache(maxsize=CACHED)
def _turn_with_key(chats: Table, turns: Table, messages: Table, *, any_owner: bool) -> Select[Any]:
    found = _turns_of_chat(chats, turns, messages, any_owner=any_owner)
    return found.where(turns.c.idempotency_key == bindparam("b_key"))


def _message_columns(messages: Table) -> list[ColumnElement[Any]]:
    names = (
        *("id", "position", "role", "parts", "status", "finish_reason", "raw_finish_reason"),
        *("model", "provider", "api", "endpoint"),
    )
    return [messages.c[name] for name in names]


@lru_cache(maxsize=CACHED)
def _messages(messages: Table) -> Select[Any]:
    return (
        select(*_message_columns(messages))
        .where(
            messages.c.chat_id == bindparam("b_chat"),
            messages.c.position < bindparam("b_until"),
            messages.c.superseded_at.is_(None),
        )
        .order_by(messages.c.position)
    )


@lru_cache(maxsize=CACHED)
def _messages_since(messages: Table) -> Select[Any]:
    return _messages(messages).where(messages.c.position >= bindparam("b_since"))


@lru_cache(maxsize=CACHED)
def _messages_of_turn(messages: Table) -> Select[Any]:
    return (
        select(*_message_columns(messages))
        .where(
            messages.c.chat_id == bindparam("b_chat"),
            messages.c.turn_id == bindparam("b_turn"),
            messages.c.role == "assistant",
        )
        .order_by(messages.c.position)
    )


@lru_cache(maxsize=CACHED)
def _page(chats: Table, messages: Table, *, any_owner: bool, before: bool, after: bool, backwards: bool) -> Select[Any]:
    conditions = [messages.c.chat_id == chats.c.id, messages.c.superseded_at.is_(None)]
    if before:
        conditions.append(messages.c.position < bindparam("b_before"))
    if after:
        conditions.append(messages.c.position > bindparam("b_after"))
    joined = chats.outerjoin(messages, and_(*conditions))
    order = messages.c.position.desc() if backwards else messages.c.position
    columns = [*_message_columns(messages), chats.c.owner]
    page = select(*columns).select_from(joined).where(*of_chat(chats, _any(any_owner)))
    return page.order_by(order).limit(bindparam("b_limit"))


@lru_cache(maxsize=CACHED)
def _calls(calls: Table, messages: Table) -> Select[Any]:
    joined = calls.join(messages, and_(messages.c.chat_id == calls.c.chat_id, messages.c.id == calls.c.message_id))
    return (
        select(*(calls.c[name] for name in CALL_COLUMNS))
        .select_from(joined)
        .where(calls.c.chat_id == bindparam("b_chat"), calls.c.turn_id == bindparam("b_turn"))
        .order_by(messages.c.position, calls.c.position)
    )


@lru_cache(maxsize=CACHED)
def _retired_calls(calls: Table, messages: Table) -> Select[Any]:
    joined = calls.join(messages, and_(messages.c.chat_id == calls.c.chat_id, messages.c.id == calls.c.message_id))
    superseded = messages.c.superseded_at.is_not(None)
    return select(calls.c.call_id).select_from(joined).where(calls.c.chat_id == bindparam("b_chat"), superseded)


@lru_cache(maxsize=CACHED)
def _attempts(requests: Table) -> Select[Any]:
    names = (
        *("id", "status", "attempt", "request_id", "message_id", "model", "provider", "cost", "price_source"),
        *("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "other_tokens"),
    )
    return (
        select(*(requests.c[name] for name in names))
        .where(requests.c.chat_id == bindparam("b_chat"), requests.c.turn_id == bindparam("b_turn"))
        # Ids carry the time of whoever made them, and workers' clocks may be hours apart.
        .order_by(requests.c.created_at, requests.c.id)
    )
