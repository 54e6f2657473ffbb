"""Reading for people: one chat with everything that happened in it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import select

from nodellm_orm.domain.money import add
from nodellm_orm.store.access import open_access
from nodellm_orm.store.attachments import files_in
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.guard import chat_parameters, not_found, of_chat
from nodellm_orm.store.mapping import head_of, message_of, usage_of
from nodellm_orm.store.records import RECORDS

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
REFUSED = 400
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

    id: UUID
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
    settings: JsonText
    """What it was asked with, see `runtime.identity`."""
    idempotency_key: str | None

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
    message_id: UUID | None
    """The answer; ``None``: there is none, or it said nothing."""
    input_cost: Decimal | None
    output_cost: Decimal | None
    prices: JsonText | None
    """Quantity and unit price by class of tokens."""

    @property
    def unpriced(self) -> bool:
        """Whether it may have cost something that is not known; what the provider refused costs nothing."""
        return self.cost is None and (self.http_status or 0) < REFUSED


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
    return await open_access(session, records).read(lambda connection: details_of(connection, tables, chat_id, owner))


def details_of(connection: Connection, tables: Tables, chat_id: UUID, owner: Owner) -> ChatDetails:
    """One chat in full, see `read_details`."""
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
    thinking = by_message(content("thinking", "position"), thinking_of)
    calls = by_message(content("tool_calls", "position"), call_details_of)
    messages = [(row, message_of(row)) for row in content("messages", "position")]
    given = any(files_in(message) for _, message in messages)
    attachments = by_message(content("attachments", "position") if given else (), attachment_of)
    return ChatDetails(
        head=head_of(sealer.opened("chats", chat, owner=whose, key=chat_id)),
        turns=tuple(turn_details_of(row, expired=bool(chat["lease_expired"])) for row in turns),
        messages=tuple(message_details_of(row, thinking, calls, attachments, message) for row, message in messages),
        requests=tuple(request_of(row) for row in rows(tables.requests, "id")),
        read_at=chat["read_at"],
    )


def message_details_of(
    row: Stored,
    thinking: Mapping[UUID, Sequence[ThinkingDetails]],
    calls: Mapping[UUID, Sequence[CallDetails]],
    attachments: Mapping[UUID, Sequence[AttachmentDetails]],
    message: Message | None = None,
) -> MessageDetails:
    """A message's row together with what belongs to it.

    Args:
        row: the row, opened.
        thinking: traces by message.
        calls: calls by message.
        attachments: files by message.
        message: what the row says, where that has been read already.
    """
    return MessageDetails(
        id=row["id"],
        turn_id=row["turn_id"],
        message=message_of(row) if message is None else message,
        thinking=tuple(thinking.get(row["id"], ())),
        calls=tuple(calls.get(row["id"], ())),
        attachments=tuple(attachments.get(row["id"], ())),
        created_at=row["created_at"],
        superseded_at=row["superseded_at"],
    )


def by_message(rows: Iterable[Stored], read: Callable[[Stored], Any]) -> Mapping[UUID, list[Any]]:
    """Values of rows by the message they belong to."""
    grouped: defaultdict[UUID, list[Any]] = defaultdict(list)
    for row in rows:
        grouped[row["message_id"]].append(read(row))
    return grouped


def thinking_of(row: Stored) -> ThinkingDetails:
    """The trace of a row."""
    return ThinkingDetails(text=row["text"], redacted=row["redacted"], tokens=row["tokens"])


def call_details_of(row: Stored) -> CallDetails:
    """The call of a row, opened."""
    return CallDetails(**{name: row[name] for name in CallDetails.__dataclass_fields__})


def attachment_of(row: Stored) -> AttachmentDetails:
    """The file of a row."""
    return AttachmentDetails(**{name: row[name] for name in AttachmentDetails.__dataclass_fields__})


def turn_details_of(row: Stored, *, expired: bool) -> TurnDetails:
    """The turn of a row, opened; a running one is interrupted when the lease of its chat has expired."""
    status = "interrupted" if row["status"] == "running" and expired else row["status"]
    return TurnDetails(**{**{name: row[name] for name in TurnDetails.__dataclass_fields__}, "status": status})


def request_of(row: Stored) -> RequestDetails:
    """The attempt of a row."""
    plain = RequestDetails.__dataclass_fields__.keys() - {"usage"}
    usage = usage_of(row, row["other_tokens"], None)
    return RequestDetails(**{name: row[name] for name in plain}, usage=usage)


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()
