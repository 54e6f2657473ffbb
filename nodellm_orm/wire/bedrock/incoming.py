"""Content blocks as they arrive, whole or in pieces: each turns what it is given into the events of its part.

A whole block is one that gets no pieces, so that a body and a stream give the same parts. A block is an object with its
kind for its only name; those this version does not know, and those it knows in a form it does not expect, are kept
verbatim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from nodellm_orm.domain.events import PartReceived, TextDelta, ThinkingDelta, ToolCallDelta
from nodellm_orm.domain.jsontext import Pairs, dumps
from nodellm_orm.domain.parts import ThinkingPart, ToolCallPart
from nodellm_orm.wire.bedrock.kept import Image, Other, arguments_of, rejoined
from nodellm_orm.wire.values import list_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event

CITED: Final = "citationsContent"
_REASONING: Final = "reasoningContent"
_CALL: Final = "toolUse"
_PLAIN_CALL: Final = frozenset({None, "tool_use"})
"""Words for a call of the caller's own tool; the API itself takes no such word in a request."""
_KNOWN_OF_CALLS: Final = frozenset({"toolUseId", "name", "input", "type"})


class Block(Protocol):
    """A content block that is being received."""

    def begin(self) -> Iterator[Event]:
        """Its part has begun."""
        ...

    def extend(self, delta: Mapping[str, object]) -> Iterator[Event]:
        """Take the next piece; kinds of pieces that mean nothing to this block are ignored."""
        ...

    def end(self) -> Iterator[Event]:
        """It is complete."""
        ...


def block_of(key: int, members: Mapping[str, object]) -> Block:
    """The block that begins with these members.

    Args:
        key: the key of its part.
        members: of a whole block, of the ``start`` of one that comes in pieces, or of its first piece without content.
    """
    kind = next(iter(members), "")
    inner = object_of(members.get(kind))
    match kind:
        case "text" if isinstance(members[kind], str) and len(members) == 1:
            return _Text(key, text_of(members[kind]))
        case "citationsContent" if len(members) == 1 and _is_plain(inner):
            return _Text(key, _joined(inner), list_of(inner.get("citations")))
        case "reasoningContent" if "reasoningText" in inner or not inner:
            return _Thinking(key, object_of(inner.get("reasoningText")))
        case "reasoningContent" if isinstance(inner.get("redactedContent"), str):
            return _Redacted(key, text_of(inner["redactedContent"]))
        case "toolUse" if inner.get("type") in _PLAIN_CALL and isinstance(inner.get("name"), str):
            return ToolUse(key, inner)
        case "image" if "format" in inner:
            return Image(key, inner)
        case _:
            return Other(key, kind, members)


def opening_of(delta: Mapping[str, object]) -> dict[str, object]:
    """What a block would have begun with whose first piece this is: the API begins most blocks without a word.

    Args:
        delta: members of the piece.
    """
    if "text" in delta or "citation" in delta:
        return {"text": ""}
    reasoning = object_of(delta.get(_REASONING))
    if "redactedContent" in reasoning:
        return {_REASONING: Pairs([("redactedContent", "")])}
    kind = next(iter(delta), "")
    return {kind: Pairs()}


def _is_plain(cited: Mapping[str, object]) -> bool:
    """Whether the content of a cited block is text, and there is nothing but citations beside it."""
    content = cited.get("content", [])
    plain = isinstance(content, list) and all(object_of(item).keys() == {"text"} for item in content)
    return plain and cited.keys() <= {"content", "citations"}


def _joined(cited: Mapping[str, object]) -> str:
    return "".join(text_of(object_of(item).get("text")) for item in list_of(cited.get("content")))


class _Text:
    """Text; where it comes from goes to the part's ``extra``."""

    def __init__(self, key: int, text: str, citations: list[object] | None = None) -> None:
        self._key = key
        self._text = text
        self._citations = list(citations or [])

    def begin(self) -> Iterator[Event]:
        yield TextDelta(index=self._key, text=self._text)

    def extend(self, delta: Mapping[str, object]) -> Iterator[Event]:
        if isinstance(text := delta.get("text"), str):
            yield TextDelta(index=self._key, text=text)
        if "citation" in delta:
            self._citations.append(delta["citation"])

    def end(self) -> Iterator[Event]:
        if self._citations:
            yield TextDelta(index=self._key, extra=dumps({CITED: {"citations": self._citations}}))


class _Thinking:
    """Thinking that can be read, with the signature that proves it where the model signs."""

    def __init__(self, key: int, members: Mapping[str, object]) -> None:
        self._key = key
        self._members = members

    def begin(self) -> Iterator[Event]:
        yield from self._told(self._members)

    def extend(self, delta: Mapping[str, object]) -> Iterator[Event]:
        yield from self._told(object_of(delta.get(_REASONING)))

    def end(self) -> Iterator[Event]:
        return iter(())

    def _told(self, members: Mapping[str, object]) -> Iterator[Event]:
        signature = members.get("signature")
        yield ThinkingDelta(
            index=self._key,
            text=text_of(members.get("text")),
            signature=signature if isinstance(signature, str) and signature else None,
        )


class _Redacted:
    """Thinking whose text the provider hid; the base 64 is the provider's own and is never looked into."""

    def __init__(self, key: int, content: str) -> None:
        self._key = key
        self._content = [content] if content else []

    def begin(self) -> Iterator[Event]:
        return iter(())

    def extend(self, delta: Mapping[str, object]) -> Iterator[Event]:
        if piece := text_of(object_of(delta.get(_REASONING)).get("redactedContent")):
            self._content.append(piece)
        return iter(())

    def end(self) -> Iterator[Event]:
        opaque = dumps({_REASONING: {"redactedContent": rejoined(self._content)}})
        yield PartReceived(index=self._key, part=ThinkingPart(redacted=True, opaque=opaque))


class ToolUse:
    """A call of one of the caller's tools; its input comes whole, or as pieces of JSON text."""

    def __init__(self, key: int, members: Mapping[str, object]) -> None:
        """Begin.

        Args:
            key: the key of its part.
            members: of the call.
        """
        self.key = key
        self._id = text_of(members.get("toolUseId")) or None
        self._name = text_of(members.get("name"))
        extra = {name: value for name, value in members.items() if name not in _KNOWN_OF_CALLS}
        self._extra = dumps(extra) if extra else None
        self._input = members.get("input")
        self._pieces: list[str] = []

    def begin(self) -> Iterator[Event]:
        """Name and id are known."""
        yield ToolCallDelta(index=self.key, wire_id=self._id, name=self._name or None, extra=self._extra)

    def extend(self, delta: Mapping[str, object]) -> Iterator[Event]:
        """Take a piece of the arguments."""
        if piece := text_of(object_of(delta.get(_CALL)).get("input")):
            self._pieces.append(piece)
            yield ToolCallDelta(index=self.key, arguments=piece)

    def end(self) -> Iterator[Event]:
        """The arguments are complete; told again where they are written otherwise in an unstreamed body."""
        part = self.part()
        if not self._pieces:
            yield ToolCallDelta(index=self.key, arguments=part.arguments)
        elif part.arguments != "".join(self._pieces):
            yield PartReceived(index=self.key, part=part)

    def part(self) -> ToolCallPart:
        """The call as received so far."""
        return ToolCallPart(
            call_id=self._id or "",
            wire_id=self._id,
            name=self._name,
            arguments=arguments_of(self._pieces, self._input),
            extra=self._extra,
        )
