"""Cuts a byte stream of the type ``application/vnd.amazon.eventstream`` into frames, the same ones however it was cut.

A frame is its length, the length of its headers and a checksum of the two; the headers; the payload; a checksum of all
of it. Numbers are big-endian.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from nodellm_orm.errors import ProtocolError, StreamInterruptedError
from nodellm_orm.wire.streams import CUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HeaderValue: TypeAlias = bool | int | bytes | str
"""What a header may hold; a point in time is its milliseconds since 1970, a UUID its 16 bytes."""

_PRELUDE: Final = struct.Struct(">III")
_CHECKSUM: Final = struct.Struct(">I")
_LENGTH: Final = struct.Struct(">H")
_OVERHEAD: Final = _PRELUDE.size + _CHECKSUM.size
_MAX_HEADERS: Final = 128 * 1024
_MAX_PAYLOAD: Final = 24 * 1024 * 1024
_TRUE: Final = 0
_FALSE: Final = 1
_NUMBERS: Final = {kind: struct.Struct(f">{code}") for kind, code in ((2, "b"), (3, "h"), (4, "i"), (5, "q"), (8, "q"))}
_BYTES: Final = 6
_TEXT: Final = 7
_UUID: Final = 9
_UUID_SIZE: Final = 16
_ADVICE: Final = "ask again, and check base_url and any proxy in between when it happens again"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFrame:
    """One frame."""

    headers: Mapping[str, HeaderValue]
    """By name, as received; those of the protocol itself begin with a colon."""
    payload: bytes

    def text(self, name: str) -> str:
        """A header that is a text; empty where it is missing or something else.

        Args:
            name: of the header.
        """
        value = self.headers.get(name)
        return value if isinstance(value, str) else ""


class EventStreamDecoder:
    r"""Reads one body.

    Where bytes are wrong, the frames before them are given first and the next call raises, so that they are never
    lost, whatever the cut.

    Example:
        >>> decoder = EventStreamDecoder()
        >>> decoder.feed(bytes.fromhex("00000010 00000000 05c248eb"))
        []
        >>> decoder.feed(bytes.fromhex("7d98c8ff"))
        [EventFrame(headers=mappingproxy({}), payload=b'')]
    """

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._bytes = bytearray()
        self._fault: ProtocolError | None = None

    def feed(self, data: bytes) -> list[EventFrame]:
        """Take the next bytes.

        Args:
            data: any piece of the body, also an empty one.

        Returns:
            The frames that these bytes complete.

        Raises:
            ProtocolError: for a checksum that does not fit, and for what is no frame at all.
        """
        self._raise_fault()
        self._bytes += data
        frames: list[EventFrame] = []
        try:
            for frame in self._complete():
                frames.append(frame)  # noqa: PERF402 — those before a wrong one are kept
        except ProtocolError as fault:
            if not frames:
                raise
            self._fault = fault
        return frames

    def close(self) -> list[EventFrame]:
        """The body has ended.

        Returns:
            Nothing: every frame says itself where it ends.

        Raises:
            StreamInterruptedError: it ended inside a frame.
            ProtocolError: as for `feed`.
        """
        self._raise_fault()
        if self._bytes:
            raise StreamInterruptedError(CUT)
        return []

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _complete(self) -> Iterator[EventFrame]:
        at = 0
        try:
            while (size := self._size(at)) is not None and at + size <= len(self._bytes):
                frame = bytes(self._bytes[at : at + size])
                at += size
                yield _frame(frame)
        finally:
            del self._bytes[:at]

    def _size(self, at: int) -> int | None:
        """The size of the frame that begins here, once that is known."""
        if len(self._bytes) - at < _PRELUDE.size:
            return None
        total, headers, checksum = _PRELUDE.unpack_from(self._bytes, at)
        sums = zlib.crc32(self._bytes[at : at + _PRELUDE.size - _CHECKSUM.size])
        if checksum != sums or headers > min(_MAX_HEADERS, total - _OVERHEAD):
            msg = f"the answer is not a stream of events of this protocol; {_ADVICE}"
            raise ProtocolError(msg)
        if total - headers - _OVERHEAD > _MAX_PAYLOAD:
            msg = f"one event of the stream is larger than {_MAX_PAYLOAD} bytes; ask for a shorter answer"
            raise ProtocolError(msg)
        return int(total)


def _frame(data: bytes) -> EventFrame:
    body, (checksum,) = data[: -_CHECKSUM.size], _CHECKSUM.unpack(data[-_CHECKSUM.size :])
    if zlib.crc32(body) != checksum:
        msg = f"an event of the stream was damaged on its way: its checksum does not fit; {_ADVICE}"
        raise ProtocolError(msg)
    end = _PRELUDE.size + _PRELUDE.unpack_from(data)[1]
    try:
        headers = dict(_headers(body[_PRELUDE.size : end]))
    except (struct.error, IndexError, KeyError, UnicodeDecodeError) as error:
        msg = f"the headers of an event of the stream cannot be read; {_ADVICE}"
        raise ProtocolError(msg) from error
    return EventFrame(headers=MappingProxyType(headers), payload=body[end:])


def _headers(data: bytes) -> Iterator[tuple[str, HeaderValue]]:
    at = 0
    while at < len(data):
        name, at = _taken(data, at + 1, data[at])
        kind = data[at]
        value, at = _value(data, at + 1, kind)
        yield name.decode(), value


def _value(data: bytes, at: int, kind: int) -> tuple[HeaderValue, int]:
    if kind in {_TRUE, _FALSE}:
        return kind == _TRUE, at
    if kind == _UUID:
        return _taken(data, at, _UUID_SIZE)
    if kind in {_BYTES, _TEXT}:
        (size,) = _LENGTH.unpack_from(data, at)
        raw, at = _taken(data, at + _LENGTH.size, size)
        return (raw.decode() if kind == _TEXT else raw), at
    (number,) = _NUMBERS[kind].unpack_from(data, at)
    return int(number), at + _NUMBERS[kind].size


def _taken(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    taken = data[at : at + size]
    if len(taken) < size:
        msg = "a header is longer than all of them"
        raise IndexError(msg)
    return taken, at + size
