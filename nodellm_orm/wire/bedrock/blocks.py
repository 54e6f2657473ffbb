"""Messages as content blocks: text that depends on one message and on the model alone, so that it never changes.

Thinking goes back with the signature that proves it, and not without one: the models that do not sign theirs refuse
it. Where an answer's text came from stays with the text and is not sent back.
"""

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
from nodellm_orm.wire.bedrock.files import file_block, is_known, whole_block
from nodellm_orm.wire.media import absent
from nodellm_orm.wire.values import object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

RESULT: Final = '{"toolResult":{'
"""How the text of every result begins, and of no other block of a user's message."""
DOCUMENT: Final = '{"document":{"name":"'
"""How the text of every document begins, its name behind it."""
_TEXT: Final = '{"text":'
_LEGAL_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9_-]")
_NAME_CHARS: Final = 64
_SILENT_FAILURE: Final = "The tool failed without saying why."
_SILENT_TOOL: Final = "The tool returned nothing."
_SILENT_USER: Final = "(This message is empty.)"
_WORDLESS: Final = "(The document comes without words.)"


def tool_use_id(call_id: str) -> str:
    """The id a call goes out with: its own where every model accepts it, else one derived from it alone.

    Args:
        call_id: the call's id in the chat.
    """
    if _LEGAL_ID.fullmatch(call_id):
        return call_id
    mark = hashlib.sha256(encode(call_id)).hexdigest()[:16]
    return f"{_ILLEGAL.sub('_', call_id)[:40]}_{mark}"


def tool_name(name: str) -> str:
    """The name of a tool in the characters that the API takes.

    Args:
        name: as the caller, or another model, has it.
    """
    return _ILLEGAL.sub("_", name)[:_NAME_CHARS] or "_"


def fragments(message: Message, request: ModelRequest, cache: RenderCache | None) -> tuple[JsonText, ...]:
    """The content blocks of a message, as text; nothing where nothing in it can be sent.

    Args:
        message: any message; a user's always gives a block, so that it is answered.
        request: what it is sent with: target and profile decide what goes along.
        cache: blocks of messages rendered before, for this target.
    """
    if cache is None:
        return tuple(fragment for _, fragment in _blocks(message, request))
    known = cache.get(id(message))
    if known is None:
        known = cache[id(message)] = (message, tuple(fragment for _, fragment in _blocks(message, request)))
    return known[1]


def needs_thinking_first(request: ModelRequest) -> bool:
    """Whether the model is asked to go on with a turn of its own that, as sent, does not begin with its thinking.

    With a thinking budget Claude refuses to go on with such a turn (one that was forced to call a tool, or that
    another model began).

    Args:
        request: what is to be sent.
    """
    messages = request.messages
    since = list(takewhile(lambda message: message.role != "assistant", reversed(messages)))
    goes_on = len(since) < len(messages) and (not since or any(message.tool_results for message in since))
    if not goes_on:
        return False
    before = reversed(messages[: len(messages) - len(since)])
    turn = list(takewhile(lambda message: message.role == "assistant", before))
    parts = (part for message in reversed(turn) for part, _ in _blocks(message, request))
    return not isinstance(next(parts, None), ThinkingPart)


def _blocks(message: Message, request: ModelRequest) -> list[tuple[Part, JsonText]]:
    """The parts that are sent, in order, each with its block."""
    at_home = message.origin is not None and message.origin.shares_state_with(request.target)
    parts: Sequence[Part] = message.parts
    if message.status == "partial":
        at_home = False
        parts = [part for part in parts if isinstance(part, TextPart)]
    if request.profile.tools == "none":
        parts = [_in_words(part) for part in parts]
    rendered = [(part, _block(part, message, request, at_home=at_home)) for part in _said(parts)]
    sent = [(part, dumps(block)) for part, block in rendered if block is not None]
    while sent and isinstance(sent[-1][0], ThinkingPart):
        # An answer cut off while it thought; the API takes no message that ends in thinking.
        sent.pop()
    if not sent and message.role == "user":
        return [_words(_SILENT_USER)]
    documents = any(fragment.startswith(DOCUMENT) for _, fragment in sent)
    if documents and not any(fragment.startswith(_TEXT) for _, fragment in sent):
        sent.append(_words(_WORDLESS))
    return sent


def _words(text: str) -> tuple[Part, JsonText]:
    return TextPart(text=text), dumps({"text": text})


def _in_words(part: Part) -> Part:
    """A call or a result as a model without tools is told of it."""
    match part:
        case ToolCallPart():
            return TextPart(text=f"(Calls {part.name} with {part.arguments or '{}'})")
        case ToolResultPart():
            return TextPart(text=f"Result of {part.name}:\n{part.content}")
        case _:
            return part


def _said(parts: Iterable[Part]) -> list[Part]:
    """The parts without what is refused: blank texts, and calls of the provider's own tools that nothing answers."""
    kept = [part for part in parts if not (isinstance(part, TextPart | RefusalPart) and not part.text.strip())]
    told = [_member(part.payload, "toolResult") for part in kept if isinstance(part, OpaquePart)]
    answered = {text_of(block.get("toolUseId")) for block in told}
    return [part for part in kept if not (isinstance(part, OpaquePart) and _asks(part.payload) - answered)]


def _asks(payload: JsonText) -> set[str]:
    """The id of the call that a block is; nothing where it is none."""
    called = text_of(_member(payload, "toolUse").get("toolUseId"))
    return {called} if called else set()


def _member(payload: JsonText, name: str) -> dict[str, object]:
    return object_of(object_of(loads_verbatim(payload)).get(name))


def _block(part: Part, message: Message, request: ModelRequest, *, at_home: bool) -> object | None:
    match part:
        case TextPart():
            # There is no place for instructions in the middle of a conversation.
            return {"text": f"<system>\n{part.text}\n</system>" if message.role == "system" else part.text}
        case RefusalPart() | SummaryPart():
            return {"text": part.text}
        case ThinkingPart():
            return _thinking(part) if at_home else None
        case ToolCallPart():
            return {"toolUse": _call(part, at_home=at_home)}
        case ToolResultPart():
            return {"toolResult": _result(part, status=request.profile.result_status)}
        case MediaPart() if message.role == "assistant":
            return whole_block(part) if at_home and part.data is not None and is_known(part) else {"text": absent(part)}
        case MediaPart():
            return file_block(part, request.profile)
        case OpaquePart():
            return RawJson(part.payload) if at_home and _is_block(part.payload) else None
        case _:
            assert_never(part)


def _thinking(part: ThinkingPart) -> object | None:
    if part.opaque is not None:
        return RawJson(part.opaque) if _is_block(part.opaque) else None
    if not part.signature:
        return None
    return {"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature}}}


def _call(part: ToolCallPart, *, at_home: bool) -> Pairs:
    head = [
        ("toolUseId", tool_use_id(part.call_id)),
        ("name", tool_name(part.name)),
        ("input", _input(part.arguments)),
    ]
    extra = object_of(loads_verbatim(part.extra)) if at_home and part.extra is not None else {}
    return Pairs([*head, *extra.items()])


def _result(part: ToolResultPart, *, status: bool) -> dict[str, object]:
    silence = _SILENT_FAILURE if part.is_error else _SILENT_TOOL
    told = part.content if part.content.strip() else silence
    failed = {"status": "error"} if part.is_error and status else {}
    return {"toolUseId": tool_use_id(part.call_id), "content": [{"text": told}], **failed}


def _input(arguments: JsonText) -> object:
    """The arguments as the object the API wants; what is not one is shown to the model as it came."""
    if not arguments.strip():
        return {}
    try:
        sound = isinstance(loads_verbatim(arguments), Pairs)
    except JsonTextError:
        sound = False
    return RawJson(arguments) if sound else {"INVALID_JSON": arguments}


def _is_block(payload: JsonText) -> bool:
    """Whether it is a content block of this API, which is an object with the block's kind for its name."""
    members = object_of(loads_verbatim(payload))
    return bool(members) and "type" not in members
