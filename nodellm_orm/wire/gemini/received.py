"""Parts of an answer that come whole: calls, files, and whatever else there is."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.digests import digest_of
from nodellm_orm.domain.jsontext import Pairs, dumps
from nodellm_orm.domain.mediatypes import kind_of
from nodellm_orm.domain.parts import MediaPart, OpaquePart, ToolCallPart
from nodellm_orm.wire.values import object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.jsontext import JsonText

SIGNATURE: Final = "thoughtSignature"
"""The member of a part that proves what the model thought before it; valid on that part only, and only here."""
CALL: Final = "functionCall"
FILE: Final = "inlineData"
_UNFINISHED: Final = frozenset({"partialArgs", "willContinue"})
_URL_SAFE: Final = str.maketrans("-_", "+/")


def beyond(members: Mapping[str, object], *known: str) -> dict[str, object]:
    """The members that are not read otherwise, in their order; null says nothing.

    Args:
        members: of a part.
        known: names of those that are.
    """
    return {name: value for name, value in members.items() if name not in known and value is not None}


def call_of(members: Mapping[str, object]) -> ToolCallPart:
    """A part with a ``functionCall`` as a call; one whose arguments were to follow in pieces is never run.

    Args:
        members: of the part, parsed verbatim.
    """
    call = object_of(members[CALL])
    args, wire_id = call.get("args"), text_of(call.get("id"))
    return ToolCallPart(
        call_id=wire_id,
        wire_id=wire_id or None,
        name=text_of(call.get("name")),
        arguments=dumps(args) if isinstance(args, Pairs) else text_of(args) or "{}",
        truncated=not _UNFINISHED.isdisjoint(call),
        extra=_extra(members, CALL, beyond(call, "id", "name", "args")),
    )


def whole_part(value: object, members: Mapping[str, object]) -> MediaPart | OpaquePart:
    """A file, or a part that this version does not read: it is kept verbatim, and so is a file it cannot decode.

    Args:
        value: the part, parsed verbatim.
        members: of it.
    """
    held = object_of(members.get(FILE))
    data, media_type = _decoded(held.get("data")), text_of(held.get("mimeType"))
    if not data or not media_type or members.get("thought") is True:
        return OpaquePart(payload=dumps(value))
    return MediaPart(
        media=kind_of(media_type),
        media_type=media_type,
        sha256=digest_of(data),
        extra=_extra(members, FILE, beyond(held, "data", "mimeType")),
        data=data,
    )


def _extra(members: Mapping[str, object], name: str, inner: dict[str, object]) -> JsonText | None:
    extra = {**beyond(members, name), **({name: inner} if inner else {})}
    return dumps(extra) if extra else None


def _decoded(data: object) -> bytes:
    """The bytes that base 64 of either alphabet stands for, padded or not; nothing where it is none."""
    plain = text_of(data).translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""
