"""Rows of a report as series of a chart: every hour, day, week or month in its place, and the small groups together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final, TypeAlias

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.reporting.rows import UsageRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import tzinfo

    from nodellm_orm.reporting.rows import GroupValue

    Weight: TypeAlias = Callable[[UsageRow], Decimal | int | None]
    """What a group is measured by; ``None`` where it is unknown."""

UNITS: Final = ("hour", "day", "week", "month")
"""The keys that are times, the finest first."""
_COUNTS: Final = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_PERCENTILES: Final = ("latency_p50", "latency_p95", "first_token_p50", "first_token_p95")
_EXACT: Final = Context(prec=100)
"""Digits enough for the sum of all costs that a ledger can hold."""
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One group, or all the small ones, over time."""

    keys: Mapping[str, GroupValue]
    """What the group is named by; of several groups, nothing."""
    groups: int
    """How many groups it consists of."""
    total: UsageRow
    at: Mapping[date, UsageRow]
    """By time; without an entry there was no request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Series over the same times."""

    unit: str
    places: tuple[date, ...]
    """All times from the first request to the last; hours have their offset."""
    series: tuple[Series, ...]
    """The greatest first, the others together at the end."""
    whole: Mapping[date, UsageRow]
    """The sums over all series."""


def added(rows: Iterable[UsageRow], keys: Mapping[str, GroupValue] | None = None) -> UsageRow:
    """The exact sums of several groups. Percentiles do not add up: they are ``None``, unless there is only one group.

    Args:
        rows: of one report.
        keys: what the sums are named by.

    Example:
        >>> added([]).requests, added([]).cost
        (0, None)
    """
    listed = list(rows)
    named = {} if keys is None else keys
    if len(listed) == 1:
        return replace(listed[0], keys=named)
    cost: Decimal | None = None
    for row in listed:
        if row.cost is not None:
            cost = row.cost if cost is None else _EXACT.add(cost, row.cost)
    return UsageRow(
        keys=named,
        requests=sum(row.requests for row in listed),
        failures=sum(row.failures for row in listed),
        unpriced=sum(row.unpriced for row in listed),
        cost=cost,
        **{name: _count(getattr(row, name) for row in listed) for name in _COUNTS},
        **dict.fromkeys(_PERCENTILES),
    )


def _count(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


# ── groups ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def ranked(rows: Iterable[UsageRow], names: Sequence[str], weight: Weight, *, most: int) -> tuple[Series, ...]:
    """The groups, the greatest first; where there are too many, the last of those that are told has all the others.

    Args:
        rows: of one report.
        names: the keys that tell groups apart.
        weight: what they are ranked by; unknown ones come last.
        most: how many may be told apart.
    """
    groups: dict[tuple[str, ...], list[UsageRow]] = {}
    for row in rows:
        if row.requests:
            groups.setdefault(tuple(_identity(row.keys[name]) for name in names), []).append(row)
    found = [_series(members, {name: members[0].keys[name] for name in names}) for members in groups.values()]
    found.sort(key=lambda one: _rank(one.total, weight), reverse=True)
    if len(found) <= most:
        return tuple(found)
    told, rest = found[: most - 1], found[most - 1 :]
    members = [row for one in rest for row in _members(one)]
    return (*told, _series(members, {}, groups=len(rest)))


def _identity(value: GroupValue) -> str:
    """Tells 1, 1.0, true and "1" apart, which are four groups."""
    text = dumps(value) if isinstance(value, list | dict) else str(value)
    return f"{type(value).__name__} {text}"


def _rank(row: UsageRow, weight: Weight) -> tuple[bool, Decimal | int, int]:
    value = weight(row)
    return (value is not None, 0 if value is None else value, row.requests)


def _series(rows: Sequence[UsageRow], keys: Mapping[str, GroupValue], groups: int = 1) -> Series:
    unit = axis(rows[0].keys)
    at: dict[date, list[UsageRow]] = {}
    for row in rows:
        if unit is not None and isinstance(time := row.keys[unit], date):
            at.setdefault(time, []).append(row)
    by_time = {time: added(members, {unit: time}) for time, members in at.items() if unit is not None}
    return Series(keys=keys, groups=groups, total=added(rows, keys), at=by_time)


def _members(series: Series) -> Iterable[UsageRow]:
    return series.at.values() or (series.total,)


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def axis(names: Iterable[str]) -> str | None:
    """The finest of the names that is a time.

    Args:
        names: of ``group_by``.

    Example:
        >>> axis(["month", "model", "day"]), axis(["model"])
        ('day', None)
    """
    given = set(names)
    return next((unit for unit in UNITS if unit in given), None)


def others(names: Iterable[str]) -> list[str]:
    """The names that are no times.

    Args:
        names: of ``group_by``.
    """
    return [name for name in names if name not in UNITS]


def timeline(rows: Sequence[UsageRow], zone: tzinfo, weight: Weight, *, most: int) -> Timeline | None:
    """Rows as series over time; ``None`` where there was no request.

    Args:
        rows: of one report, with a time among its keys.
        zone: the report's.
        weight: what the series are ranked by.
        most: how many may be told apart.
    """
    asked = [row for row in rows if row.requests]
    unit = axis(asked[0].keys) if asked else None
    if unit is None:
        return None
    times = _times(asked, unit)
    whole: dict[date, list[UsageRow]] = {}
    for row, time in zip(asked, times, strict=True):
        whole.setdefault(time, []).append(row)
    return Timeline(
        unit=unit,
        places=places(unit, times, zone),
        series=ranked(asked, others(asked[0].keys), weight, most=most),
        whole={time: added(members, {unit: time}) for time, members in whole.items()},
    )


def _times(rows: Iterable[UsageRow], unit: str) -> list[date]:
    return [time for row in rows if isinstance(time := row.keys[unit], date)]


def places(unit: str, times: Iterable[date], zone: tzinfo) -> tuple[date, ...]:
    """All hours, days, weeks or months from the first of some times to the last, in order.

    Args:
        unit: which of them.
        times: keys of rows.
        zone: whose hours.
    """
    given = set(times)
    first, last = min(given), max(given)
    if isinstance(first, datetime) and isinstance(last, datetime):
        # By the clock of the world: an hour that comes twice is two of them, one that is left out none.
        steps = (last - first) // _HOUR
        moments = (first.astimezone(UTC) + number * _HOUR for number in range(steps + 1))
        hours = (_hour(moment.astimezone(zone)) for moment in moments)
        return tuple(sorted(given.union(hour for hour in hours if first <= hour <= last)))
    return tuple(sorted(given.union(_dates(unit, first, last))))


def _hour(local: datetime) -> datetime:
    # With its offset, as in the rows: a zone of its own would make one of the hour that comes twice.
    return datetime(local.year, local.month, local.day, local.hour, tzinfo=timezone(local.utcoffset() or timedelta()))


def _dates(unit: str, first: date, last: date) -> Iterable[date]:
    match unit:
        case "month":
            months = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
            return (date(number // 12, number % 12 + 1, 1) for number in months)
        case "week":
            return (first + number * 7 * _DAY for number in range((last - first).days // 7 + 1))
        case _:
            return (first + number * _DAY for number in range((last - first).days + 1))


def fitting(rows: Iterable[UsageRow], unit: str, *, most: int) -> str:
    """The finest unit of which there are not too many between the first request and the last.

    Args:
        rows: of one report.
        unit: one of its keys; finer ones are not meant.
        most: how many may be shown.
    """
    times = _times(rows, unit)
    if not times:
        return unit
    first, last = min(times), max(times)
    days = (last - first).days + 1
    counted = {"hour": days * 24, "day": days, "week": days // 7 + 1}
    if isinstance(first, datetime) and isinstance(last, datetime):
        counted["hour"] = (last - first) // _HOUR + 1
    coarser = UNITS[UNITS.index(unit) :]
    return next((name for name in coarser if counted.get(name, 0) <= most), coarser[-1])
