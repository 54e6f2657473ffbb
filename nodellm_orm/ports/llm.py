"""The neutral completion interface: anything with one ``complete`` method can stand behind a chat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMMessage:
    """One message of a neutral completion."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMTool:
    """A tool offered to a neutral completion."""

    name: str
    description: str
    input_schema: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMToolCall:
    """A call the model asked for."""

    name: str
    input: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMUsage:
    """Tokens as the server reported them."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMCompleteResult:
    """What a neutral completion gives."""

    text: str
    tool_calls: Sequence[LLMToolCall] | None = None
    usage: LLMUsage | None = None
    stop_reason: str | None = None


@runtime_checkable
class LLMClient(Protocol):
    """Anything that can answer a list of messages."""

    async def complete(
        self,
        *,
        model: str,
        messages: Sequence[LLMMessage],
        system: str | None = None,
        tools: Sequence[LLMTool] | None = None,
        max_tokens: int | None = None,
    ) -> LLMCompleteResult:
        """Answer the messages."""
        ...
