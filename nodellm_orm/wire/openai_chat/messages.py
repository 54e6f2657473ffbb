"""Messages as Chat Completions has them: text that depends on one message alone, so that it never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.jsontext import Pairs, RawJson, dumps, loads, loads_verbatim
from nodellm_orm.domain.parts import (
    MediaPart,
    OpaquePart,
    RefusalPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from nodellm_orm.wire.callnames import legal_name
from nodellm_orm.wire.callorder import in_call_order
from nodellm_orm.wire.media import absent, given_parts
from nodellm_orm.wire.openai_chat.call_ids import wire_call_id
from nodellm_orm.wire.openai_chat.calls import CUSTOM
from nodellm_orm.wire.openai_chat.content import CONTENT_FIELD
from nodellm_orm.wire.openai_chat.files import file_item
from nodellm_orm.wire.openai_chat.reasoning import DETAILS_FIELD, TEXT_FIELDS
from nodellm_orm.wire.values import object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message, Role
    from nodellm_orm.domain.parts import Part, ToolResultPart
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

_REPLAYED: Final = frozenset({"extra_content", "thought_signature"})
"""Members of a message beyond its text that servers take back; they refuse, or cannot use, the rest."""
_NOTES: Final = "annotations"
"""OpenRouter takes these back as well: they hold what it read in a file, which it need not read again."""
_NOD: Final = dumps({"role": "assistant", "content": "OK."})
"""Stands between a tool's words and a user's where the server insists on it."""


def wire_messages(request: ModelRequest, cache: RenderCache | None) -> list[RawJson]:
    """The conversation, without the instructions.

    Args:
        request: what is to be sent.
        cache: messages rendered before, for this target.
    """
    ordered = in_call_order(request.messages)
    told = ((message.role, text) for message in ordered for text in _rendered(message, request, cache))
    return [RawJson(text) for text in _with_nods(told, request.profile)]


def _with_nods(told: Iterable[tuple[Role, JsonText]], profile: ModelProfile) -> Iterator[JsonText]:
    """Each message, and before some of them one that the server wants there; none ever changes what follows it."""
    after_tool = False
    for role, text in told:
        if after_tool and role in {"user", "system"} and not profile.user_after_tool:
            yield _NOD
        after_tool = role == "tool"
        yield text


def _rendered(message: Message, request: ModelRequest, cache: RenderCache | None) -> tuple[JsonText, ...]:
    if cache is None:
        return _fresh(message, request)
    known = cache.get(id(message))
    if known is None:
        known = cache[id(message)] = (message, _fresh(message, request))
    return known[1]


def _fresh(message: Message, request: ModelRequest) -> tuple[JsonText, ...]:
    match message.role:
        case "tool":
            return tuple(dumps(_result(result, request.profile)) for result in message.tool_results)
        case "assistant":
            members = _assistant(message, request)
            return (dumps(members),) if members else ()
        case "system":
            return (dumps(_system(message, request.profile)),)
        case "user":
            return (dumps({"role": "user", "content": _given(given_parts(message, request), request.profile)}),)
        case _:
            assert_never(message.role)


def _text(parts: Sequence[Part]) -> str | list[dict[str, str]]:
    texts = [part.text for part in parts if isinstance(part, TextPart) and part.text]
    if len(texts) > 1:
        return [{"type": "text", "text": text} for text in texts]
    return "".join(texts)


def _given(parts: Sequence[Part], profile: ModelProfile) -> str | list[dict[str, str]] | list[dict[str, object]]:
    """What a user says: texts alone as above, texts and files in their order."""
    if not any(isinstance(part, MediaPart) for part in parts):
        return _text(parts)
    items: list[dict[str, object]] = []
    for part in parts:
        match part:
            case TextPart(text=text) if text:
                items.append({"type": "text", "text": text})
            case MediaPart():
                items.append(file_item(part, profile))
            case _:
                pass
    return items


def _system(message: Message, profile: ModelProfile) -> dict[str, object]:
    if profile.one_system_message:
        return {"role": "user", "content": f"<system>\n{message.content}\n</system>"}
    return {"role": profile.system_role, "content": _text(message.parts)}


def _result(result: ToolResultPart, profile: ModelProfile) -> dict[str, object]:
    members = {"role": "tool", "tool_call_id": wire_call_id(result.call_id, profile.call_id_length)}
    name = {"name": legal_name(result.name)} if profile.named_results else {}
    return {**members, **name, "content": result.content}


def _assistant(message: Message, request: ModelRequest) -> dict[str, object] | None:
    """The members of an assistant message; ``None`` where there is nothing that could be sent."""
    partial = message.status == "partial"
    at_home = not partial and message.origin is not None and message.origin.shares_state_with(request.target)
    parts = [part for part in message.parts if isinstance(part, TextPart)] if partial else list(message.parts)
    thinks = at_home and request.profile.thinking_replay == "field"
    content = _content(parts, at_home=at_home, thinks=thinks)
    refusal = "".join(part.text for part in parts if isinstance(part, RefusalPart)) if at_home else ""
    length = request.profile.call_id_length
    calls = [_call(part, length, at_home=at_home) for part in parts if isinstance(part, ToolCallPart)]
    if not (content or refusal or calls):
        return None
    members: dict[str, object] = {"role": "assistant", "content": content or None}
    if refusal:
        members["refusal"] = refusal
    if thinks:
        members |= _thinking(parts)
    required = request.profile.required_thinking
    if calls and required is not None and not members.keys() & {*TEXT_FIELDS, DETAILS_FIELD}:
        members[required] = ""
    if calls:
        members["tool_calls"] = calls
    if at_home:
        members |= _extra(parts, request.profile)
    return members


def _content(parts: Sequence[Part], *, at_home: bool, thinks: bool) -> str | list[object]:
    """A string, or a list of items where one of them has no other form."""
    items: list[object] = []
    plain = True
    for part in parts:
        match part:
            case TextPart(text=text, extra=extra) if words := text or _spoken(extra):
                items.append({"type": "text", "text": words})
            case RefusalPart(text=text) if not at_home:
                items.append({"type": "text", "text": text})
            case MediaPart():
                # A model's own image has no place in its message.
                items.append({"type": "text", "text": absent(part)})
            case ThinkingPart(field=field, opaque=opaque) if thinks and field == CONTENT_FIELD and opaque is not None:
                items.append(RawJson(opaque))
                plain = False
            case OpaquePart(payload=payload) if at_home and _is_item(payload):
                items.append(RawJson(payload))
                plain = False
            case _:
                pass
    if not plain:
        return items
    return "".join(item["text"] for item in items if isinstance(item, dict))


def _spoken(extra: JsonText | None) -> str:
    """What the model said aloud: the server forgets the recording before long, and the words do not depend on it."""
    audio = object_of(loads_verbatim(extra)).get("audio") if extra is not None else None
    return text_of(object_of(audio).get("transcript"))


def _is_item(payload: JsonText) -> bool:
    """Whether it is an item of content, not something another version of the library stored."""
    item = loads(payload)
    return isinstance(item, dict) and isinstance(item.get("type"), str)


def _thinking(parts: Sequence[Part]) -> dict[str, object]:
    members: dict[str, object] = {}
    for part in parts:
        match part:
            case ThinkingPart(field=field, opaque=opaque) if field == DETAILS_FIELD and opaque is not None:
                members[DETAILS_FIELD] = RawJson(opaque)
            case ThinkingPart(field=str(field), text=text) if field in TEXT_FIELDS:
                members[field] = f"{members.get(field, '')}{text}"
            case _:
                pass
    return members


def _call(part: ToolCallPart, length: int | None, *, at_home: bool) -> Pairs:
    function = {"name": legal_name(part.name), "arguments": part.arguments}
    extra = loads_verbatim(part.extra) if at_home and part.extra is not None else None
    beyond = extra if isinstance(extra, Pairs) else ()
    kind = [("type", "function"), ("function", function)]
    if any(name == CUSTOM for name, _ in beyond):
        kind = [("type", CUSTOM)]
    return Pairs([("id", wire_call_id(part.call_id, length)), *kind, *beyond])


def _extra(parts: Sequence[Part], profile: ModelProfile) -> dict[str, object]:
    replayed = _REPLAYED | {_NOTES} if profile.file_form == "openrouter" else _REPLAYED
    found = (loads_verbatim(part.extra) for part in parts if isinstance(part, TextPart) and part.extra is not None)
    members = (member for extra in found if isinstance(extra, Pairs) for member in extra)
    return {name: value for name, value in members if name in replayed}
