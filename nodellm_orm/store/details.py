"""Reading for people: one chat with everything that happened in it, and what a list of chats shows of each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import and_, case, func, select

from nodellm_orm.domain.money import add
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.access import open_access
from nodellm_orm.store.attachments import files_in
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.guard import chat_parameters, not_found, of_chat, there
from nodellm_orm.store.mapping import head_of, message_of, usage_of
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.types import LongText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal
    from uuid import UUID

    from sqlalchemy import Connection, Table

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.usage import Usage
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.states import ChatHead
    from nodellm_orm.ports.statuses import AttemptStatus, CallStatus, TurnStatus
    from nodellm_orm.store.define import Records, Tables
    from nodellm_orm.store.mapping import Stored

ShownStatus: TypeAlias = "TurnStatus | Literal['interrupted']"
"""How a turn stands: ``interrupted`` is a running one whose worker is gone."""
_OPENING_CHARS = 200
"""Characters of a chat's first question that a list of chats is given."""
_REFUSED = 400
"""From this HTTP status on, a request was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDetails:
    """One call of a tool."""

    id: UUID
    call_id: str
    name: str
    arguments: JsonText
    """As received; not necessarily valid JSON."""
    status: CallStatus
    result: str | None
    """What the model reads of the outcome."""
    error: str | None
    """The error behind a failed call, for people."""
    attempts: int
    """How often it was started."""
    started_at: datetime | None
    finished_at: datetime | None
    decided_by: str | None
    """Who approved or denied it."""

    @property
    def seconds(self) -> float | None:
        """How long it ran; ``None`` when it has not ended."""
        return _seconds(self.started_at, self.finished_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingDetails:
    """One trace of thinking."""

    text: str
    redacted: bool
    """The provider hid the text."""
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDetails:
    """One message, with its thinking and the calls it asks for."""

    id: UUID
    turn_id: UUID | None
    """``None``: added from elsewhere."""
    message: Message
    thinking: tuple[ThinkingDetails, ...]
    calls: tuple[CallDetails, ...]
    attachments: tuple[AttachmentDetails, ...]
    created_at: datetime
    superseded_at: datetime | None
    """When another message took its place; it is no longer replayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentDetails:
    """One file of a message, without its content."""

    kind: str
    media_type: str
    name: str | None
    size: int | None
    """Bytes; ``None`` when they are not here."""
    sha256: str | None
    url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnDetails:
    """One question and everything until its answer."""

    id: UUID
    position: int
    """Order of the turns in the chat, from 0."""
    status: ShownStatus
    reason: str | None
    """Why it is suspended, or the finish reason."""
    error_type: str | None
    error_message: str | None
    takeovers: int
    """How often another worker carried it on."""
    started_at: datetime
    finished_at: datetime | None

    @property
    def seconds(self) -> float | None:
        """How long it took; ``None`` when it has not ended."""
        return _seconds(self.started_at, self.finished_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDetails:
    """One attempt at the provider."""

    id: UUID
    turn_id: UUID | None
    operation: str
    attempt: int
    """From 1 within one model round."""
    provider: str
    requested_model: str
    model: str | None
    """The model that answered."""
    status: AttemptStatus
    http_status: int | None
    error_type: str | None
    request_id: str | None
    """The provider's own id of the request, for its support."""
    latency_ms: int | None
    first_token_ms: int | None
    usage: Usage
    cost: Decimal | None
    """US dollars; ``None``: the price is unknown."""
    price_source: str | None
    created_at: datetime

    @property
    def unpriced(self) -> bool:
        """Whether it may have cost something that is not known; what the provider refused costs nothing."""
        return self.cost is None and (self.http_status or 0) < _REFUSED


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDetails:
    """One chat in full, everything in order."""

    head: ChatHead
    turns: tuple[TurnDetails, ...]
    messages: tuple[MessageDetails, ...]
    """Superseded ones included."""
    requests: tuple[RequestDetails, ...]
    read_at: datetime
    """When this was read, by the database's clock."""

    @property
    def calls(self) -> tuple[CallDetails, ...]:
        """All calls of the chat in order."""
        return tuple(call for message in self.messages for call in message.calls)

    @property
    def cost(self) -> Decimal | None:
        """The sum of the known costs; ``None`` only when none is known."""
        total: Decimal | None = None
        for request in self.requests:
            total = add(total, request.cost)
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What a list shows of a chat beyond its own row."""

    opening: str = ""
    """The beginning of its first question."""
    cost: Decimal | None = None
    """The sum of the known costs; ``None`` only when none is known."""
    unpriced: int = 0
    """Requests that may have cost something that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Glances:
    """What a list shows of several chats."""

    by_chat: Mapping[UUID, Glance]
    read_at: datetime
    """When this was read, by the database's clock."""


async def read_details(
    session: object, chat_id: UUID, *, owner: Owner = None, records: Records = RECORDS
) -> ChatDetails:
    """One chat in full, in six queries however long it is, or seven when there are files.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        chat_id: the chat.
        owner: must equal the stored one; ``None`` means a chat without owner, `ANY_OWNER` means anybody's.
        records: own records.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
    """
    tables = records.tables
    return await open_access(session, records).read(lambda connection: _details(connection, tables, chat_id, owner))


async def read_glances(
    session: object, chat_ids: Sequence[UUID], *, owner: Owner = None, records: Records = RECORDS
) -> Glances:
    """What a list shows of chats beyond their own rows, in three queries.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        chat_ids: the chats; those of other owners are left out.
        owner: as for `read_details`.
        records: own records.
    """
    tables = records.tables
    return await open_access(session, records).read(lambda connection: _glances(connection, tables, chat_ids, owner))


def _details(connection: Connection, tables: Tables, chat_id: UUID, owner: Owner) -> ChatDetails:
    chats = tables.chats
    expired = (chats.c.lease_until < DatabaseNow()).label("lease_expired")
    found = select(chats, expired, DatabaseNow().label("read_at")).where(*of_chat(chats, owner))
    chat = connection.execute(found, chat_parameters(chat_id, owner)).mappings().first()
    if chat is None:
        not_found(chat_id)

    sealer, whose = tables.sealer, chat["owner"]

    def rows(table: Table, *order: str) -> Sequence[Stored]:
        ordered = select(table).where(table.c.chat_id == chat_id).order_by(*(table.c[name] for name in order))
        return connection.execute(ordered).mappings().all()

    def content(name: str, *order: str) -> Sequence[Stored]:
        found = rows(getattr(tables, name), *order)
        return [sealer.opened(name, row, owner=whose, key=row["id"]) for row in found]

    turns = content("turns", "position", "id")
    thinking = _by_message(content("thinking", "position"), _thinking_of)
    calls = _by_message(content("tool_calls", "position"), _call_of)
    messages = [(row, message_of(row)) for row in content("messages", "position")]
    given = any(files_in(message) for _, message in messages)
    attachments = _by_message(content("attachments", "position") if given else (), _attachment_of)
    return ChatDetails(
        head=head_of(sealer.opened("chats", chat, owner=whose, key=chat_id)),
        turns=tuple(_turn_of(row, expired=bool(chat["lease_expired"])) for row in turns),
        messages=tuple(
            MessageDetails(
                id=row["id"],
                turn_id=row["turn_id"],
                message=message,
                thinking=tuple(thinking[row["id"]]),
                calls=tuple(calls[row["id"]]),
                attachments=tuple(attachments[row["id"]]),
                created_at=row["created_at"],
                superseded_at=row["superseded_at"],
            )
            for row, message in messages
        ),
        requests=tuple(_request_of(row) for row in rows(tables.requests, "id")),
        read_at=chat["read_at"],
    )


def _by_message(rows: Iterable[Stored], read: Callable[[Stored], Any]) -> Mapping[UUID, list[Any]]:
    grouped: defaultdict[UUID, list[Any]] = defaultdict(list)
    for row in rows:
        grouped[row["message_id"]].append(read(row))
    return grouped


def _thinking_of(row: Stored) -> ThinkingDetails:
    return ThinkingDetails(text=row["text"], redacted=row["redacted"], tokens=row["tokens"])


def _call_of(row: Stored) -> CallDetails:
    return CallDetails(**{name: row[name] for name in CallDetails.__dataclass_fields__})


def _attachment_of(row: Stored) -> AttachmentDetails:
    return AttachmentDetails(**{name: row[name] for name in AttachmentDetails.__dataclass_fields__})


def _turn_of(row: Stored, *, expired: bool) -> TurnDetails:
    status = "interrupted" if row["status"] == "running" and expired else row["status"]
    return TurnDetails(**{**{name: row[name] for name in TurnDetails.__dataclass_fields__}, "status": status})


def _request_of(row: Stored) -> RequestDetails:
    plain = RequestDetails.__dataclass_fields__.keys() - {"usage"}
    usage = usage_of(row, row["other_tokens"], None)
    return RequestDetails(**{name: row[name] for name in plain}, usage=usage)


def _glances(connection: Connection, tables: Tables, chat_ids: Sequence[UUID], owner: Owner) -> Glances:
    read_at = connection.execute(select(DatabaseNow())).scalar_one()
    chats, messages, requests = tables.chats, tables.messages, tables.requests
    visible = select(chats.c.id).where(chats.c.id.in_(chat_ids), there(chats))
    if owner is not ANY_OWNER:
        visible = visible.where(chats.c.owner.is_not_distinct_from(owner))
    asked = (
        select(messages.c.chat_id, func.min(messages.c.position).label("position"))
        .where(messages.c.chat_id.in_(visible), messages.c.role == "user", messages.c.superseded_at.is_(None))
        .group_by(messages.c.chat_id)
        .subquery()
    )
    first = and_(messages.c.chat_id == asked.c.chat_id, messages.c.position == asked.c.position)
    # What is encrypted opens as a whole only.
    cut = func.substr(messages.c.content, 1, _OPENING_CHARS, type_=LongText())
    beginning = messages.c.content if tables.sealer.encrypts else cut.label("content")
    openings = (
        select(messages.c.chat_id, messages.c.id, beginning, chats.c.owner)
        .join(asked, first)
        .join(chats, chats.c.id == messages.c.chat_id)
    )
    unpriced = and_(requests.c.cost.is_(None), func.coalesce(requests.c.http_status, 0) < _REFUSED)
    spent = (
        select(requests.c.chat_id, func.sum(requests.c.cost), func.sum(case((unpriced, 1), else_=0)))
        .where(requests.c.chat_id.in_(visible))
        .group_by(requests.c.chat_id)
    )
    opening: dict[UUID, str] = {}
    for row in connection.execute(openings).mappings():
        opened = tables.sealer.opened("messages", row, owner=row["owner"], key=row["id"])
        opening[row["chat_id"]] = opened["content"][:_OPENING_CHARS]
    money: dict[UUID, tuple[Decimal | None, int]] = {row[0]: (row[1], row[2]) for row in connection.execute(spent)}
    by_chat: dict[UUID, Glance] = {}
    for chat_id in chat_ids:
        cost, uncounted = money.get(chat_id, (None, 0))
        by_chat[chat_id] = Glance(opening=opening.get(chat_id, ""), cost=cost, unpriced=int(uncounted))
    return Glances(by_chat=MappingProxyType(by_chat), read_at=read_at)


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()
