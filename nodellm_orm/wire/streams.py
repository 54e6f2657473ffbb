"""What the readers of streamed answers share: what came before an error is never lost, however the bytes were cut."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from nodellm_orm.domain.events import Finished, PartReceived, ResponseStarted, UsageReported
from nodellm_orm.errors import ProtocolError, ProviderConnectionError, ProviderError, StreamInterruptedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion

CUT: Final = "the stream ended before the answer was complete; what had arrived is kept, ask again for the rest"

_BLANK: Final = b"\xef\xbb\xbf \t\r\n"
_DOCUMENT: Final = (b"{", b"[", b"<")
_MAX_DOCUMENT: Final = 16 * 1024 * 1024

T = TypeVar("T")


class Decoder(Protocol[T]):
    """Cuts the bytes of a body into frames, the same ones however the bytes were cut on their way."""

    def feed(self, data: bytes) -> list[T]:
        """The frames that these bytes complete."""
        ...

    def close(self) -> list[T]:
        """The body has ended; what is left may be a frame."""
        ...


class AnswerStream(ABC, Generic[T]):
    """Reads one streamed response; any cut of the bytes gives the same events.

    A format says what a frame means (`_read`), and what is missing at the end of a body without a terminal frame
    (`_ended`). It sets `done` when it has seen that frame; what follows is not read.
    """

    def __init__(self, decoder: Decoder[T], *, document: Callable[[bytes], Completion] | None = None) -> None:
        """Begin with nothing received.

        Args:
            decoder: cuts the bytes into frames.
            document: reads a body that is not a stream at all, but one JSON document or a page; ``None`` where the
                frames themselves look like that.
        """
        self._decoder = decoder
        self._parse = document
        self._body: bytearray | None = None
        self._sniffed = document is None
        self._fault: ProviderError | None = None
        self.done = False
        """Whether the terminal frame has been seen."""

    @abstractmethod
    def _read(self, frame: T) -> Iterator[Event]:
        """The events of one frame."""

    @abstractmethod
    def _ended(self) -> Iterator[Event]:
        """The body has ended and `done` has not been set.

        Raises:
            StreamInterruptedError: when that means that the answer is not complete.
        """

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; where they hold an error, what comes before it is given first.

        Args:
            data: any piece of the body, also an empty one.

        Raises:
            ProviderError: the stream carried an error; its class is what the error's words stand for.
            ProtocolError: the bytes are not this protocol.
        """
        self._raise_fault()
        if self.done or self._is_document(data):
            return []
        events: list[Event] = []
        try:
            for frame in self._decoder.feed(data):
                if self.done:
                    break
                for event in self._read(frame):
                    events.append(event)  # noqa: PERF402 — what came before an error in the same bytes is kept
        except ProviderError as fault:
            if not events:
                raise
            self._fault = fault
        return events

    def close(self) -> list[Event]:
        """The body has ended.

        Raises:
            StreamInterruptedError: when the terminal marker has not been seen, or the last frame is cut.
            ProviderError: as for `feed`.
        """
        self._raise_fault()
        if self._body is not None:
            return self._read_document(bytes(self._body))
        if self.done:
            return []
        events = [event for frame in self._decoder.close() for event in self._read(frame)]
        return events if self.done else [*events, *self._ended()]

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _is_document(self, data: bytes) -> bool:
        """Whether the body is a whole document; it is then read at its end."""
        if not self._sniffed and (begun := data.lstrip(_BLANK)):
            self._sniffed = True
            self._body = bytearray() if begun.startswith(_DOCUMENT) else None
        if self._body is None:
            return False
        self._body += data
        if len(self._body) > _MAX_DOCUMENT:
            msg = f"the answer is no stream and larger than {_MAX_DOCUMENT} bytes; check base_url and any proxy"
            raise ProtocolError(msg)
        return True

    def _read_document(self, body: bytes) -> list[Event]:
        if self._parse is None:
            msg = "a body is collected only where it can be read"
            raise AssertionError(msg)
        try:
            completion = self._parse(body)
        except ProviderConnectionError as error:
            raise StreamInterruptedError(CUT) from error
        return [
            ResponseStarted(model=completion.model, response_id=completion.response_id),
            *(PartReceived(index=index, part=part) for index, part in enumerate(completion.parts)),
            UsageReported(usage=completion.usage),
            Finished(reason=completion.finish_reason, raw=completion.raw_finish_reason),
        ]
