"""Messages as Anthropic content blocks: text that depends on one message alone, so that it never changes."""

from __future__ import annotations

import hashlib
import re
from itertools import takewhile
from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.jsontext import JsonTextError, Pairs, RawJson, dumps, encode, loads_verbatim
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
from nodellm_orm.wire.anthropic.files import file_block
from nodellm_orm.wire.anthropic.values import object_of, text_of
from nodellm_orm.wire.media import absent, given_parts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

RESULT: Final = '{"type":"tool_result",'
"""How the text of every result begins, and of no other block of a user's message."""
_LEGAL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9_-]")
_NAME_CHARS: Final = 128
_GIVEN: Final = frozenset({"search_result", "container_upload", "document", "image"})
"""Blocks that a user may give as they stand."""
_SILENT_FAILURE: Final = "The tool failed without saying why."
_SILENT_USER: Final = "(This message is empty.)"


def needs_thinking_first(request: ModelRequest) -> bool:
    """Whether the model is asked to go on with a turn of its own that, as sent, does not begin with its thinking.

    With a thinking budget the API refuses to go on with such a turn (one that was forced to call a tool, or that
    another model began).
    """
    messages = request.messages
    since = list(takewhile(lambda message: message.role != "assistant", reversed(messages)))
    goes_on = len(since) < len(messages) and (not since or any(message.tool_results for message in since))
    if not goes_on:
        return False
    turn = list(
        takewhile(lambda message: message.role == "assistant", reversed(messages[: len(messages) - len(since)]))
    )
    parts = (part for message in reversed(turn) for part, _ in _blocks(message, request))
    return not isinstance(next(parts, None), ThinkingPart)


def is_given(part: OpaquePart) -> bool:
    """Whether a block is one that a user may give as it stands.

    Args:
        part: the block.
    """
    return _kind(part.payload) in _GIVEN


def tool_use_id(call_id: str) -> str:
    """The id a call goes out with: its own where the API accepts it, else one derived from it alone.

    Args:
        call_id: the call's id in the chat.
    """
    if _LEGAL_ID.fullmatch(call_id):
        return call_id
    mark = hashlib.sha256(encode(call_id)).hexdigest()[:16]
    return f"{_ILLEGAL.sub('_', call_id)[:40]}_{mark}"


def fragments(message: Message, request: ModelRequest, cache: RenderCache | None) -> tuple[JsonText, ...]:
    """The content blocks of a message, as text; nothing where nothing in it can be sent.

    Args:
        message: any message; a user's always gives a block, so that it is answered.
        request: what it is sent with: target and profile decide what goes along.
        cache: blocks of messages rendered before, for this target.

    Raises:
        AttachmentError: the bytes of a file are not here.
    """
    if cache is None:
        return tuple(fragment for _, fragment in _blocks(message, request))
    known = cache.get(id(message))
    if known is None:
        known = cache[id(message)] = (message, tuple(fragment for _, fragment in _blocks(message, request)))
    return known[1]


def _blocks(message: Message, request: ModelRequest) -> list[tuple[Part, JsonText]]:
    """The parts that are sent, in order, each with its block; they depend on this message alone."""
    at_home = message.origin is not None and message.origin.shares_state_with(request.target)
    parts: Iterable[Part] = given_parts(message, request) if message.role == "user" else message.parts
    if message.status == "partial":
        at_home = False
        parts = [part for part in parts if isinstance(part, TextPart)]
    rendered = [(part, _block(part, message, request, at_home=at_home)) for part in _without_blanks(parts)]
    sent = [(part, dumps(block)) for part, block in rendered if block is not None]
    while sent and isinstance(sent[-1][0], ThinkingPart):
        # An answer cut off while it thought; the API takes no message that ends in thinking.
        sent.pop()
    if not sent and message.role == "user":
        sent = [(TextPart(text=_SILENT_USER), dumps({"type": "text", "text": _SILENT_USER}))]
    return sent


def _without_blanks(parts: Iterable[Part]) -> list[Part]:
    """Leave out what the API refuses: empty text, and blank text that does not join two other texts.

    Which blank stays depends on its own message only, so that a later message never changes it.
    """
    kept: list[Part] = []
    blanks: list[Part] = []
    for part in parts:
        if isinstance(part, TextPart | RefusalPart) and not part.text.strip():
            if part.text and kept and isinstance(kept[-1], TextPart):
                blanks.append(part)
            continue
        if isinstance(part, TextPart):
            kept += blanks
        blanks = []
        kept.append(part)
    return kept


def _block(part: Part, message: Message, request: ModelRequest, *, at_home: bool) -> object | None:
    match part:
        case TextPart():
            text = f"<system>\n{part.text}\n</system>" if message.role == "system" else part.text
            return Pairs([("type", "text"), ("text", text), *_extra(part.extra if at_home else None)])
        case RefusalPart() | SummaryPart():
            return {"type": "text", "text": part.text}
        case ThinkingPart():
            return _thinking(part) if at_home else None
        case ToolCallPart():
            head = [
                ("type", "tool_use"),
                ("id", tool_use_id(part.call_id)),
                ("name", _ILLEGAL.sub("_", part.name)[:_NAME_CHARS] or "_"),
                ("input", _input(part.arguments)),
            ]
            return Pairs([*head, *_extra(part.extra if at_home else None)])
        case ToolResultPart():
            return _result(part)
        case MediaPart() if message.role == "assistant":
            return {"type": "text", "text": absent(part)}
        case MediaPart():
            return file_block(part, request.profile)
        case OpaquePart():
            goes = at_home if message.role == "assistant" else is_given(part)
            return RawJson(part.payload) if goes and _kind(part.payload) is not None else None
        case _:
            assert_never(part)


def _thinking(part: ThinkingPart) -> object | None:
    if not (part.signature or part.redacted):
        return None  # interrupted before it was signed: nobody can prove that it is the model's own
    if part.opaque is not None:
        return RawJson(part.opaque) if _kind(part.opaque) is not None else None
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _result(part: ToolResultPart) -> dict[str, object]:
    block: dict[str, object] = {"type": "tool_result", "tool_use_id": tool_use_id(part.call_id)}
    content = part.content if part.content.strip() else _SILENT_FAILURE if part.is_error else ""
    if content:
        block["content"] = content
    if part.is_error:
        block["is_error"] = True
    return block


def _input(arguments: JsonText) -> object:
    """The arguments as the object the API wants; what is not one is shown to the model as it came."""
    if not arguments.strip():
        return {}
    try:
        sound = isinstance(loads_verbatim(arguments), Pairs)
    except JsonTextError:
        sound = False
    return RawJson(arguments) if sound else {"INVALID_JSON": arguments}


def _extra(text: JsonText | None) -> list[tuple[str, object]]:
    members = loads_verbatim(text) if text is not None else None
    pairs = members if isinstance(members, Pairs) else ()
    return [(name, _as_asked(value) if name == "citations" else value) for name, value in pairs]


def _as_asked(citations: object) -> object:
    """Citations as a request may have them: only answers name the uploaded file beside the document's place."""
    if not isinstance(citations, list):
        return citations
    return [
        Pairs(pair for pair in citation if pair[0] != "file_id") if isinstance(citation, Pairs) else citation
        for citation in citations
    ]


def _kind(payload: JsonText) -> str | None:
    """Type of a content block; ``None`` for what is none, such as an answer's record or a later version's part."""
    return text_of((object_of(loads_verbatim(payload)) or {}).get("type"))
