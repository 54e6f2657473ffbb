"""One streamed response to events: frames, each of whose headers say which event of the answer its payload is.

The answer is complete with its reason to stop; the token counts come behind it, in the last frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, Pairs, dumps, encode, loads_verbatim
from nodellm_orm.errors import ProtocolError, StreamInterruptedError
from nodellm_orm.wire.bedrock.parse import failure, parse
from nodellm_orm.wire.bedrock.reader import AnswerReader
from nodellm_orm.wire.eventstream import EventFrame, EventStreamDecoder
from nodellm_orm.wire.streams import CUT, AnswerStream
from nodellm_orm.wire.values import object_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.profile import ModelProfile

_EVENTS: Final = frozenset(
    {"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"}
)


class BedrockStream(AnswerStream[EventFrame]):
    """Reads one streamed response; see `AnswerStream`."""

    def __init__(self, profile: ModelProfile) -> None:
        """Begin with nothing received.

        Args:
            profile: says whether a stream without a reason to stop is an interrupted one.
        """
        super().__init__(EventStreamDecoder(), document=parse)
        self._requires_finish = profile.requires_finish
        self._reader = AnswerReader()
        self._begun = False

    def close(self) -> list[Event]:
        """The body has ended; see `AnswerStream.close`.

        Once the model has stopped, nothing that is still missing makes the answer an interrupted one.
        """
        try:
            return super().close()
        except StreamInterruptedError:
            if not self._reader.stopped:
                raise
            return []

    def _ended(self) -> Iterator[Event]:
        if not self._begun or (self._requires_finish and not self._reader.stopped):
            raise StreamInterruptedError(CUT)
        yield from ()

    def _read(self, frame: EventFrame) -> Iterator[Event]:
        match frame.text(":message-type"):
            case "exception":
                yield from self._failed(frame.payload, frame.text(":exception-type"))
            case "error":
                told = {"message": frame.text(":error-message")}
                yield from self._failed(encode(dumps(told)), frame.text(":error-code"))
            case _ if frame.text(":event-type") in _EVENTS:
                yield from self._event(frame.text(":event-type"), _members(frame))
            case _:
                pass

    def _failed(self, payload: bytes, kind: str) -> Iterator[Event]:
        if not self._reader.stopped:
            raise failure(None, {}, payload, kind)
        # The answer is all there: what fails after it costs nothing.
        self.done = True
        yield from ()

    def _event(self, name: str, members: dict[str, object]) -> Iterator[Event]:
        self._begun = True
        match name:
            case "messageStart":
                yield from self._reader.started()
            case "contentBlockStart":
                yield from self._reader.block_started(members)
            case "contentBlockDelta":
                yield from self._reader.block_extended(members)
            case "contentBlockStop":
                yield from self._reader.block_ended(members)
            case "messageStop":
                yield from self._reader.message_stopped(members)
            case _:
                yield from self._reader.metadata(members)
                self.done = self._reader.stopped


def _members(frame: EventFrame) -> dict[str, object]:
    try:
        value = loads_verbatim(frame.payload)
    except JsonTextError as error:
        msg = f"an event of the stream is not JSON ({error}); check any proxy in between, or ask again"
        raise ProtocolError(msg) from error
    if not isinstance(value, Pairs):
        msg = "an event of the stream is not an object; check base_url and any proxy in between"
        raise ProtocolError(msg)
    return object_of(value)
