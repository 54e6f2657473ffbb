"""Unpacks ``content-encoding`` a little at a time: bounded memory, and a body that ends early is noticed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 1 << 16
"""Bytes unpacked at once: what bounds the memory a bomb can take."""


class Decoder(Protocol):
    """Turns the bytes on the wire into the bytes of the body."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Unpack the next bytes, a bounded piece at a time.

        Raises:
            zlib.error: when they are damaged.
        """
        ...

    def finish(self) -> None:
        """The body has ended.

        Raises:
            zlib.error: when it should not have, yet.
        """
        ...


def decoder_for(encoding: str) -> Decoder | None:
    """The decoder for the value of ``content-encoding``; ``None`` for one that was never offered.

    Args:
        encoding: the header's value, empty when there is none.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return Plain()
        case "gzip" | "x-gzip":
            return Inflater("gzip")
        case "deflate":
            return Inflater("deflate")
        case _:
            return None


class Plain:
    """A body that is not packed."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bytes as they are."""
        yield data

    def finish(self) -> None:
        """Any end is a good end; the framing of HTTP has its own."""


class Inflater:
    """A body packed with gzip (of any number of members) or deflate (with or without zlib's frame).

    Args:
        packing: which of the two.
    """

    def __init__(self, packing: Literal["gzip", "deflate"]) -> None:
        """Begin at the first byte."""
        self._packing = packing
        self._unpack: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Unpack; see `Decoder`."""
        more = bool(data)
        while more:
            if self._unpack is None or (data and self._unpack.eof):
                self._unpack = self._begin(data)
            piece = self._unpack.decompress(data, _PIECE)
            if piece:
                yield piece
            data = self._unpack.unconsumed_tail or self._unpack.unused_data
            # A full piece may leave more behind inside zlib, with all of the input already taken.
            more = bool(data) or len(piece) == _PIECE

    def finish(self) -> None:
        """Check that the last member is whole, its checksum included."""
        if self._unpack is not None and not self._unpack.eof:
            msg = "the packed body ends early"
            raise zlib.error(msg)

    def _begin(self, data: bytes) -> zlib._Decompress:
        if self._packing == "gzip":
            return zlib.decompressobj(zlib.MAX_WBITS | 16)  # Bytes that are no further member fail its header check.
        if self._unpack is not None:
            msg = "the packed body is followed by other bytes"
            raise zlib.error(msg)
        framed = data[0] & 0x0F == zlib.DEFLATED
        return zlib.decompressobj(zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)
