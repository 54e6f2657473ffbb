"""What all chats cost and took within some days, by day and by model."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.money import add
from nodellm_orm.reporting.charts import days
from nodellm_orm.reporting.report import usage_report
from nodellm_orm.reporting.times import percentile, read_latencies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

    from nodellm_orm.inspector.source import Source
    from nodellm_orm.reporting.rows import UsageRow
    from nodellm_orm.reporting.times import Distribution

_SHOWN: Final = 6
"""Models that a chart tells apart; the others are taken together."""
OTHERS: Final = "others"
_KEPT: Final = 20
"""How many times as long as it took to add them up sums are shown: reloading costs a database a twentieth of its time
at most, however large the ledger is, and a small one is added up each time."""
_Series = dict[str, dict[date, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What some requests cost and took."""

    requests: int = 0
    failures: int = 0
    unpriced: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None
    latency_p50: int | None = None
    """Milliseconds within which half of them were complete."""
    latency_p95: int | None = None
    """The same of 95 of 100."""
    times: Distribution = field(default_factory=Counter)
    """What both follow from, while it is added up."""

    def and_(self, row: UsageRow, times: Distribution) -> Sums:
        """Together with those of a line of the report; the distribution is taken over, and grows."""
        self.times.update(times)
        return Sums(
            requests=self.requests + row.requests,
            failures=self.failures + row.failures,
            unpriced=self.unpriced + row.unpriced,
            input_tokens=_known(self.input_tokens, row.input_tokens),
            output_tokens=_known(self.output_tokens, row.output_tokens),
            cost=add(self.cost, row.cost),
            times=self.times,
        )

    def finished(self) -> Sums:
        """With the times that the distribution tells, and without it."""
        half, most = percentile(self.times, 50), percentile(self.times, 95)
        return replace(self, latency_p50=half, latency_p95=most, times=Counter())


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Sums of some days."""

    days: tuple[date, ...]
    total: Sums
    models: Sequence[tuple[str, Sums]]
    """The dearest first."""
    by_day: Sequence[tuple[date, Sums]]
    """The newest first."""
    cost: Mapping[str, Mapping[date, float]]
    """By model and day."""
    latency: Mapping[str, Mapping[date, float]]
    """Milliseconds, by percentile and day."""
    outcomes: Mapping[str, Mapping[date, float]]
    """Requests by outcome and day."""
    read_at: datetime
    """When they were added up, by the database's clock."""


class Overviews:
    """Adds up, and keeps what took long for a while.

    Args:
        source: where they are read.
        times: how many times as long as it took to add them up they are kept.
    """

    def __init__(self, source: Source, times: float = _KEPT) -> None:
        """Keep nothing yet."""
        self._source = source
        self._times = times
        self._kept: dict[int, tuple[float, Overview]] = {}
        # One at a time: whoever waits for the same sums is given them, and a ledger is read once, not by each reader.
        self._turnstile = asyncio.Lock()

    async def of(self, span: int, now: datetime) -> Overview:
        """The sums of the days up to today.

        Args:
            span: how many days.
            now: the database's clock, in UTC.
        """
        async with self._turnstile:
            clock = asyncio.get_running_loop().time
            began = clock()
            until, kept = self._kept.get(span, (0.0, None))
            if kept is not None and began < until and kept.read_at.date() == now.date():
                return kept
            found = await overview_of(self._source, now, span)
            ended = clock()
            self._kept[span] = (ended + self._times * (ended - began), found)
            return found


async def overview_of(source: Source, now: datetime, span: int) -> Overview:
    """The sums of the days up to today: two queries, or three.

    Args:
        source: where they are read.
        now: the database's clock, in UTC.
        span: how many days.
    """
    today = now.date()
    first = today - timedelta(days=span - 1)
    rows = await usage_report(
        source.session,
        group_by=("day", "model"),
        since=first,
        owner=source.owner,
        percentiles=False,
        records=source.records,
    )
    times = await read_latencies(source.session, since=first, owner=source.owner, records=source.records)
    total = Sums()
    by_model: dict[str, Sums] = {}
    by_day: dict[date, Sums] = {}
    cost: dict[str, dict[date, float]] = {}
    for row in rows:
        day, model = row.keys["day"], str(row.keys["model"])
        if not isinstance(day, date):
            continue
        took = times.get((day, model), Counter())
        total = total.and_(row, took)
        by_model[model] = by_model.get(model, Sums()).and_(row, took)
        by_day[day] = by_day.get(day, Sums()).and_(row, took)
        if row.cost is not None:
            cost.setdefault(model, {})[day] = float(row.cost)
    by_model = {name: sums.finished() for name, sums in by_model.items()}
    by_day = {day: sums.finished() for day, sums in by_day.items()}
    models = sorted(by_model.items(), key=lambda one: (-(one[1].cost or 0), -one[1].requests, one[0]))
    return Overview(
        days=days(first, today),
        total=total.finished(),
        models=models,
        by_day=sorted(by_day.items(), reverse=True),
        cost=_costs(cost, [name for name, sums in models if sums.cost]),
        latency=_latencies(by_day),
        outcomes={
            "others": {day: sums.requests - sums.failures for day, sums in by_day.items()},
            "failed": {day: sums.failures for day, sums in by_day.items()},
        },
        read_at=now,
    )


def _known(left: int | None, right: int | None) -> int | None:
    return right if left is None else left if right is None else left + right


def _costs(cost: Mapping[str, Mapping[date, float]], ranked: Sequence[str]) -> _Series:
    """The dearest models, and the others together."""
    named = ranked if len(ranked) <= _SHOWN else ranked[: _SHOWN - 1]
    series: _Series = {name: dict(cost[name]) for name in named}
    for name in ranked[len(named) :]:
        for day, value in cost[name].items():
            others = series.setdefault(OTHERS, {})
            others[day] = others.get(day, 0) + value
    return series


def _latencies(by_day: Mapping[date, Sums]) -> _Series:
    series: _Series = {"half of the requests": {}, "95 of 100": {}}
    for day, sums in by_day.items():
        for name, value in zip(series, (sums.latency_p50, sums.latency_p95), strict=True):
            if value is not None:
                series[name][day] = value
    return series
