"""What the rows are made of: one mixin a table, from which the records, the default ones and a host's own, are made.

A column that text replayed to a provider comes from is a `JsonDocument` or `LongText`; what is compared or indexed is
a `Key`; names that a provider or a program chooses are `Word`s, which are cut rather than refused.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 — SQLAlchemy reads the annotations
from decimal import Decimal  # noqa: TC003 — SQLAlchemy reads the annotations
from typing import TYPE_CHECKING, Final, get_args
from uuid import UUID  # noqa: TC003 — SQLAlchemy reads the annotations

from sqlalchemy import Boolean, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from nodellm_orm.domain.jsontext import JsonText, JsonValue  # noqa: TC001 — SQLAlchemy reads the annotations
from nodellm_orm.domain.messages import MessageStatus, Role
from nodellm_orm.ports.statuses import AttemptStatus, CallStatus, TurnStatus
from nodellm_orm.store.types import (
    Count,
    Id,
    JsonDocument,
    Key,
    Labels,
    LongBlob,
    LongText,
    Money,
    OwnerScope,
    UtcDateTime,
    Word,
)

if TYPE_CHECKING:
    from nodellm_orm.store.naming import Naming, TableArguments

NAME: Final = 255
"""Characters of names and keys: four bytes each still fit an index of every database."""
DIGEST: Final = 64
"""Characters of a SHA-256 in hexadecimal."""
WORD: Final = 32
"""Characters of a status or another word of ours."""
_ZERO: Final = text("0")


class ChatColumns:
    """A conversation, and who is working on it: the row every transaction of a turn locks first."""

    id: Mapped[UUID] = mapped_column(Id)
    """The chat's id (UUIDv7)."""
    owner: Mapped[str | None] = mapped_column(Key(NAME))
    """Whose chat it is; every call must name the same owner. ``NULL``: nobody's."""
    title: Mapped[str | None] = mapped_column(LongText)
    """A title for people."""
    model: Mapped[str | None] = mapped_column(Key(NAME))
    """The model that the next turn asks."""
    provider: Mapped[str | None] = mapped_column(Key(NAME))
    """The provider that the next turn asks."""
    api: Mapped[str | None] = mapped_column(Key(NAME))
    """The wire format the chat is held in, so that a later default never changes its bytes."""
    instructions: Mapped[JsonText] = mapped_column(JsonDocument, default="[]")
    """JSON list of the system texts, in order."""
    settings: Mapped[JsonText] = mapped_column(JsonDocument, default="{}")
    """JSON object of the settings that differ from the defaults."""
    labels: Mapped[dict[str, JsonValue]] = mapped_column("metadata", Labels, default=dict)
    """The host's own metadata (column ``metadata``)."""
    parent_chat_id: Mapped[UUID | None] = mapped_column(Id)
    """The chat this one was forked from; no foreign key, so that each can be deleted alone."""
    fork_position: Mapped[int | None] = mapped_column(Count)
    """Position in the parent up to which messages were copied."""
    active_turn_id: Mapped[UUID | None] = mapped_column(Id)
    """The turn that holds the chat; ``NULL``: it is free; its own id: its deletion has begun, nobody finds it."""
    lease_owner: Mapped[str | None] = mapped_column(Key(NAME))
    """The worker that drives that turn."""
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its lease ends, by the database's clock."""
    fence: Mapped[int] = mapped_column(Count, default=0, server_default=_ZERO)
    """Grows whenever the chat changes hands; a worker with an older one cannot write."""
    next_position: Mapped[int] = mapped_column(Count, default=0, server_default=_ZERO)
    """Position of the next message."""
    step: Mapped[int] = mapped_column(Count, default=0, server_default=_ZERO)
    """Number of durable points applied: tells whether a commit of unknown outcome happened."""
    version: Mapped[int] = mapped_column(Count, default=0, server_default=_ZERO)
    """Grows with every change of the chat's own settings."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When the chat was created."""
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When something last happened in it."""

    if TYPE_CHECKING:
        turns: Mapped[list[TurnColumns]]
        """Its turns in order; load them explicitly."""
        messages: Mapped[list[MessageColumns]]
        """Its messages in order; load them explicitly."""

    @staticmethod
    def table_args(naming: Naming) -> TableArguments:
        """Keys, indexes and options of the table."""
        return naming.arguments(
            naming.primary_key("chats", "id"),
            naming.index("chats", "owner", "created_at", "id"),
            naming.index("chats", "created_at", "id"),
        )


class TurnColumns:
    """One question and everything until its answer."""

    chat_id: Mapped[UUID] = mapped_column(Id)
    """The chat."""
    id: Mapped[UUID] = mapped_column(Id)
    """The turn's id (UUIDv7)."""
    position: Mapped[int] = mapped_column(Count)
    """Order of the turns in the chat."""
    status: Mapped[str] = mapped_column(Key(WORD))
    """``running`` (interrupted, when the lease has ended), ``suspended``, ``completed``, ``failed``, ``cancelled``."""
    reason: Mapped[str | None] = mapped_column(Key(WORD))
    """Why it is suspended (``approval``, ``tool_limit``, ``cost_limit``), or the finish reason; ``released`` while it
    runs: its worker has let go of it."""
    active_slot: Mapped[int | None] = mapped_column(SmallInteger)
    """1 while active, then ``NULL``: unique within the chat, so that two turns can never be active at once."""
    idempotency_key: Mapped[str | None] = mapped_column(Key(NAME))
    """The caller's key, unique within the chat."""
    request_hash: Mapped[str | None] = mapped_column(Key(DIGEST))
    """Digest of the request the key was used for."""
    takeovers: Mapped[int] = mapped_column(Count, default=0, server_default=_ZERO)
    """How often another worker carried the turn on after its worker had died."""
    settings: Mapped[JsonText] = mapped_column(JsonDocument, default="{}")
    """JSON object: model, api, options, digests of instructions and tool schemas (their texts are in ``llm_texts``)."""
    error_type: Mapped[str | None] = mapped_column(Word(NAME))
    """Class name of the error that ended it."""
    error_message: Mapped[str | None] = mapped_column(LongText)
    """Its message."""
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When it began."""
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When it reached a final or suspended status."""

    if TYPE_CHECKING:
        chat: Mapped[ChatColumns]
        """Its chat; load it explicitly."""
        messages: Mapped[list[MessageColumns]]
        """Its messages in order; load them explicitly."""
        tool_calls: Mapped[list[ToolCallColumns]]
        """Its calls; load them explicitly."""
        requests: Mapped[list[RequestColumns]]
        """Its attempts; load them explicitly."""

    @staticmethod
    def table_args(naming: Naming) -> TableArguments:
        """Keys, indexes and options of the table."""
        return naming.arguments(
            naming.primary_key("turns", "chat_id", "id"),
            naming.belongs_to_chat("turns"),
            naming.unique("turns", "chat_id", "active_slot"),
            naming.unique("turns", "chat_id", "idempotency_key"),
            naming.words("turns", "status", get_args(TurnStatus)),
            naming.check("turns", "active_slot", "active_slot = 1"),
            naming.index("turns", "chat_id", "position"),
            naming.index("turns", "active_slot"),
        )


class MessageColumns:
    """One message of the conversation."""

    chat_id: Mapped[UUID] = mapped_column(Id)
    """The chat."""
    position: Mapped[int] = mapped_column(Count)
    """Place in the chat, from 0 without gaps: the only order there is."""
    id: Mapped[UUID] = mapped_column(Id)
    """The message's id (UUIDv7)."""
    turn_id: Mapped[UUID | None] = mapped_column(Id)
    """The turn it belongs to; ``NULL``: added from elsewhere, or copied into a branch."""
    role: Mapped[str] = mapped_column(Key(WORD))
    """``system``, ``user``, ``assistant`` or ``tool``."""
    content: Mapped[str] = mapped_column(LongText)
    """The plain text, for people and SQL; a projection of ``parts``."""
    parts: Mapped[JsonText] = mapped_column(JsonDocument)
    """JSON list of the message's parts, ordered and lossless: what is replayed."""
    status: Mapped[str] = mapped_column(Key(WORD))
    """``complete`` or ``partial`` (the answer was broken off)."""
    finish_reason: Mapped[str | None] = mapped_column(Key(WORD))
    """Why the model stopped, in one vocabulary for all providers."""
    raw_finish_reason: Mapped[str | None] = mapped_column(LongText)
    """The same in the provider's own words."""
    model: Mapped[str | None] = mapped_column(Word(NAME))
    """The model that wrote it."""
    provider: Mapped[str | None] = mapped_column(Key(NAME))
    """The provider it came from."""
    api: Mapped[str | None] = mapped_column(Key(NAME))
    """The wire format it came in."""
    endpoint: Mapped[str | None] = mapped_column(LongText)
    """The base URL it came from: opaque state in it is valid only there."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When it was stored."""
    superseded_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When another message took its place; it is no longer replayed."""

    if TYPE_CHECKING:
        chat: Mapped[ChatColumns]
        """Its chat; load it explicitly."""
        tool_calls: Mapped[list[ToolCallColumns]]
        """The calls it asks for, in order; load them explicitly."""
        thinking: Mapped[list[ThinkingColumns]]
        """Its thinking traces in order; load them explicitly."""
        attachments: Mapped[list[AttachmentColumns]]
        """Its files in order; load them explicitly."""

    @staticmethod
    def table_args(naming: Naming) -> TableArguments:
        """Keys, indexes and options of the table; clustered by position, so that history is one sweep."""
        return naming.arguments(
            naming.primary_key("messages", "chat_id", "position"),
            naming.belongs_to_chat("messages"),
            naming.unique("messages", "chat_id", "id"),
            naming.words("messages", "role", get_args(Role)),
            naming.words("messages", "status", get_args(MessageStatus)),
            naming.index("messages", "chat_id", "turn_id"),
        )


class ToolCallColumns:
    """One call that the model asked for."""

    chat_id: Mapped[UUID] = mapped_column(Id)
    """The chat."""
    id: Mapped[UUID] = mapped_column(Id)
    """The call's id (UUIDv7)."""
    turn_id: Mapped[UUID] = mapped_column(Id)
    """The turn; of a call that a branch has copied, the turn of the chat it was made in."""
    message_id: Mapped[UUID] = mapped_column(Id)
    """The assistant message that asks for it."""
    position: Mapped[int] = mapped_column(Count)
    """Place among the calls of that message, from 0."""
    call_id: Mapped[str] = mapped_column(Key(NAME))
    """Ours, unique in the chat; what is sent back on the wire."""
    wire_id: Mapped[str | None] = mapped_column(LongText)
    """The provider's own id, which may repeat or be missing."""
    name: Mapped[str] = mapped_column(LongText)
    """The tool's name as the model gave it."""
    arguments: Mapped[JsonText] = mapped_column(JsonDocument)
    """The arguments exactly as received; not necessarily valid JSON."""
    status: Mapped[str] = mapped_column(Key(WORD))
    """``pending awaiting_approval running succeeded failed denied skipped halted unknown``."""
    result: Mapped[str | None] = mapped_column(LongText)
    """What the model reads of the outcome."""
    result_message_id: Mapped[UUID | None] = mapped_column(Id)
    """The message that carries the result."""
    error: Mapped[str | None] = mapped_column(LongText)
    """The error behind a failed call, for people."""
    attempts: Mapped[int] = mapped_column(Count, default=0, server_default=_ZERO)
    """How often it was started."""
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When it last started."""
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its outcome was stored."""
    decided_by: Mapped[str | None] = mapped_column(Word(NAME))
    """Who approved or denied it."""
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When that was."""
    approved_sha256: Mapped[str | None] = mapped_column(Key(DIGEST))
    """Digest of the name and the exact arguments that were approved: nothing else runs."""

    if TYPE_CHECKING:
        message: Mapped[MessageColumns]
        """The message that asks for it; load it explicitly."""

    @staticmethod
    def table_args(naming: Naming) -> TableArguments:
        """Keys, indexes and options of the table."""
        return naming.arguments(
            naming.primary_key("tool_calls", "chat_id", "id"),
            naming.belongs_to_chat("tool_calls"),
            naming.unique("tool_calls", "chat_id", "call_id"),
            naming.words("tool_calls", "status", get_args(CallStatus)),
            naming.index("tool_calls", "chat_id", "message_id"),
            naming.index("tool_calls", "chat_id", "turn_id"),
        )


class ThinkingColumns:
    """One trace of the model's thinking."""

    chat_id: Mapped[UUID] = mapped_column(Id)
    """The chat."""
    id: Mapped[UUID] = mapped_column(Id)
    """The trace's id (UUIDv7)."""
    message_id: Mapped[UUID] = mapped_column(Id)
    """The assistant message it belongs to."""
    position: Mapped[int] = mapped_column(Count)
    """Place among the parts of that message."""
    text: Mapped[str] = mapped_column(LongText)
    """The readable thinking."""
    signature: Mapped[str | None] = mapped_column(LongText)
    """The provider's proof that the trace is its own."""
    redacted: Mapped[bool] = mapped_column(Boolean(create_constraint=False))
    """Whether the provider hid the text."""
    opaque: Mapped[JsonText | None] = mapped_column(JsonDocument)
    """The provider's block verbatim, where text and signature do not say it all."""
    tokens: Mapped[int | None] = mapped_column(Count)
    """Thinking tokens, where the provider counts them."""

    @staticmethod
    def table_args(naming: Naming) -> TableArguments:
        """Keys, indexes and options of the table."""
        return naming.arguments(
            naming.primary_key("thinking", "chat_id", "id"),
            naming.belongs_to_chat("thinking"),
            naming.index("thinking", "chat_id", "message_id"),
        )


class RequestColumns:
    """One attempt at a provider, also failed and cancelled ones: the ledger, which outlives the chats."""

    id: Mapped[UUID] = mapped_column(Id)
    """The attempt's id (UUIDv7)."""
    chat_id: Mapped[UUID | None] = mapped_column(Id)
    """The chat it was made for; no foreign key."""
    turn_id: Mapped[UUID | None] = mapped_column(Id)
    """The turn it was made for."""
    message_id: Mapped[UUID | None] = mapped_column(Id)
    """The message that came of it."""
    owner: Mapped[str | None] = mapped_column(Key(NAME))
    """The owner of the chat."""
    labels: Mapped[dict[str, JsonValue]] = mapped_column(Labels, default=dict)
    """A copy of the chat's metadata, so that reports need no join and survive deletion."""
    operation: Mapped[str] = mapped_column(Key(WORD))
    """``chat``, ``embed``, ``image`` …"""
    provider: Mapped[str] = mapped_column(Key(NAME))
    """The provider asked."""
    model: Mapped[str | None] = mapped_column(Word(NAME))
    """The model that answered."""
    requested_model: Mapped[str] = mapped_column(Word(NAME))
    """The model asked for."""
    status: Mapped[str] = mapped_column(Key(WORD))
    """``started``, ``ok``, ``failed``, ``cancelled`` or ``unknown``."""
    http_status: Mapped[int | None] = mapped_column(Count)
    """The HTTP status that arrived."""
    error_type: Mapped[str | None] = mapped_column(Word(NAME))
    """Class name of the error."""
    attempt: Mapped[int] = mapped_column(Count)
    """From 1 within one model round."""
    request_id: Mapped[str | None] = mapped_column(LongText)
    """The provider's own id of the request, for its support."""
    latency_ms: Mapped[int | None] = mapped_column(Count)
    """Milliseconds until the answer was complete."""
    first_token_ms: Mapped[int | None] = mapped_column(Count)
    """Milliseconds until its first event."""
    input_tokens: Mapped[int | None] = mapped_column(Count)
    """All prompt tokens, cached ones included; ``NULL``: the provider did not say."""
    cached_tokens: Mapped[int | None] = mapped_column(Count)
    """Of these, read from the provider's cache."""
    cache_write_tokens: Mapped[int | None] = mapped_column(Count)
    """Of these, written to the cache."""
    output_tokens: Mapped[int | None] = mapped_column(Count)
    """All answer tokens, reasoning included."""
    reasoning_tokens: Mapped[int | None] = mapped_column(Count)
    """Of these, reasoning."""
    other_tokens: Mapped[dict[str, JsonValue]] = mapped_column(Labels, default=dict)
    """Counts of other classes, by name."""
    cost: Mapped[Decimal | None] = mapped_column(Money)
    """US dollars; ``NULL``: the price is unknown."""
    input_cost: Mapped[Decimal | None] = mapped_column(Money)
    """Of these, for the prompt."""
    output_cost: Mapped[Decimal | None] = mapped_column(Money)
    """Of these, for the answer."""
    prices: Mapped[JsonText | None] = mapped_column(JsonDocument)
    """JSON: quantity and unit price by token class, as they were then."""
    price_source: Mapped[str | None] = mapped_column(Word(NAME))
    """``provider``, ``user``, or name and version of a price list."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When the attempt was made."""

    @staticmethod
    def table_args(naming: Naming) -> TableArguments:
        """Keys, indexes and options of the table."""
        return naming.arguments(
            naming.primary_key("requests", "id"),
            naming.words("requests", "status", get_args(AttemptStatus)),
            naming.index("requests", "owner", "created_at"),
            naming.index("requests", "created_at"),
            naming.index("requests", "chat_id", "turn_id"),
        )


class AttachmentColumns:
    """A file given to, or produced by, a model."""

    chat_id: Mapped[UUID] = mapped_column(Id)
    """The chat."""
    id: Mapped[UUID] = mapped_column(Id)
    """The attachment's id; follows from its message and place."""
    message_id: Mapped[UUID] = mapped_column(Id)
    """The message it belongs to."""
    position: Mapped[int] = mapped_column(Count)
    """Place among the parts of that message."""
    kind: Mapped[str] = mapped_column(Key(WORD))
    """``image``, ``audio``, ``video``, ``document`` or ``text``."""
    media_type: Mapped[str] = mapped_column(Word(NAME))
    """Its media type, such as ``image/png``."""
    name: Mapped[str | None] = mapped_column(LongText)
    """Its file name."""
    size: Mapped[int | None] = mapped_column(Count)
    """Bytes."""
    sha256: Mapped[str | None] = mapped_column(Key(DIGEST))
    """Digest of its bytes, which are in ``llm_blobs`` under the chat's owner."""
    url: Mapped[str | None] = mapped_column(LongText)
    """Where it is, when it was given as a URL."""

    @staticmethod
    def table_args(naming: Naming) -> TableArguments:
        """Keys, indexes and options of the table."""
        return naming.arguments(
            naming.primary_key("attachments", "chat_id", "id"),
            naming.belongs_to_chat("attachments"),
            naming.index("attachments", "chat_id", "message_id"),
            naming.index("attachments", "sha256"),
        )


class BlobColumns:
    """The bytes of a file, stored once an owner: shared between owners they would tell that a file exists."""

    owner: Mapped[str | None] = mapped_column(OwnerScope(NAME), nullable=False)
    """Whose file it is; the empty string in the database: nobody's."""
    sha256: Mapped[str] = mapped_column(Key(DIGEST))
    """Digest of the bytes."""
    size: Mapped[int] = mapped_column(Count)
    """Number of bytes."""
    data: Mapped[bytes] = mapped_column(LongBlob)
    """The bytes."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When they were first stored."""

    @staticmethod
    def table_args(naming: Naming) -> TableArguments:
        """Keys, indexes and options of the table."""
        return naming.arguments(naming.primary_key("blobs", "owner", "sha256"))


class TextColumns:
    """A text that many turns refer to by its digest: instructions and tool schemas, stored once an owner."""

    owner: Mapped[str | None] = mapped_column(OwnerScope(NAME), nullable=False)
    """Whose text it is; the empty string in the database: nobody's."""
    sha256: Mapped[str] = mapped_column(Key(DIGEST))
    """Digest of the text."""
    text: Mapped[str] = mapped_column(LongText)
    """The text."""
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """When a turn last brought it: a purge leaves alone what was in use a moment ago."""

    @staticmethod
    def table_args(naming: Naming) -> TableArguments:
        """Keys, indexes and options of the table."""
        return naming.arguments(naming.primary_key("texts", "owner", "sha256"))
