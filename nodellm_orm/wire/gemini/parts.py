"""Messages as parts: text that depends on one message alone, so that it never changes.

A signature goes back on the part it came on. Thoughts without one are left out: the model reads its own thinking in the
signatures, and a summary of it would be one more text to pay for. So is what the provider said when it blocked an
answer, which are not the model's words.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.jsontext import JsonTextError, Pairs, RawJson, dumps, loads_verbatim
from nodellm_orm.domain.parts import (
    MediaPart,
    OpaquePart,
    RefusalPart,
    SummaryPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from nodellm_orm.wire.gemini.files import blob, file_part
from nodellm_orm.wire.gemini.reader import SOURCES
from nodellm_orm.wire.gemini.received import CALL, FILE, SIGNATURE
from nodellm_orm.wire.media import absent, given_parts
from nodellm_orm.wire.values import object_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

_STAND_IN: Final = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""The signature that the API accepts for a call that its model did not make: ``skip_thought_signature_validator``."""
_SILENT_USER: Final = "(This message is empty.)"
_SILENT_FAILURE: Final = "The tool failed without saying why."
_ILLEGAL: Final = re.compile(r"[^A-Za-z0-9_.:-]")
_NAME_CHARS: Final = 128


def fragments(message: Message, request: ModelRequest, cache: RenderCache | None) -> tuple[JsonText, ...]:
    """What a message renders to, part by part; nothing where nothing in it can be sent.

    Args:
        message: any message; a user's always gives a part. Each result gives the ``response`` of its part, because the
            rest of that part depends on the call.
        request: what it is sent with: target and profile decide what goes along.
        cache: messages rendered before, for this target.
    """
    if cache is None:
        return tuple(_fresh(message, request))
    known = cache.get(id(message))
    if known is None:
        known = cache[id(message)] = (message, tuple(_fresh(message, request)))
    return known[1]


def sent_call(call: ToolCallPart, message: Message, request: ModelRequest) -> dict[str, object]:
    """Id and name that a call goes out with: an id only where the API itself gave one.

    Args:
        call: the call.
        message: the one it is in.
        request: what it is sent with.
    """
    name = _ILLEGAL.sub("_", call.name)[:_NAME_CHARS] or "_"
    given = {"id": call.wire_id} if _is_at_home(message, request) and call.wire_id else {}
    return {**given, "name": name}


def told_parts(message: Message) -> Iterator[Part]:
    """The parts of a tool message that are sent, one for each of its fragments."""
    for part in message.parts:
        if isinstance(part, ToolResultPart | MediaPart) or (isinstance(part, TextPart) and part.text):
            yield part


def _is_at_home(message: Message, request: ModelRequest) -> bool:
    return message.origin is not None and message.origin.shares_state_with(request.target)


def _fresh(message: Message, request: ModelRequest) -> Iterator[JsonText]:
    match message.role:
        case "assistant":
            yield from _assistant(message, request)
        case "tool":
            for part in told_parts(message):
                yield dumps(_response(part) if isinstance(part, ToolResultPart) else _given(part, message, request))
        case "user" | "system":
            given = given_parts(message, request)
            said = [found for part in given if (found := _given(part, message, request)) is not None]
            for found in said or [{"text": _SILENT_USER}]:
                yield dumps(found)
        case _:
            assert_never(message.role)


def _given(part: Part, message: Message, request: ModelRequest) -> dict[str, object] | None:
    """A part of what a user, the host or a tool gave."""
    match part:
        case TextPart(text=text) if text and message.role == "system":
            # There is no place for instructions in the middle of a conversation.
            return {"text": f"<system>\n{text}\n</system>"}
        case TextPart(text=text) if text:
            return {"text": text}
        case MediaPart():
            return file_part(part, request.profile)
        case _:
            return None


def _response(part: ToolResultPart) -> dict[str, object]:
    """What a call gave, as the object that the API wants; a text stays one, so that its digits do."""
    if part.is_error:
        return {"error": part.content if part.content.strip() else _SILENT_FAILURE}
    return {"output": part.content}


def _assistant(message: Message, request: ModelRequest) -> Iterator[JsonText]:
    if message.status == "partial":
        for part in message.parts:
            if isinstance(part, TextPart) and part.text:
                yield dumps({"text": part.text})
        return
    at_home = _is_at_home(message, request)
    first = True
    for part in message.parts:
        if isinstance(part, ToolCallPart):
            signed = request.profile.call_signatures and first
            yield dumps(_call(part, sent_call(part, message, request), at_home=at_home, signed=signed))
            first = False
        elif (found := _own(part, at_home=at_home)) is not None:
            yield dumps(found)


def _own(part: Part, *, at_home: bool) -> object | None:
    """A part of the model's, other than a call."""
    match part:
        case TextPart():
            extra = _extra(part.extra if at_home else None, *SOURCES)
            return Pairs([("text", part.text), *extra]) if part.text or extra else None
        case ThinkingPart():
            return _thinking(part) if at_home and part.signature else None
        case RefusalPart():
            return {"text": part.text} if part.text and not at_home else None
        case MediaPart():
            if not at_home or part.data is None:
                return {"text": absent(part)}
            return _file(part)
        case OpaquePart():
            return RawJson(part.payload) if at_home and _is_part(part.payload) else None
        case SummaryPart():
            return {"text": part.text} if part.text else None
        case ToolCallPart() | ToolResultPart():
            return None
        case _:
            assert_never(part)


def _file(part: MediaPart) -> Pairs:
    extra = dict(_extra(part.extra))
    held = object_of(extra.pop(FILE, None))
    return Pairs([(FILE, {**blob(part), **held}), *extra.items()])


def _thinking(part: ThinkingPart) -> object:
    if part.opaque is not None:
        return RawJson(part.opaque)
    return {"text": part.text, "thought": True, SIGNATURE: part.signature}


def _call(part: ToolCallPart, sent: dict[str, object], *, at_home: bool, signed: bool) -> Pairs:
    extra = dict(_extra(part.extra if at_home else None))
    held = object_of(extra.pop(CALL, None))
    if signed:
        extra.setdefault(SIGNATURE, _STAND_IN)
    return Pairs([(CALL, {**sent, "args": _arguments(part.arguments), **held}), *extra.items()])


def _arguments(arguments: JsonText) -> object:
    """The arguments as the object the API wants; what is not one is shown to the model as it came."""
    if not arguments.strip():
        return {}
    try:
        sound = isinstance(loads_verbatim(arguments), Pairs)
    except JsonTextError:
        sound = False
    return RawJson(arguments) if sound else {"INVALID_JSON": arguments}


def _extra(text: JsonText | None, *without: str) -> list[tuple[str, object]]:
    members = object_of(loads_verbatim(text)) if text is not None else {}
    return [(name, value) for name, value in members.items() if name not in without]


def _is_part(payload: JsonText) -> bool:
    """Whether it is a part of this API, not something another version of the library stored."""
    members = object_of(loads_verbatim(payload))
    return bool(members) and "unknown_part" not in members
