"""A replay's report as text for people, and as JSON for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.domain.jsontext import dumps

if TYPE_CHECKING:
    from decimal import Decimal

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.replies import ToolCall
    from nodellm_orm.domain.usage import Usage
    from nodellm_orm.replay.report import ReplayAnswer, ReplayCall, ReplayReport, ReplayTotals, ReplayTurn

_SHOWN: Final = 100
"""Characters of a question, arguments or a result that are shown in a line."""
_MARKS: Final = {"same": " ", "other": "~", "missing": "-", "added": "+"}


def as_text(report: ReplayReport) -> str:
    """The report for people.

    Args:
        report: of a replay.
    """
    equal = sum(turn.equal for turn in report.turns)
    other = len(report.turns) - equal
    lines = [
        f"chat {report.chat_id}, replayed as {report.replay_id}",
        f"{len(report.turns)} of {report.asked} questions asked again: {equal} the same, {other} not",
    ]
    if report.unrecorded:
        lines.append(f"{report.unrecorded} calls were not run: they are not in the record, or need an approval")
    if report.error is not None:
        lines.append(f"broken off: {report.error}")
    lines += _totals(report.original, report.replayed)
    for number, turn in enumerate(report.turns, 1):
        lines += _turn(number, turn)
    return "\n".join(lines)


def _totals(was: ReplayTotals, now: ReplayTotals) -> list[str]:
    rows = [
        ("", "recorded", "replayed"),
        ("input tokens", _number(was.usage.input_tokens), _number(now.usage.input_tokens)),
        ("output tokens", _number(was.usage.output_tokens), _number(now.usage.output_tokens)),
        ("cost", _money(was.cost), _money(now.cost)),
        ("latency", _time(was.latency_ms), _time(now.latency_ms)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [f"  {name:<{widths[0]}}  {one:>{widths[1]}}  {two:>{widths[2]}}".rstrip() for name, one, two in rows]


def _turn(number: int, turn: ReplayTurn) -> list[str]:
    head = f"{number}. {_line(turn.question)}"
    if turn.equal:
        return ["", f"{head}: the same"]
    lines = ["", head]
    was, now = turn.original, turn.replayed
    if (was.finish_reason, was.error) != (now.finish_reason, now.error):
        lines.append(f"   ended: {_end(was)}, now {_end(now)}")
    lines += [f"   {_call(call)}" for call in turn.calls if call.verdict != "same"]
    lines += [f"   {line}" for line in turn.difference.splitlines()]
    return lines


def _end(answer: ReplayAnswer) -> str:
    return answer.error or answer.finish_reason or "without an end"


def _call(call: ReplayCall) -> str:
    was, now = call.original, call.replayed
    if call.verdict == "other" and was is not None and now is not None:
        if (was.name, was.arguments) == (now.name, now.arguments):
            return f"~ {_asked(was)}: {_line(was.result or '')} -> {_line(now.result or '')}"
        return f"~ {_asked(was)} -> {_asked(now)}"
    made = was if was is not None else now
    return f"{_MARKS[call.verdict]} {_asked(made) if made is not None else ''}"


def _asked(call: ToolCall) -> str:
    return _line(f"{call.name}({call.arguments})")


def _line(text: str) -> str:
    one = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return one if len(one) <= _SHOWN else f"{one[: _SHOWN - 1]}…"


def _number(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def _money(amount: Decimal | None) -> str:
    return "unknown" if amount is None else f"${amount:f}"


def _time(milliseconds: int | None) -> str:
    return "unknown" if milliseconds is None else f"{milliseconds / 1000:.2f} s"


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
