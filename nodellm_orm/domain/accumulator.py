"""Fold the events of a stream into the `Completion` that the unstreamed body would have given."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, assert_never

from nodellm_orm.domain.events import (
    Finished,
    PartReceived,
    RefusalDelta,
    ResponseStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UsageReported,
)
from nodellm_orm.domain.jsontext import JsonTextError, join_surrogates, loads
from nodellm_orm.domain.messages import Completion, FinishReason
from nodellm_orm.domain.parts import RefusalPart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.domain.usage import Usage

if TYPE_CHECKING:
    from nodellm_orm.domain.events import Event, PartKey
    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.parts import Part


@dataclass(slots=True)
class _Piecewise:
    """A part that arrives in pieces: pieces are joined once, at the end."""

    kind: type[TextPart | ThinkingPart | RefusalPart | ToolCallPart]
    pieces: list[str] = field(default_factory=list)
    signature: list[str] = field(default_factory=list)
    signed: bool = False
    wire_id: str | None = None
    name: str = ""
    wire_field: str | None = None
    opaque: JsonText | None = None
    extra: JsonText | None = None

    def whole(self) -> Part:
        text = join_surrogates("".join(self.pieces))
        if self.kind is TextPart:
            return TextPart(text=text, extra=self.extra)
        if self.kind is RefusalPart:
            return RefusalPart(text=text)
        if self.kind is ThinkingPart:
            signature = "".join(self.signature) if self.signed else None
            return ThinkingPart(text=text, signature=signature, field=self.wire_field, opaque=self.opaque)
        return ToolCallPart(
            call_id=self.wire_id or "", wire_id=self.wire_id, name=self.name, arguments=text, extra=self.extra
        )

    @property
    def empty(self) -> bool:
        """Whether nothing was said in it: such a part does not exist in an unstreamed body either."""
        if self.kind is ToolCallPart:
            return not (self.name or self.wire_id or any(self.pieces))
        return not (any(self.pieces) or self.signed or self.opaque or self.extra)


class Accumulator:
    """Collects the events of one response.

    Example:
        >>> folded = Accumulator()
        >>> folded.add(TextDelta(index=0, text="Hi"))
        >>> folded.completion().text
        'Hi'
    """

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._parts: dict[PartKey, _Piecewise | Part] = {}
        self._usage = Usage()
        self._finish: Finished | None = None
        self._model: str | None = None
        self._response_id: str | None = None

    @property
    def response_id(self) -> str | None:
        """The provider's id of the response, once it is known."""
        return self._response_id

    def add(self, event: Event) -> None:
        """Take in the next event."""
        match event:
            case TextDelta():
                part = self._piecewise(event.index, TextPart)
                part.pieces.append(event.text)
                part.extra = event.extra if event.extra is not None else part.extra
            case ThinkingDelta():
                part = self._piecewise(event.index, ThinkingPart)
                part.pieces.append(event.text)
                if event.signature is not None:
                    part.signed = True
                    part.signature.append(event.signature)
                part.wire_field = event.field or part.wire_field
                part.opaque = event.opaque if event.opaque is not None else part.opaque
            case RefusalDelta():
                self._piecewise(event.index, RefusalPart).pieces.append(event.text)
            case ToolCallDelta():
                part = self._piecewise(event.index, ToolCallPart)
                part.pieces.append(event.arguments)
                part.wire_id = event.wire_id or part.wire_id
                part.name = event.name or part.name
                part.extra = event.extra if event.extra is not None else part.extra
            case PartReceived():
                self._parts[event.index] = event.part
            case UsageReported():
                self._usage = self._usage.updated(event.usage)
            case Finished():
                self._finish = event
            case ResponseStarted():
                self._model = event.model or self._model
                self._response_id = event.response_id or self._response_id
            case _:
                assert_never(event)

    def _piecewise(
        self, index: PartKey, kind: type[TextPart | ThinkingPart | RefusalPart | ToolCallPart]
    ) -> _Piecewise:
        part = self._parts.get(index)
        if isinstance(part, _Piecewise):
            return part
        fresh = _Piecewise(kind)
        self._parts[index] = fresh
        return fresh

    def completion(self, *, complete: bool = True) -> Completion:
        """What has arrived so far, as one answer.

        Args:
            complete: ``False`` when the stream broke off: calls in it are marked truncated.
        """
        parts = tuple(
            part.whole() if isinstance(part, _Piecewise) else part
            for part in self._parts.values()
            if not (isinstance(part, _Piecewise) and part.empty)
        )
        finish = self._finish or Finished(reason=FinishReason.UNKNOWN)
        if not complete:
            parts = tuple(replace(p, truncated=True) if isinstance(p, ToolCallPart) else p for p in parts)
        reason, parts = _settle(finish.reason, parts)
        return Completion(
            parts=tuple(_with_arguments(part) for part in parts),
            finish_reason=reason,
            raw_finish_reason=finish.raw,
            usage=self._usage,
            model=self._model,
            response_id=self._response_id,
            complete=complete,
        )


def _settle(reason: FinishReason, parts: tuple[Part, ...]) -> tuple[FinishReason, tuple[Part, ...]]:
    """Derive the finish reason from the parts where providers' own words cannot be trusted.

    A filter or refusal outranks tool calls, tool calls outrank ``length``, and ``length`` outranks ``stop``. When the
    answer was cut off inside a call's arguments, that call is marked and the reason stays ``length``.
    """
    if any(isinstance(part, RefusalPart) for part in parts) and reason is not FinishReason.TOOL_CALL:
        return FinishReason.CONTENT_FILTER, parts
    if reason in {FinishReason.CONTENT_FILTER, FinishReason.ERROR, FinishReason.PAUSE}:
        return reason, parts
    if reason is FinishReason.LENGTH:
        parts = tuple(
            replace(p, truncated=True) if isinstance(p, ToolCallPart) and not _is_json(p.arguments) else p
            for p in parts
        )
        if any(isinstance(part, ToolCallPart) and part.truncated for part in parts):
            return reason, parts
    if any(isinstance(part, ToolCallPart) for part in parts):
        return FinishReason.TOOL_CALL, parts
    return (FinishReason.STOP if reason is FinishReason.TOOL_CALL else reason), parts


def _with_arguments(part: Part) -> Part:
    """Nothing at all stands for no arguments, once it is known that they were not merely cut off."""
    if isinstance(part, ToolCallPart) and not part.arguments:
        return replace(part, arguments="{}")
    return part


def _is_json(text: str) -> bool:
    try:
        loads(text)
    except JsonTextError:
        return False
    return True
