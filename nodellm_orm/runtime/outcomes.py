"""What came of a call: a value, an error in words for the model and the row, or a reason to stop."""

from __future__ import annotations

import re
import traceback
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath
from typing import TYPE_CHECKING

from nodellm_orm.errors import ToolError
from nodellm_orm.runtime.results import ResultError, encode, truncate
from nodellm_orm.runtime.toolbase import ToolHalt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.ports.statuses import CallStatus

_SECRET = re.compile(
    # A header or a setting by its name, quoted or not: Authorization: Bearer …, "api_key": "…", DB_PASSWORD=…
    r"(?P<name>(?i:(?<![A-Za-z0-9])(?:api[-_]?key|token|secret|password|passwd|pwd|authorization|cookie)"
    r"(?:[-_](?:key|id|value))?[\"']?\s*[:=]\s*))"
    r"(?:(?i:[\"']?(?:bearer|basic|token)\s+)\S+|\"[^\"]*\"|'[^']*'|[^\s&,;]+)"
    r"|(?P<scheme>(?i:\b(?:bearer|basic)\s+))\S+"
    # Keys that tell by their beginning what they are.
    r"|\b(?:sk|pk|rk|xai|gsk|ghp|gho|ghs|github_pat|xox[abp]|hf|r8)[-_][-_A-Za-z0-9]{12,}"
    r"|\bA(?:KIA|SIA)[A-Z0-9]{12,}|\bAIza[-_A-Za-z0-9]{12,}|\beyJ[-_A-Za-z0-9]{8,}\.[-_.A-Za-z0-9]{8,}"
    # What stands before the host of a URL.
    r"|(?<=://)[^/\s]+(?=@)"
)
_READ_CHARS = 200_000
"""More of a message is not looked at: it may be a tool's whole input."""
_MESSAGE_CHARS = 500
_ERROR_CHARS = 4000
_FRAMES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutcome:
    """What came of one call."""

    status: CallStatus
    """``succeeded``, ``failed``, ``halted``, or ``skipped`` for a call that was never meant to run."""
    content: str
    """What the model reads."""
    is_error: bool
    error: str | None = None
    """What people read on the row: where and why it failed."""
    value: object = None
    """What a `ToolHalt` carried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The end of one call."""

    outcome: ToolOutcome | None = None
    fatal: BaseException | None = None
    """What ends the round, and the turn with it."""

    @property
    def failed(self) -> bool:
        """Whether nothing that the tool has written is to stay."""
        return self.outcome is None or self.outcome.is_error


def failed(content: str, error: str | None = None) -> ToolOutcome:
    """A call that did not succeed.

    Args:
        content: what the model is told.
        error: what people are told; the same when there is no more to say.
    """
    return ToolOutcome(status="failed", content=content, is_error=True, error=error or content)


def withdrawn(name: str, error: BaseException | None) -> ToolOutcome:
    """A tool ran, and what it wrote in its own transaction was rolled back when that was to be committed.

    It is not run again by itself: it may have done more than write to the database.

    Args:
        name: the tool's.
        error: what the database said, if it said anything.
    """
    content = (
        f"{name} ran, but what it wrote to the database could not be committed: all of that was rolled back. "
        "Ask for it again, if it is still wanted."
    )
    return failed(content, None if error is None else summary(error))


def returned(value: object, limit: int) -> Conclusion:
    """A tool returned.

    Args:
        value: what it returned; a `ToolHalt` ends the turn.
        limit: characters that the model is given of it.
    """
    if isinstance(value, ToolHalt):
        return Conclusion(outcome=_halted(value, limit))
    try:
        content = encode(value)
    except ResultError as error:
        return Conclusion(outcome=failed(truncate(f"The tool ran, but {redacted(str(error)[:_READ_CHARS])}.", limit)))
    return Conclusion(outcome=ToolOutcome(status="succeeded", content=truncate(content, limit), is_error=False))


def _halted(halt: ToolHalt, limit: int) -> ToolOutcome:
    """A halt halts, whatever it carries: the value itself is handed on, its text is for the history."""
    error = None
    try:
        content = "" if halt.value is None else truncate(encode(halt.value), limit)
    except ResultError as problem:
        content = f"(a {type(halt.value).__name__} that has no JSON form)"
        error = redacted(str(problem)[:_READ_CHARS])
    return ToolOutcome(status="halted", content=content, is_error=False, error=error, value=halt.value)


def raised(error: BaseException, limit: int) -> Conclusion:
    """A tool raised.

    Only ``ToolError(fatal=True)`` and ``KeyboardInterrupt`` end the round. ``SystemExit``, an unasked-for
    ``CancelledError`` and everything else is the tool's own failure, told to the model.

    Args:
        error: as raised; the members of exception groups are looked at one by one.
        limit: characters that the model is given of a halt's value.
    """
    leaves = list(_leaves(error))
    for leaf in leaves:
        if isinstance(leaf, KeyboardInterrupt):
            return Conclusion(fatal=leaf)
    for leaf in leaves:
        if isinstance(leaf, ToolError) and leaf.fatal:
            return Conclusion(outcome=failed(truncate(_told([leaf]), limit), summary(error)), fatal=leaf)
    for leaf in leaves:
        if isinstance(leaf, ToolHalt):
            return Conclusion(outcome=_halted(leaf, limit))
    return Conclusion(outcome=failed(truncate(_told(leaves), limit), summary(error)))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """In order, and without recursion: a group may lie in a group a thousand times."""
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if isinstance(current, BaseExceptionGroup):
            waiting += reversed(current.exceptions)
        else:
            yield current


def _told(leaves: list[BaseException]) -> str:
    """For the model: a `ToolError` in its own words, the rest by class and first line of the message."""
    told = [_words(leaf) if isinstance(leaf, ToolError) else _line(leaf) for leaf in leaves[:_FRAMES]]
    return "; ".join([*told, f"and {len(leaves) - _FRAMES} more"] if len(leaves) > _FRAMES else told)


def _words(error: ToolError) -> str:
    text = str(error)[:_READ_CHARS]
    return redacted(text) if text.strip() else type(error).__name__


def _line(error: BaseException) -> str:
    try:
        lines = str(error)[:_READ_CHARS].strip().splitlines()
    except Exception as broken:  # noqa: BLE001 — a boundary: __str__ of a foreign exception may raise anything
        lines = [f"(its message cannot be read: {type(broken).__name__})"]
    # Redacted before it is cut: half a key does not look like one.
    first = redacted("".join(c if c.isprintable() else " " for c in lines[0])) if lines else ""
    shown = first if len(first) <= _MESSAGE_CHARS else f"{first[:_MESSAGE_CHARS]}…"
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def summary(error: BaseException) -> str:
    """For people: the error, its causes, and the last places it passed; no values of variables, no keys.

    Args:
        error: as raised.
    """
    told: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        told.append(f"{'caused by ' if told else ''}{_line(current)}")
        if isinstance(current, BaseExceptionGroup):
            told += [f"  holds {_line(leaf)}" for leaf in islice(_leaves(current), _FRAMES)]
        frames = traceback.extract_tb(current.__traceback__)[-_FRAMES:]
        told += [f"  at {PurePath(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames]
        context = None if current.__suppress_context__ else current.__context__
        current = current.__cause__ if current.__cause__ is not None else context
    return truncate("\n".join(told), _ERROR_CHARS)


def redacted(text: str) -> str:
    """The text without what looks like a key, a token or the password in a URL.

    Example:
        >>> redacted("GET https://me:pw@host failed with api_key=abc")
        'GET https://[redacted]@host failed with api_key=[redacted]'
    """
    return _SECRET.sub(lambda found: f"{found['name'] or found['scheme'] or ''}[redacted]", text)
