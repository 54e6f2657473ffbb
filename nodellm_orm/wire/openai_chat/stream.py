"""One streamed response to events: server-sent events whose data is a chunk, ``[DONE]`` last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.events import Finished, PartReceived, ResponseStarted, UsageReported
from nodellm_orm.domain.jsontext import JsonTextError, Pairs, dumps, encode, loads_verbatim
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.errors import ProtocolError, ProviderConnectionError, ProviderError, StreamInterruptedError
from nodellm_orm.wire.framing import SseDecoder
from nodellm_orm.wire.openai_chat.parse import error_in, failure, parse
from nodellm_orm.wire.openai_chat.reader import AnswerReader
from nodellm_orm.wire.openai_chat.values import object_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.wire.framing import ServerEvent

_DONE: Final = "[DONE]"
_CUT: Final = "the stream ended before the answer was complete; what had arrived is kept, ask again for the rest"
_ERROR: Final = "error"
"""Name of an event that is an error; other events have no name."""
_BLANK: Final = b"\xef\xbb\xbf \t\r\n"
_NOT_A_STREAM: Final = (b"{", b"[", b"<")
_MAX_WHOLE: Final = 16 * 1024 * 1024
_COMPLETE: Final = frozenset({FinishReason.STOP, FinishReason.TOOL_CALL})


class ChatStream:
    """Reads one streamed response; any cut of the bytes gives the same events."""

    def __init__(self, profile: ModelProfile) -> None:
        """Begin with nothing received.

        Args:
            profile: says whether a stream without its terminal marker is an interrupted one, and whether thinking may
                stand in the text.
        """
        self._profile = profile
        self._decoder = SseDecoder()
        self._reader = AnswerReader(profile)
        self._sniffed = False
        self._whole: bytearray | None = None
        self._done = False
        self._fault: ProviderError | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; where they hold an error, what comes before it is given first.

        Args:
            data: any piece of the body, also an empty one.

        Raises:
            ProviderError: the stream carried an error; its class is what the error's words stand for.
            ProtocolError: the bytes are not this protocol.
        """
        self._raise_fault()
        if self._done or self._is_whole(data):
            return []
        events: list[Event] = []
        try:
            for server_event in self._decoder.feed(data):
                for event in self._read(server_event):
                    events.append(event)  # noqa: PERF402 — what came before an error in the same bytes is kept
        except ProviderError as fault:
            if not events:
                raise
            self._fault = fault
        return events

    def close(self) -> list[Event]:
        """The body has ended.

        Raises:
            StreamInterruptedError: when the terminal marker has not been seen, or the last event is cut.
            ProviderError: as for `feed`.
        """
        self._raise_fault()
        if self._whole is not None:
            return self._read_whole(bytes(self._whole))
        if self._done:
            return []
        events = [event for server_event in self._decoder.close() for event in self._read(server_event)]
        if self._done:
            return events
        if not self._reader.begun or (self._reader.finish is None and self._profile.requires_finish):
            raise StreamInterruptedError(_CUT)
        return [*events, *self._reader.close()]

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _is_whole(self, data: bytes) -> bool:
        """Whether the body is not a stream at all, but one JSON document or a page; it is then read at its end."""
        if not self._sniffed and (begun := data.lstrip(_BLANK)):
            self._sniffed = True
            self._whole = bytearray() if begun.startswith(_NOT_A_STREAM) else None
        if self._whole is None:
            return False
        self._whole += data
        if len(self._whole) > _MAX_WHOLE:
            msg = f"the answer is no stream and larger than {_MAX_WHOLE} bytes; check base_url and any proxy in between"
            raise ProtocolError(msg)
        return True

    def _read_whole(self, body: bytes) -> list[Event]:
        try:
            completion = parse(body, self._profile)
        except ProviderConnectionError as error:
            raise StreamInterruptedError(_CUT) from error
        return [
            ResponseStarted(model=completion.model, response_id=completion.response_id),
            *(PartReceived(index=index, part=part) for index, part in enumerate(completion.parts)),
            UsageReported(usage=completion.usage),
            Finished(reason=completion.finish_reason, raw=completion.raw_finish_reason),
        ]

    def _read(self, event: ServerEvent) -> Iterator[Event]:
        data = event.data.strip()
        if self._done or not data:
            return
        if data == _DONE:
            yield from self._end()
            return
        if event.cut and _DONE.startswith(data) and self._reader.finish is not None:
            return
        try:
            members = _members(data)
            yield from self._chunk(members, event.name)
        except JsonTextError as error:
            if event.cut:
                raise StreamInterruptedError(_CUT) from error
            if event.name == _ERROR:
                raise failure(None, {}, encode(data)) from error
            msg = f"an event of the stream is not a JSON object ({error}); check any proxy in between, or ask again"
            raise ProtocolError(msg) from error

    def _chunk(self, members: dict[str, object], name: str | None) -> Iterator[Event]:
        error = failure(None, {}, encode(dumps(members))) if name == _ERROR else error_in(members)
        if error is None:
            yield from self._reader.read(members, whole=False)
        elif self._reader.finish in _COMPLETE:
            # The answer is all there: what fails after it costs nothing but, at worst, the usage.
            yield from self._reader.read({"usage": members.get("usage")}, whole=False)
            yield from self._end()
        else:
            yield from self._reader.read(members, whole=False)
            raise error

    def _end(self) -> Iterator[Event]:
        self._done = True
        if not self._reader.begun:
            msg = "the stream ended without an answer in it; ask again, and check base_url when it happens again"
            raise ProtocolError(msg)
        yield from self._reader.close()


def _members(data: str) -> dict[str, object]:
    value = loads_verbatim(data)
    if not isinstance(value, Pairs):
        msg = f"it is {data[:20]!r}"
        raise JsonTextError(msg)
    return object_of(value)
