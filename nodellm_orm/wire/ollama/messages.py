"""Messages as ``/api/chat`` has them: text that depends on one message alone, so that it never changes.

What a model thought goes back with its answer. The server's template for the model decides what of it the model reads
again; between a call and its result, some models need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.jsontext import JsonTextError, Pairs, RawJson, dumps, loads_verbatim
from nodellm_orm.domain.parts import MediaPart, RefusalPart, TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from nodellm_orm.wire.callorder import in_call_order
from nodellm_orm.wire.media import absent, base64_of
from nodellm_orm.wire.ollama.files import carries, in_words, is_image
from nodellm_orm.wire.ollama.reader import FUNCTION, THINKING
from nodellm_orm.wire.values import object_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

_SILENT_FAILURE: Final = "The tool failed without saying why."
_BREAK: Final = "\n\n"


def wire_messages(request: ModelRequest, cache: RenderCache | None) -> list[RawJson]:
    """The conversation, without the instructions.

    Args:
        request: what is to be sent.
        cache: messages rendered before, for this target.

    Raises:
        AttachmentError: the bytes of a file are not here.
    """
    ordered = in_call_order(request.messages)  # many versions of the server know no ids and pair them so
    return [RawJson(text) for message in ordered for text in _rendered(message, request, cache)]


def _rendered(message: Message, request: ModelRequest, cache: RenderCache | None) -> tuple[JsonText, ...]:
    if cache is None:
        return tuple(map(dumps, _fresh(message, request)))
    known = cache.get(id(message))
    if known is None:
        known = cache[id(message)] = (message, tuple(map(dumps, _fresh(message, request))))
    return known[1]


def _fresh(message: Message, request: ModelRequest) -> Iterator[dict[str, object]]:
    match message.role:
        case "assistant":
            yield from _assistant(message, request)
        case "tool":
            yield from _told(message, request.profile)
        case "user" | "system" as role:
            yield {"role": role, **_content(message.parts, request.profile)}
        case _:
            assert_never(message.role)


def _content(parts: Sequence[Part], profile: ModelProfile) -> dict[str, object]:
    """What a user, the host or a tool gave: images stand beside all the words."""
    words: list[str] = []
    images: list[str] = []
    for part in parts:
        match part:
            case TextPart(text=text):
                words.append(text)
            case MediaPart() if is_image(part) and part.media in profile.media and carries(part):
                images.append(base64_of(part))
            case MediaPart():
                words.append(in_words(part, profile))
            case _:
                pass
    said: dict[str, object] = {"content": _BREAK.join(text for text in words if text)}
    return {**said, "images": images} if images else said


def _told(message: Message, profile: ModelProfile) -> Iterator[dict[str, object]]:
    """One message a result; what else a tool gave goes along with the last of them."""
    results = message.tool_results
    others = _content([part for part in message.parts if not isinstance(part, ToolResultPart)], profile)
    for result in results:
        told: dict[str, object] = {"role": "tool", "content": _outcome(result)}
        if result is results[-1]:
            told |= {**others, "content": _BREAK.join(filter(None, (_outcome(result), str(others["content"]))))}
        yield {**told, "tool_name": result.name, "tool_call_id": result.call_id}


def _outcome(result: ToolResultPart) -> str:
    return _SILENT_FAILURE if result.is_error and not result.content.strip() else result.content


def _assistant(message: Message, request: ModelRequest) -> Iterator[dict[str, object]]:
    partial = message.status == "partial"
    at_home = not partial and message.origin is not None and message.origin.shares_state_with(request.target)
    parts = [part for part in message.parts if isinstance(part, TextPart)] if partial else list(message.parts)
    said: dict[str, object] = {"content": "".join(_words(part, at_home=at_home) for part in parts)}
    if at_home and request.profile.thinking_replay == "field":
        said[THINKING] = "".join(p.text for p in parts if isinstance(p, ThinkingPart) and p.field == THINKING)
    if at_home:
        said["images"] = [base64_of(part) for part in parts if isinstance(part, MediaPart) and part.data is not None]
    said["tool_calls"] = [_call(part, at_home=at_home) for part in parts if isinstance(part, ToolCallPart)]
    if any(said.get(name) for name in ("content", "images", "tool_calls")):
        # An answer that was cut off while the model thought is no answer.
        yield {"role": "assistant", **{name: value for name, value in said.items() if value or name == "content"}}


def _words(part: Part, *, at_home: bool) -> str:
    match part:
        case TextPart(text=text) | RefusalPart(text=text):
            return text
        case MediaPart() if not at_home or part.data is None:
            return absent(part)
        case _:
            return ""


def _call(part: ToolCallPart, *, at_home: bool) -> Pairs:
    extra = object_of(loads_verbatim(part.extra)) if at_home and part.extra is not None else {}
    beyond = object_of(extra.pop(FUNCTION, None))
    function = {"name": part.name, "arguments": _arguments(part.arguments), **beyond}
    return Pairs([("id", part.call_id), ("type", FUNCTION), (FUNCTION, function), *extra.items()])


def _arguments(arguments: JsonText) -> object:
    """The arguments as the object the server wants; what is not one is shown to the model as it came."""
    if not arguments.strip():
        return {}
    try:
        sound = isinstance(loads_verbatim(arguments), Pairs)
    except JsonTextError:
        sound = False
    return RawJson(arguments) if sound else {"INVALID_JSON": arguments}
