"""Usage as a plot in the terminal: columns over time, bars over groups, each series with its own sign."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from nodellm_orm.cli.columns import Frame, Sign, bars, columns, palette, points
from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.periods import EACH, MANY, labelled, span
from nodellm_orm.cli.reports import label, share, title
from nodellm_orm.domain.figures import count, duration, money
from nodellm_orm.domain.printable import one_line
from nodellm_orm.reporting.series import added, axis, fitting, others, ranked, timeline
from nodellm_orm.reporting.zones import zone_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from typing import TypeAlias

    from rich.console import Console, RenderableType

    from nodellm_orm.cli.reports import Ledger, Question
    from nodellm_orm.reporting.rows import UsageRow
    from nodellm_orm.reporting.series import Series, Timeline

    Number: TypeAlias = Decimal | int

_SERIES: Final = 6
"""Series that a reader can tell apart, the others among them."""
_BARS: Final = 20
"""Bars that are read at a glance, the others among them."""
_HEIGHT: Final = 12
"""Lines of a plot over time, on a terminal that has them."""
_AROUND: Final = 12
"""Lines that title, axis, legend and prompt take."""
_MARGIN: Final = 14
"""Characters that values and axis take."""
_COLOURS: Final = ("blue", "yellow", "green", "magenta", "cyan")
_OTHERS: Final = "bright_black"


class Measure(StrEnum):
    """What a plot shows."""

    COST = "cost"
    REQUESTS = "requests"
    TOKENS = "tokens"
    LATENCY = "latency"


_NAMES: Final = {
    Measure.COST: "Cost",
    Measure.REQUESTS: "Requests",
    Measure.TOKENS: "Tokens",
    Measure.LATENCY: "Time until the answer was complete",
}
_PARTS: Final[dict[Measure, tuple[tuple[str, str], ...]]] = {
    Measure.COST: (("cost", "blue"),),
    Measure.REQUESTS: (("not failed", "blue"), ("failed", "red")),
    Measure.TOKENS: (("input", "blue"), ("output", "yellow")),
    Measure.LATENCY: (("half of the requests", "blue"), ("95 of 100", "yellow")),
}
"""What is told apart where nothing else is."""
_UNKNOWN: Final = {
    Measure.COST: "no price of theirs is known",
    Measure.TOKENS: "no provider said how many tokens they took",
    Measure.LATENCY: "none of them was timed",
}


def measured(row: UsageRow, measure: Measure) -> Number | None:
    """What a row is in a plot; ``None`` where it is unknown.

    Args:
        row: of a report.
        measure: what is shown.
    """
    match measure:
        case Measure.COST:
            return row.cost
        case Measure.REQUESTS:
            return row.requests
        case Measure.TOKENS:
            known = [number for number in (row.input_tokens, row.output_tokens) if number is not None]
            return sum(known) if known else None
        case Measure.LATENCY:
            return row.latency_p95


def _split(row: UsageRow, measure: Measure) -> tuple[Number | None, ...]:
    """The parts of a row by themselves, in the order of `_PARTS`."""
    match measure:
        case Measure.COST:
            return (row.cost,)
        case Measure.REQUESTS:
            return (row.requests - row.failures, row.failures)
        case Measure.TOKENS:
            return (row.input_tokens, row.output_tokens)
        case Measure.LATENCY:
            return (row.latency_p50, row.latency_p95)


def _stack(row: UsageRow | None, measure: Measure) -> tuple[float, ...] | None:
    """The parts of a row as they lie on top of each other; ``None`` where all of it is unknown."""
    if row is None:
        return (0,) * len(_PARTS[measure])
    numbers = _split(row, measure)
    if all(number is None for number in numbers):
        return None
    known = [float(number or 0) for number in numbers]
    return (known[0], max(known[1] - known[0], 0)) if measure is Measure.LATENCY else tuple(known)


def _written(value: float | Number | None, measure: Measure) -> str:
    match measure:
        case _ if value is None:
            return "unknown"
        case Measure.COST:
            return money(value if isinstance(value, Decimal) else Decimal(f"{value:.12f}").normalize())
        case Measure.LATENCY:
            return duration(float(value) / 1000)
        case _:
            return count(round(value))


async def plot(question: Question, measure: Measure) -> None:
    """Draw what was used on stdout.

    Args:
        question: what is added up.
        measure: what is drawn of it.
    """
    console = results()
    async with question.asked() as ledger:
        drawing = await _Plot(console, ledger, question, measure).drawn()
    for part in drawing:
        console.print(part, no_wrap=True, overflow="ellipsis")


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


class _Plot:
    def __init__(self, console: Console, ledger: Ledger, question: Question, measure: Measure) -> None:
        self._console = console
        self._ledger = ledger
        self._question = question
        self._measure = measure
        self._palette = palette(plain=console.options.ascii_only)
        self._percentiles = measure is Measure.LATENCY

    async def drawn(self) -> Sequence[RenderableType]:
        """The parts of the drawing, from above; none where there is nothing to draw, which is said on stderr."""
        names, unit = others(self._question.names), axis(self._question.names)
        asked = names if unit is None else [unit, *names]
        rows = await self._ledger.rows(asked, percentiles=self._percentiles)
        if not any(row.requests for row in rows):
            remarks().print("There are no such requests.")
            return ()
        if all(self._value(row) is None for row in rows):
            requests = sum(row.requests for row in rows)
            remarks().print(f"There is nothing to draw: of {count(requests)} requests {_UNKNOWN[self._measure]}.")
            return ()
        self._say_what_is_missing(rows)
        if unit is None:
            return self._ranking(ranked(rows, names, self._value, most=_BARS))
        return await self._over_time(rows, unit, names)

    def _value(self, row: UsageRow) -> Number | None:
        return measured(row, self._measure)

    def _say_what_is_missing(self, rows: Sequence[UsageRow]) -> None:
        if self._measure is Measure.COST and (unpriced := sum(row.unpriced for row in rows)):
            known = "request has no known price and is" if unpriced == 1 else "requests have no known price and are"
            remarks().print(f"{count(unpriced)} {known} not in the costs.", style="dim")

    def _heading(self, *words: str) -> Text:
        return _line(f"{_NAMES[self._measure]} {' '.join(words)}".rstrip(), "bold")

    # ── groups ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _ranking(self, found: Sequence[Series]) -> Sequence[RenderableType]:
        groups = self._comparable(found)
        names = [label(one) for one in groups]
        values = [self._value_told(one.total) for one in groups]
        by = " and ".join(title(name) for name in others(self._question.names))
        # All others together would leave no room for the others' bars.
        stacks = [None if one.groups > 1 else _stack(one.total, self._measure) for one in groups]
        room = max(self._console.width - max(map(len, values)) - 2, 2)
        named = min(max(cell_len(name) for name in names), room // 2)
        drawn = bars(stacks, self._part_signs(), room - named, self._palette)
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=named)
        table.add_column(no_wrap=True, overflow="crop")
        table.add_column(no_wrap=True, justify="right")
        for name, bar, value in zip(names, drawn, values, strict=True):
            table.add_row(name, bar, value)
        return (self._heading(f"by {by}" if by else ""), table, *self._part_legend())

    def _value_told(self, row: UsageRow) -> str:
        return _written(self._value(row), self._measure)

    def _part_signs(self) -> list[Sign]:
        parts = _PARTS[self._measure]
        return [Sign(self._palette.fills[number], style) for number, (_, style) in enumerate(parts)]

    def _part_legend(self) -> Sequence[RenderableType]:
        parts = _PARTS[self._measure]
        if len(parts) == 1:
            return ()
        line = Text(no_wrap=True)
        for (name, _), sign in zip(parts, self._part_signs(), strict=True):
            line.append(sign.character * 2, style=sign.style).append(f" {name}   ")
        line.rstrip()
        return (line,)

    # ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _over_time(self, rows: Sequence[UsageRow], unit: str, names: Sequence[str]) -> Sequence[RenderableType]:
        fits = fitting(rows, unit, most=max(self._console.width - _MARGIN, 1))
        if fits != unit:
            remarks().print(f"By {fits}: {MANY[unit]} are too many for this width.", style="dim")
            rows = await self._ledger.rows([fits, *names], percentiles=self._percentiles)
        found = timeline(rows, zone_of(self._question.time_zone), self._value, most=_SERIES)
        if found is None:
            return ()
        label_of = labelled(found.unit, found.places)
        frame = Frame(
            width=self._console.width,
            height=max(min(self._console.height - _AROUND, _HEIGHT) // 2 * 2, 4),
            labels=[label_of(place) for place in found.places],
            written=lambda value: _written(value, self._measure),
            palette=self._palette,
        )
        by = " and ".join(title(name) for name in names)
        heading = self._heading(EACH[found.unit], f"by {by}" if by else "")
        if not names:
            stacks = [_stack(found.whole.get(place), self._measure) for place in found.places]
            return (heading, self._about(found), columns(stacks, self._part_signs(), frame), *self._part_legend())
        if self._percentiles:
            return (heading, self._about(found), *self._points(found, frame))
        return (heading, self._about(found), *self._stacked(found, frame))

    def _about(self, found: Timeline) -> Text:
        told = [span(found.unit, found.places), self._question.time_zone]
        if not self._percentiles:
            total = added(found.whole.values())
            told.append(f"{self._value_told(total)} altogether")
            if any(self._value(row) is None for row in found.whole.values()):
                told.append("? is unknown")
        separator = ", " if self._console.options.ascii_only else " · "
        return _line(one_line(separator.join(told)), "dim")

    def _stacked(self, found: Timeline, frame: Frame) -> Sequence[RenderableType]:
        signs = self._signs(found.series, self._palette.fills)
        stacks = [
            None
            if place in found.whole and self._value(found.whole[place]) is None
            else tuple(self._height(one, place) for one in found.series)
            for place in found.places
        ]
        return (columns(stacks, signs, frame), self._legend(found.series, signs))

    def _height(self, series: Series, place: date) -> float:
        return float(self._value(series.at[place]) or 0) if place in series.at else 0

    def _points(self, found: Timeline, frame: Frame) -> Sequence[RenderableType]:
        series = self._comparable(found.series)
        signs = self._signs(series, self._palette.markers)
        values = [
            [None if (row := one.at.get(place)) is None else row.latency_p95 for place in found.places]
            for one in series
        ]
        return (points(values, signs, frame), self._legend(series, signs))

    def _comparable(self, series: Sequence[Series]) -> Sequence[Series]:
        """Those that can be drawn: times of several groups do not add up."""
        left = sum(one.groups for one in series if one.groups > 1)
        if not self._percentiles or not left:
            return series
        remarks().print(f"Left out: {count(left)} others, whose times do not add up.", style="dim")
        return [one for one in series if one.groups == 1]

    def _signs(self, series: Sequence[Series], characters: str) -> list[Sign]:
        styles = [*_COLOURS, _OTHERS]
        return [
            Sign(characters[number], _OTHERS if one.groups > 1 else styles[number]) for number, one in enumerate(series)
        ]

    def _legend(self, series: Sequence[Series], signs: Sequence[Sign]) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, justify="right")
        total = self._value(added(one.total for one in series))
        for one, sign in zip(series, signs, strict=True):
            said = f"{count(one.total.requests)} requests" if self._percentiles else self._value_told(one.total)
            table.add_row(
                Text(sign.character * 2, style=sign.style), label(one), said, share(self._value(one.total), total)
            )
        return table
