"""Content blocks as they arrive, whole or in pieces: each turns what it is given into the events of its part.

A whole block is one that gets no pieces, so that a body and a stream give the same parts. Blocks this version does not
know, and those it knows in a form it does not expect, are kept verbatim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from nodellm_orm.domain.events import PartReceived, TextDelta, ThinkingDelta, ToolCallDelta
from nodellm_orm.domain.jsontext import RawJson, dumps, join_surrogates
from nodellm_orm.domain.parts import OpaquePart, ThinkingPart, ToolCallPart
from nodellm_orm.wire.anthropic.values import canonical, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.jsontext import JsonText

_GROWING: Final = frozenset({"content", "text"})
"""Members of unknown deltas that continue what is there; any other replaces it."""
_WHOLE: Final = "compaction_delta"
"""A piece that is all of its block."""


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
        members: of the block, as JSON read verbatim.
    """
    match members.get("type"):
        case "text" if _is_text(members, "text"):
            return _Text(key, members)
        case "thinking" if _is_text(members, "thinking") and _is_text(members, "signature"):
            return _Thinking(key, members)
        case "redacted_thinking":
            return _Redacted(key, members)
        case "tool_use" if _is_text(members, "id") and _is_text(members, "name"):
            return ToolUse(key, members)
        case _:
            return _Other(key, members)


def _is_text(members: Mapping[str, object], name: str) -> bool:
    return isinstance(members.get(name, ""), str | None)


def _piece(members: Mapping[str, object], name: str) -> str:
    return text_of(members.get(name)) or ""


def _beyond(members: Mapping[str, object], *known: str) -> dict[str, object]:
    return {name: value for name, value in members.items() if name not in {"type", *known}}


class _Text:
    """Text; citations and whatever else the block has beyond its text go to the part's ``extra``."""

    def __init__(self, key: int, members: Mapping[str, object]) -> None:
        self._key = key
        self._text = _piece(members, "text")
        self._extra = _beyond(members, "text")

    def begin(self) -> Iterator[Event]:
        yield TextDelta(index=self._key, text=self._text)

    def extend(self, delta: Mapping[str, object]) -> Iterator[Event]:
        match delta.get("type"):
            case "text_delta":
                yield TextDelta(index=self._key, text=_piece(delta, "text"))
            case "citations_delta" if "citation" in delta:
                earlier = self._extra.get("citations")
                self._extra["citations"] = [*(earlier if isinstance(earlier, list) else []), delta["citation"]]
            case _:
                pass

    def end(self) -> Iterator[Event]:
        if self._extra:
            yield TextDelta(index=self._key, extra=dumps(self._extra))


class _Thinking:
    """Thinking; a block with members beyond text and signature is kept verbatim as well."""

    def __init__(self, key: int, members: Mapping[str, object]) -> None:
        self._key = key
        self._members = dict(members)
        self._text = [_piece(members, "thinking")]
        self._signature = text_of(members.get("signature"))

    def begin(self) -> Iterator[Event]:
        yield ThinkingDelta(index=self._key, text=self._text[0])

    def extend(self, delta: Mapping[str, object]) -> Iterator[Event]:
        match delta.get("type"):
            case "thinking_delta":
                self._text.append(_piece(delta, "thinking"))
                yield ThinkingDelta(index=self._key, text=self._text[-1])
            case "signature_delta":
                # It comes whole: one that is told again is not its second half.
                self._signature = _piece(delta, "signature") or self._signature
            case _:
                pass

    def end(self) -> Iterator[Event]:
        opaque: JsonText | None = None
        if _beyond(self._members, "thinking", "signature"):
            signed = {} if self._signature is None else {"signature": self._signature}
            opaque = dumps(self._members | {"thinking": join_surrogates("".join(self._text))} | signed)
        if self._signature is not None or opaque is not None:
            yield ThinkingDelta(index=self._key, signature=self._signature, opaque=opaque)


class _Redacted:
    """Thinking whose text the provider hid; comes whole."""

    def __init__(self, key: int, members: Mapping[str, object]) -> None:
        self._key = key
        self._members = members

    def begin(self) -> Iterator[Event]:
        part = ThinkingPart(redacted=True, opaque=dumps(self._members))
        yield PartReceived(index=self._key, part=part)

    def extend(self, delta: Mapping[str, object]) -> Iterator[Event]:
        del delta
        return iter(())

    def end(self) -> Iterator[Event]:
        return iter(())


class ToolUse:
    """A call of one of the caller's tools; its input comes whole, or as pieces of JSON text."""

    def __init__(self, key: int, members: Mapping[str, object]) -> None:
        """Begin.

        Args:
            key: the key of its part.
            members: of the block.
        """
        self.key = key
        self._id = text_of(members.get("id"))
        self._name = _piece(members, "name")
        extra = _beyond(members, "id", "name", "input")
        self._extra = dumps(extra) if extra else None
        self._input = members.get("input")
        self._pieces: list[str] = []

    def begin(self) -> Iterator[Event]:
        """Name and id are known."""
        yield ToolCallDelta(index=self.key, wire_id=self._id, name=self._name or None, extra=self._extra)

    def extend(self, delta: Mapping[str, object]) -> Iterator[Event]:
        """Take a piece of the arguments."""
        if delta.get("type") == "input_json_delta":
            self._pieces.append(_piece(delta, "partial_json"))
            yield ToolCallDelta(index=self.key, arguments=self._pieces[-1])

    def end(self) -> Iterator[Event]:
        """The arguments are complete; told again where they are written otherwise in an unstreamed body."""
        part = self.part()
        if not any(self._pieces):
            yield ToolCallDelta(index=self.key, arguments=part.arguments)
        elif part.arguments != "".join(self._pieces):
            yield PartReceived(index=self.key, part=part)

    def part(self) -> ToolCallPart:
        """The call as received so far."""
        return ToolCallPart(
            call_id=self._id or "", wire_id=self._id, name=self._name, arguments=self._arguments(), extra=self._extra
        )

    def _arguments(self) -> JsonText:
        streamed = join_surrogates("".join(self._pieces))
        if streamed.strip():
            return canonical(streamed) or streamed
        return "{}" if self._input in (None, "") else dumps(self._input)


class _Other:
    """Any other block: a server's tool, a result of one, a compaction, something new."""

    def __init__(self, key: int, members: Mapping[str, object]) -> None:
        self._key = key
        self._members = dict(members)
        self._input: list[str] = []
        self._changed = False

    def begin(self) -> Iterator[Event]:
        yield self._received()

    def extend(self, delta: Mapping[str, object]) -> Iterator[Event]:
        if delta.get("type") == "input_json_delta":
            self._input.append(_piece(delta, "partial_json"))
            return iter(())
        growing = frozenset[str]() if delta.get("type") == _WHOLE else _GROWING
        for name, value in _beyond(delta).items():
            earlier = self._members.get(name)
            grows = name in growing and isinstance(earlier, str) and isinstance(value, str)
            self._members[name] = f"{earlier}{value}" if grows else value
            self._changed = True
        return iter(())

    def end(self) -> Iterator[Event]:
        streamed = join_surrogates("".join(self._input))
        if streamed.strip():
            known = canonical(streamed)
            self._members["input"] = RawJson(known) if known is not None else {"INVALID_JSON": streamed}
        if streamed.strip() or self._changed:
            yield self._received()

    def _received(self) -> PartReceived:
        return PartReceived(index=self._key, part=OpaquePart(payload=dumps(self._members)))
