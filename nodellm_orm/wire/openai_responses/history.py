"""Messages as input items: text that depends on one message, and for a result on its call, so that it never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from nodellm_orm.domain.jsontext import RawJson, dumps
from nodellm_orm.domain.parts import MediaPart, TextPart, ToolResultPart
from nodellm_orm.wire.callorder import in_call_order
from nodellm_orm.wire.media import given_parts
from nodellm_orm.wire.openai_responses.answers import custom_calls, goes_home, own_items, plain_items
from nodellm_orm.wire.openai_responses.files import file_piece
from nodellm_orm.wire.openai_responses.received import CALL, CUSTOM, MESSAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.ports.wire import ModelRequest, RenderCache


def input_items(request: ModelRequest, cache: RenderCache | None) -> list[RawJson]:
    """The conversation, without the instructions.

    Args:
        request: what is to be sent.
        cache: items of messages rendered before, for this target.

    Raises:
        AttachmentError: the bytes of a file are not here.
    """
    ordered = in_call_order(request.messages)
    custom = custom_calls(request)
    return [RawJson(text) for message in ordered for text in _rendered(message, request, cache, custom)]


def system_item(texts: Sequence[str], profile: ModelProfile) -> dict[str, object]:
    """What the host says, as an item.

    Args:
        texts: its words.
        profile: of the model; says whose words they go out as.
    """
    return {"type": MESSAGE, "role": profile.system_role, "content": _words(texts)}


def _rendered(
    message: Message, request: ModelRequest, cache: RenderCache | None, custom: frozenset[str]
) -> tuple[JsonText, ...]:
    if cache is None:
        return tuple(map(dumps, _fresh(message, request, custom)))
    known = cache.get(id(message))
    if known is None:
        known = cache[id(message)] = (message, tuple(map(dumps, _fresh(message, request, custom))))
    return known[1]


def _fresh(message: Message, request: ModelRequest, custom: frozenset[str]) -> Iterable[object]:
    texts = [part.text for part in message.parts if isinstance(part, TextPart)]
    match message.role:
        case "user":
            given = given_parts(message, request)
            return ({"type": MESSAGE, "role": "user", "content": _given(given, request.profile)},)
        case "system" if request.profile.one_system_message:
            words = f"<system>\n{message.content}\n</system>"
            return ({"type": MESSAGE, "role": "user", "content": words},)
        case "system":
            return (system_item(texts, request.profile),)
        case "tool":
            return _results(message.parts, request.profile, custom)
        case "assistant":
            if message.status == "partial":
                return plain_items([part for part in message.parts if isinstance(part, TextPart)])
            return own_items(message, request) if goes_home(message, request) else plain_items(message.parts)
        case _:
            assert_never(message.role)


def _words(texts: Sequence[str]) -> str | list[dict[str, str]]:
    said = [text for text in texts if text]
    return [{"type": "input_text", "text": text} for text in said] if len(said) > 1 else "".join(said)


def _given(parts: Sequence[Part], profile: ModelProfile) -> str | list[dict[str, str]] | list[dict[str, object]]:
    """What a user says: texts alone in the short form, texts and files in their order."""
    if not any(isinstance(part, MediaPart) for part in parts):
        return _words([part.text for part in parts if isinstance(part, TextPart)])
    pieces: list[dict[str, object]] = []
    for part in parts:
        match part:
            case TextPart(text=text) if text:
                pieces.append({"type": "input_text", "text": text})
            case MediaPart():
                pieces.append(file_piece(part, profile))
            case _:
                pass
    return pieces


def _results(parts: Sequence[Part], profile: ModelProfile, custom: frozenset[str]) -> Iterator[dict[str, object]]:
    """Results of tools; a file belongs to the result that it follows."""
    results: list[tuple[ToolResultPart, list[dict[str, object]]]] = []
    for part in parts:
        match part:
            case ToolResultPart():
                results.append((part, []))
            case MediaPart() if results:
                results[-1][1].append(file_piece(part, profile))
            case _:
                pass
    for result, files in results:
        words: list[dict[str, object]] = [{"type": "input_text", "text": result.content}] if result.content else []
        yield {
            "type": f"{CUSTOM if result.call_id in custom else CALL}_output",
            "call_id": result.call_id,
            "output": [*words, *files] if files else result.content,
        }
