"""Charts as numbers: where each bar and point of a drawing is. The templates draw them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

WIDTH: Final = 720
HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 10, 26
_TICKS: Final = 4
_LABELS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A part of a day's column."""

    x: float
    y: float
    width: float
    height: float
    series: int
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series as points; days without a value are left out."""

    series: int
    name: str
    points: str
    """As the attribute ``points`` of a polyline."""
    dots: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing of `WIDTH` by `HEIGHT`."""

    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    names: tuple[str, ...] = ()
    """Of the series, in their order."""
    ticks: tuple[tuple[float, str], ...]
    """Heights and their values."""
    labels: tuple[tuple[float, str], ...]
    """Places and their days."""
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM
    empty: bool = False


def days(first: date, last: date) -> tuple[date, ...]:
    """All days from one to another."""
    return tuple(first + timedelta(days=number) for number in range((last - first).days + 1))


def columns(over: Sequence[date], series: Mapping[str, Mapping[date, float]], written: Callable[[float], str]) -> Chart:
    """A column a day, the series on top of each other.

    Args:
        over: the days.
        series: by name, values by day.
        written: how a value is told.
    """
    top = _ceiling(max((sum(values.get(day, 0) for values in series.values()) for day in over), default=0))
    step = (WIDTH - _LEFT - _RIGHT) / max(len(over), 1)
    bars: list[Bar] = []
    for place, day in enumerate(over):
        below = 0.0
        for number, (name, values) in enumerate(series.items()):
            value = values.get(day, 0)
            if value <= 0:
                continue
            below += value
            bars.append(
                Bar(
                    x=_rounded(_LEFT + step * place + step * 0.12),
                    y=_height(below, top),
                    width=_rounded(step * 0.76),
                    height=_rounded(max(value / top * _inner(), 0.8)),
                    series=number,
                    title=f"{day} · {name} · {written(value)}",
                )
            )
    return Chart(
        bars=tuple(bars), names=tuple(series), ticks=_ticks(top, written), labels=_labels(over, step), empty=not bars
    )


def curves(over: Sequence[date], series: Mapping[str, Mapping[date, float]], written: Callable[[float], str]) -> Chart:
    """A line a series, a point a day.

    Args:
        over: the days.
        series: by name, values by day.
        written: how a value is told.
    """
    top = _ceiling(max((value for values in series.values() for value in values.values()), default=0))
    step = (WIDTH - _LEFT - _RIGHT) / max(len(over), 1)
    lines: list[Line] = []
    for number, (name, values) in enumerate(series.items()):
        dots = tuple(
            (
                _rounded(_LEFT + step * (place + 0.5)),
                _height(values[day], top),
                f"{day} · {name} · {written(values[day])}",
            )
            for place, day in enumerate(over)
            if day in values
        )
        points = " ".join(f"{x},{y}" for x, y, _ in dots)
        lines.append(Line(series=number, name=name, points=points, dots=dots))
    return Chart(
        lines=tuple(lines),
        names=tuple(series),
        ticks=_ticks(top, written),
        labels=_labels(over, step),
        empty=not any(line.dots for line in lines),
    )


def _inner() -> float:
    return HEIGHT - _TOP - _BOTTOM


def _height(value: float, top: float) -> float:
    return _rounded(HEIGHT - _BOTTOM - value / top * _inner())


def _rounded(number: float) -> float:
    return round(number, 2)


def _ceiling(value: float) -> float:
    """The next round number: 1, 2, 4, 6 or 8 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(f"{int(value)}") - 1) if value >= 1 else 1.0
    while power > value:
        power /= 10
    return next(power * times for times in (1, 2, 4, 6, 8, 10) if power * times >= value * 0.999)


def _ticks(top: float, written: Callable[[float], str]) -> tuple[tuple[float, str], ...]:
    values = [top * number / _TICKS for number in range(_TICKS + 1)]
    return tuple((_height(value, top), written(value)) for value in values)


def _labels(over: Sequence[date], step: float) -> tuple[tuple[float, str], ...]:
    every = max(1, -(-len(over) // _LABELS))
    return tuple(
        (_rounded(_LEFT + step * (place + 0.5)), f"{day:%d %b}")
        for place, day in enumerate(over)
        if (len(over) - 1 - place) % every == 0
    )
