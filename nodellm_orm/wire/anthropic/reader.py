"""Reads one message of the model, whole or in pieces, into the events of the domain."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from nodellm_orm.domain.events import Finished, PartReceived, RefusalDelta, ResponseStarted, UsageReported
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import RefusalPart
from nodellm_orm.errors import ProtocolError
from nodellm_orm.wire.anthropic.beside import said_beside
from nodellm_orm.wire.anthropic.incoming import ToolUse, block_of
from nodellm_orm.wire.anthropic.usage import reason_of, usage_of
from nodellm_orm.wire.anthropic.values import count_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.wire.anthropic.incoming import Block


class MessageReader:
    """Gives the events of one message; a body is read as a stream whose blocks all come whole."""

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._open: dict[int, Block] = {}
        self._begun = 0
        self._last: Block | None = None
        self._usage: dict[str, object] = {}
        self._finished = False

    def message(self, members: Mapping[str, object]) -> Iterator[Event]:
        """A message as a body has it; at the start of a stream it has no content yet.

        Args:
            members: of the message.
        """
        yield ResponseStarted(model=text_of(members.get("model")), response_id=text_of(members.get("id")))
        content = members.get("content")
        for index, block in enumerate(content if isinstance(content, list) else []):
            yield from self._begin(index, block)
            yield from self._end(index)
        yield from self._report(members.get("usage"))
        yield from self._finish(members)

    def block_started(self, event: Mapping[str, object]) -> Iterator[Event]:
        """A ``content_block_start``.

        Args:
            event: members of the event.
        """
        index = _index(event)
        yield from self._end(index)
        yield from self._begin(index, event.get("content_block"))

    def block_extended(self, event: Mapping[str, object]) -> Iterator[Event]:
        """A ``content_block_delta``.

        Args:
            event: members of the event.
        """
        block, delta = self._open.get(_index(event)), object_of(event.get("delta"))
        if block is None or delta is None:
            _refuse("it goes on with a content block that it has not begun")
        yield from block.extend(delta)

    def block_ended(self, event: Mapping[str, object]) -> Iterator[Event]:
        """A ``content_block_stop``.

        Args:
            event: members of the event.
        """
        yield from self._end(_index(event))

    def message_extended(self, event: Mapping[str, object]) -> Iterator[Event]:
        """A ``message_delta``: why the model stopped, and token counts so far.

        Args:
            event: members of the event.
        """
        yield from self._report(event.get("usage"))
        yield from self._finish(object_of(event.get("delta")) or {})

    def message_ended(self) -> Iterator[Event]:
        """A ``message_stop``, or the end of a body that has none."""
        for index in list(self._open):
            yield from self._end(index)

    def _begin(self, index: int, block: object) -> Iterator[Event]:
        members = object_of(block)
        if members is None:
            _refuse("one of its content blocks is not an object")
        # Parts are numbered anew: a server that repeats an index means another block.
        self._last = self._open[index] = block_of(self._begun, members)
        self._begun += 1
        yield from self._last.begin()
        if members.get("type") == "fallback":
            # Another model goes on from here: it is the one that answers, as an unstreamed body says.
            yield ResponseStarted(model=text_of((object_of(members.get("to")) or {}).get("model")))

    def _end(self, index: int) -> Iterator[Event]:
        block = self._open.pop(index, None)
        if block is not None:
            yield from block.end()

    def _report(self, usage: object) -> Iterator[Event]:
        """Counts are cumulative: each that is stated replaces the earlier one."""
        stated = {name: value for name, value in (object_of(usage) or {}).items() if value is not None}
        if stated:
            self._usage |= stated
            yield UsageReported(usage=usage_of(self._usage))

    def _finish(self, members: Mapping[str, object]) -> Iterator[Event]:
        raw = text_of(members.get("stop_reason"))
        if raw is None or self._finished:
            return
        self._finished = True
        yield from self.message_ended()
        reason = reason_of(raw)
        if reason is FinishReason.LENGTH and isinstance(self._last, ToolUse):
            # Where the limit met a call, its input may be half of what was meant even if it is sound JSON.
            yield PartReceived(index=self._last.key, part=replace(self._last.part(), truncated=True))
        if reason is FinishReason.CONTENT_FILTER:
            yield from self._refused(object_of(members.get("stop_details")) or {})
        beside = said_beside(members, self._usage)
        if beside is not None:
            yield PartReceived(index=self._begun, part=beside)
        yield Finished(reason=reason, raw=raw)

    def _refused(self, details: Mapping[str, object]) -> Iterator[Event]:
        explanation, category = text_of(details.get("explanation")), text_of(details.get("category"))
        if explanation is None and category is None:
            return
        words = explanation or f"(refused: {category})"
        yield RefusalDelta(index=self._begun, text=words)
        if category is not None:
            yield PartReceived(index=self._begun, part=RefusalPart(text=words, category=category))
        self._begun += 1


def _index(event: Mapping[str, object]) -> int:
    index = count_of(event.get("index"))
    if index is None:
        _refuse("an event about a content block does not say which")
    return index


def _refuse(what: str) -> NoReturn:
    msg = f"the answer is not a message of this protocol: {what}; check base_url and any proxy in between, or ask again"
    raise ProtocolError(msg)
