"""What all chats cost and took within some days, by day and by model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from nodellm_orm.inspector.charts import days
from nodellm_orm.reporting.report import usage_report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nodellm_orm.inspector.source import Source
    from nodellm_orm.reporting.rows import UsageRow

_SHOWN: Final = 6
"""Models that a chart tells apart; the others are taken together."""
OTHERS: Final = "others"
_Series = dict[str, dict[date, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Sums of some days."""

    days: tuple[date, ...]
    total: UsageRow | None
    models: Sequence[UsageRow]
    """By model, the dearest first."""
    by_day: Sequence[UsageRow]
    """The newest first."""
    cost: Mapping[str, Mapping[date, float]]
    """By model and day."""
    latency: Mapping[str, Mapping[date, float]]
    """Milliseconds, by percentile and day."""
    outcomes: Mapping[str, Mapping[date, float]]
    """Requests by outcome and day."""


async def overview_of(source: Source, today: date, span: int) -> Overview:
    """The sums of the days up to today.

    Args:
        source: where they are read.
        today: the last day, in UTC.
        span: how many days.
    """
    first = today - timedelta(days=span - 1)

    async def report(*names: str, percentiles: bool = True) -> list[UsageRow]:
        return await usage_report(
            source.session,
            group_by=names,
            since=first,
            owner=source.owner,
            percentiles=percentiles,
            records=source.records,
        )

    total = await report()
    models = sorted(await report("model"), key=lambda row: (-(row.cost or 0), -row.requests))
    by_day = await report("day")
    by_both = await report("day", "model", percentiles=False)
    return Overview(
        days=days(first, today),
        total=next((row for row in total if row.requests), None),
        models=models,
        by_day=tuple(reversed(by_day)),
        cost=_costs(by_both, [str(row.keys["model"]) for row in models if row.cost]),
        latency=_latencies(by_day),
        outcomes=_outcomes(by_day),
    )


def _costs(rows: Sequence[UsageRow], ranked: Sequence[str]) -> _Series:
    named = ranked if len(ranked) <= _SHOWN else ranked[: _SHOWN - 1]
    series: _Series = {name: {} for name in named}
    for row in rows:
        name, day = str(row.keys["model"]), row.keys["day"]
        if row.cost is None or not isinstance(day, date):
            continue
        values = series.setdefault(name if name in named else OTHERS, {})
        values[day] = values.get(day, 0) + float(row.cost)
    return {name: values for name, values in series.items() if any(values.values())}


def _latencies(rows: Sequence[UsageRow]) -> _Series:
    series: _Series = {"half of the requests": {}, "95 of 100": {}}
    for row in rows:
        day = row.keys["day"]
        for name, value in zip(series, (row.latency_p50, row.latency_p95), strict=True):
            if value is not None and isinstance(day, date):
                series[name][day] = value
    return series


def _outcomes(rows: Sequence[UsageRow]) -> _Series:
    series: _Series = {"others": {}, "failed": {}}
    for row in rows:
        if isinstance(day := row.keys["day"], date):
            series["others"][day] = row.requests - row.failures
            series["failed"][day] = row.failures
    return series
