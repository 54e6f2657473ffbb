"""The messages of a request beside the recorded ones: which is new, which is missing, and which field differs."""

from __future__ import annotations

from dataclasses import fields
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.domain.parts import MediaPart, ToolCallPart, ToolResultPart
from nodellm_orm.replay.differences import differences_of, shown, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import Part

_DIGITS: Final = 12
"""Of a digest, for people."""
_PLAIN: Final = {"text", "toolresult"}
"""Parts that need not be named: their message says what they are."""
_FILE: Final = ("name", "media_type", "sha256", "url", "file_id")

_Members = dict[str, Any]


class Sayings:
    """Compares messages; those that were found the same are not looked at again while a conversation grows."""

    def __init__(self) -> None:
        """Nothing was compared yet."""
        self._same: dict[tuple[int, int], tuple[Message, Message]] = {}

    def differing(self, expected: Sequence[Message], got: Sequence[Message]) -> list[str]:
        """How messages differ from the expected ones, each difference a line or several.

        Args:
            expected: those of the record.
            got: those that are about to be sent.
        """
        was_called, is_called = _numbers(expected), _numbers(got)
        same = 0
        for was, now in zip(expected, got, strict=False):
            if not self._agree(was, now, was_called, is_called):
                break
            same += 1
        if same == len(expected) == len(got):
            return []
        return list(_apart(same, expected, got, was_called, is_called))

    def _agree(self, was: Message, now: Message, was_called: Mapping[str, str], is_called: Mapping[str, str]) -> bool:
        if (id(was), id(now)) in self._same:  # and so do all before them: their calls have the same numbers again
            return True
        if _seen(was, was_called) != _seen(now, is_called):
            return False
        self._same[id(was), id(now)] = was, now  # kept, so that no other message has this identity
        return True


def _seen(message: Message, numbers: Mapping[str, str]) -> tuple[str, str, list[_Members]]:
    """All that is compared of a message."""
    return message.role, message.status, _numbered(message, numbers)


def _numbers(messages: Iterable[Message]) -> dict[str, str]:
    """Calls by number: their ids may be chosen anew each time, and mean nothing beyond which call is meant."""
    numbers: dict[str, str] = {}
    for message in messages:
        if message.role == "user":
            continue
        for part in message.parts:
            if isinstance(part, ToolCallPart | ToolResultPart) and part.call_id not in numbers:
                numbers[part.call_id] = f"call {len(numbers) + 1}"
    return numbers


def _numbered(message: Message, numbers: Mapping[str, str]) -> list[_Members]:
    return [_members(part, numbers) for part in message.parts]


def _members(part: Part, numbers: Mapping[str, str]) -> _Members:
    members = {f.name: getattr(part, f.name) for f in fields(part) if f.compare}
    if isinstance(part, ToolCallPart | ToolResultPart):
        members["call_id"] = numbers.get(part.call_id, part.call_id)
    if isinstance(part, ToolCallPart):
        del members["wire_id"]
    kind = "file" if isinstance(part, MediaPart) else type(part).__name__.removesuffix("Part").lower()
    return {"kind": kind, **members}


# ── which messages and parts meet ─────────────────────────────────────────────────────────────────────────────────────


def _apart(
    same: int,
    expected: Sequence[Message],
    got: Sequence[Message],
    was_called: Mapping[str, str],
    is_called: Mapping[str, str],
) -> Iterator[str]:
    """From the first message that differs on: those that are the same meet, what lies between is paired off."""
    one = [repr(_seen(message, was_called)) for message in expected[same:]]
    two = [repr(_seen(message, is_called)) for message in got[same:]]
    for was, now in _pairs(one, two):
        if now is None:
            yield _lone(same + (was or 0), expected[same + (was or 0)], "is not sent, and was")
        elif was is None:
            yield _lone(same + now, got[same + now], "is sent, and was not")
        elif one[was] != two[now]:
            old, new = expected[same + was], got[same + now]
            name = f"messages[{same + now}] ({_called(old)})"
            for field in ("role", "status"):
                if getattr(old, field) != getattr(new, field):
                    yield f"{name} {field}: expected {getattr(old, field)}, got {getattr(new, field)}"
            yield from _parts(name, _numbered(old, was_called), _numbered(new, is_called))


def _pairs(one: Sequence[str], two: Sequence[str]) -> Iterator[tuple[int | None, int | None]]:
    """Places of two rows that meet; ``None`` where one has nothing to meet."""
    for _, start, end, first, last in SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        for offset in range(max(end - start, last - first)):
            was, now = start + offset, first + offset
            yield was if was < end else None, now if now < last else None


def _lone(place: int, message: Message, words: str) -> str:
    calls = ", ".join(f"{call.name}({call.arguments})" for call in message.tool_calls)
    return f"messages[{place}] ({_called(message)}) {words}: {shown(message.content or calls)}"


def _called(message: Message) -> str:
    results = ", ".join(result.name for result in message.tool_results)
    return f"result of {results}" if results else message.role


def _parts(name: str, expected: Sequence[_Members], got: Sequence[_Members]) -> Iterator[str]:
    for was, now in _pairs([repr(part) for part in expected], [repr(part) for part in got]):
        old, new = None if was is None else expected[was], None if now is None else got[now]
        if old is not None and new is not None and old["kind"] == new["kind"]:
            place = name if max(len(expected), len(got)) == 1 else f"{name} part {now}"
            yield from _fields(place, old, new)
            continue
        if old is not None:
            yield f"{name} part {was}, {_described(old)}, is not sent, and was"
        if new is not None:
            yield f"{name} part {now}, {_described(new)}, is sent, and was not"


def _fields(name: str, was: _Members, now: _Members) -> Iterator[str]:
    if was == now:
        return
    if was["kind"] == "file" and any(was[member] != now[member] for member in _FILE):
        yield told(f"{name} file", _file(was), _file(now))
        return
    kind = "" if was["kind"] in _PLAIN else f" {was['kind']}"
    for member, value in was.items():
        if value != now[member]:
            yield from differences_of(f"{name}{kind} {member}", value, now[member])


def _described(part: _Members) -> str:
    if part["kind"] == "file":
        return f"the file {_file(part)}"
    told = part.get("text") or part.get("content") or part.get("arguments") or ""
    return f"{part['kind']} {shown(str(told))}"


def _file(part: _Members) -> str:
    """A file in a few words."""
    digest = part["sha256"]
    known = [part["media_type"], *([f"sha256 {digest[:_DIGITS]}…"] if digest else []), part["url"], part["file_id"]]
    return f"{part['name'] or 'without a name'} ({', '.join(word for word in known if word)})"
