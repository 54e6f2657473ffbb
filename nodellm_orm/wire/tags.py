"""Thinking that arrives inside the text, between ``<think>`` and ``</think>`` at its start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, assert_never

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind: TypeAlias = Literal["text", "thinking", "all_was_thinking"]
Split: TypeAlias = tuple[Kind, str]
"""More text, more thinking, or the discovery that all the text so far was thinking, with that text."""

_TAGS: Final = {"<think>": "</think>", "<thinking>": "</thinking>"}
_ANY: Final = (*_TAGS, *_TAGS.values())
_BLANKS: Final = 1000
"""Blank characters before a tag beyond which none is expected any more."""


class TagSplitter:
    """Splits a text that arrives in pieces; any cut gives the same text and the same thinking.

    Chat templates of some models put the opening tag into the prompt, so that only the closing one arrives: then all
    that came before it was thinking.

    Example:
        >>> splitter = TagSplitter()
        >>> [*splitter.feed("<thi"), *splitter.feed("nk>Hm.</think>Yes")]
        [('thinking', 'Hm.'), ('text', 'Yes')]
    """

    def __init__(self) -> None:
        """Begin before the first character."""
        self._state: Literal["start", "thinking", "after", "watching", "plain"] = "start"
        self._held = ""
        self._closing = ""
        self._fresh = False
        self._seen: list[str] = []

    def feed(self, text: str) -> Iterator[Split]:
        """Take more text.

        Args:
            text: any piece; what may be the beginning of a tag is held back.
        """
        rest: str | None = self._held + text
        self._held = ""
        while rest:
            found, rest = self._step(rest)
            yield from found

    def close(self) -> Iterator[Split]:
        """The text has ended: what was held back is no tag."""
        held, self._held = self._held, ""
        if held:
            yield ("thinking" if self._state == "thinking" else "text"), held

    def _step(self, text: str) -> tuple[list[Split], str | None]:
        match self._state:
            case "start":
                return self._start(text)
            case "thinking":
                return self._think(text)
            case "after":
                text = text.lstrip()
                self._state = "plain" if text else "after"
                return [], text
            case "watching":
                return self._watch(text)
            case "plain":
                return [("text", text)], None
            case _:
                assert_never(self._state)

    def _start(self, text: str) -> tuple[list[Split], str | None]:
        begun = text.lstrip()
        if len(text) - len(begun) < _BLANKS:
            for opening, closing in _TAGS.items():
                if begun.startswith(opening):
                    self._state, self._closing, self._fresh = "thinking", closing, True
                    return [], begun.removeprefix(opening)
            if any(tag.startswith(begun) for tag in _ANY):
                self._held = text
                return [], None
        self._state = "watching"
        return [], text

    def _think(self, text: str) -> tuple[list[Split], str | None]:
        if self._fresh:
            text = text.lstrip()
            self._fresh = not text
        thought, closing, rest = text.partition(self._closing)
        if closing:
            self._state = "after"
            return ([("thinking", thought)] if thought else []), rest
        return self._kept_back(text, (self._closing,), "thinking"), None

    def _watch(self, text: str) -> tuple[list[Split], str | None]:
        at, tag = min(((at, tag) for tag in _ANY if (at := text.find(tag)) >= 0), default=(-1, ""))
        if tag in _TAGS:
            self._state = "plain"
            return [], text
        if not tag:
            found = self._kept_back(text, _ANY, "text")
            self._seen += [piece for _, piece in found]
            return found, None
        self._state = "after"
        self._seen.append(text[:at])
        return [("all_was_thinking", "".join(self._seen))], text[at + len(tag) :]

    def _kept_back(self, text: str, tags: tuple[str, ...], kind: Kind) -> list[Split]:
        """All of the text but the end that may be the beginning of a tag."""
        longest = max(map(len, tags)) - 1
        ends = (text[-size:] for size in range(min(longest, len(text)), 0, -1))
        self._held = next((end for end in ends if any(tag.startswith(end) for tag in tags)), "")
        told = text.removesuffix(self._held) if self._held else text
        return [(kind, told)] if told else []
