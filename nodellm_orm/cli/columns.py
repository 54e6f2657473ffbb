"""Columns, points and bars made of characters: told apart by their signs where there is no colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.text import Text

from nodellm_orm.reporting.charts import ceiling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WIDEST: Final = 8
"""Characters of a column, where there are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """The characters that everything is drawn with."""

    fills: str
    """Of areas, one a series."""
    markers: str
    """Of points, one a series."""
    rising: str
    """Of the top of a column, by how much of the line it fills."""
    growing: str
    """Of the end of a bar, by how much of the character it fills."""
    side: str
    tick: str
    corner: str
    floor: str


_BLOCKS: Final = Palette(
    fills="█░▚▒▞▓", markers="●▲■◆▼○", rising=" ▁▂▃▄▅▆▇", growing=" ▏▎▍▌▋▊▉", side="│", tick="┤", corner="└", floor="─"
)
_PLAIN: Final = Palette(
    fills="#:=o+.", markers="ox+*#.", rising=" _", growing=" |", side="|", tick="|", corner="+", floor="-"
)


def palette(*, plain: bool) -> Palette:
    """The characters to draw with.

    Args:
        plain: whether the terminal has ASCII only.
    """
    return _PLAIN if plain else _BLOCKS


@dataclass(frozen=True, slots=True)
class Sign:
    """How a series is drawn: a character, and a colour where there are colours."""

    character: str
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is around a plot over time.

    Args:
        width: of all of it, in characters.
        height: of the plot itself, in lines.
        labels: of the places.
        written: how a value is told.
        palette: what it is drawn with.
    """

    width: int
    height: int
    labels: Sequence[str]
    written: Callable[[float], str]
    palette: Palette


def columns(stacks: Sequence[Sequence[float] | None], signs: Sequence[Sign], frame: Frame) -> Text:
    """A column a place, the series on top of each other.

    Args:
        stacks: for each place a value of each series; ``None`` where it is unknown.
        signs: of the series.
        frame: what is around it.
    """
    top = ceiling(max((sum(stack) for stack in stacks if stack), default=0))

    def cells(place: int) -> list[Sign | None]:
        stack = stacks[place]
        if stack is None:
            return [Sign("?", "dim")]
        return _column([max(value, 0) / top * frame.height for value in stack], signs, frame.palette)

    return _framed(cells, top, frame, wide=True)


def _column(parts: Sequence[float], signs: Sequence[Sign], palette: Palette) -> list[Sign | None]:
    """The signs of a column from below.

    Args:
        parts: the heights of its parts, in lines.
        signs: of the parts.
        palette: the signs of what fills no line.
    """
    told = [(part, sign) for part, sign in zip(parts, signs, strict=True) if part > 0]
    if not told:
        return []
    if len(signs) == 1:
        (height, sign), steps = told[0], len(palette.rising)
        lines, rest = divmod(max(round(height * steps), 1), steps)
        found: list[Sign | None] = [sign] * lines
        return [*found, Sign(palette.rising[rest], sign.style)] if rest else found
    height = sum(part for part, _ in told)
    return [_owner(told, line) for line in range(round(height))] or [Sign(palette.rising[1], _owner(told, 0).style)]


def _owner(parts: Sequence[tuple[float, Sign]], line: int) -> Sign:
    """Whose most of a line is."""
    below = 0.0
    shares: list[float] = []
    for part, _ in parts:
        shares.append(min(below + part, line + 1) - max(below, line))
        below += part
    return parts[shares.index(max(shares))][1]


def points(series: Sequence[Sequence[float | None]], signs: Sequence[Sign], frame: Frame) -> Text:
    """A point a place and series; of those at the same height the first is seen.

    Args:
        series: for each the values by place; ``None`` where it is unknown.
        signs: of the series.
        frame: what is around it.
    """
    top = ceiling(max((value for values in series for value in values if value is not None), default=0))

    def cells(place: int) -> list[Sign | None]:
        found: list[Sign | None] = [None] * frame.height
        for values, sign in reversed(list(zip(series, signs, strict=True))):
            if (value := values[place]) is not None:
                found[min(int(value / top * frame.height), frame.height - 1)] = sign
        return found

    return _framed(cells, top, frame, wide=False)


def _framed(cells: Callable[[int], list[Sign | None]], top: float, frame: Frame, *, wide: bool) -> Text:
    height, signs = frame.height, frame.palette
    told = {height: frame.written(top), height // 2: frame.written(top * (height // 2) / height), 0: frame.written(0)}
    margin = max(map(len, told.values()))
    space = max(frame.width - margin - 2, 1)
    step = min(max(space // max(len(frame.labels), 1), 1), _WIDEST)
    shown = max(step - 1, 1) if wide else 1
    drawn = [cells(place) for place in range(len(frame.labels))]
    text = Text(no_wrap=True, overflow="crop")
    for line in range(height, 0, -1):
        text.append(f"{told.get(line, ''):>{margin}} {signs.tick if line in told else signs.side}")
        for column in drawn:
            sign = column[line - 1] if line <= len(column) else None
            if sign is None:
                text.append(" " * step)
            else:
                text.append(sign.character * shown, style=sign.style)
                text.append(" " * (step - shown))
        text.rstrip()
        text.append("\n")
    text.append(f"{told[0]:>{margin}} {signs.corner}{signs.floor * (step * len(drawn))}\n")
    text.append(" " * (margin + 2) + _below(frame.labels, step, space))
    return text


def _below(labels: Sequence[str], step: int, space: int) -> str:
    """The labels of the places, as many as there is room for, evenly apart."""
    longest = max(map(len, labels), default=0)
    every = -(-(longest + 2) // step)
    line = ""
    for place in range(0, len(labels), every):
        if place * step + len(labels[place]) <= space:
            line = f"{line:<{place * step}}{labels[place]}"
    return line


def bars(stacks: Sequence[Sequence[float] | None], signs: Sequence[Sign], width: int, palette: Palette) -> list[Text]:
    """Bars that lie, each with its parts one behind the other.

    Args:
        stacks: for each bar the values of its parts; ``None`` where it is unknown.
        signs: of the parts.
        width: of the longest bar, in characters.
        palette: the signs of what fills no character.
    """
    longest = max((sum(stack) for stack in stacks if stack), default=0) or 1
    return [_bar([max(part, 0) / longest * width for part in stack or ()], signs, palette) for stack in stacks]


def _bar(parts: Sequence[float], signs: Sequence[Sign], palette: Palette) -> Text:
    text = Text(no_wrap=True)
    end = 0.0
    for part, sign in zip(parts, signs, strict=False):
        end += part
        text.append(sign.character * (round(end) - text.cell_len if len(signs) > 1 else int(end)), style=sign.style)
    rest = int((end - text.cell_len) * len(palette.growing)) if len(signs) == 1 else 0
    if rest or (end > 0 and not text.cell_len):
        text.append(palette.growing[min(max(rest, 1), len(palette.growing) - 1)], style=signs[0].style)
    return text
