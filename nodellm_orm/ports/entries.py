"""What one durable point writes: a tuple of these, applied in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from nodellm_orm.domain.money import UNKNOWN_COST
from nodellm_orm.domain.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.money import Cost
    from nodellm_orm.domain.parts import ToolCallPart
    from nodellm_orm.ports.statuses import AttemptStatus, CallStatus, TurnStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOpened:
    """A turn begins; only in `Journal.begin`."""

    id: UUID
    settings: JsonText
    """Model, api, options and digests of instructions and tools: what replay compares."""
    texts: tuple[str, ...] = ()
    """Instructions and tool schemas whose digests are in ``settings``; each is stored once an owner."""
    idempotency_key: str | None = None
    request_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOpened:
    """A request is about to be sent; written before it is, so that a call of unknown outcome is visible."""

    id: UUID
    provider: str
    requested_model: str
    attempt: int
    """From 1 within one model round."""
    operation: str = "chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptClosed:
    """What came of an attempt, with its money."""

    id: UUID
    status: AttemptStatus
    http_status: int | None = None
    error_type: str | None = None
    request_id: str | None = None
    model: str | None = None
    message_id: UUID | None = None
    latency_ms: int | None = None
    first_token_ms: int | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Cost = UNKNOWN_COST


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageAdded:
    """A message enters the history; ``message.position`` is set and equals the chat's next free position."""

    id: UUID
    message: Message
    thinking_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRevised:
    """A message that was stored while it grew: it has more text now, or its final form; its place stays the same."""

    id: UUID
    message: Message
    thinking_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSuperseded:
    """Another message takes this one's place: it stays in the rows and is no longer replayed."""

    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySuperseded:
    """All messages from a place on that are there before this point: they stay in the rows, and are not replayed."""

    first: int
    """Position of the first message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOpened:
    """A call of the assistant message just added."""

    id: UUID
    message_id: UUID
    position: int
    """Place of the call within its message, from 0."""
    call: ToolCallPart
    status: CallStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted:
    """A pending call starts to run."""

    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFinished:
    """What came of a call: the text the model will read, and for people the error behind it."""

    id: UUID
    status: CallStatus
    result: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAnswered:
    """The message that carries a call's result was added in this point."""

    id: UUID
    result_message_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnded:
    """The turn reaches a final or suspended status; ownership of the chat is released."""

    status: TurnStatus
    reason: str | None = None
    """Why a turn is suspended (``approval``, ``tool_limit``, ``cost_limit``), or the finish reason."""
    error_type: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnReleased:
    """The worker lets go of a turn that goes on: it counts as interrupted at once, and whoever comes next takes it."""


Entry: TypeAlias = (
    AttemptOpened
    | AttemptClosed
    | MessageAdded
    | MessageRevised
    | MessageSuperseded
    | HistorySuperseded
    | CallOpened
    | CallStarted
    | CallFinished
    | CallAnswered
    | TurnEnded
    | TurnReleased
)


def first_position(entries: Iterable[Entry]) -> tuple[int | None, int]:
    """Where the messages among entries begin, and how many there are.

    Args:
        entries: entries of one point.

    Raises:
        ValueError: positions are missing or do not follow each other; a mistake of the caller.
    """
    positions = [entry.message.position for entry in entries if isinstance(entry, MessageAdded)]
    if not positions:
        return None, 0
    first = positions[0]
    if first is None or positions != list(range(first, first + len(positions))):
        msg = f"positions {positions} of the messages of one point do not follow each other"
        raise ValueError(msg)
    return first, len(positions)
