"""A replay's report as text for people, and as JSON for programs."""

from __future__ import annotations

from decimal import Decimal
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nodellm_orm.domain.figures import NONE, count, duration, money
from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.domain.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.replies import ToolCall
    from nodellm_orm.domain.usage import Usage
    from nodellm_orm.replay.report import ReplayAnswer, ReplayCall, ReplayReport, ReplayTotals, ReplayTurn

Number = TypeVar("Number", int, Decimal)

_WIDE: Final = 80
"""Columns of a terminal."""
_INDENT: Final = "   "
_NAME: Final = 24
"""Characters of a model's name that are shown."""
_SHOWN: Final = 70
"""Characters of a call or a result that are shown in a line."""


def as_text(report: ReplayReport) -> str:
    """The report for people, within 80 columns.

    Args:
        report: of a replay.
    """
    lines = [f"chat {report.chat_id}", f"replayed as {report.replay_id}", _asked_again(report)]
    if report.unrecorded:
        lines.append(_folded(f"{_calls(report.unrecorded)} not run: not in the record, or in need of an approval"))
    if report.error is not None:
        lines.append(_folded(f"broken off: {report.error}"))
    if report.turns:
        lines += _totals(report)
    for number, turn in enumerate(report.turns, 1):
        lines += _turn(number, turn)
    return "\n".join(lines)


def _asked_again(report: ReplayReport) -> str:
    if not report.asked:
        return "nothing was asked in it"
    equal = sum(turn.equal for turn in report.turns)
    other = len(report.turns) - equal
    return f"{len(report.turns)} of {report.asked} questions asked again: {equal} the same, {other} not"


def _calls(number: int) -> str:
    return "1 call was" if number == 1 else f"{number} calls were"


def _totals(report: ReplayReport) -> list[str]:
    was, now = report.original, report.replayed
    rows = [
        ("", "recorded", "replayed", "difference"),
        ("model", *(_models(side) for side in zip(*((t.original, t.replayed) for t in report.turns), strict=True)), ""),
        ("input tokens", *_counts(was.usage.input_tokens, now.usage.input_tokens)),
        ("output tokens", *_counts(was.usage.output_tokens, now.usage.output_tokens)),
        ("cost", _money(was.cost), _money(now.cost), _signed(report.cost_difference, money)),
        ("time", _time(was.latency_ms), _time(now.latency_ms), _signed(report.latency_difference_ms, _time)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["", *(_row(row, widths) for row in rows)]


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = row
    columns = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
    return "  ".join(("", name.ljust(widths[0]), *columns)).rstrip()


def _models(answers: Iterable[ReplayAnswer]) -> str:
    """Who has answered."""
    names = {answer.model for answer in answers if answer.model is not None}
    return f"{len(names)} models" if len(names) > 1 else one_line(next(iter(names), "unknown"), _NAME)


def _counts(was: int | None, now: int | None) -> tuple[str, str, str]:
    return _number(was), _number(now), _signed(None if was is None or now is None else now - was, count)


def _turn(number: int, turn: ReplayTurn) -> list[str]:
    head = f"{number}. {one_line(turn.question, _WIDE - 20)}"
    if turn.equal:
        return ["", f"{head}: the same"]
    was, now = turn.original, turn.replayed
    lines = ["", head, _INDENT + _numbers(was, now)]
    if (was.finish_reason, was.error) != (now.finish_reason, now.error):
        lines.append(f"{_INDENT}ended: {_end(was)}, now {_end(now)}")
    for call in turn.calls:
        if call.verdict != "same":
            lines += [_INDENT + line for line in _call(call)]
    return [*lines, *_text(turn.difference)]


def _numbers(was: ReplayAnswer, now: ReplayAnswer) -> str:
    """What both answers have taken, in one line."""
    pairs = (
        (_number(was.usage.output_tokens), _number(now.usage.output_tokens), " output tokens"),
        (_money(was.cost), _money(now.cost), ""),
        (_time(was.latency_ms), _time(now.latency_ms), ""),
    )
    return ", ".join(f"{one} -> {two}{unit}" for one, two, unit in pairs)


def _text(difference: str) -> Iterator[str]:
    """The unified diff, without the names of the files that there are none of, long lines folded."""
    for number, line in enumerate(difference.splitlines()[2:]):
        if line.startswith("@@"):
            if number:
                yield f"{_INDENT}…"
            continue
        mark, words = line[:1], line[1:]
        for piece in wrap(words, _WIDE - len(_INDENT) - 1, drop_whitespace=False, break_on_hyphens=False) or [""]:
            yield f"{_INDENT}{mark}{piece}".rstrip()


def _end(answer: ReplayAnswer) -> str:
    return answer.error or answer.finish_reason or "without an end"


def _call(call: ReplayCall) -> list[str]:
    """A call that is not the same: how it was made and answered, and how it is now."""
    was, now = call.original, call.replayed
    if was is not None and now is not None and (was.name, was.arguments) == (now.name, now.arguments):
        return [f"~ {_asked(was)}", *(f"  {mark} {_result(one)}" for mark, one in (("-", was), ("+", now)))]
    return [f"{mark} {_asked(one)}" for mark, one in (("-", was), ("+", now)) if one is not None]


def _asked(call: ToolCall) -> str:
    return one_line(f"{call.name}({call.arguments})", _SHOWN)


def _result(call: ToolCall) -> str:
    return one_line(call.result, _SHOWN) if call.result is not None else "no result"


def _folded(text: str) -> str:
    return "\n".join(wrap(text, _WIDE, break_on_hyphens=False))


def _number(number: int | None) -> str:
    return "unknown" if number is None else count(number)


def _money(amount: Decimal | None) -> str:
    return "unknown" if amount is None else money(amount)


def _time(milliseconds: int | None) -> str:
    return "unknown" if milliseconds is None else duration(milliseconds / 1000)


def _signed(number: Number | None, told: Callable[[Number], str]) -> str:
    if number is None:
        return NONE
    return told(number) if number == 0 else f"{'-' if number < 0 else '+'}{told(abs(number))}"


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def as_json(report: ReplayReport) -> JsonText:
    """The whole report.

    Args:
        report: of a replay.
    """
    return dumps(
        {
            "chat_id": str(report.chat_id),
            "replay_id": str(report.replay_id),
            "equal": report.equal,
            "complete": report.complete,
            "asked": report.asked,
            "unrecorded": report.unrecorded,
            "error": report.error,
            "original": _sums(report.original),
            "replayed": _sums(report.replayed),
            "turns": [_plain_turn(turn) for turn in report.turns],
        }
    )


def _plain_turn(turn: ReplayTurn) -> dict[str, Any]:
    return {
        "question": turn.question,
        "equal": turn.equal,
        "difference": turn.difference,
        "original": _answer(turn.original),
        "replayed": _answer(turn.replayed),
        "calls": [
            {"verdict": call.verdict, "original": _plain_call(call.original), "replayed": _plain_call(call.replayed)}
            for call in turn.calls
        ],
    }


def _answer(answer: ReplayAnswer) -> dict[str, Any]:
    return {
        "turn_id": None if answer.turn_id is None else str(answer.turn_id),
        "content": answer.content,
        "finish_reason": answer.finish_reason,
        "error": answer.error,
        "model": answer.model,
        "provider": answer.provider,
        "usage": _usage(answer.usage),
        "cost": _exact(answer.cost),
        "latency_ms": answer.latency_ms,
    }


def _plain_call(call: ToolCall | None) -> dict[str, Any] | None:
    if call is None:
        return None
    return {"name": call.name, "arguments": call.arguments, "result": call.result, "is_error": call.is_error}


def _sums(totals: ReplayTotals) -> dict[str, Any]:
    return {"usage": _usage(totals.usage), "cost": _exact(totals.cost), "latency_ms": totals.latency_ms}


def _usage(usage: Usage) -> dict[str, Any]:
    names = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    return {name: getattr(usage, name) for name in names}


def _exact(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"
