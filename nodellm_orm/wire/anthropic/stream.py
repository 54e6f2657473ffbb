"""One streamed response to events: server-sent events, each of whose data says by its ``type`` what it is.

Names of events repeat that type and are therefore needed only where the data has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, encode, loads_verbatim
from nodellm_orm.errors import ProtocolError, StreamInterruptedError
from nodellm_orm.wire.anthropic.parse import failure, is_error, parse
from nodellm_orm.wire.anthropic.reader import MessageReader
from nodellm_orm.wire.anthropic.values import object_of
from nodellm_orm.wire.framing import SseDecoder
from nodellm_orm.wire.streams import CUT, AnswerStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.wire.framing import ServerEvent

_OURS: Final = frozenset(
    {
        None,
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    }
)
_DONE: Final = "[DONE]"
"""Other protocols' last word, which some gateways add; it says nothing here."""
_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_HEAD_BYTES: Final = 12
_BOM: Final = b"\xef\xbb\xbf"
_NO_EVENTS: Final = "the answer is not a stream of server-sent events; check base_url and any proxy in between"


class AnthropicStream(AnswerStream["ServerEvent"]):
    """Reads one streamed response; see `AnswerStream`."""

    def __init__(self, profile: ModelProfile) -> None:
        """Begin with nothing received.

        Args:
            profile: says whether a stream without its last event is an interrupted one.
        """
        super().__init__(SseDecoder(), document=parse)
        self._reader = MessageReader()
        self._requires_finish = profile.requires_finish
        self._head = b""
        self._begun = False

    def feed(self, data: bytes) -> list[Event]:
        """See `AnswerStream.feed`."""
        if len(self._head) < _HEAD_BYTES:
            self._head = (self._head + data).lstrip()[:_HEAD_BYTES]
        return super().feed(data)

    def _ended(self) -> Iterator[Event]:
        if self._requires_finish or not self._begun:
            head = self._head.removeprefix(_BOM)
            if any(field.startswith(head[: len(field)]) for field in _FIELDS):
                raise StreamInterruptedError(CUT)
            raise ProtocolError(_NO_EVENTS)
        yield from self._reader.message_ended()

    def _read(self, event: ServerEvent) -> Iterator[Event]:
        """The events of one server event."""
        data = event.data.strip()
        if event.cut:
            raise StreamInterruptedError(CUT)
        if not data or data == _DONE:
            return
        try:
            yield from self._events(event.name, data)
        except JsonTextError as error:
            if event.name in _OURS:
                msg = f"an event of the stream is not JSON ({error}); check any proxy in between, or ask again"
                raise ProtocolError(msg) from error

    def _events(self, name: str | None, data: str) -> Iterator[Event]:
        members = object_of(loads_verbatim(data))
        if members is None:
            if name in _OURS:
                msg = "an event of the stream is not an object; check base_url and any proxy in between"
                raise ProtocolError(msg)
            return
        if is_error(members) or name == "error":
            raise failure(None, {}, encode(data))
        match members.get("type", name):
            case "message_start":
                yield from self._start(members)
            case "content_block_start":
                yield from self._reader.block_started(members)
            case "content_block_delta":
                yield from self._reader.block_extended(members)
            case "content_block_stop":
                yield from self._reader.block_ended(members)
            case "message_delta":
                yield from self._reader.message_extended(members)
            case "message_stop":
                self.done = True
                yield from self._reader.message_ended()
            case _:
                pass

    def _start(self, members: dict[str, object]) -> Iterator[Event]:
        message = object_of(members.get("message"))
        if message is None:
            msg = "the stream's first event has no message; check base_url and any proxy in between"
            raise ProtocolError(msg)
        self._begun = True
        yield from self._reader.message(message)
