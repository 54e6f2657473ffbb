"""Money, counts and times as people read them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

NONE: Final = "-"
"""Stands where there is nothing to tell."""
_SECOND, _MINUTE = 1.0, 60.0
_MONTH: Final = timedelta(days=30)
_UNITS: Final = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1)))


def money(cost: Decimal | None, *, unpriced: int = 0) -> str:
    """US dollars with the digits that tell something.

    Args:
        cost: the sum of the known costs, ``None``: none is known.
        unpriced: how many requests are not in it, as their price is unknown.

    Example:
        >>> from decimal import Decimal
        >>> money(Decimal("0.000123456")), money(Decimal("12.5"), unpriced=1), money(None, unpriced=2), money(None)
        ('$0.0001235', '$12.50+', 'unknown', '-')
    """
    if cost is None:
        return "unknown" if unpriced else NONE
    more = "+" if unpriced else ""
    if cost == 0:
        return f"$0{more}"
    if cost >= 1:
        return f"${cost:,.2f}{more}"
    whole, _, digits = f"{cost:.{3 - cost.adjusted()}f}".rstrip("0").partition(".")
    return f"${whole}.{digits:0<2}{more}"


def count(number: int | None) -> str:
    """A number with its thousands apart.

    Example:
        >>> count(12345), count(None)
        ('12,345', '-')
    """
    return NONE if number is None else f"{number:,}"


def counted(number: int, things: str) -> str:
    """How many there are of something.

    Args:
        number: how many.
        things: their name, as of several: with an ``s`` that one of them has not.

    Example:
        >>> counted(1, "chats"), counted(1200, "chats"), counted(0, "chats")
        ('1 chat', '1,200 chats', '0 chats')
    """
    return f"{count(number)} {things.removesuffix('s') if number == 1 else things}"


def duration(seconds: float | None) -> str:
    """A time span.

    Example:
        >>> duration(0.0421), duration(2.34), duration(125), duration(None)
        ('42 ms', '2.3 s', '2 min 5 s', '-')
    """
    if seconds is None:
        return NONE
    if seconds < _SECOND:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def age(moment: datetime, now: datetime) -> str:
    """How long ago something was; a date, when that is more than a month.

    Args:
        moment: when it was.
        now: the same clock's present.
    """
    passed = now - moment
    if passed >= _MONTH:
        return f"{moment:%Y-%m-%d}"
    return next((f"{passed // unit} {name}" for name, unit in _UNITS if passed >= unit), "now")


def moment(time: datetime) -> str:
    """A point in time, to the second."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
