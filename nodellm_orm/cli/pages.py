"""Usage as one page with charts, which needs nothing but itself: no script, no other file, no network."""

from __future__ import annotations

import hashlib
import sys
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.cli.consoles import results
from nodellm_orm.cli.periods import EACH, MANY, labelled, span, told
from nodellm_orm.cli.reports import label, share, title, word
from nodellm_orm.domain.figures import count, duration, money
from nodellm_orm.domain.printable import one_line, printable
from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.reporting.charts import columns, curves, whole
from nodellm_orm.reporting.series import added, axis, fitting, others, ranked, timeline
from nodellm_orm.reporting.zones import zone_of
from nodellm_orm.transfer.files import opened_sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from jinja2 import Environment

    from nodellm_orm.cli.reports import Ledger, Question
    from nodellm_orm.reporting.charts import Chart
    from nodellm_orm.reporting.rows import UsageRow
    from nodellm_orm.reporting.series import Timeline

_STREAM: Final = "-"
_SERIES: Final = 8
"""Series that are told apart by colour, the others among them."""
_PLACES: Final = 190
"""Columns that are read as such: half a year of days, or a week of hours."""
_UNASKED: Final = 500
"""Groups that are also told apart day by day where no time was asked for."""
_ROWS: Final = 10_000
"""Lines of the table that a browser shows at once; of more groups, the dearest and the sums of the others."""
_WIDE, _NARROW = 1080, 520
_CENTS: Final = 2


async def write(question: Question, file: str) -> None:
    """Write the page.

    Args:
        question: what is added up.
        file: its path; ``-`` means stdout.

    Raises:
        UnsupportedFeatureError: the package that makes pages is not installed.
        ConfigurationError: the path cannot be written.
    """
    environment = _environment()
    with _opened(file) as put:
        async with question.asked() as ledger:
            values = await _Page(ledger, question).values()
        style = files(__package__).joinpath("markup", "usage.css").read_text("utf-8")
        digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
        page = environment.get_template("usage.html")
        put(page.render(style=_Own(style), digest=f"sha256-{digest}", **values).encode())
    if file != _STREAM:
        results().print(f"written: {file}", soft_wrap=True)


@contextmanager
def _opened(file: str) -> Iterator[Callable[[bytes], object]]:
    if file == _STREAM:
        yield sys.stdout.buffer.write
        return
    with opened_sink(Path(file)) as sink:
        yield sink.put


class _Own(str):
    """Text of ours, which is markup already."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def _environment() -> Environment:
    """Jinja2 with escaping that no template can switch off by accident.

    Raises:
        UnsupportedFeatureError: it is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 — an extra that may be missing
    except ModuleNotFoundError as error:
        msg = f"a page needs {error.name}: pip install 'nodellm_orm[inspector]'"
        raise UnsupportedFeatureError(msg) from error
    environment = Environment(
        loader=PackageLoader(__package__, "markup"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "exact": _exact,
        "exactly": _exactly,
        "milliseconds": _milliseconds,
        "money": money,
        "width": _width,
    }
    return environment


def _harmless(value: object) -> object:
    """In a text, everything that changes the order or look of others is an escape."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _exact(cost: Decimal | None, decimals: int) -> str:
    """A cost with all its digits, as many in each line as the longest has."""
    return "unknown" if cost is None else f"{cost:,.{decimals}f}"


def _exactly(cost: Decimal | None) -> str:
    return "unknown" if cost is None else f"{cost:f} US dollars"


def _milliseconds(time: int | None) -> str:
    return duration(None if time is None else time / 1000)


def _width(part: Decimal | None, whole: Decimal | None, full: int) -> float:
    return round(float(part / whole) * full, 1) if part and whole else 0


def _decimals(rows: Sequence[UsageRow]) -> int:
    """Digits behind the point that the longest cost has."""
    costs = (f"{row.cost:f}" for row in rows if row.cost is not None)
    return max((len(cost.partition(".")[2].rstrip("0")) for cost in costs), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """What the charts over time are made of."""

    unit: str
    rows: Sequence[UsageRow]
    """By time, with percentiles."""
    split: Sequence[UsageRow]
    """By time and group, where groups are told apart; otherwise the same."""
    stacked: bool


class _Page:
    def __init__(self, ledger: Ledger, question: Question) -> None:
        self._ledger = ledger
        self._question = question
        self._names = list(question.names)
        self._groups = others(question.names)
        self._zone = zone_of(question.time_zone)

    async def values(self) -> dict[str, Any]:
        """What the template shows."""
        question = self._question
        made = await self._ledger.now()
        rows = [row for row in await self._ledger.rows(self._names) if row.requests]
        values: dict[str, Any] = {
            "period": self._period(),
            "owner": question.owner,
            "titles": [title(name) if "." in name else name.capitalize() for name in self._names],
            "time_zone": question.time_zone,
            "made": made.astimezone(self._zone),
            "span": "",
            "timed": not question.rollup,
            "total": added(rows),
        }
        if not rows:
            return values
        (at_once,) = rows if not self._names else await self._ledger.rows([])
        # The sums of what is shown, so that the page adds up while requests go on.
        times = {name: getattr(at_once, name) for name in ("latency_p50", "latency_p95")}
        total = replace(values["total"], **times)
        listed = _listed(rows)
        return {
            **values,
            "total": total,
            "failing": share(total.failures, total.requests) or "0 %",
            "decimals": max(_decimals([*listed, total]), _CENTS),
            "figures": [(self._words(row), row) for row in listed],
            "by": " and ".join(title(name) for name in self._groups),
            **self._charts(rows, await self._times(rows), total),
        }

    def _period(self) -> str:
        since, until = self._question.since, self._question.until
        from_ = "" if since is None else f"from {since}"
        to = "" if until is None else f"before {until}"
        return ", ".join(part for part in (from_, to) if part) or "all requests so far"

    def _words(self, row: UsageRow) -> list[str]:
        if not row.keys:
            return ["others", *([""] * (len(self._names) - 1))] if self._names else []
        return [one_line(word(row.keys[name])) for name in self._names]

    async def _times(self, rows: Sequence[UsageRow]) -> _Times:
        unit = asked = axis(self._names)
        unit = unit or "day"
        by_time = rows if self._names == [unit] else await self._ledger.rows([unit])
        fits = fitting(by_time, unit, most=_PLACES)
        if fits != unit:
            by_time = await self._ledger.rows([fits])
        if not self._groups or (asked is None and len(rows) > _UNASKED):
            return _Times(unit=fits, rows=by_time, split=by_time, stacked=False)
        split = rows
        if set(self._names) != {fits, *self._groups}:
            split = await self._ledger.rows([fits, *self._groups], percentiles=False)
        return _Times(unit=fits, rows=by_time, split=split, stacked=True)

    # ── charts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _charts(self, rows: Sequence[UsageRow], times: _Times, total: UsageRow) -> dict[str, Any]:
        # Without any price, groups are told apart by their requests.
        weight = _cost if total.cost else _requests
        found = timeline(times.split, self._zone, weight, most=_SERIES)
        if found is None:
            return {}
        groups = found.series if times.stacked else ranked(rows, self._groups, weight, most=_SERIES)
        by_time = _by_time(times.rows, times.unit)
        how = {"labelled": labelled(found.unit, found.places), "told": told(found.unit)}
        return {
            "span": span(found.unit, found.places),
            "unit": found.unit,
            "finer": MANY[finer] if (finer := axis(self._names)) not in {None, found.unit} else "",
            "each": EACH[found.unit],
            "stacked": times.stacked,
            "kinds": ["rest" if one.groups > 1 else f"s{place}" for place, one in enumerate(found.series)],
            "groups": [(label(one), one.total, share(one.total.cost, total.cost)) for one in groups if self._groups],
            "cost": self._cost_chart(found, how, stacked=times.stacked),
            "outcomes": _outcomes(found, by_time, how),
            "latency": _latency(found, by_time, how),
            "over_time": self._figures(found, by_time, stacked=times.stacked),
        }

    def _cost_chart(self, found: Timeline, how: Mapping[str, Any], *, stacked: bool) -> Chart:
        names = _distinct([label(one) for one in found.series] if stacked else ["cost"])
        series = {
            name: {time: float(row.cost) for time, row in one.at.items() if row.cost is not None}
            for name, one in zip(names, found.series, strict=True)
        }
        unknown = {time for time, row in found.whole.items() if row.cost is None}
        return columns(found.places, series, _dollars, unknown=unknown, width=_WIDE, **how)

    def _figures(
        self, found: Timeline, by_time: Mapping[date, UsageRow], *, stacked: bool
    ) -> Sequence[tuple[str, UsageRow, Sequence[Decimal | None]]]:
        """What the charts show, where the table does not have it."""
        if self._names == [found.unit]:
            return ()
        name = told(found.unit)
        nothing = replace(added([]), cost=Decimal(0))
        return [
            (
                name(time),
                by_time.get(time, nothing),
                [one.at[time].cost if time in one.at else Decimal(0) for one in found.series] if stacked else (),
            )
            for time in found.places
        ]


def _cost(row: UsageRow) -> Decimal | None:
    return row.cost


def _requests(row: UsageRow) -> int:
    return row.requests


def _by_time(rows: Sequence[UsageRow], unit: str) -> dict[date, UsageRow]:
    return {time: row for row in rows if isinstance(time := row.keys[unit], date) and row.requests}


def _outcomes(found: Timeline, by_time: Mapping[date, UsageRow], how: Mapping[str, Any]) -> Chart:
    series = {
        "not failed": {time: float(row.requests - row.failures) for time, row in by_time.items()},
        "failed": {time: float(row.failures) for time, row in by_time.items()},
    }
    return columns(found.places, series, whole, width=_NARROW, **how)


def _latency(found: Timeline, by_time: Mapping[date, UsageRow], how: Mapping[str, Any]) -> Chart:
    series = {
        "half of the requests": {
            t: float(row.latency_p50) for t, row in by_time.items() if row.latency_p50 is not None
        },
        "95 of 100": {t: float(row.latency_p95) for t, row in by_time.items() if row.latency_p95 is not None},
    }
    return curves(found.places, series, lambda value: duration(value / 1000), width=_NARROW, **how)


def _dollars(value: float) -> str:
    return money(Decimal(f"{value:.12f}").normalize())


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of series, each once: groups that differ may look the same, as 1 and "1" do."""
    found: list[str] = []
    for name in names:
        found.append(name if name not in found else f"{name} ({len(found) + 1})")
    return found


def _listed(rows: Sequence[UsageRow]) -> Sequence[UsageRow]:
    """The lines of the table: all of them, or the dearest and the sums of the others."""
    if len(rows) <= _ROWS:
        return rows
    order = sorted(range(len(rows)), key=lambda place: (-(rows[place].cost or 0), -rows[place].requests))
    kept = set(order[: _ROWS - 1])
    rest = added(row for place, row in enumerate(rows) if place not in kept)
    return [*(row for place, row in enumerate(rows) if place in kept), rest]
