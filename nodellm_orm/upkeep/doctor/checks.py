"""What looking at one thing gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodellm_orm.errors import NodeLLMError

Status: TypeAlias = Literal["ok", "skipped", "warning", "error"]
_LOOK: Final = "see docs/errors.md for this class of error"
_RANKS: Final[dict[Status, int]] = {"ok": 0, "skipped": 0, "warning": 1, "error": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at; no password, key or word of a conversation is in it."""

    name: str
    status: Status
    message: str
    """What was found."""
    remedy: str | None = None
    """What to do, unless it is fine."""


def ok(name: str, message: str) -> Check:
    """It is as it should be, or merely worth knowing."""
    return Check(name=name, status="ok", message=message)


def skipped(name: str, message: str) -> Check:
    """It could not, or need not, be looked at."""
    return Check(name=name, status="skipped", message=message)


def warning(name: str, message: str, remedy: str) -> Check:
    """It works, and will give trouble."""
    return Check(name=name, status="warning", message=message, remedy=remedy)


def error(name: str, message: str, remedy: str) -> Check:
    """It does not work, or loses something."""
    return Check(name=name, status="error", message=message, remedy=remedy)


def told_of(name: str, failure: NodeLLMError) -> Check:
    """The check that ended with an error of ours, whose message says what to do behind its semicolon.

    Args:
        name: of the check.
        failure: the error.

    Example:
        >>> from nodellm_orm.errors import StorageError
        >>> told_of("a", StorageError("it is empty; fill it")).remedy
        'fill it'
    """
    sentence, _, remedy = str(failure).partition("; ")
    return error(name, sentence, remedy or _LOOK)


def severity(checks: Iterable[Check]) -> int:
    """0: all is fine; 1: there are warnings; 2: there are errors.

    Args:
        checks: of any number of things.

    Example:
        >>> severity([ok("a", "fine"), warning("b", "slow", "wait")])
        1
    """
    return max((_RANKS[check.status] for check in checks), default=0)
