"""Cuts a byte stream of server-sent events into events, the same ones however the bytes were cut on their way."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Final

from nodellm_orm.errors import ProtocolError

_LINE_END: Final = re.compile(rb"\r\n?|\n")
_BOM: Final = b"\xef\xbb\xbf"
_JSON_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NOT_UTF8: Final = (
    "the stream is not UTF-8; ask again, and check base_url and any proxy in between when it happens again"
)


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event."""

    name: str | None
    """What its ``event:`` line says."""
    data: str
    """Its ``data:`` lines, joined by newlines."""
    cut: bool = False
    """The body ended inside one of its lines: what is here may be less than was meant."""


class SseDecoder:
    r"""Reads one body of the type ``text/event-stream``.

    Lines end with LF, CR or CRLF. Comments, ``id:`` and ``retry:`` are skipped, and so is an event without ``data:``.
    Where bytes are wrong, the events before them are given first and the next call raises, so that they are never
    lost, whatever the cut.

    Example:
        >>> decoder = SseDecoder()
        >>> decoder.feed(b"data: a\ndata: b\n")
        []
        >>> decoder.feed(b"\n")
        [ServerEvent(name=None, data='a\nb', cut=False)]
    """

    def __init__(self, *, max_event_bytes: int = 16 * 1024 * 1024) -> None:
        """Begin with nothing received.

        Args:
            max_event_bytes: bytes of one event, or of one line of any kind, beyond which the stream is refused.
        """
        self._cap = max_event_bytes
        self._line = bytearray()
        self._data = bytearray()
        self._has_data = False
        self._name: str | None = None
        self._after_cr = False
        self._at_start = True
        self._fault: ProtocolError | None = None

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Take the next bytes.

        Args:
            data: any piece of the body, also an empty one.

        Returns:
            The events that these bytes complete.

        Raises:
            ProtocolError: for bytes that are not UTF-8, and for an event or a line over the limit.
        """
        events: list[ServerEvent] = []
        try:
            self._raise_fault()
            self._split(data, events)
        except ProtocolError as fault:
            if not events:
                raise
            self._fault = fault
        return events

    def close(self) -> list[ServerEvent]:
        """The body has ended.

        Returns:
            The event whose closing blank line is missing, if there is one.

        Raises:
            ProtocolError: as for `feed`.
        """
        self._raise_fault()
        cut = bool(self._line) and not self._line.startswith(b":")
        if self._line:
            self._take(bytes(self._line), cut=cut)
            self._line.clear()
        return [self._event(cut=cut)] if self._has_data else []

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _split(self, data: bytes, events: list[ServerEvent]) -> None:
        if not data:
            return
        begin = 1 if self._after_cr and data.startswith(b"\n") else 0
        self._after_cr = data.endswith(b"\r")
        for end in _LINE_END.finditer(data, begin):
            self._line += data[begin : end.start()]
            begin = end.end()
            self._check_size()
            line = bytes(self._line)
            self._line.clear()
            if line:
                self._take(line)
                continue
            self._at_start = False
            if self._has_data:
                events.append(self._event())
            self._name = None
        self._line += data[begin:]
        self._check_size()

    def _check_size(self) -> None:
        if len(self._data) + len(self._line) > self._cap:
            msg = (
                f"one event of the stream is larger than {self._cap} bytes; ask for a shorter answer, and check "
                "base_url and any proxy in between"
            )
            raise ProtocolError(msg)

    def _take(self, line: bytes, *, cut: bool = False) -> None:
        if self._at_start:
            line = line.removeprefix(_BOM)
            self._at_start = False
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            # Half a character at the very end is part of the cut, not an error of its own.
            self._data += _decoded(value, final=False).encode() if cut else value
            self._data += b"\n"
            self._has_data = True
        elif field == b"event":
            self._name = _decoded(value, final=not cut) or None

    def _event(self, *, cut: bool = False) -> ServerEvent:
        data = _decoded(bytes(self._data[:-1]), final=True)
        event = ServerEvent(self._name, data, cut)
        self._data.clear()
        self._has_data = False
        self._name = None
        return event


def _decoded(raw: bytes, *, final: bool) -> str:
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(raw, final)
    except UnicodeDecodeError as error:
        raise ProtocolError(_NOT_UTF8) from error


def is_cut(body: bytes) -> bool:
    """Whether a body is the beginning of a JSON object whose end is missing.

    Args:
        body: what did not parse.
    """
    if not body.lstrip().startswith(b"{"):
        return False
    rest = _JSON_STRING.sub(b"", body)
    return b'"' in rest or sum(map(rest.count, (b"{", b"["))) > sum(map(rest.count, (b"}", b"]")))
