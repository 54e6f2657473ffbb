"""What response headers, and a provider's words, say about another attempt."""

from __future__ import annotations

import math
import re
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_PIECE: Final = (
    r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,9})?)\s?"
    r"(?P<unit>ms|milliseconds?|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d)(?![a-z])"
)
_EACH: Final = re.compile(_PIECE, re.IGNORECASE)
_ONE: Final = re.sub(r"\(\?P<\w+>", "(?:", _PIECE)
_SAID: Final = re.compile(
    r"\b(?:try again|retry|wait)(?: again)?(?: in| after| for| at least)? "
    rf"(?P<wait>{_ONE}(?:(?:,? and |, ?| )?{_ONE})*)",
    re.IGNORECASE,
)
_SECONDS: Final[Mapping[str, float]] = MappingProxyType({"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0})
"""By the first letter of a unit, but for milliseconds."""


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds after which the provider allows another attempt.

    ``retry-after-ms`` goes before ``retry-after``. Zero is no hint: Azure sends ``retry-after-ms: 0`` beside a
    ``retry-after`` that means it. A date counts from the response's own ``date`` header.

    Args:
        headers: of the response.

    Returns:
        A finite number above 0, or ``None`` where the headers say nothing that makes sense.
    """
    lowered = {name.lower(): value.strip() for name, value in headers.items()}
    milliseconds = _number(lowered.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    after = lowered.get("retry-after", "")
    seconds = _number(after)
    if seconds is not None or _NUMBER.fullmatch(after):
        return seconds
    until, now = date_of(after), date_of(lowered.get("date", ""))
    wait = (until - now).total_seconds() if until is not None and now is not None else 0.0
    return wait if wait > 0 else None


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """What ``x-should-retry`` says; ``None`` where it says nothing.

    Args:
        headers: of the response.
    """
    words = {"true": True, "false": False}
    said = (value for name, value in headers.items() if name.lower() == "x-should-retry")
    return words.get(next(said, "").strip().lower())


def wait_said(words: str) -> float | None:
    """Seconds after which a provider says, in words, that another attempt may be made.

    Args:
        words: of its error, such as "Please try again in 6m0s".

    Returns:
        A number above 0, or ``None`` where the words name no time.

    Example:
        >>> wait_said("Rate limit reached. Please try again in 1.2s. Visit the docs"), wait_said("Try again later")
        (1.2, None)
    """
    found = _SAID.search(words)
    pieces = _EACH.findall(found["wait"]) if found is not None else ()
    seconds = math.fsum(float(number) * _unit(unit.lower()) for number, unit in pieces)
    return seconds if seconds > 0 else None


def _unit(name: str) -> float:
    return _SECONDS["ms" if name == "ms" or name.startswith("milli") else name[0]]


def _number(text: str) -> float | None:
    value = float(text) if _NUMBER.fullmatch(text) else 0.0
    return value if math.isfinite(value) and value > 0 else None


def date_of(text: str) -> datetime | None:
    """The moment that an HTTP date stands for; ``None`` for anything else.

    Args:
        text: the value of a header.
    """
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # A date without a zone is not an HTTP date, and cannot be counted from.
    return moment if moment.tzinfo is not None else None
