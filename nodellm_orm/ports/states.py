"""Chats, turns, calls and attempts as they are stored: what a process reads to carry on."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from nodellm_orm.domain.usage import Usage
from nodellm_orm.domain.windows import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonText, JsonValue
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import ToolCallPart
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.domain.windows import Window
    from nodellm_orm.ports.statuses import AttemptStatus, CallStatus, TurnStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatHead:
    """What belongs to a chat beside its messages."""

    id: UUID
    owner: str | None = None
    title: str | None = None
    provider: str | None = None
    model: str | None = None
    api: str | None = None
    instructions: tuple[str, ...] = ()
    settings: Settings
    metadata: Mapping[str, JsonValue] = field(default_factory=lambda: MappingProxyType({}))
    parent_chat_id: UUID | None = None
    fork_position: int | None = None
    version: int = 0
    """Grows with every change of the above."""
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallState:
    """A stored call and how far it got."""

    id: UUID
    message_id: UUID
    position: int
    call: ToolCallPart
    status: CallStatus
    result: str | None = None
    error: str | None = None
    attempts: int = 0
    answered: bool = False
    decided_by: str | None = None
    """Who approved or denied it."""
    decided_at: datetime | None = None
    approved_sha256: str | None = None
    """What the approval is bound to, see `approval_digest`; ``None``: it is not approved."""
    altered: bool = False
    """Its row and the message that asks for it do not say the same: one of them was changed by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptState:
    """A stored attempt of a turn."""

    id: UUID
    status: AttemptStatus
    attempt: int
    request_id: str | None = None
    message_id: UUID | None = None
    model: str | None = None
    provider: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnState:
    """The last turn of a chat, with what `resume` needs to carry on."""

    id: UUID
    position: int
    status: TurnStatus
    reason: str | None = None
    settings: JsonText = "{}"
    takeovers: int = 0
    error_type: str | None = None
    error_message: str | None = None
    first_position: int = 0
    """Position of the turn's first message."""
    calls: tuple[CallState, ...] = ()
    attempts: tuple[AttemptState, ...] = ()
    lease_until: datetime | None = None
    expired: bool = False
    """Running, but its lease has ended: interrupted."""
    idempotency_key: str | None = None
    request_hash: str | None = None
    spoken: Mapping[UUID, Message] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    """The model's messages in the turn, superseded ones too; only where the turn was read without its chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A chat as stored: everything a process needs to carry on."""

    head: ChatHead
    messages: tuple[Message, ...]
    """In position order; superseded ones are left out, and so are those before ``since``, but for the last summary."""
    message_ids: tuple[UUID, ...]
    fence: int
    next_position: int
    last_turn: TurnState | None = None
    since: int = 0
    """Position from which on every message is there; 0: all are."""
    window: Window = EVERYTHING
    """What was asked for: what is sent under it, or under a narrower one, is there."""
    step: int = 0
    """Grows with every durable point under one fence."""
    retired_call_ids: frozenset[str] = frozenset()
    """Ids of calls whose messages are superseded: no call of the chat may have them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTotals:
    """Sums over the ledger rows of one chat."""

    requests: int = 0
    failures: int = 0
    unpriced: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: Decimal | None = None
    """The sum of the known costs; ``None`` only when none is known."""

    @property
    def input_tokens(self) -> int | None:
        """All prompt tokens."""
        return self.usage.input_tokens

    @property
    def cached_tokens(self) -> int | None:
        """Of these, read from a provider's cache."""
        return self.usage.cached_tokens

    @property
    def cache_write_tokens(self) -> int | None:
        """Of these, written to a cache."""
        return self.usage.cache_write_tokens

    @property
    def output_tokens(self) -> int | None:
        """All answer tokens."""
        return self.usage.output_tokens

    @property
    def reasoning_tokens(self) -> int | None:
        """Of these, reasoning."""
        return self.usage.reasoning_tokens
