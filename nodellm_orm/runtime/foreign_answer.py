"""What a foreign client gave, read with suspicion: anything can come from somebody else's code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from nodellm_orm.domain.events import Finished, PartReceived, ResponseStarted, UsageReported
from nodellm_orm.domain.jsontext import JsonTextError, dumps
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import TextPart, ToolCallPart
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import ProtocolError

if TYPE_CHECKING:
    from nodellm_orm.domain.events import Event

Wrong: TypeAlias = Callable[[str], NoReturn]
"""Raises what is to be said of a result that is not one."""

_WORDS: Final = {
    FinishReason.STOP: "stop end_turn stop_sequence completed complete eos",
    FinishReason.LENGTH: "length max_tokens max_output_tokens model_length model_context_window_exceeded",
    FinishReason.TOOL_CALL: "tool_calls tool_use tool_call function_call",
    FinishReason.CONTENT_FILTER: "content_filter content_filtered refusal safety guardrail_intervened",
    FinishReason.ERROR: "error",
}
_REASONS: Final = MappingProxyType({word: reason for reason, words in _WORDS.items() for word in words.split()})
"""The words of the providers that foreign clients may stand for, in lower case."""
_COUNTS: Final = ("input_tokens", "output_tokens")
_MOST: Final = 10**15
"""More tokens than this are none: no column would hold them."""


def events_of(result: object, *, provider: str, model: str) -> list[Event]:
    """The events of an answer that came as a whole.

    Args:
        result: what ``complete`` gave: an `LLMCompleteResult`, or an object with its attributes.
        provider: what the client is called.
        model: the model it was asked for.

    Raises:
        ProtocolError: it is something else; says what ``complete`` has to return.
    """
    read = _read(result, provider)
    events: list[Event] = [ResponseStarted(model=model)]
    if read.text:
        events.append(PartReceived(index="text", part=TextPart(text=read.text)))
    for place, (name, arguments) in enumerate(read.calls):
        part = ToolCallPart(call_id="", name=name, arguments=arguments)
        events.append(PartReceived(index=place, part=part))
    word = read.stop_reason
    reason = FinishReason.STOP if word is None else _REASONS.get(word.lower(), FinishReason.UNKNOWN)
    return [*events, UsageReported(usage=read.usage), Finished(reason=reason, raw=word)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    text: str
    calls: tuple[tuple[str, str], ...]
    usage: Usage
    stop_reason: str | None


def _read(result: object, provider: str) -> _Result:
    """What a foreign client gave, once it is known to be what it should be."""

    def wrong(what: str) -> NoReturn:
        msg = f"{provider}.complete() gave {what}; it has to return LLMCompleteResult(text=..., tool_calls=..., ...)"
        raise ProtocolError(msg, provider=provider, retryable=False)

    text, stop = getattr(result, "text", None), getattr(result, "stop_reason", None)
    if not isinstance(text, str):
        wrong(f"{type(result).__name__} without a text" if result is not None else "None")
    if stop is not None and not isinstance(stop, str):
        wrong(f"a stop_reason that is {type(stop).__name__}")
    calls = getattr(result, "tool_calls", None)
    if calls is not None and (isinstance(calls, str | Mapping) or not isinstance(calls, Sequence)):
        wrong(f"tool_calls that are {type(calls).__name__}")
    return _Result(
        text=text,
        calls=tuple(_call(call, wrong) for call in calls or ()),
        usage=_usage(getattr(result, "usage", None), wrong),
        stop_reason=stop,
    )


def _call(call: object, wrong: Wrong) -> tuple[str, str]:
    name, given = getattr(call, "name", None), getattr(call, "input", None)
    if not isinstance(name, str) or not name or not isinstance(given, Mapping):
        wrong("a tool call without a name, or whose input is no mapping")
    try:
        return name, dumps(dict(given))
    except (JsonTextError, TypeError, ValueError):
        wrong(f"a call of {name!r:.100} whose input is not JSON")


def _usage(usage: object, wrong: Wrong) -> Usage:
    if usage is None:
        return Usage()
    if not all(hasattr(usage, name) for name in _COUNTS):
        wrong(f"a usage that is {type(usage).__name__}, not LLMUsage")
    counts = [getattr(usage, name) for name in _COUNTS]
    for count in counts:
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= _MOST):
            wrong("a usage whose counts are no whole numbers from 0 on")
    return Usage(input_tokens=counts[0], output_tokens=counts[1])
