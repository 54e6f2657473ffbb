"""Messages: who spoke, in which parts, and where the words came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeAlias

from nodellm_orm.domain.parts import (
    NOT_KEPT,
    MediaPart,
    RefusalPart,
    SummaryPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)

if TYPE_CHECKING:
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.ratelimit import RateLimits
    from nodellm_orm.domain.usage import Usage

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
MessageStatus: TypeAlias = Literal["complete", "partial"]


class FinishReason(StrEnum):
    """Why a model stopped, or why a turn did, in one vocabulary for all providers."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALL = "tool_call"
    CONTENT_FILTER = "content_filter"
    SUMMARY = "summary"
    """The message is no answer but a summary of others (`Chat.compact`)."""
    PAUSE = "pause"
    """The provider paused a long answer; the same history sent again continues it."""
    ERROR = "error"
    UNKNOWN = "unknown"
    APPROVAL = "approval"
    TOOL_LIMIT = "tool_limit"
    COST_LIMIT = "cost_limit"
    HALT = "halt"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an assistant message was made: opaque state in it is valid only there."""

    provider: str
    api: str
    """Wire format, for instance ``anthropic``."""
    endpoint: str
    """Base URL, the scope in which signatures and ids hold."""
    model: str

    def shares_state_with(self, other: Origin) -> bool:
        """Whether signatures, encrypted blocks and opaque parts made here may be sent there."""
        return (self.provider, self.api, self.endpoint) == (other.provider, other.api, other.endpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation, immutable and lossless."""

    role: Role
    parts: tuple[Part, ...]
    status: MessageStatus = "complete"
    """``partial``: the answer was broken off; only its text is replayed."""
    position: int | None = None
    """Place in the chat, from 0 without gaps; ``None`` until it has been recorded."""
    finish_reason: FinishReason | None = None
    raw_finish_reason: str | None = None
    origin: Origin | None = None

    @property
    def content(self) -> str:
        """The text of the message: for people, search and replies."""
        texts = [part.text for part in self.parts if isinstance(part, TextPart | SummaryPart)]
        if not texts:
            texts = [part.content for part in self.parts if isinstance(part, ToolResultPart)]
        return "".join(texts)

    @property
    def kept(self) -> bool:
        """Whether what was said is here; if not, only that something was said has been stored (see `Persistence`)."""
        return NOT_KEPT not in self.parts

    @property
    def thinking(self) -> str:
        """The readable thinking of the message."""
        return "".join(part.text for part in self.parts if isinstance(part, ThinkingPart))

    @property
    def refusal(self) -> str:
        """The words of a refusal, empty when there is none."""
        return "".join(part.text for part in self.parts if isinstance(part, RefusalPart))

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The calls the model asks for, in its order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))

    @property
    def tool_results(self) -> tuple[ToolResultPart, ...]:
        """The results this message carries."""
        return tuple(part for part in self.parts if isinstance(part, ToolResultPart))


def user(text: str) -> Message:
    """A user message of plain text."""
    return Message(role="user", parts=(TextPart(text=text),))


def asked_of(model: Origin, parts: tuple[Part, ...], position: int | None = None) -> Message:
    """A user's message; with a file that the provider has under a name of its own, it says at which one that is.

    Args:
        model: who is asked.
        parts: what is asked.
        position: its place in the chat.
    """
    bound = any(isinstance(part, MediaPart) and part.file_id is not None for part in parts)
    return Message(role="user", parts=parts, position=position, origin=model if bound else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer of a model, parsed from a body or folded from a stream: both give the same value."""

    parts: tuple[Part, ...]
    finish_reason: FinishReason
    usage: Usage
    raw_finish_reason: str | None = None
    model: str | None = None
    """The model that answered, as the provider names it."""
    response_id: str | None = None
    complete: bool = True
    """``False`` for what had arrived of a broken stream."""
    rate_limits: RateLimits | None = field(default=None, compare=False)
    """What the response's headers say of the provider's limits; no part of the answer itself."""

    @property
    def text(self) -> str:
        """All text parts joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The calls asked for, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCallPart))
