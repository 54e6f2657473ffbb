"""What response headers say of rate limits, whichever provider sends them.

=============================================================  ======================================================
``x-ratelimit-{limit,remaining,reset}-{requests,tokens}``      OpenAI and most look-alikes; resets like ``1m25.803s``
the same with ``renewalperiod``, resets in bare seconds        Azure
``x-ratelimit-{limit,remaining}-{req,tokens}-{minute,month}``  Mistral, with the window in the name
``x-ratelimit-{limit,remaining,reset}``                        OpenRouter; resets as milliseconds since 1970
``anthropic-ratelimit-{requests,…}-{limit,remaining,reset}``   Anthropic; resets as RFC 3339 times
=============================================================  ======================================================
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, loads
from nodellm_orm.domain.ratelimit import RateLimit, RateLimits
from nodellm_orm.wire.hints import date_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES: Final = (
    re.compile(r"(?:x-)?ratelimit-(?P<field>limit|remaining|reset|renewalperiod)(?:-(?P<what>.+))?"),
    re.compile(r"anthropic-(?:ratelimit-|(?=priority-))(?P<what>.+)-(?P<field>limit|remaining|reset)"),
)
_WINDOWED: Final = re.compile(r"(?P<what>.+)-(?P<window>second|minute|hour|day|month)")
_SECONDS: Final[Mapping[str, float]] = MappingProxyType({"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0})
"""A month has no fixed length."""
_MAIN: Final = frozenset({"requests", "tokens", "input_tokens", "output_tokens"})
_SYNONYMS: Final[Mapping[str, str]] = MappingProxyType({"req": "requests", "request": "requests"})
_COUNT: Final = re.compile(r"-?[0-9]{1,19}(?=$|[.,;\s])")
_NUMBER: Final = re.compile(r"[0-9]{1,16}(?:\.[0-9]*)?")
_DURATION: Final = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]*)?(?:ms|us|µs|ns|[dhms]))+")
_PIECE: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ms|us|µs|ns|[dhms])")
_UNITS: Final[Mapping[str, float]] = MappingProxyType(
    {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
)
_EPOCH_SECONDS: Final = 1e9
"""A bare number from here on is a time, not a duration: 31 years would be a long wait."""
_EPOCH_MILLISECONDS: Final = 1e11
_LATEST: Final = 4e9
"""In the year 2096: numbers beyond mean something else."""


def rate_limits_of(headers: Mapping[str, str]) -> RateLimits | None:
    """The rate limits that a response tells of.

    Of several windows the shortest is the main one, for it is met first; the others keep the window in their names.

    Args:
        headers: of the response; its ``date`` is what times are counted from.

    Returns:
        ``None`` where the headers say nothing of them.

    Example:
        >>> rate_limits_of({"x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-requests": "6m0s"}).requests
        RateLimit(limit=None, remaining=9, reset_after=360.0, reset_at=None, window=None)
    """
    lowered = {name.lower(): value.strip() for name, value in headers.items()}
    now = date_of(lowered.get("date", ""))
    main: dict[str, RateLimit] = {}
    others: dict[str, RateLimit] = {}
    for (what, window), said in sorted(_gathered(lowered).items(), key=_by_window):
        limit = _limit(said, _SECONDS.get(window), now)
        if (limit.limit, limit.remaining, limit.reset_after, limit.reset_at) == (None,) * 4:
            continue
        if what in _MAIN and what not in main:
            main[what] = limit
        else:
            others.setdefault(what if what not in {*main, *others} else f"{what}_{window}", limit)
    if not main and not others:
        return None
    return RateLimits(**main, others=others)


def _gathered(headers: Mapping[str, str]) -> dict[tuple[str, str], dict[str, str]]:
    """What is said, by allowance and window."""
    gathered: dict[tuple[str, str], dict[str, str]] = {}
    for name, value in headers.items():
        found = next(filter(None, (pattern.fullmatch(name) for pattern in _NAMES)), None)
        if found is None:
            continue
        what, window = found["what"] or "requests", ""
        if windowed := _WINDOWED.fullmatch(what):
            what, window = windowed["what"], windowed["window"]
        what = _SYNONYMS.get(what, what).replace("-", "_")
        gathered.setdefault((what, window), {})[found["field"]] = value
    return gathered


def _by_window(item: tuple[tuple[str, str], object]) -> tuple[str, float]:
    (what, window), _ = item
    return what, _SECONDS.get(window, math.inf) if window else 0.0


def _limit(said: Mapping[str, str], window: float | None, now: datetime | None) -> RateLimit:
    after, at = _reset(said.get("reset", ""), now)
    period = said.get("renewalperiod", "")
    return RateLimit(
        limit=_count(said.get("limit", "")),
        remaining=_count(said.get("remaining", "")),
        reset_after=after,
        reset_at=at,
        window=float(period) if _NUMBER.fullmatch(period) else window,
    )


def _count(text: str) -> int | None:
    found = _COUNT.match(text)
    return max(0, int(found[0])) if found else None  # below 0: more was used than there is


def _reset(text: str, now: datetime | None) -> tuple[float | None, datetime | None]:
    """When all of it is there again, in seconds from the response and as a time."""
    after, at = _duration(text), None
    if after is None:
        at = _time(text)
        after = max(0.0, (at - now).total_seconds()) if at is not None and now is not None else None
    elif now is not None:
        at = now + timedelta(seconds=after)
    return after, at


def _duration(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        seconds = float(text)
        return seconds if seconds < _EPOCH_SECONDS else None
    if not _DURATION.fullmatch(text):
        return None
    seconds = math.fsum(float(number) * _UNITS[unit] for number, unit in _PIECE.findall(text))
    return seconds if seconds < _EPOCH_SECONDS else None


def _time(text: str) -> datetime | None:
    if _NUMBER.fullmatch(text):
        seconds = float(text)
        seconds = seconds / 1000 if seconds >= _EPOCH_MILLISECONDS else seconds
        return datetime.fromtimestamp(seconds, UTC) if seconds < _LATEST else None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return date_of(text)
    return moment if moment.tzinfo is not None else None


def headers_in(body: bytes | str | None) -> dict[str, str]:
    """Headers of the provider behind a router, which the router repeats in the body of its error.

    Args:
        body: of the error: ``{"error": {"metadata": {"headers": {…}}}}``.
    """
    try:
        value: object = loads(body) if body else None
    except JsonTextError:
        return {}
    for name in ("error", "metadata", "headers"):
        value = value.get(name) if isinstance(value, dict) else None
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}
