"""Answers on their way back to where they were made, and to others.

An answer goes home as the items it came in, in their order, each reasoning item before the item it led to. Ids go along
as long as nothing of the answer is missing: the API refuses an item that it knows by its id without the others it
belongs to, and takes the same item without the id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import Pairs, RawJson, loads_verbatim
from nodellm_orm.domain.parts import (
    MediaPart,
    OpaquePart,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from nodellm_orm.wire.callnames import legal_name
from nodellm_orm.wire.media import absent
from nodellm_orm.wire.openai_responses.received import CALL, COMPLETED, CUSTOM, MESSAGE, REASONING
from nodellm_orm.wire.values import list_of, object_of, says_nothing, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.wire import ModelRequest

_OF_MESSAGE: Final = ("id", "phase", "status")
"""Members of a text's ``extra`` that are its message's; the others are its own."""
_UNANSWERED: Final = "This program does not run tools of this kind."
"""Said to a call that only the caller could answer, and that has no place in a conversation here."""


@dataclass(slots=True, eq=False)
class _Spoken:
    """A message item, whose content may be several parts."""

    own: Mapping[str, object]
    """Id, phase and status."""
    content: list[tuple[TextPart | RefusalPart | MediaPart, Mapping[str, object]]] = field(default_factory=list)


def plain_items(parts: Iterable[Part]) -> Iterator[Pairs]:
    """An answer as anybody's: its words and its calls.

    Args:
        parts: what is told of it.
    """
    said: list[str] = []
    for part in parts:
        match part:
            case TextPart(text=text) | RefusalPart(text=text) if text:
                said.append(text)
            case MediaPart():
                said.append(absent(part))
            case ToolCallPart():
                if said:
                    yield _message({}, [_output(text) for text in said])
                    said = []
                yield _call(part, {})
            case _:
                pass
    if said:
        yield _message({}, [_output(text) for text in said])


def own_items(message: Message, request: ModelRequest) -> list[object]:
    """An answer as the items it came in.

    Args:
        message: an answer that was made where the request goes.
        request: what it is sent with.
    """
    parts, whole = _with_reasoning(message, request)
    items = list(_items(parts))
    named = whole and request.profile.thinking != "none" and all(_is_named(item) for item in items)
    rendered: list[object] = []
    answers: list[object] = []
    for item in items:
        match item:
            case _Spoken():
                rendered.append(_spoken(item, named=named))
            case ThinkingPart():
                rendered.append(_reasoning(item, named=named))
            case ToolCallPart():
                rendered.append(_call(item, _members(item.extra), named=named))
            case OpaquePart(payload=payload):
                rendered.append(RawJson(payload))
                answers += _answer(_members(payload))
    return rendered + answers


def custom_calls(request: ModelRequest) -> frozenset[str]:
    """The ids of calls that go home as custom ones, whose results have a form of their own.

    Args:
        request: what is to be sent.
    """
    return frozenset(
        part.call_id
        for message in request.messages
        if message.role == "assistant" and goes_home(message, request)
        for part in message.tool_calls
        if part.extra is not None and CUSTOM in part.extra and _members(part.extra).get("type") == CUSTOM
    )


def goes_home(message: Message, request: ModelRequest) -> bool:
    """Whether an answer is sent as the items it came in.

    Args:
        message: the answer.
        request: what it is sent with.
    """
    made_here = message.origin is not None and message.origin.shares_state_with(request.target)
    return made_here and message.status != "partial"


def _with_reasoning(message: Message, request: ModelRequest) -> tuple[list[Part], bool]:
    """The parts that can be sent back, and whether these are all of them.

    Reasoning is the model's own, and cannot be read without its encrypted form; the API takes none without the item it
    led to, and no reasoning at all for a model that does not reason.
    """
    readable = (
        request.profile.thinking != "none" and message.origin is not None and message.origin.model == request.model
    )
    kept: list[Part] = []
    whole = True
    for part in message.parts:
        if isinstance(part, ThinkingPart) and not (readable and _can_return(part)):
            whole = False
        elif isinstance(part, OpaquePart) and not _kind(part.payload):
            # What stands beside an answer is no item of it, an unknown content of a message is.
            whole = whole and "content" not in _members(part.payload)
        elif isinstance(part, TextPart | RefusalPart) and not part.text:
            # No empty text is sent, and nothing is left of what was thought for one.
            kept, whole = _without_last_reasoning(kept), False
        else:
            kept.append(part)
    led = _without_last_reasoning(kept)
    return led, whole and len(led) == len(kept)


def _without_last_reasoning(parts: list[Part]) -> list[Part]:
    end = len(parts)
    while end and isinstance(parts[end - 1], ThinkingPart):
        end -= 1
    return parts[:end]


def _can_return(part: ThinkingPart) -> bool:
    return part.signature is not None or bool(list_of(_members(part.opaque).get("content")))


def _items(parts: Iterable[Part]) -> Iterator[_Spoken | ThinkingPart | ToolCallPart | OpaquePart]:
    """The items that parts were: those of one message together."""
    spoken: _Spoken | None = None
    for part in parts:
        match part:
            case TextPart(extra=extra):
                members = _members(extra)
                own: dict[str, object] = {name: members[name] for name in _OF_MESSAGE if name in members}
                if spoken is None or own != spoken.own:
                    if spoken is not None:
                        yield spoken
                    spoken = _Spoken(own)
                spoken.content.append((part, members))
            case RefusalPart() | MediaPart():
                spoken = _Spoken({}) if spoken is None else spoken
                spoken.content.append((part, {}))
            case ThinkingPart() | ToolCallPart() | OpaquePart():
                if spoken is not None:
                    yield spoken
                    spoken = None
                yield part
            case _:
                pass
    if spoken is not None:
        yield spoken


def _is_named(item: _Spoken | ThinkingPart | ToolCallPart | OpaquePart) -> bool:
    match item:
        case _Spoken(own=own):
            return bool(own.get("id"))
        case ThinkingPart(opaque=extra) | ToolCallPart(extra=extra):
            return bool(_members(extra).get("id"))
        case OpaquePart():
            return True


def _spoken(item: _Spoken, *, named: bool) -> Pairs:
    pieces: list[object] = []
    for part, members in item.content:
        match part:
            case TextPart(text=text):
                pieces.append(_output(text, list_of(members.get("annotations")) if named else None))
            case RefusalPart(text=text):
                pieces.append({"type": "refusal", "refusal": text})
            case MediaPart():
                pieces.append(_output(absent(part), [] if named else None))
    return _message(item.own, pieces, named=named)


def _message(own: Mapping[str, object], content: Sequence[object], *, named: bool = False) -> Pairs:
    members: list[tuple[str, object]] = [("type", MESSAGE)]
    members += [("id", own["id"])] if named else []
    members.append(("role", "assistant"))
    members += [("status", own.get("status", COMPLETED))] if named else []
    members += [("phase", own["phase"])] if "phase" in own else []
    return Pairs([*members, ("content", content)])


def _output(text: str, annotations: list[object] | None = None) -> dict[str, object]:
    """A text of the model's; annotations belong to items with an id only."""
    noted = {} if annotations is None else {"annotations": annotations}
    return {"type": "output_text", "text": text, **noted}


def _reasoning(part: ThinkingPart, *, named: bool) -> Pairs:
    members = _members(part.opaque)
    kept = [(name, value) for name, value in members.items() if named or name != "id"]
    kept += [] if "summary" in members else [("summary", [])]
    kept += [] if part.signature is None else [("encrypted_content", part.signature)]
    return Pairs([("type", REASONING), *kept])


def _call(part: ToolCallPart, extra: Mapping[str, object], *, named: bool = False) -> Pairs:
    beyond = [(name, value) for name, value in extra.items() if named or name != "id"]
    name = legal_name(part.name)
    if extra.get("type") == CUSTOM:
        own = [("type", CUSTOM), ("call_id", part.call_id), ("name", name)]
        return Pairs([*own, *((name, value) for name, value in beyond if name != "type")])
    own = [("type", CALL), ("call_id", part.call_id), ("name", name), ("arguments", part.arguments)]
    return Pairs([*own, *beyond])


def _answer(item: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """What a call is answered with that nothing in this conversation can answer: without it the API goes no further."""
    call_id = item.get("call_id")
    if says_nothing(call_id):
        return
    match item.get("type"):
        case "custom_tool_call":  # as earlier versions kept it
            yield {"type": "custom_tool_call_output", "call_id": call_id, "output": _UNANSWERED}
        case "tool_search_call" if item.get("execution") == "client":
            yield {
                "type": "tool_search_output",
                "call_id": call_id,
                "execution": "client",
                "status": COMPLETED,
                "tools": [],
            }
        case _:
            pass


def _members(text: JsonText | None) -> dict[str, object]:
    return {} if text is None else object_of(loads_verbatim(text))


def _kind(payload: JsonText) -> str:
    return text_of(_members(payload).get("type"))
