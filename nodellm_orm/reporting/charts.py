"""Charts as numbers: where each bar and point of a drawing is. Templates draw them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.figures import count

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

WIDTH: Final = 720
HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 32, 10, 26
_TICKS: Final = 4
_LABEL: Final = 79
"""What a label takes of the width."""
_FILLED: Final = 0.76
"""What a column takes of its place, up to the width of the widest."""
_WIDEST: Final = 60
_THIN: Final = 0.8
"""The height of what is too little to be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A part of a column."""

    x: float
    y: float
    width: float
    height: float
    series: int
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series as points; where there is no value the line is broken."""

    series: int
    name: str
    pieces: tuple[str, ...]
    """Each as the attribute ``points`` of a polyline."""
    dots: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing."""

    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    gaps: tuple[Bar, ...] = ()
    """Columns whose value is unknown, which is not nothing."""
    names: tuple[str, ...] = ()
    """Of the series, in their order."""
    ticks: tuple[tuple[float, str], ...]
    """Heights and their values."""
    labels: tuple[tuple[float, str], ...]
    """Places and their times."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int
    bottom: int = HEIGHT - _BOTTOM
    empty: bool = False


def days(first: date, last: date) -> tuple[date, ...]:
    """All days from one to another."""
    return tuple(first + timedelta(days=number) for number in range((last - first).days + 1))


def day_and_month(day: date) -> str:
    """A day as it is written under a chart."""
    return f"{day:%d %b}"


def whole(value: float) -> str:
    """A count beside a chart; nothing for what lies between two of them.

    Args:
        value: the count, or a part of it.

    Example:
        >>> whole(1200.0), whole(0.5)
        ('1,200', '')
    """
    return count(round(value)) if value == round(value) else ""


def columns(
    over: Sequence[date],
    series: Mapping[str, Mapping[date, float]],
    written: Callable[[float], str],
    *,
    unknown: Collection[date] = (),
    labelled: Callable[[date], str] = day_and_month,
    told: Callable[[date], str] = str,
    width: int = WIDTH,
) -> Chart:
    """A column a day, the series on top of each other.

    Args:
        over: the days, or other times.
        series: by name, values by day.
        written: how a value is told; where it is nothing, no line is drawn.
        unknown: days whose value nobody knows.
        labelled: how a day is told under the chart.
        told: how it is told with a value.
        width: of the drawing.
    """
    top = ceiling(max((sum(values.get(day, 0) for values in series.values()) for day in over), default=0))
    step = _step(over, width)
    bars: list[Bar] = []
    gaps: list[Bar] = []
    for place, day in enumerate(over):
        below = 0.0
        wide = min(step * _FILLED, _WIDEST)
        x, wide = _rounded(_LEFT + step * (place + 0.5) - wide / 2), _rounded(wide)
        for number, (name, values) in enumerate(series.items()):
            value = values.get(day, 0)
            if value <= 0:
                continue
            below += value
            bars.append(
                Bar(
                    x=x,
                    y=_height(below, top),
                    width=wide,
                    height=_rounded(max(value / top * _inner(), _THIN)),
                    series=number,
                    title=f"{told(day)} · {name} · {written(value)}",
                )
            )
        if day in unknown:
            gaps.append(Bar(x=x, y=_TOP, width=wide, height=_inner(), series=-1, title=f"{told(day)} · unknown"))
    return Chart(
        bars=tuple(bars),
        gaps=tuple(gaps),
        names=tuple(series),
        ticks=_ticks(top, written),
        labels=_labels(over, step, labelled, width),
        width=width,
        right=width - _RIGHT,
        empty=not bars,
    )


def curves(
    over: Sequence[date],
    series: Mapping[str, Mapping[date, float]],
    written: Callable[[float], str],
    *,
    labelled: Callable[[date], str] = day_and_month,
    told: Callable[[date], str] = str,
    width: int = WIDTH,
) -> Chart:
    """A line a series, a point a day.

    Args:
        over: the days, or other times.
        series: by name, values by day.
        written: how a value is told; where it is nothing, no line is drawn.
        labelled: how a day is told under the chart.
        told: how it is told with a value.
        width: of the drawing.
    """
    top = ceiling(max((value for values in series.values() for value in values.values()), default=0))
    step = _step(over, width)
    lines: list[Line] = []
    for number, (name, values) in enumerate(series.items()):
        points = {
            place: (_rounded(_LEFT + step * (place + 0.5)), _height(values[day], top))
            for place, day in enumerate(over)
            if day in values
        }
        # Places that follow each other are as far from their numbers.
        runs = [[p for _, p in run] for _, run in groupby(enumerate(points), key=lambda at: at[1] - at[0])]
        pieces = tuple(" ".join(f"{x},{y}" for x, y in (points[p] for p in run)) for run in runs)
        dots = tuple((*points[p], f"{told(over[p])} · {name} · {written(values[over[p]])}") for p in points)
        lines.append(Line(series=number, name=name, pieces=pieces, dots=dots))
    return Chart(
        lines=tuple(lines),
        names=tuple(series),
        ticks=_ticks(top, written),
        labels=_labels(over, step, labelled, width),
        width=width,
        right=width - _RIGHT,
        empty=not any(line.dots for line in lines),
    )


def ceiling(value: float) -> float:
    """The next round number: 1, 2, 4, 6 or 8 times a power of ten.

    Args:
        value: the greatest of a chart.

    Example:
        >>> ceiling(37), ceiling(0)
        (40.0, 1.0)
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(f"{int(value)}") - 1) if value >= 1 else 1.0
    while power > value:
        power /= 10
    return next(power * times for times in (1, 2, 4, 6, 8, 10) if power * times >= value * 0.999)


def _inner() -> float:
    return HEIGHT - _TOP - _BOTTOM


def _step(over: Sequence[date], width: int) -> float:
    return (width - _LEFT - _RIGHT) / max(len(over), 1)


def _height(value: float, top: float) -> float:
    return _rounded(HEIGHT - _BOTTOM - value / top * _inner())


def _rounded(number: float) -> float:
    return round(number, 2)


def _ticks(top: float, written: Callable[[float], str]) -> tuple[tuple[float, str], ...]:
    values = [top * number / _TICKS for number in range(_TICKS + 1)]
    return tuple((_height(value, top), text) for value in values if (text := written(value)))


def _labels(
    over: Sequence[date], step: float, labelled: Callable[[date], str], width: int
) -> tuple[tuple[float, str], ...]:
    every = max(1, -(-len(over) // ((width - _LEFT - _RIGHT) // _LABEL)))
    return tuple(
        (_rounded(_LEFT + step * (place + 0.5)), labelled(day))
        for place, day in enumerate(over)
        if (len(over) - 1 - place) % every == 0
    )
