"""The ``content`` of a message: a string, or a list of typed items, whole or in fragments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.domain.events import PartReceived, RefusalDelta, TextDelta, ThinkingDelta
from nodellm_orm.domain.jsontext import Pairs, dumps
from nodellm_orm.domain.parts import OpaquePart, ThinkingPart
from nodellm_orm.wire.openai_chat.growth import Growing
from nodellm_orm.wire.tags import TagSplitter
from nodellm_orm.wire.values import list_of, object_of, says_nothing, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nodellm_orm.domain.events import Event
    from nodellm_orm.wire.tags import Split

CONTENT_FIELD: Final = "content"
"""Marks thinking that is an item of the content (Mistral); it goes back as one."""
REFUSAL_KEY: Final = "refusal"
_TAGS_KEY: Final = "tags"


class ContentReader:
    """Reads the content of one answer into text, thinking, refusals and whatever else there is."""

    def __init__(self, *, think_tags: bool) -> None:
        """Begin with nothing received.

        Args:
            think_tags: thinking may stand between tags at the start of the text.
        """
        self._splitter = TagSplitter() if think_tags else None
        self._segments = 0
        self._kind: str | None = None
        self._thoughts: list[tuple[str, Growing, list[str]]] = []

    @property
    def text_key(self) -> str:
        """The text part that further words, or members about the text, belong to."""
        return self._key("text")

    def read(self, content: object, *, whole: bool) -> Iterator[Event]:
        """The parts in a content or in a fragment of one.

        Args:
            content: the member, parsed verbatim.
            whole: it is that of a whole message.
        """
        if isinstance(content, str):
            yield from self._text(content)
        for item in list_of(content):
            yield from self._text(item) if isinstance(item, str) else self._item(item, whole=whole)

    def without_tags(self) -> Iterator[Event]:
        """Thinking has been found elsewhere: what is in the text is text."""
        if self._splitter is not None:
            splitter, self._splitter = self._splitter, None
            yield from self._sorted(splitter.close())

    def close(self) -> Iterator[Event]:
        """The content has ended."""
        yield from self.without_tags()
        for key, grown, texts in self._thoughts:
            members = object_of(grown.result())
            members["thinking"] = [{"type": "text", "text": "".join(texts)}]
            signature = text_of(members.get("signature")) or None
            yield ThinkingDelta(index=key, signature=signature, field=CONTENT_FIELD, opaque=dumps(members))

    def _text(self, text: str) -> Iterator[Event]:
        if text:
            split: Iterable[Split] = [("text", text)] if self._splitter is None else self._splitter.feed(text)
            yield from self._sorted(split)

    def _sorted(self, split: Iterable[Split]) -> Iterator[Event]:
        for kind, text in split:
            match kind:
                case "text":
                    yield TextDelta(index=self._key("text"), text=text)
                case "thinking":
                    yield ThinkingDelta(index=_TAGS_KEY, text=text)
                case "all_was_thinking":
                    if text:
                        yield PartReceived(index=self._key("text"), part=ThinkingPart(text=text))
                    self._kind = None
                case _:
                    assert_never(kind)

    def _item(self, item: object, *, whole: bool) -> Iterator[Event]:
        members = object_of(item)
        match members.get("type"):
            case "text" | "output_text" if isinstance(members.get("text"), str):
                yield from self._text_item(members)
            case "refusal" if isinstance(members.get("refusal"), str):
                yield RefusalDelta(index=REFUSAL_KEY, text=text_of(members["refusal"]))
            case "thinking":
                yield from self.without_tags()
                yield from self._thinking_item(item, members, whole=whole)
            case _ if members:
                yield from self.without_tags()
                yield PartReceived(index=self._key("opaque", anew=True), part=OpaquePart(payload=dumps(item)))
            case _:
                pass

    def _text_item(self, members: dict[str, object]) -> Iterator[Event]:
        text = text_of(members["text"])
        extra = [(k, v) for k, v in members.items() if k not in {"type", "text", "index"} and not says_nothing(v)]
        if not extra:
            yield from self._text(text)
            return
        yield from self.without_tags()
        yield TextDelta(index=self._key("text", anew=True), text=text, extra=dumps(Pairs(extra)))
        self._kind = None

    def _thinking_item(self, item: object, members: dict[str, object], *, whole: bool) -> Iterator[Event]:
        thinking = members.get("thinking")
        text = text_of(thinking) or "".join(text_of(object_of(piece).get("text")) for piece in list_of(thinking))
        if whole:
            signature = text_of(members.get("signature")) or None
            key = self._key("thinking", anew=True)
            yield ThinkingDelta(index=key, text=text, signature=signature, field=CONTENT_FIELD, opaque=dumps(item))
            return
        if self._kind != "thinking":
            self._thoughts.append((self._key("thinking"), Growing(), []))
        key, grown, texts = self._thoughts[-1]
        grown.grow(item)
        texts.append(text)
        yield ThinkingDelta(index=key, text=text, field=CONTENT_FIELD)

    def _key(self, kind: str, *, anew: bool = False) -> str:
        """The part that is being written if it is of this kind, else the next one."""
        if anew or self._kind != kind:
            self._segments += 1
            self._kind = kind
        return f"{kind}:{self._segments}"
