"""What a caller gets: the `Reply` of a turn and the `Chunk`s of a stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from decimal import Decimal
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import FinishReason, Message
    from nodellm_orm.domain.ratelimit import RateLimits
    from nodellm_orm.domain.usage import Usage

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinking:
    """The thinking of an answer."""

    text: str
    signature: str | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call the model asked for, with what came of it."""

    call_id: str
    name: str
    arguments: JsonText
    result: str | None = None
    is_error: bool = False
    status: str = "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a finished call gave, as the model reads it."""

    call_id: str
    name: str
    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Generic[T]):
    """The answer of one turn: its last message, everything that led to it, and what it cost."""

    content: str
    message: Message | None
    turn_id: UUID
    usage: Usage
    finish_reason: FinishReason
    cost: Decimal | None = None
    """US dollars over all rounds; ``None`` when a price is unknown, never 0."""
    thinking: Thinking | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    """All calls of the turn, with results."""
    parsed: T | None = None
    model: str | None = None
    provider: str | None = None
    request_ids: tuple[str, ...] = ()
    value: object = None
    """What a `ToolHalt` carried."""
    rate_limits: RateLimits | None = field(default=None, compare=False)
    """What the provider's last response to this process said of its limits; ``None`` where it said nothing, and for
    a reply that comes from the rows: they are of a moment, and not stored."""

    def __str__(self) -> str:
        """The text of the answer."""
        return self.content


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One piece of a stream; text is never repeated."""

    content: str = ""
    thinking: str = ""
    tool_call: ToolCall | None = None
    tool_result: ToolResult | None = None
    usage: Usage | None = None
    finish_reason: FinishReason | None = field(default=None)
