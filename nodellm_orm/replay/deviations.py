"""Where a request deviates from the one that was recorded: which message, which field, what was expected."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.domain.jsontext import dumps, loads
from nodellm_orm.domain.parts import MediaPart, ToolCallPart, ToolResultPart
from nodellm_orm.replay.record import spec_of
from nodellm_orm.runtime.identity import told_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nodellm_orm.domain.messages import Message, Origin
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.wire import ModelRequest
    from nodellm_orm.replay.record import AskedWith, NamedText
    from nodellm_orm.replay.script import Line

Compared: TypeAlias = Literal["instructions", "messages", "tools", "settings"]
COMPARED: Final[tuple[Compared, ...]] = get_args(Compared)
"""Everything that can be compared."""
_SHOWN: Final = 80
"""Characters of a text that are shown, around the first place where it differs."""
_AHEAD: Final = 20
_LISTED: Final = 12
"""Differences that are listed."""
_PLACE: Final = {"compacted"}
"""Settings that say nothing of the request."""


def deviations(
    line: Line, expected: Sequence[Message], request: ModelRequest, compare: Iterable[Compared]
) -> list[str]:
    """The differences between a request and the recorded one, each a line or several.

    Args:
        line: the call that was recorded.
        expected: the messages that it was asked with.
        request: the one about to be sent.
        compare: what is looked at.
    """
    looked, found = frozenset(compare), list[str]()
    if "instructions" in looked:
        found += _instructions(line.asked.instructions, request.instructions)
    if "messages" in looked:
        found += _messages(expected, request.messages)
    if "tools" in looked:
        found += _tools(line.asked.tools, request.tools)
    if "settings" in looked:
        found += _settings(line.asked, request.target, request.settings, forced=line.first)
    return found


def listed(found: Sequence[str]) -> str:
    """The differences as people read them.

    Args:
        found: from `deviations`.
    """
    more = [f"  … and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
    return "\n".join([*(f"  {one}" for one in found[:_LISTED]), *more])


# ── instructions and tools ────────────────────────────────────────────────────────────────────────────────────────────


def _instructions(expected: Sequence[NamedText], got: Sequence[str]) -> list[str]:
    found: list[str] = []
    for place in range(max(len(expected), len(got))):
        was = expected[place] if place < len(expected) else None
        now = got[place] if place < len(got) else None
        if was is not None and now is not None and digest_of_text(now) == was.digest:
            continue
        told = None if was is None else was.text if was.text is not None else f"(a text of digest {was.digest[:12]})"
        found.append(_differs(f"instructions[{place}]", told, now))
    return found


def _tools(expected: Mapping[str, NamedText], got: Sequence[ToolSpec]) -> list[str]:
    offered = {tool.name: tool for tool in got}
    found = [f"tools: {name} is not offered, and was" for name in expected if name not in offered]
    found += [f"tools: {name} is offered, and was not" for name in offered if name not in expected]
    for name, was in expected.items():
        tool = offered.get(name)
        if tool is not None and digest_of_text(told_of(tool)) != was.digest:
            found += _tool(tool, was)
    order = [name for name in offered if name in expected]
    if not found and order != list(expected):
        found.append(f"tools: the order was {', '.join(expected)}, and is {', '.join(order)}")
    return found


def _tool(tool: ToolSpec, was: NamedText) -> list[str]:
    known = None if was.text is None else spec_of(tool.name, was.text)
    if known is None:
        return [f"tools: {tool.name} was told of otherwise (its text of digest {was.digest[:12]} is not stored)"]
    found: list[str] = []
    if known.description != tool.description:
        found.append(_differs(f"tools: {tool.name}, description", known.description, tool.description))
    if known.parameters != tool.parameters:
        found.append(_differs(f"tools: {tool.name}, parameters", known.parameters, tool.parameters))
    return found


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _settings(asked: AskedWith, target: Origin, settings: Settings, *, forced: bool) -> list[str]:
    was, now = _plain(asked.settings, forced=forced), _plain(settings, forced=forced)
    was, now = {"model": asked.model, **was}, {"model": target.model, **now}
    return [
        _differs(f"settings: {name}", _shown(was.get(name)), _shown(now.get(name)))
        for name in sorted({*was, *now})
        if was.get(name) != now.get(name)
    ]


def _plain(settings: Settings, *, forced: bool) -> dict[str, Any]:
    plain: Any = loads(settings.to_json())
    left_out = _PLACE if forced else {*_PLACE, "tool_choice"}
    return {name: value for name, value in plain.items() if name not in left_out}


def _shown(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else dumps(value)


# ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _messages(expected: Sequence[Message], got: Sequence[Message]) -> list[str]:
    was_called, is_called = _numbers(expected), _numbers(got)
    found: list[str] = []
    for place in range(max(len(expected), len(got))):
        was = expected[place] if place < len(expected) else None
        now = got[place] if place < len(got) else None
        if was is None or now is None:
            said = now if was is None else was
            words = "is sent, and was not" if was is None else "is not sent, and was"
            found.append(
                f"messages[{place}] ({said.role if said else ''}) {words}: {_cut(said.content if said else '')}"
            )
            continue
        name = f"messages[{place}] ({_called(was)})"
        if was.role != now.role:
            found.append(f"{name} role: expected {was.role}, got {now.role}")
        elif was.status != now.status:
            found.append(f"{name} status: expected {was.status}, got {now.status}")
        found += _parts(name, _numbered(was, was_called), _numbered(now, is_called))
    return found


def _called(message: Message) -> str:
    results = ", ".join(result.name for result in message.tool_results)
    return f"result of {results}" if results else message.role


def _parts(name: str, expected: Sequence[Mapping[str, Any]], got: Sequence[Mapping[str, Any]]) -> list[str]:
    found: list[str] = []
    for place in range(max(len(expected), len(got))):
        was = expected[place] if place < len(expected) else {}
        now = got[place] if place < len(got) else {}
        one = name if max(len(expected), len(got)) == 1 else f"{name} part {place}"
        if was.get("kind") != now.get("kind"):
            found.append(_differs(one, was.get("kind"), now.get("kind")))
            continue
        found += [
            _differs(f"{one} {field}", _shown(was[field]), _shown(now[field]))
            for field in was
            if was[field] != now[field]
        ]
    return found


def _numbers(messages: Iterable[Message]) -> dict[str, str]:
    """Calls by number: their ids may be chosen anew each time, and mean nothing beyond which call is meant."""
    numbers: dict[str, str] = {}
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCallPart | ToolResultPart):
                numbers.setdefault(part.call_id, f"call {len(numbers) + 1}")
    return numbers


def _numbered(message: Message, numbers: Mapping[str, str]) -> list[dict[str, Any]]:
    return [_members(part, numbers) for part in message.parts]


def _members(part: Part, numbers: Mapping[str, str]) -> dict[str, Any]:
    members = {f.name: getattr(part, f.name) for f in fields(part) if f.compare}
    if isinstance(part, ToolCallPart | ToolResultPart):
        members["call_id"] = numbers[part.call_id]
    if isinstance(part, ToolCallPart):
        del members["wire_id"]
    kind = "file" if isinstance(part, MediaPart) else type(part).__name__.removesuffix("Part").lower()
    return {"kind": kind, **members}


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _differs(name: str, expected: str | None, got: str | None) -> str:
    """One difference: long texts are shown around the first place where they differ."""
    if expected is None or got is None:
        return f"{name}: expected {_cut(expected)}, got {_cut(got)}"
    start = next(
        (n for n, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got))
    )
    return f"{name}: expected {_cut(expected, start)}, got {_cut(got, start)}"


def _cut(text: str | None, start: int = 0) -> str:
    if text is None:
        return "nothing"
    begin = max(start - _AHEAD, 0) if len(text) > _SHOWN else 0
    shown = text[begin : begin + _SHOWN]
    return f"{'…' if begin else ''}{shown!r}{'…' if begin + _SHOWN < len(text) else ''}"
