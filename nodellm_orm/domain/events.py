"""What a stream of any wire format says, in one vocabulary; `accumulator.Accumulator` folds it into a `Completion`.

``index`` names the part an event belongs to. Parts appear in the completion in the order of their first event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import FinishReason
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.usage import Usage

PartKey: TypeAlias = int | str
"""Names one part within one response: an index or a wire id, as the wire format has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseStarted:
    """The provider named the model that answers, or its id of the response."""

    model: str | None = None
    response_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """More text."""

    index: PartKey
    text: str = ""
    extra: JsonText | None = None
    """When given, the text part's ``extra`` from now on (the whole object, not a difference)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkingDelta:
    """More thinking; a signature piece is appended to the signature."""

    index: PartKey
    text: str = ""
    signature: str | None = None
    field: str | None = None
    opaque: JsonText | None = None
    """When given, the thinking part's ``opaque`` from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalDelta:
    """More of a refusal."""

    index: PartKey
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallDelta:
    """A tool call begins or goes on; argument pieces are appended."""

    index: PartKey
    wire_id: str | None = None
    name: str | None = None
    arguments: str = ""
    extra: JsonText | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReceived:
    """A part that arrived whole, or the final form of one that arrived in pieces."""

    index: PartKey
    part: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReported:
    """Token counts so far; what is stated replaces what was stated before."""

    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The model stopped."""

    reason: FinishReason
    raw: str | None = None


Event: TypeAlias = (
    ResponseStarted | TextDelta | ThinkingDelta | RefusalDelta | ToolCallDelta | PartReceived | UsageReported | Finished
)
