"""Blocks that are kept as they are: images, tools of the provider's own, and what this version does not read."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.digests import digest_of
from nodellm_orm.domain.events import PartReceived
from nodellm_orm.domain.jsontext import JsonTextError, Pairs, RawJson, dumps, join_surrogates, loads_verbatim
from nodellm_orm.domain.parts import MediaPart, OpaquePart
from nodellm_orm.wire.bedrock.files import media_type_of
from nodellm_orm.wire.values import list_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.jsontext import JsonText

_CALL: Final = "toolUse"
_FIRST: Final = ("toolUseId", "name", "input")
"""Members whose place in a block is always the same: a body and a stream have them in different orders."""
_GROWING: Final = frozenset({"content", "text"})
"""Members of unknown deltas that continue what is there; any other replaces it."""


class Image:
    """An image that the model made; its bytes come whole, or as pieces that are base 64 each."""

    def __init__(self, key: int, members: Mapping[str, object]) -> None:
        """Begin.

        Args:
            key: the key of its part.
            members: of the image.
        """
        self._key = key
        self._members = dict(members)
        self._source = object_of(members.get("source"))
        self._pieces = [text_of(self._source["bytes"])] if "bytes" in self._source else []

    def begin(self) -> Iterator[Event]:
        """Nothing can be told yet."""
        return iter(())

    def extend(self, delta: Mapping[str, object]) -> Iterator[Event]:
        """Take more of its bytes, or where they are."""
        members = object_of(delta.get("image"))
        source = object_of(members.pop("source", None))
        self._members |= members
        if "bytes" in source:
            self._pieces.append(text_of(source["bytes"]))
        else:
            self._source |= source
        return iter(())

    def end(self) -> Iterator[Event]:
        """It is a file where its bytes and its format are known, and else kept as it came."""
        media_type = media_type_of("image", text_of(self._members.get("format")))
        data = decoded(self._pieces)
        if data and media_type and self._members.keys() <= {"format", "source"}:
            part = MediaPart(media="image", media_type=media_type, sha256=digest_of(data), data=data)
            yield PartReceived(index=self._key, part=part)
            return
        source = self._source | ({"bytes": rejoined(self._pieces)} if self._pieces else {})
        whole = self._members | ({"source": source} if source else {})
        yield PartReceived(index=self._key, part=OpaquePart(payload=dumps({"image": whole})))


class Other:
    """Any other block: a tool of the provider's own, a result of one, something new."""

    def __init__(self, key: int, kind: str, members: Mapping[str, object]) -> None:
        """Begin.

        Args:
            key: the key of its part.
            kind: the first of its names.
            members: of the whole block.
        """
        self._key = key
        self._kind = kind
        self._block = dict(members)
        self._is_object = isinstance(members.get(kind), Pairs)
        self._members = object_of(members.get(kind))
        self._input: list[str] = []

    def begin(self) -> Iterator[Event]:
        """Nothing can be told yet."""
        return iter(())

    def extend(self, delta: Mapping[str, object]) -> Iterator[Event]:
        """Take more of its content, of its arguments, or of members that nobody knows."""
        for kind, value in delta.items():
            if not self._is_object or kind != self._kind:
                self._block[kind] = value
            elif isinstance(value, list):
                self._add(value)
            else:
                self._merge(object_of(value))
        return iter(())

    def end(self) -> Iterator[Event]:
        """It is complete."""
        if self._is_object:
            if self._input:
                self._members["input"] = _object_in("".join(self._input))
            elif self._kind == _CALL:
                self._members.setdefault("input", {})
            first = [name for name in _FIRST if name in self._members]
            rest = sorted(self._members.keys() - set(first))
            self._block[self._kind] = {name: self._members[name] for name in [*first, *rest]}
        yield PartReceived(index=self._key, part=OpaquePart(payload=dumps(self._block)))

    def _add(self, items: list[object]) -> None:
        """More of a result's content; texts that follow each other are one."""
        content = list_of(self._members.get("content"))
        for item in items:
            last = object_of(content[-1]) if content else {}
            members = object_of(item)
            if last.keys() == members.keys() == {"text"}:
                content[-1] = Pairs([("text", text_of(last["text"]) + text_of(members["text"]))])
            else:
                content.append(item)
        self._members["content"] = content

    def _merge(self, members: Mapping[str, object]) -> None:
        for name, value in members.items():
            earlier = self._members.get(name)
            if self._kind == _CALL and name == "input" and isinstance(value, str):
                self._input.append(value)
            elif name in _GROWING and isinstance(earlier, str) and isinstance(value, str):
                self._members[name] = earlier + value
            else:
                self._members[name] = value


def arguments_of(pieces: list[str], whole: object) -> JsonText:
    """The arguments of a call as an unstreamed body has them: without blanks between the tokens.

    Args:
        pieces: of their text, where they came in pieces; not necessarily valid JSON.
        whole: where they did not.
    """
    streamed = join_surrogates("".join(pieces))
    if streamed.strip():
        try:
            return dumps(loads_verbatim(streamed))
        except JsonTextError:
            return streamed
    return "{}" if whole in (None, "") else dumps(whole)


def _object_in(text: str) -> object:
    """The value that a text is the JSON of; what is none is kept as a text."""
    text = join_surrogates(text)
    try:
        return RawJson(dumps(loads_verbatim(text)))
    except JsonTextError:
        return {"INVALID_JSON": text}


def rejoined(pieces: list[str]) -> str:
    """The base 64 of bytes whose pieces came in base 64 each; the only piece stays as it came.

    Args:
        pieces: in their order.
    """
    if len(pieces) == 1:
        return pieces[0]
    data = decoded(pieces)
    return base64.b64encode(data).decode("ascii") if data else "".join(pieces)


def decoded(pieces: list[str]) -> bytes:
    """The bytes; nothing where a piece is no base 64.

    Args:
        pieces: base 64 each.
    """
    try:
        return b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
    except (binascii.Error, ValueError):
        return b""
