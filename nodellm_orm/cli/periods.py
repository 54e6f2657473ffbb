"""Hours, days, weeks and months as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

EACH: Final = {"hour": "an hour", "day": "a day", "week": "a week", "month": "a month"}
"""How often something is counted."""
MANY: Final = {"hour": "hours", "day": "days", "week": "weeks", "month": "months"}
_TOLD: Final = {"hour": "%Y-%m-%d %H:%M %z", "day": "%Y-%m-%d", "week": "week of %Y-%m-%d", "month": "%B %Y"}
_SHORT: Final = {"hour": "%d %b %H:%M", "day": "%d %b", "week": "%d %b", "month": "%b %Y"}


def told(unit: str) -> Callable[[date], str]:
    """How a time is told in full.

    Args:
        unit: ``hour``, ``day``, ``week`` or ``month``.

    Example:
        >>> from datetime import date
        >>> told("week")(date(2026, 3, 2))
        'week of 2026-03-02'
    """
    form = _TOLD[unit]
    return lambda time: format(time, form)


def labelled(unit: str, places: Sequence[date]) -> Callable[[date], str]:
    """How a time is told under a chart, as short as is clear.

    Args:
        unit: as above.
        places: of the chart.
    """
    several = places[0].year != places[-1].year
    form = _TOLD["day"] if several and unit in {"day", "week"} else _SHORT[unit]
    return lambda time: format(time, form)


def span(unit: str, places: Sequence[date]) -> str:
    """From the first time to the last.

    Args:
        unit: as above.
        places: all of them.
    """
    if places[0] == places[-1]:
        return told(unit)(places[0])
    name = told("day" if unit == "week" else unit)
    return f"{'weeks of ' if unit == 'week' else ''}{name(places[0])} to {name(places[-1])}"
