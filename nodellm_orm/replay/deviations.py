"""Where a request deviates from the one that was recorded: which message, which field, what was expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args

from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.domain.jsontext import loads
from nodellm_orm.replay.differences import differences, differences_of
from nodellm_orm.replay.record import spec_of
from nodellm_orm.runtime.identity import told_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from nodellm_orm.domain.messages import Message, Origin
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.wire import ModelRequest
    from nodellm_orm.replay.record import AskedWith, NamedText
    from nodellm_orm.replay.saying import Sayings
    from nodellm_orm.replay.script import Line

Compared: TypeAlias = Literal["instructions", "messages", "tools", "settings"]
COMPARED: Final[tuple[Compared, ...]] = get_args(Compared)
"""Everything that can be compared."""
_LISTED: Final = 12
"""Differences that are listed."""
_PLACE: Final = {"compacted"}
"""Settings that say nothing of the request."""


class Deviation(NamedTuple):
    """One difference."""

    of: Compared
    told: str
    """A line, or several."""


def deviations(
    line: Line, expected: Sequence[Message], request: ModelRequest, compare: Collection[Compared], sayings: Sayings
) -> list[Deviation]:
    """The differences between a request and the recorded one.

    Args:
        line: the call that was recorded.
        expected: the messages that it was asked with.
        request: the one about to be sent.
        compare: what is looked at.
        sayings: compares the messages.
    """
    asked, found = line.asked, dict[Compared, list[str]]()
    if "instructions" in compare:
        found["instructions"] = _instructions(asked.instructions, request.instructions)
    if "messages" in compare:
        found["messages"] = sayings.differing(expected, request.messages)
    if "tools" in compare:
        found["tools"] = _tools(asked.tools, request.tools)
    if "settings" in compare:
        found["settings"] = _settings(asked, request.target, request.settings, forced=line.first)
    return [Deviation(of, told) for of, all_told in found.items() for told in all_told]


def listed(found: Sequence[Deviation]) -> str:
    """The differences as people read them.

    Args:
        found: from `deviations`.
    """
    more = [f"  … and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
    return "\n".join([*(f"  {one.told}" for one in found[:_LISTED]), *more])


def remaining(found: Sequence[Deviation], compare: Collection[Compared]) -> str:
    """The ``compare=`` that would have let a request pass.

    Args:
        found: from `deviations`.
        compare: what was compared.
    """
    differing = {one.of for one in found}
    return f"compare={tuple(name for name in COMPARED if name in compare and name not in differing)!r}"


# ── instructions and tools ────────────────────────────────────────────────────────────────────────────────────────────


def _instructions(expected: Sequence[NamedText], got: Sequence[str]) -> list[str]:
    found: list[str] = []
    for place in range(max(len(expected), len(got))):
        was = expected[place] if place < len(expected) else None
        now = got[place] if place < len(got) else None
        if was is not None and now is not None and digest_of_text(now) == was.digest:
            continue
        told = None if was is None else was.text if was.text is not None else f"(a text of digest {was.digest[:12]})"
        found += differences(f"instructions[{place}]", told, now)
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
        found += differences(f"tools: {tool.name}, description", known.description, tool.description)
    if known.parameters != tool.parameters:
        found += differences(f"tools: {tool.name}, parameters", known.parameters, tool.parameters)
    return found


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _settings(asked: AskedWith, target: Origin, settings: Settings, *, forced: bool) -> list[str]:
    was, now = _plain(asked.settings, forced=forced), _plain(settings, forced=forced)
    was, now = {"model": asked.model, **was}, {"model": target.model, **now}
    found: list[str] = []
    for name in sorted({*was, *now}):
        if was.get(name) != now.get(name):
            found += differences_of(f"settings: {name}", was.get(name), now.get(name))
    return found


def _plain(settings: Settings, *, forced: bool) -> dict[str, Any]:
    plain: Any = loads(settings.to_json())
    left_out = _PLACE if forced else {*_PLACE, "tool_choice"}
    return {name: value for name, value in plain.items() if name not in left_out}
