"""Time zones without any database's tables of them: the offsets of a zone from one change to the next, by `zoneinfo`.

A zone's wall clock is UTC plus an offset that changes a few times a year at most. So a report hands the database the
moments of change and the offsets as numbers, and gets the same hours, days, weeks and months from each of them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from nodellm_orm.errors import ConfigurationError

Changes: TypeAlias = tuple[tuple[datetime, int], ...]
"""From when (UTC) which offset in seconds holds; the first one holds before, too."""

_STEP: Final = timedelta(days=2)
"""No zone has ever changed twice within so short a time: the shortest was four days."""
_LENGTHS: Final = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=31),
}
_SECOND: Final = timedelta(seconds=1)
_LONGEST: Final = timedelta(days=366 * 200)
_FIRST, _LAST = datetime(1, 1, 3, tzinfo=UTC), datetime(9999, 12, 29, tzinfo=UTC)
"""Beyond these, a wall clock would leave the calendar."""


def zone_of(time_zone: object) -> tzinfo:
    """The zone that is meant.

    Args:
        time_zone: a name of the IANA data base, or a `datetime.tzinfo`.

    Raises:
        ConfigurationError: there is no such zone.
    """
    if isinstance(time_zone, tzinfo):
        return time_zone
    if time_zone == "UTC":
        return UTC
    try:
        return ZoneInfo(time_zone)  # type: ignore[arg-type]  # whatever it is, it is refused below
    except (KeyError, ValueError, TypeError, OSError, AttributeError):
        msg = (
            f"time_zone={time_zone!r:.80} is no time zone that is known here; give a name such as 'Europe/Berlin' "
            "(a machine without such names needs: pip install tzdata), or a datetime.tzinfo"
        )
        raise ConfigurationError(msg) from None


def changes(zone: tzinfo, first: datetime, last: datetime) -> Changes:
    """The offsets that hold between two moments.

    Args:
        zone: the zone.
        first: the earliest moment asked for.
        last: the latest one.

    Raises:
        ConfigurationError: they lie too far apart.
    """
    first, last = (min(max(moment.astimezone(UTC), _FIRST), _LAST) for moment in (first, last))
    if last - first > _LONGEST:
        msg = (
            f"the requests of the report lie between {first.date()} and {last.date()}, too far apart for the changes "
            "of a time zone; give since= and until=, or time_zone='UTC'"
        )
        raise ConfigurationError(msg)
    found = [(first, _offset(zone, first))]
    moment = first
    while moment < last:
        following = min(moment + _STEP, last)
        offset = _offset(zone, following)
        if offset != found[-1][1]:
            found.append((_change(zone, moment, following), offset))
        moment = following
    return tuple(found)


def _change(zone: tzinfo, before: datetime, after: datetime) -> datetime:
    """The second from which the offset of ``after`` holds."""
    before = before.replace(microsecond=0)
    after = after.replace(microsecond=0) + _SECOND
    offset = _offset(zone, after)
    while after - before > _SECOND:
        middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
        if _offset(zone, middle) == offset:
            after = middle
        else:
            before = middle
    return after


def _offset(zone: tzinfo, moment: datetime) -> int:
    offset = moment.astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def starts(unit: str, offsets: Changes, first: datetime, last: datetime, *, at_most: int) -> list[datetime] | None:
    """When each hour, day, week or month between two moments begins, by the wall clock.

    Args:
        unit: which of them.
        offsets: what `changes` has found between the two.
        first: the earliest moment.
        last: the latest one.
        at_most: give up beyond so many.
    """
    seconds = [offset for _, offset in offsets]
    wall = first.replace(tzinfo=None) + timedelta(seconds=min(seconds))
    end = last.replace(tzinfo=None) + timedelta(seconds=max(seconds))
    start = wall.replace(minute=0, second=0, microsecond=0)
    if unit != "hour":
        start = start.replace(hour=0)
    if unit == "week":
        start -= timedelta(days=start.weekday())
    found = [start.replace(day=1) if unit == "month" else start]
    while found[-1] <= end:
        if len(found) == at_most:
            return None
        # 31 days after the first of a month it is the next month.
        following = found[-1] + _LENGTHS[unit]
        found.append(following.replace(day=1) if unit == "month" else following)
    return found


def fixed(offset: int) -> timezone:
    """A zone with one offset: an hour that comes twice is told apart by it, which `zoneinfo` alone would not do.

    Args:
        offset: seconds.
    """
    return timezone(timedelta(seconds=offset))
