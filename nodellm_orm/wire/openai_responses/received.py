"""Output items of an answer as parts, and what there is to be kept of an answer beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import Pairs, dumps
from nodellm_orm.domain.parts import OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.wire.values import list_of, object_of, says_nothing, text_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.parts import Part

MESSAGE: Final = "message"
REASONING: Final = "reasoning"
CALL: Final = "function_call"
CUSTOM: Final = "custom_tool_call"
"""A call whose input is a text of any form."""
COMPLETED: Final = "completed"
INCOMPLETE: Final = "incomplete"

_BETWEEN: Final = "\n\n"
_BESIDE: Final = ("input_transformations", "moderation", "prompt_cache_diagnostics")
"""What the server did to the history it was sent, what an inline moderation found, how the cache was missed."""
_TIER: Final = "service_tier"
_USUAL_TIERS: Final = frozenset({"", "auto", "default", "standard"})


def text_key(index: int) -> str:
    """What tells a text apart from the other content of its message.

    Args:
        index: its place in the content.
    """
    return f".{index}"


def refusal_key(index: int) -> str:
    """What tells a refusal apart from the other content of its message.

    Args:
        index: its place in the content.
    """
    return f".{index}.refusal"


def parts_of(item: Mapping[str, object]) -> Iterator[tuple[str, Part]]:
    """The parts of an output item, each with what tells it apart from the others of this item.

    Args:
        item: the members, parsed verbatim.
    """
    match item.get("type"):
        case "message":
            yield from _content(item)
        case "reasoning":
            yield "", _thinking(item)
        case "function_call":
            yield "", _call(item)
        case "custom_tool_call":
            yield "", _custom_call(item)
        case _ if item:
            yield "", OpaquePart(payload=dumps(Pairs(item.items())))
        case _:
            pass


def thought(summary: Iterable[str], content: Iterable[str]) -> str:
    """The readable thinking of a reasoning item: its summaries, or what was really thought where there are none.

    Args:
        summary: the texts of its summaries.
        content: the texts of its content, which models with open weights show.
    """
    return _BETWEEN.join(filter(None, summary)) or _BETWEEN.join(filter(None, content))


def texts_in(value: object) -> list[str]:
    """The texts of a list of typed pieces.

    Args:
        value: the list, parsed verbatim.
    """
    return [text_of(object_of(piece).get("text")) for piece in list_of(value)]


def arguments_in(value: object) -> str:
    """The arguments of a call, which some servers send as an object.

    Args:
        value: the member, parsed verbatim.
    """
    return dumps(value) if isinstance(value, Pairs) else text_of(value)


def said_beside(response: Mapping[str, object]) -> OpaquePart | None:
    """What there is to be kept of an answer beside its output: a part without a type, which is never sent back.

    Args:
        response: the members of the whole response.
    """
    kept = [(name, response[name]) for name in _BESIDE if not says_nothing(response.get(name))]
    tier = text_of(response.get(_TIER))
    kept += [(_TIER, tier)] if tier not in _USUAL_TIERS else []
    return OpaquePart(payload=dumps(Pairs(kept))) if kept else None


def _content(item: Mapping[str, object]) -> Iterator[tuple[str, Part]]:
    status = text_of(item.get("status"))
    own = _beyond(item, {"type", "role", "content", "status"})
    own += [("status", status)] if status not in {"", COMPLETED} else []
    content = item.get("content")
    pieces = [Pairs([("type", "output_text"), ("text", content)])] if isinstance(content, str) else list_of(content)
    for index, piece in enumerate(pieces):
        members = object_of(piece)
        match members.get("type"):
            case "output_text" | "text":
                extra = Pairs([*own, *_beyond(members, {"type", "text", *(name for name, _ in own)})])
                yield text_key(index), TextPart(text=text_of(members.get("text")), extra=_written(extra))
            case "refusal":
                yield refusal_key(index), RefusalPart(text=text_of(members.get("refusal")))
            case _:
                # Without a type of its own: as an item this could not be sent back.
                yield text_key(index), OpaquePart(payload=dumps(Pairs([*own, ("content", piece)])))


def _thinking(item: Mapping[str, object]) -> ThinkingPart:
    text = thought(texts_in(item.get("summary")), texts_in(item.get("content")))
    signature = text_of(item.get("encrypted_content")) or None
    return ThinkingPart(
        text=text,
        signature=signature,
        redacted=signature is not None and not text,
        opaque=_written(_beyond(item, {"type", "encrypted_content"})),
    )


def _call(item: Mapping[str, object]) -> ToolCallPart:
    wire_id = text_of(item.get("call_id")) or text_of(item.get("id"))
    return ToolCallPart(
        call_id=wire_id,
        wire_id=wire_id or None,
        name=text_of(item.get("name")),
        arguments=arguments_in(item.get("arguments")),
        truncated=item.get("status") == INCOMPLETE,
        extra=_written(_beyond(item, {"type", "call_id", "name", "arguments", "status"})),
    )


def _custom_call(item: Mapping[str, object]) -> ToolCallPart:
    """Its input as an object, kept as it came beside it."""
    wire_id = text_of(item.get("call_id")) or text_of(item.get("id"))
    given = [("input", text_of(item.get("input")))]
    beyond = _beyond(item, {"type", "call_id", "name", "input", "status"})
    return ToolCallPart(
        call_id=wire_id,
        wire_id=wire_id or None,
        name=text_of(item.get("name")),
        arguments=dumps(Pairs(given)),
        truncated=item.get("status") == INCOMPLETE,
        extra=_written([("type", CUSTOM), *given, *beyond]),
    )


def _beyond(members: Mapping[str, object], known: Collection[str]) -> list[tuple[str, object]]:
    return [(name, value) for name, value in members.items() if name not in known and not says_nothing(value)]


def _written(members: Iterable[tuple[str, object]]) -> JsonText | None:
    pairs = Pairs(members)
    return dumps(pairs) if pairs else None
