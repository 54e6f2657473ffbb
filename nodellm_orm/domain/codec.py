"""Parts as JSON text and back, without loss.

The text is what a chat is replayed from. A kind of part that this version does not know (written by a later one) is
kept as an `OpaquePart`, never dropped and never guessed at.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, get_type_hints

from nodellm_orm.domain.jsontext import JsonText, dumps, loads
from nodellm_orm.domain.parts import (
    OpaquePart,
    RefusalPart,
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
    "opaque": OpaquePart,
}
_NAMES = {cls: kind for kind, cls in _KINDS.items()}
_FIELDS = {cls: {f.name: f for f in fields(cls)} for cls in _NAMES}
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
    data = loads(text)
    if not isinstance(data, list):
        msg = "stored parts are not a JSON list"
        raise CodecError(msg)
    return tuple(_decode(item) for item in data)


_TYPES = {cls: get_type_hints(cls) for cls in _NAMES}


def _decode(item: object) -> Part:
    if not isinstance(item, dict):
        msg = "a stored part is not a JSON object"
        raise CodecError(msg)
    cls = _KINDS.get(str(item.get("kind")))
    members = {name: value for name, value in item.items() if name != "kind"}
    if cls is None or members.keys() - _FIELDS[cls].keys():
        return OpaquePart(payload=dumps({_UNKNOWN: item}))
    for name, value in members.items():
        wanted = bool if _TYPES[cls][name] is bool else str
        if value is not None and not isinstance(value, wanted):
            msg = f"member {name!r} of a stored {item['kind']} part is not a {wanted.__name__}"
            raise CodecError(msg)
    try:
        return cls(**members)
    except TypeError as error:
        msg = f"a stored {item['kind']} part lacks a member: {error}"
        raise CodecError(msg) from error
