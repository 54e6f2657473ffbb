"""Hooks: functions of the host that are awaited at fixed points of a turn, in the order they were added.

Persistence is never a hook: rows are written whether or not anybody listens. An exception in a hook fails the turn.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from nodellm_orm.errors import ConfigurationError

T = TypeVar("T")

Hook: TypeAlias = Callable[..., object | Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """All hooks of a chat; each may take fewer arguments than it is given."""

    on_new_message: tuple[Hook, ...] = ()
    """An answer begins; given the message it answers."""
    on_end_message: tuple[Hook, ...] = ()
    """A message of the assistant was recorded; given the `Message`."""
    on_tool_call_start: tuple[Hook, ...] = ()
    """Given the `ToolCall` about to run."""
    on_tool_call_end: tuple[Hook, ...] = ()
    """Given the `ToolCall` and its `ToolResult`, after the result was recorded."""
    on_tool_call_error: tuple[Hook, ...] = ()
    """Given the `ToolCall` and the text of the error."""
    before_request: tuple[Hook, ...] = ()
    """Given the `ModelRequest`; may return a replacement."""
    after_response: tuple[Hook, ...] = ()
    """Given the `Completion` before it is recorded; may return a replacement."""


async def call(hooks: tuple[Hook, ...], *arguments: object) -> None:
    """Await every hook in order."""
    for hook in hooks:
        await _call(hook, arguments)


async def transform(hooks: tuple[Hook, ...], value: T) -> T:
    """Pass a value through every hook; what a hook returns takes its place, ``None`` leaves it.

    Raises:
        ConfigurationError: when a hook returns something of another type.
    """
    for hook in hooks:
        replacement = await _call(hook, (value,))
        if replacement is None:
            continue
        if not isinstance(replacement, type(value)):
            msg = (
                f"a hook returned {type(replacement).__name__} where {type(value).__name__} or None is expected; "
                "return dataclasses.replace(value, ...) or nothing"
            )
            raise ConfigurationError(msg)
        value = replacement
    return value


async def _call(hook: Hook, arguments: tuple[object, ...]) -> object:
    outcome = hook(*arguments[: _arity(hook, len(arguments))])
    return await outcome if inspect.isawaitable(outcome) else outcome


def _arity(hook: Hook, given: int) -> int:
    try:
        parameters = inspect.signature(hook).parameters.values()
    except (TypeError, ValueError):
        return given
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return given
    return min(given, sum(p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD} for p in parameters))
