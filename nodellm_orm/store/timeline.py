"""One chat as people read it, a page at a time: as many rows are read as are shown, however long the chat is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, exists, func, or_, select

from nodellm_orm.ports.refused import check_limit
from nodellm_orm.store.access import open_access
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.details import (
    attachment_of,
    by_message,
    call_details_of,
    message_details_of,
    request_of,
    thinking_of,
    turn_details_of,
)
from nodellm_orm.store.guard import CACHED, chat_parameters, not_found, of_chat
from nodellm_orm.store.listing import totals
from nodellm_orm.store.mapping import head_of
from nodellm_orm.store.records import RECORDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Connection, RowMapping, Select, Table

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.states import ChatHead, ChatTotals
    from nodellm_orm.store.define import Records, Tables
    from nodellm_orm.store.details import MessageDetails, RequestDetails, TurnDetails
    from nodellm_orm.store.mapping import Stored

PAGE: Final = 100
"""Messages a page."""
ATTEMPTS: Final = 500
"""Attempts a page at most: each message comes of one, and few fail."""
UNSPOKEN: Final = 50
"""Turns without any message that the last page tells of, at most."""
CHILDREN: Final = 50
"""Branches that are told of, at most."""
_LATER_CHATS: Final = 5_000
"""Chats of the same owner, made after this one, among which its branches are looked for: they are in no index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A page of a chat."""

    head: ChatHead
    totals: ChatTotals
    """Sums over the chat's ledger rows."""
    message_count: int
    """Messages of the whole chat, superseded ones included."""
    turn_count: int
    first: int
    """Position at which the page begins."""
    messages: tuple[MessageDetails, ...]
    turns: tuple[TurnDetails, ...]
    """Those of which a message is on the page; on the last page those without any message too."""
    requests: tuple[RequestDetails, ...]
    """Attempts of these turns that led to a message of the page, or to none."""
    carried_on: UUID | None
    """The turn of the last message before the page: if the page begins with it, it does so in its middle."""
    branches: tuple[tuple[UUID, int | None], ...]
    """Chats that were forked from this one, and up to which position."""
    branches_complete: bool
    """Whether these are all of them."""
    read_at: datetime
    """When this was read, by the database's clock."""


async def read_timeline(
    session: object,
    chat_id: UUID,
    *,
    owner: Owner = None,
    first: int = 0,
    turn: int | None = None,
    limit: int = PAGE,
    records: Records = RECORDS,
) -> Timeline:
    """A page of a chat in twelve queries at most, however long it is.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        chat_id: the chat.
        owner: must equal the stored one; ``None`` means a chat without owner, `ANY_OWNER` means anybody's.
        first: position at which the page begins; behind the last message the last page is meant.
        turn: in place of that the turn at which it begins, from 0; behind the last one that one is meant.
        limit: messages at most.
        records: own records.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
        ConfigurationError: the limit is below 1.
    """
    check_limit(limit)
    page = _Page(records.tables, chat_id, limit)
    return await open_access(session, records).read(lambda connection: page(connection, owner, first, turn))


class _Page:
    """What a page of a chat needs."""

    def __init__(self, tables: Tables, chat_id: UUID, limit: int) -> None:
        self._tables = tables
        self._chat = chat_id
        self._limit = limit

    def __call__(self, connection: Connection, owner: Owner, first: int, turn: int | None) -> Timeline:
        """Read it."""
        tables = self._tables
        chat = chat_row(connection, tables, self._chat, owner)
        whose, count = chat["owner"], chat["next_position"]
        if turn is not None:
            first = self._begins(connection, min(turn, max(chat["turn_count"] - 1, 0)))
        first = min(max(first, 0), max(count - 1, 0) // self._limit * self._limit)
        messages = self._messages(connection, whose, first)
        last = first + self._limit >= count
        turns = self._turns(connection, whose, messages, unspoken=last)
        expired = bool(chat["lease_expired"])
        children = self._children(connection, chat)
        return Timeline(
            head=head_of(tables.sealer.opened("chats", chat, owner=whose, key=self._chat)),
            totals=totals(connection, tables, self._chat, owner),
            message_count=count,
            turn_count=chat["turn_count"],
            first=first,
            messages=tuple(messages),
            turns=tuple(turn_details_of(row, expired=expired) for row in turns),
            requests=tuple(self._requests(connection, turns, messages)),
            carried_on=self._turn_before(connection, first),
            branches=tuple((row["id"], row["fork_position"]) for row in children[:CHILDREN]),
            branches_complete=len(children) <= CHILDREN,
            read_at=chat["read_at"],
        )

    def _begins(self, connection: Connection, turn: int) -> int:
        """Position of a turn's first message."""
        parameters = {"b_chat": self._chat, "b_turn": turn}
        found = connection.scalar(_first_of_turn(self._tables.turns, self._tables.messages), parameters)
        return int(found or 0)

    def _turn_before(self, connection: Connection, first: int) -> UUID | None:
        if first == 0:
            return None
        parameters = {"b_chat": self._chat, "b_position": first - 1}
        found: UUID | None = connection.scalar(_turn_at(self._tables.messages), parameters)
        return found

    def _messages(self, connection: Connection, whose: str | None, first: int) -> list[MessageDetails]:
        tables = self._tables
        parameters = {"b_chat": self._chat, "b_first": first, "b_end": first + self._limit}
        rows = self._opened("messages", whose, connection.execute(_messages(tables.messages), parameters).mappings())
        ids = [row["id"] for row in rows]

        def content(name: str) -> Sequence[Stored]:
            table = getattr(tables, name)
            found = connection.execute(_of_messages(table), {"b_chat": self._chat, "b_messages": ids}).mappings()
            return self._opened(name, whose, found)

        if not ids:
            return []
        thinking = by_message(content("thinking"), thinking_of)
        calls = by_message(content("tool_calls"), call_details_of)
        files = by_message(content("attachments"), attachment_of)
        return [message_details_of(row, thinking, calls, files) for row in rows]

    def _turns(
        self, connection: Connection, whose: str | None, messages: Sequence[MessageDetails], *, unspoken: bool
    ) -> list[Stored]:
        turns = self._tables.turns
        ids = sorted({message.turn_id for message in messages if message.turn_id is not None})
        found: dict[UUID, RowMapping] = {}
        if ids:
            rows = connection.execute(_turns(turns), {"b_chat": self._chat, "b_turns": ids}).mappings()
            found |= {row["id"]: row for row in rows}
        if unspoken:
            rows = connection.execute(_unspoken(turns, self._tables.messages), {"b_chat": self._chat}).mappings()
            found |= {row["id"]: row for row in rows}
        return self._opened("turns", whose, sorted(found.values(), key=lambda row: (row["position"], row["id"])))

    def _requests(
        self, connection: Connection, turns: Sequence[Stored], messages: Sequence[MessageDetails]
    ) -> list[RequestDetails]:
        if not turns:
            return []
        parameters = {
            "b_chat": self._chat,
            "b_turns": [row["id"] for row in turns],
            "b_messages": [message.id for message in messages],
        }
        rows = connection.execute(_requests(self._tables.requests), parameters).mappings()
        return [request_of(row) for row in rows]

    def _children(self, connection: Connection, chat: RowMapping) -> Sequence[RowMapping]:
        statement = _children(self._tables.chats, owned=chat["owner"] is not None)
        parameters = {"b_chat": self._chat, "b_created": chat["created_at"], "b_owner": chat["owner"]}
        if chat["owner"] is None:
            del parameters["b_owner"]
        return connection.execute(statement, parameters).mappings().all()

    def _opened(self, name: str, whose: str | None, rows: Any) -> list[Stored]:
        return [self._tables.sealer.opened(name, row, owner=whose, key=row["id"]) for row in rows]


def chat_row(connection: Connection, tables: Tables, chat_id: UUID, owner: Owner) -> RowMapping:
    """A chat's row, with whether its lease is over and the number of its turns.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
    """
    chats, turns = tables.chats, tables.turns
    expired = (chats.c.lease_until < DatabaseNow()).label("lease_expired")
    counted = select(func.count()).where(turns.c.chat_id == chats.c.id).correlate(chats).scalar_subquery()
    found = select(chats, expired, counted.label("turn_count"), DatabaseNow().label("read_at"))
    row = connection.execute(found.where(*of_chat(chats, owner)), chat_parameters(chat_id, owner)).mappings().first()
    if row is None:
        not_found(chat_id)
    return row


@lru_cache(maxsize=CACHED)
def _first_of_turn(turns: Table, messages: Table) -> Select[Any]:
    turn = select(turns.c.id).where(turns.c.chat_id == bindparam("b_chat"), turns.c.position == bindparam("b_turn"))
    return select(func.min(messages.c.position)).where(
        messages.c.chat_id == bindparam("b_chat"), messages.c.turn_id.in_(turn)
    )


@lru_cache(maxsize=CACHED)
def _turn_at(messages: Table) -> Select[Any]:
    at = messages.c.position == bindparam("b_position")
    return select(messages.c.turn_id).where(messages.c.chat_id == bindparam("b_chat"), at)


@lru_cache(maxsize=CACHED)
def _messages(messages: Table) -> Select[Any]:
    place = messages.c.position
    return (
        select(messages)
        .where(messages.c.chat_id == bindparam("b_chat"), place >= bindparam("b_first"), place < bindparam("b_end"))
        .order_by(place)
    )


@lru_cache(maxsize=CACHED)
def _of_messages(table: Table) -> Select[Any]:
    wanted = table.c.message_id.in_(bindparam("b_messages", expanding=True, type_=table.c.message_id.type))
    return select(table).where(table.c.chat_id == bindparam("b_chat"), wanted).order_by(table.c.position, table.c.id)


@lru_cache(maxsize=CACHED)
def _turns(turns: Table) -> Select[Any]:
    wanted = turns.c.id.in_(bindparam("b_turns", expanding=True, type_=turns.c.id.type))
    return select(turns).where(turns.c.chat_id == bindparam("b_chat"), wanted)


@lru_cache(maxsize=CACHED)
def _unspoken(turns: Table, messages: Table) -> Select[Any]:
    spoken = exists().where(messages.c.chat_id == turns.c.chat_id, messages.c.turn_id == turns.c.id)
    return (
        select(turns)
        .where(turns.c.chat_id == bindparam("b_chat"), ~spoken)
        .order_by(turns.c.position.desc())
        .limit(UNSPOKEN)
    )


@lru_cache(maxsize=CACHED)
def _requests(requests: Table) -> Select[Any]:
    r = requests.c
    return (
        select(requests)
        .where(
            r.chat_id == bindparam("b_chat", type_=r.chat_id.type),
            r.turn_id.in_(bindparam("b_turns", expanding=True, type_=r.turn_id.type)),
            or_(
                r.message_id.is_(None),
                r.message_id.in_(bindparam("b_messages", expanding=True, type_=r.message_id.type)),
            ),
        )
        .order_by(r.id)
        .limit(ATTEMPTS)
    )


@lru_cache(maxsize=CACHED)
def _children(chats: Table, *, owned: bool) -> Select[Any]:
    """Those among the next chats of the owner that were forked from one."""
    c = chats.c
    whose = c.owner == bindparam("b_owner", type_=c.owner.type) if owned else c.owner.is_(None)
    later = (
        select(c.id, c.fork_position, c.parent_chat_id, c.active_turn_id, c.created_at)
        .where(whose, c.created_at >= bindparam("b_created", type_=c.created_at.type))
        .order_by(c.created_at, c.id)
        .limit(_LATER_CHATS)
        .subquery()
    )
    return (
        select(later.c.id, later.c.fork_position)
        .where(later.c.parent_chat_id == bindparam("b_chat"), later.c.active_turn_id.is_distinct_from(later.c.id))
        .order_by(later.c.created_at, later.c.id)
        .limit(CHILDREN + 1)
    )
