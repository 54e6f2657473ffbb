"""Parts as JSON text and back, without loss.

The text is what a chat is replayed from. A kind of part that this version does not know (written by a later one) is
kept as an `OpaquePart`, never dropped and never guessed at.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from nodellm_orm.domain.jsontext import JsonText, JsonTextError, Number, Pairs, dumps, loads_verbatim
from nodellm_orm.domain.parts import (
    NOT_STORED,
    MediaPart,
    OpaquePart,
    RefusalPart,
    SummaryPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodellm_orm.domain.parts import Part

_KINDS: dict[str, type[Part]] = {
    "text": TextPart,
    "thinking": ThinkingPart,
    "tool_call": ToolCallPart,
    "tool_result": ToolResultPart,
    "refusal": RefusalPart,
    "media": MediaPart,
    "summary": SummaryPart,
    "opaque": OpaquePart,
}
_NAMES = {cls: kind for kind, cls in _KINDS.items()}
_FIELDS = {cls: {f.name: f for f in fields(cls) if f.metadata != NOT_STORED} for cls in _NAMES}
_UNKNOWN = "unknown_part"


class CodecError(ValueError):
    """The stored text is not a list of parts."""


def encode_parts(parts: Iterable[Part]) -> JsonText:
    """The parts as a JSON list; members that hold their default are left out.

    Args:
        parts: parts in order.
    """
    return dumps([_encode(part) for part in parts])


def _encode(part: Part) -> dict[str, object]:
    cls = type(part)
    plain: dict[str, object] = {"kind": _NAMES[cls]}
    for name, f in _FIELDS[cls].items():
        value = getattr(part, name)
        if value != f.default:
            plain[name] = value
    return plain


def decode_parts(text: JsonText) -> tuple[Part, ...]:
    """Read what `encode_parts` wrote.

    Args:
        text: a JSON list of parts.

    Raises:
        CodecError: when the text is not such a list.
    """
    try:
        items = loads_verbatim(text)
    except JsonTextError as error:
        msg = f"stored parts are not JSON: {error}"
        raise CodecError(msg) from error
    if not isinstance(items, list):
        msg = "stored parts are not a JSON list"
        raise CodecError(msg)
    return tuple(_decode(item) for item in items)


def _decode(item: object) -> Part:
    if not isinstance(item, Pairs):
        msg = "a stored part is not a JSON object"
        raise CodecError(msg)
    members: dict[str, Any] = dict(item)
    kind = str(members.pop("kind", None))
    cls = _KINDS.get(kind)
    if cls is None or members.keys() - _FIELDS[cls].keys():
        return OpaquePart(payload=dumps({_UNKNOWN: item}))
    for name, f in _FIELDS[cls].items():
        if name in members and f.type == "int":
            members[name] = _whole(kind, name, members[name])
        elif name in members:
            _check(kind, name, members[name], f.default)
        elif f.default is MISSING:
            msg = f"a stored {kind} part lacks its member {name!r}"
            raise CodecError(msg)
    return cls(**members)


def _whole(kind: str, name: str, value: object) -> int:
    if not isinstance(value, Number) or not value.text.isdecimal():
        msg = f"member {name!r} of a stored {kind} part is not a whole number"
        raise CodecError(msg)
    return int(value.text)


def _check(kind: str, name: str, value: object, default: object) -> None:
    """A member is a string, a flag where its default is one, and ``None`` only where that is the default."""
    wanted = bool if isinstance(default, bool) else str
    if not isinstance(value, wanted) and not (value is None and default is None):
        msg = f"member {name!r} of a stored {kind} part is not a {wanted.__name__}"
        raise CodecError(msg)
