"""An output item that arrives in pieces: what has been said of it so far, and what is new in its final form.

Its final form is what the server says last. What that leaves out is filled with the pieces; some servers send no final
form at all, and some nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.events import PartReceived, RefusalDelta, TextDelta, ThinkingDelta, ToolCallDelta
from nodellm_orm.domain.jsontext import Pairs, join_surrogates
from nodellm_orm.domain.parts import TextPart, ThinkingPart
from nodellm_orm.wire.openai_responses.received import (
    CALL,
    COMPLETED,
    CUSTOM,
    INCOMPLETE,
    MESSAGE,
    REASONING,
    parts_of,
    refusal_key,
    text_key,
)
from nodellm_orm.wire.values import says_nothing, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event

_PROVISIONAL: Final = "encrypted_content"
"""Of an item that has only begun, this is not what it will be in the end."""
_STATUS: Final = "status"
_BETWEEN: Final = "\n\n"


@dataclass(slots=True, eq=False)
class Item:
    """One output item of an answer."""

    number: int
    """Its place among the items, in the order in which they began."""
    kind: str
    ended: bool = False
    _members: dict[str, object] = field(default_factory=dict)
    _form: Mapping[str, object] = field(default_factory=dict)
    """What it was in the end."""
    _places: list[int] = field(default_factory=list)
    """The indexes of a message's content as events have them, which at some servers begin with 1."""
    _pieces: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    """The texts of a list of typed pieces, by the pieces' type and place."""
    _strings: dict[str, list[str]] = field(default_factory=dict)
    """The members that are strings and grow, by name."""
    _annotations: dict[int, list[object]] = field(default_factory=dict)
    _said: dict[str, list[str]] = field(default_factory=dict)
    """What has been given as deltas, by what tells the parts apart."""

    @property
    def wire_id(self) -> str:
        """The provider's id of it; empty where there is none."""
        return text_of(self._members.get("id"))

    def learn(self, members: Mapping[str, object]) -> None:
        """Take in what is known of it before it is complete.

        Args:
            members: of the item.
        """
        self._members |= {name: value for name, value in members.items() if name != _PROVISIONAL}

    def begin(self, members: Mapping[str, object]) -> Iterator[Event]:
        """It begins; the first event of it holds its place among the parts.

        Args:
            members: what is known of it.
        """
        self.learn(members)
        match self.kind:
            case "message":
                yield TextDelta(index=f"{self.number}{text_key(0)}")
            case "function_call" | "custom_tool_call":
                yield ToolCallDelta(
                    index=str(self.number),
                    wire_id=text_of(members.get("call_id")) or None,
                    name=text_of(members.get("name")) or None,
                )
            case _:
                yield ThinkingDelta(index=str(self.number))

    def place(self, index: int) -> int:
        """The place of a content of a message: in the order in which they are first heard of.

        Args:
            index: as events have it.
        """
        if index not in self._places:
            self._places.append(index)
        return self._places.index(index)

    def add_text(self, index: int, text: str) -> Iterator[Event]:
        """More of a message's text.

        Args:
            index: of its content.
            text: what is added.
        """
        place = self.place(index)
        self._grow("output_text", place, text)
        yield from self._tell(text_key(place), text)

    def add_refusal(self, index: int, text: str) -> Iterator[Event]:
        """More of a refusal.

        Args:
            index: of the message's content.
            text: what is added.
        """
        place = self.place(index)
        self._grow("refusal", place, text)
        if text:
            yield RefusalDelta(index=f"{self.number}{refusal_key(place)}", text=text)

    def add_thinking(self, kind: str, index: int, text: str) -> Iterator[Event]:
        """More thinking.

        Args:
            kind: ``summary_text`` or ``reasoning_text``.
            index: place among the pieces of its kind.
            text: what is added.
        """
        begins = not self._pieces.get((kind, index))
        self._grow(kind, index, text)
        if text:
            yield from self._tell("", f"{_BETWEEN}{text}" if begins and self._said.get("") else text)

    def add_string(self, name: str, text: str) -> Iterator[Event]:
        """More of a member that is a string, such as the arguments of a call.

        Args:
            name: of the member.
            text: what is added.
        """
        if text:
            self._strings.setdefault(name, []).append(text)
            if self.kind == CALL:
                yield ToolCallDelta(index=str(self.number), arguments=text)

    def settle_text(self, kind: str, index: int, text: str) -> None:
        """A piece as a whole, which is what it is even where its deltas said something else.

        Args:
            kind: the piece's type.
            index: its index.
            text: all of it.
        """
        place = self.place(index) if self.kind == MESSAGE else index
        if text:
            self._pieces[kind, place] = [text]

    def settle_string(self, name: str, text: str) -> None:
        """A member as a whole.

        Args:
            name: of the member.
            text: all of it.
        """
        if text:
            self._strings[name] = [text]

    def annotate(self, index: int, annotation: object) -> None:
        """A note on a text: where it comes from.

        Args:
            index: of the content.
            annotation: parsed verbatim.
        """
        self._annotations.setdefault(self.place(index), []).append(annotation)

    def end(self, members: Mapping[str, object]) -> Iterator[Event]:
        """It is complete: its parts, and what their deltas have not said.

        Args:
            members: its final form; nothing where the server sends none.
        """
        self.ended = True
        self._form = self._final(members)
        for suffix, part in parts_of(self._form):
            if isinstance(part, TextPart | ThinkingPart):
                yield from self._rest(suffix, part.text)
            yield PartReceived(index=f"{self.number}{suffix}", part=part)

    def cut(self) -> Iterator[Event]:
        """The answer broke off in it: of a custom call, the input alone cannot tell whether it is whole."""
        if self.kind == CUSTOM and self._form.get(_STATUS) not in {COMPLETED, INCOMPLETE}:
            for suffix, part in parts_of({**self._form, _STATUS: INCOMPLETE}):
                yield PartReceived(index=f"{self.number}{suffix}", part=part)

    def _final(self, members: Mapping[str, object]) -> Mapping[str, object]:
        if members and self.kind not in {MESSAGE, REASONING, CALL, CUSTOM}:
            return members
        stated = {name: value for name, value in members.items() if not says_nothing(value)}
        return stated | {name: value for name, value in self._gathered().items() if name not in stated}

    def _grow(self, kind: str, index: int, text: str) -> None:
        if text:
            self._pieces.setdefault((kind, index), []).append(text)

    def _tell(self, suffix: str, text: str) -> Iterator[Event]:
        if text:
            self._said.setdefault(suffix, []).append(text)
            delta = ThinkingDelta if self.kind == REASONING else TextDelta
            yield delta(index=f"{self.number}{suffix}", text=text)

    def _rest(self, suffix: str, text: str) -> Iterator[Event]:
        """What is missing of a text that was begun in deltas."""
        said = join_surrogates("".join(self._said.get(suffix, ())))
        if said and text.startswith(said):
            yield from self._tell(suffix, text[len(said) :])

    def _gathered(self) -> dict[str, object]:
        """The members that the pieces amount to."""
        members = {name: value for name, value in self._members.items() if name != _STATUS}
        members |= {"type": self.kind, **{name: "".join(pieces) for name, pieces in self._strings.items()}}
        if self.kind == MESSAGE:
            content = [*self._listed("output_text", "text"), *self._listed("refusal", "refusal")]
            members["content"] = [piece for _, piece in sorted(content, key=lambda placed: placed[0])]
        elif self.kind == REASONING:
            grown = {"summary": self._listed("summary_text", "text"), "content": self._listed("reasoning_text", "text")}
            members |= {name: [piece for _, piece in pieces] for name, pieces in grown.items() if pieces}
        return members

    def _listed(self, kind: str, name: str) -> list[tuple[int, Pairs]]:
        found = sorted((index, "".join(texts)) for (each, index), texts in self._pieces.items() if each == kind)
        return [(index, self._piece(kind, name, index, text)) for index, text in found]

    def _piece(self, kind: str, name: str, index: int, text: str) -> Pairs:
        members: list[tuple[str, object]] = [("type", kind), (name, join_surrogates(text))]
        notes = self._annotations.get(index) if kind == "output_text" else None
        return Pairs([*members, ("annotations", notes)] if notes else members)
