"""One streamed response to events: server-sent events, each of whose data says by its ``type`` what it is.

Names of events repeat that type and are therefore needed only where the data has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, encode, loads_verbatim
from nodellm_orm.errors import ProtocolError, ProviderError, StreamInterruptedError
from nodellm_orm.wire.anthropic.parse import failure, is_error
from nodellm_orm.wire.anthropic.reader import MessageReader
from nodellm_orm.wire.anthropic.values import object_of
from nodellm_orm.wire.framing import SseDecoder

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
_CUT: Final = (
    "the stream ended before message_stop: the answer is not complete; what had arrived is kept, ask again for the rest"
)


class AnthropicStream:
    """Reads one streamed response; any cut of the bytes gives the same events."""

    def __init__(self, profile: ModelProfile) -> None:
        """Begin with nothing received.

        Args:
            profile: says whether a stream without its last event is an interrupted one.
        """
        self._decoder = SseDecoder()
        self._reader = MessageReader()
        self._requires_finish = profile.requires_finish
        self._head = b""
        self._begun = False
        self._stopped = False
        self._fault: ProviderError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; where they hold an error, what comes before it is given first.

        Args:
            data: any piece of the body.

        Raises:
            ProviderError: the stream carried an error event; its class is what the event's type stands for.
            ProtocolError: the bytes are not this protocol.
        """
        self._raise_fault()
        if self._stopped:
            return []
        if len(self._head) < _HEAD_BYTES:
            self._head = (self._head + data).lstrip()[:_HEAD_BYTES]
        events: list[Event] = []
        try:
            for server_event in self._decoder.feed(data):
                events.extend(self._read(server_event))
        except ProviderError as fault:
            if not events:
                raise
            self._fault = fault
        return events

    def close(self) -> list[Event]:
        """The body has ended.

        Raises:
            StreamInterruptedError: when the terminal event has not been seen.
            ProtocolError: when there was no stream of events at all.
        """
        self._raise_fault()
        if self._stopped:
            return []
        events: list[Event] = []
        for server_event in self._decoder.close():
            if server_event.cut:
                raise StreamInterruptedError(_CUT)
            events.extend(self._read(server_event))
        if not self._stopped and (self._requires_finish or not self._begun):
            raise self._unfinished()
        return [*events, *self._reader.message_ended()]

    def _unfinished(self) -> ProviderError:
        head = self._head.removeprefix(_BOM)
        if any(field.startswith(head[: len(field)]) for field in _FIELDS):
            return StreamInterruptedError(_CUT)
        return ProtocolError(_NO_EVENTS)

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _read(self, event: ServerEvent) -> Iterator[Event]:
        """The events of one server event."""
        data = event.data.strip()
        if self._stopped or not data or data == _DONE:
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
                self._stopped = True
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
