"""What response headers say about another attempt."""

from __future__ import annotations

import math
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")


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
