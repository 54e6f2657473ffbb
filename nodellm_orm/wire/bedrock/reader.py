"""Reads one answer of the model, whole or in pieces, into the events of the domain."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from nodellm_orm.domain.events import Finished, PartReceived, ResponseStarted, UsageReported
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.errors import ProtocolError
from nodellm_orm.wire.bedrock.incoming import ToolUse, block_of, opening_of
from nodellm_orm.wire.bedrock.usage import reason_of, usage_of
from nodellm_orm.wire.values import count_of, list_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.wire.bedrock.incoming import Block


class AnswerReader:
    """Gives the events of one answer; a body is read as a stream whose blocks all come whole."""

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._open: dict[int, Block] = {}
        self._begun = 0
        self._last: Block | None = None
        self.stopped = False
        """Whether the model has said why it stopped: the answer is complete, only its token counts may follow."""

    def whole(self, members: Mapping[str, object]) -> Iterator[Event]:
        """An answer as a body has it.

        Args:
            members: of the body.
        """
        message = object_of(object_of(members.get("output")).get("message"))
        yield from self.started()
        for index, block in enumerate(list_of(message.get("content"))):
            yield from self._begin(index, _members(block))
            yield from self._end(index)
        yield from self.metadata(members)
        yield from self.message_stopped(members)

    def started(self) -> Iterator[Event]:
        """A ``messageStart``; the API names neither the model nor the answer."""
        yield ResponseStarted()

    def block_started(self, event: Mapping[str, object]) -> Iterator[Event]:
        """A ``contentBlockStart``, which only some kinds of blocks have.

        Args:
            event: members of the event.
        """
        index = _index(event)
        yield from self._end(index)
        yield from self._begin(index, _members(event.get("start")))

    def block_extended(self, event: Mapping[str, object]) -> Iterator[Event]:
        """A ``contentBlockDelta``; the first one of a text or a thought begins its block.

        Args:
            event: members of the event.
        """
        index, delta = _index(event), _members(event.get("delta"))
        if index not in self._open:
            yield from self._begin(index, opening_of(delta))
        yield from self._open[index].extend(delta)

    def block_ended(self, event: Mapping[str, object]) -> Iterator[Event]:
        """A ``contentBlockStop``.

        Args:
            event: members of the event.
        """
        yield from self._end(_index(event))

    def message_stopped(self, members: Mapping[str, object]) -> Iterator[Event]:
        """A ``messageStop``, or a body that says why the model stopped.

        Args:
            members: of the event or of the body.
        """
        raw = text_of(members.get("stopReason"))
        if self.stopped:
            return
        self.stopped = True
        for index in list(self._open):
            yield from self._end(index)
        reason = reason_of(raw)
        if reason is FinishReason.LENGTH and isinstance(self._last, ToolUse):
            # Where the limit met a call, its input may be half of what was meant even if it is sound JSON.
            yield PartReceived(index=self._last.key, part=replace(self._last.part(), truncated=True))
        yield Finished(reason=reason, raw=raw or None)

    def metadata(self, members: Mapping[str, object]) -> Iterator[Event]:
        """A ``metadata`` event, or a body: token counts.

        Args:
            members: of the event or of the body.
        """
        if stated := object_of(members.get("usage")):
            yield UsageReported(usage=usage_of(stated))

    def _begin(self, index: int, members: Mapping[str, object]) -> Iterator[Event]:
        # Parts are numbered anew: a server that repeats an index means another block.
        self._last = self._open[index] = block_of(self._begun, members)
        self._begun += 1
        yield from self._last.begin()

    def _end(self, index: int) -> Iterator[Event]:
        block = self._open.pop(index, None)
        if block is not None:
            yield from block.end()


def _members(value: object) -> dict[str, object]:
    members = object_of(value)
    if not members:
        _refuse("one of its content blocks is not an object")
    return members


def _index(event: Mapping[str, object]) -> int:
    index = count_of(event.get("contentBlockIndex"))
    if index is None:
        _refuse("an event about a content block does not say which")
    return index


def _refuse(what: str) -> NoReturn:
    msg = f"the answer is not one of this protocol: {what}; check base_url and any proxy in between, or ask again"
    raise ProtocolError(msg)
