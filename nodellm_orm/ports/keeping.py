"""What is kept of a conversation: parts of it may be left out, or altered, before it is written.

The rest of every row stays as it is: who spoke when, which tools were called and how that ended, and the whole ledger.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.domain.jsontext import JsonTextError, Pairs, dumps, loads_verbatim
from nodellm_orm.domain.parts import (
    NOT_KEPT,
    MediaPart,
    OpaquePart,
    RefusalPart,
    SummaryPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from nodellm_orm.errors import ConfigurationError, StorageError
from nodellm_orm.ports.entries import CallFinished, CallOpened, MessageAdded, MessageRevised, TurnEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.entries import Entry, TurnOpened
    from nodellm_orm.ports.states import ChatHead, Snapshot

    Redact = Callable[[str], str]

RESULT_NOT_KEPT: Final = "[The result of this call was not stored.]"
"""Stands where a result was: an empty one would tell the model that the tool had nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistence:
    """What is written of a conversation; the rows themselves, and the ledger, are always written."""

    content: bool = True
    """What users, model and tools say, and files. Without it, a chat lives as long as its `Chat` object only."""
    thinking: bool = True
    """The model's thinking, with its signatures."""
    tool_results: bool = True
    """What tools give, and their errors."""

    def __post_init__(self) -> None:
        """Refuse what is no switch: the text "no" would count as a yes, and be stored.

        Raises:
            ConfigurationError: one of them is neither ``True`` nor ``False``.
        """
        for switch in fields(self):
            value: object = getattr(self, switch.name)
            if not isinstance(value, bool):
                msg = f"Persistence({switch.name}=) is True or False, not {value!r:.100}"
                raise ConfigurationError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What becomes of heads, messages and entries before they are written.

    Args:
        persist: what is written.
        redact: alters each text that is written.
    """

    persist: Persistence = Persistence()
    redact: Redact | None = None

    @property
    def everything(self) -> bool:
        """Whether all is kept as it is."""
        return self.redact is None and self.persist == Persistence()

    def entries(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """The entries of a durable point as they are written."""
        return entries if self.everything else [self._entry(entry) for entry in entries]

    def _entry(self, entry: Entry) -> Entry:
        match entry:
            case MessageAdded() | MessageRevised():
                return replace(entry, message=self.message(entry.message))
            case CallOpened():
                return replace(entry, call=self._call(entry.call))
            case CallFinished():
                error = self._word(entry.error) if self.persist.tool_results else None
                return replace(entry, result=self._result(entry.result), error=error)
            case TurnEnded():
                return replace(entry, error_message=self._word(entry.error_message))
            case _:
                return entry

    def message(self, message: Message) -> Message:
        """A message as it is written."""
        if self.everything:
            return message
        parts = tuple(kept for part in message.parts if (kept := self._part(part)) is not None)
        return replace(message, parts=parts if self.persist.content else (*parts, NOT_KEPT))

    def _part(self, part: Part) -> Part | None:
        match part:
            case ToolCallPart():
                return self._call(part)
            case ToolResultPart():
                return replace(part, content=self._result(part.content))
            case ThinkingPart():
                return self._thinking(part) if self.persist.content and self.persist.thinking else None
            case _:
                return self._said(part) if self.persist.content else None

    def _said(self, part: TextPart | RefusalPart | MediaPart | SummaryPart | OpaquePart) -> Part:
        match part:
            case TextPart():
                text = self.text(part.text)
                # What stands beside the text (citations and the like) quotes it.
                return part if text == part.text else replace(part, text=text, extra=None)
            case RefusalPart() | SummaryPart():
                return replace(part, text=self.text(part.text))
            case MediaPart():
                return replace(part, name=self._word(part.name), url=self._word(part.url))
            case OpaquePart():
                return replace(part, payload=self._json(part.payload))

    def _thinking(self, part: ThinkingPart) -> ThinkingPart:
        text = self.text(part.text)
        # A signature is of the very words; a changed trace is nobody's proof of anything.
        return part if text == part.text else replace(part, text=text, signature=None, opaque=None)

    def _call(self, call: ToolCallPart) -> ToolCallPart:
        if not self.persist.content:
            return replace(call, arguments="{}", extra=None, truncated=True)
        arguments = self._json(call.arguments)
        # Nobody may run it with other arguments than the model's: as one that was cut off, it is never run.
        return call if arguments == call.arguments else replace(call, arguments=arguments, extra=None, truncated=True)

    def _result(self, text: Any) -> Any:
        if text is None or not self.persist.content:
            return text and ""
        return self.text(text) if self.persist.tool_results else RESULT_NOT_KEPT

    def denial(self, text: str | None) -> str | None:
        """Why a person refused a call, as it is written."""
        return self.text(text) if text and self.persist.content else text and ""

    def head(self, head: ChatHead) -> ChatHead:
        """A chat's head as it is written: title and instructions are the host's own, and only redacted."""
        if self.redact is None:
            return head
        title = None if head.title is None else self.text(head.title)
        return replace(head, title=title, instructions=tuple(self.text(text) for text in head.instructions))

    def turn(self, turn: TurnOpened) -> TurnOpened:
        """A turn that begins, as it is written: its instructions and schemas, each named by its digest."""
        changed = {text: self._json(text) for text in turn.texts} if self.redact is not None else {}
        settings = turn.settings
        for text, kept in changed.items():
            settings = settings.replace(digest_of_text(text), digest_of_text(kept))
        return replace(turn, settings=settings, texts=tuple(changed.get(text, text) for text in turn.texts))

    def recalled(self, snapshot: Snapshot, head: ChatHead, messages: Sequence[tuple[UUID, Message]]) -> Snapshot:
        """A chat just created, as its creator knows it rather than as it was written.

        Args:
            snapshot: as it was written.
            head: the head that it was created with.
            messages: those that it was created with.
        """
        if self.everything:
            return snapshot
        given = dict(messages)
        pairs = zip(snapshot.message_ids, snapshot.messages, strict=True)
        return replace(
            snapshot,
            head=replace(snapshot.head, title=head.title, instructions=head.instructions),
            messages=tuple(replace(given.get(key, said), position=said.position) for key, said in pairs),
        )

    def text(self, text: str) -> str:
        """A text as it is written.

        Raises:
            StorageError: the function given as ``redact`` failed; nothing is written then.
        """
        if self.redact is None or not text:
            return text
        try:
            redacted: object = self.redact(text)
        except Exception as error:
            msg = f"redact failed with {type(error).__name__}, and nothing was written; let it give a text for any text"
            raise StorageError(msg) from error
        if not isinstance(redacted, str):
            msg = f"redact gave {type(redacted).__name__}, and nothing was written; let it give a text for any text"
            raise StorageError(msg)
        return redacted

    def _word(self, text: str | None) -> str | None:
        return None if text is None or not self.persist.content else self.text(text)

    def _json(self, text: JsonText) -> JsonText:
        """JSON whose strings are redacted one by one, so that it stays JSON; to the byte as it was if none changes."""
        if self.redact is None:
            return text
        try:
            value = loads_verbatim(text)
            redacted = self._value(value)
            return text if redacted == value else dumps(redacted)
        except (JsonTextError, RecursionError):
            return self.text(text)

    def _value(self, value: object) -> object:
        match value:
            case str():
                return self.text(value)
            case Pairs():
                return Pairs((self.text(name), self._value(item)) for name, item in value)
            case list():
                return [self._value(item) for item in value]
            case _:
                return value


KEEP_ALL: Final = Keeping()
"""Everything is written as it is."""


def _asynchronous(function: Any) -> bool:
    return any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))


def keeping_of(persist: Persistence | None, redact: Redact | None) -> Keeping:
    """What is kept under these two.

    Args:
        persist: what is written.
        redact: alters each text that is written.

    Raises:
        ConfigurationError: one of them is not what it should be.
    """
    if persist is not None and not isinstance(persist, Persistence):
        msg = f"persist is a Persistence, not {type(persist).__name__}; write persist=Persistence(thinking=False)"
        raise ConfigurationError(msg)
    if redact is not None and (not callable(redact) or _asynchronous(redact)):
        msg = "redact is a function that is given a text and gives one, and is not async; make it a plain one"
        raise ConfigurationError(msg)
    return Keeping(persist=persist or Persistence(), redact=redact)
