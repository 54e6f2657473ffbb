"""Cuts a byte stream of JSON documents, one a line, into its lines, the same ones however the bytes were cut."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Final

from nodellm_orm.errors import ProtocolError

_BOM: Final = b"\xef\xbb\xbf"
_BLANK: Final = b" \t\r"
_NOT_UTF8: Final = (
    "the stream is not UTF-8; ask again, and check base_url and any proxy in between when it happens again"
)


@dataclass(frozen=True, slots=True)
class JsonLine:
    """One line."""

    text: str
    """Without the blanks around it."""
    cut: bool = False
    """The body ended inside it: what is here may be less than was meant."""


class NdjsonDecoder:
    r"""Reads one body of the type ``application/x-ndjson``.

    Lines end with LF or CRLF; blank ones are skipped. Where bytes are wrong, the lines before them are given first and
    the next call raises, so that they are never lost, whatever the cut.

    Example:
        >>> decoder = NdjsonDecoder()
        >>> decoder.feed(b'{"a": 1}\n{"a"')
        [JsonLine(text='{"a": 1}', cut=False)]
        >>> decoder.close()
        [JsonLine(text='{"a"', cut=True)]
    """

    def __init__(self, *, max_line_bytes: int = 16 * 1024 * 1024) -> None:
        """Begin with nothing received.

        Args:
            max_line_bytes: bytes of one line beyond which the stream is refused.
        """
        self._cap = max_line_bytes
        self._line = bytearray()
        self._at_start = True
        self._fault: ProtocolError | None = None

    def feed(self, data: bytes) -> list[JsonLine]:
        """Take the next bytes.

        Args:
            data: any piece of the body, also an empty one.

        Returns:
            The lines that these bytes complete.

        Raises:
            ProtocolError: for bytes that are not UTF-8, and for a line over the limit.
        """
        lines: list[JsonLine] = []
        try:
            self._raise_fault()
            self._split(data, lines)
        except ProtocolError as fault:
            self._fault = fault
            if not lines:
                raise
        return lines

    def close(self) -> list[JsonLine]:
        """The body has ended.

        Returns:
            The line whose end is missing, if there is one.

        Raises:
            ProtocolError: as for `feed`.
        """
        self._raise_fault()
        line = self._taken()
        # Half a character at the very end is part of the cut, not an error of its own.
        text = _decoded(line, final=False)
        return [JsonLine(text, cut=True)] if line else []

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _split(self, data: bytes, lines: list[JsonLine]) -> None:
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._line += piece
            self._check_size()
            line = self._taken()
            if line:
                lines.append(JsonLine(_decoded(line, final=True)))
        self._line += rest
        self._check_size()

    def _taken(self) -> bytes:
        line = bytes(self._line)
        self._line.clear()
        if self._at_start:
            line = line.removeprefix(_BOM)
            self._at_start = False
        return line.strip(_BLANK)

    def _check_size(self) -> None:
        if len(self._line) > self._cap:
            msg = (
                f"one line of the stream is larger than {self._cap} bytes; ask for a shorter answer, and check "
                "base_url and any proxy in between"
            )
            raise ProtocolError(msg)


def _decoded(raw: bytes, *, final: bool) -> str:
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(raw, final)
    except UnicodeDecodeError as error:
        raise ProtocolError(_NOT_UTF8) from error
