"""The lines of a file: one JSON object each, and at its end a sum over everything up to there.

The sum is the beginning of a running SHA-256. A line that was changed, cut, moved, doubled or left out is therefore
noticed at that very line, before anything of it is used.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nodellm_orm.domain.jsontext import JsonTextError, loads
from nodellm_orm.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.transfer.files import Source

HEAD: Final = "nodellm_orm"
"""The first name in a file."""
END: Final = "end"
"""The first name in its last line."""
LINE: Final = 1 << 30
"""Bytes of a line at most: as much as any database takes of one value."""
_FIRST: Final = 1 << 20
"""Bytes of the first line at most, which names columns."""
_SUM: Final = 16
"""Hexadecimal digits of a line's sum."""
_END: Final = re.compile(rb',"sum":"([0-9a-f]{%d})"\}\Z' % _SUM)
_END_LENGTH: Final = len(b',"sum":""}') + _SUM


class Chain:
    """The running sum of a file's lines."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._hash = hashlib.sha256()
        self.digest = self._hash.hexdigest()
        """SHA-256 of the lines' objects so far, in hexadecimal."""
        self.before = self.digest
        """The same without the last line."""

    def closed(self, body: bytes) -> bytes:
        """A line with its sum and its end.

        Args:
            body: the line's object.
        """
        return b'%s,"sum":"%s"}\n' % (body[:-1], self._add(body))

    def opened(self, line: bytes) -> bytes | None:
        """The object of a line, ``None`` when its sum is not the one that it has to have.

        Args:
            line: without its end.
        """
        match = _END.search(line, max(len(line) - _END_LENGTH, 0))
        if match is None:
            return None
        body = line[: match.start()] + b"}"
        return body if match[1] == self._add(body) else None

    def _add(self, body: bytes) -> bytes:
        """One more line; gives its sum."""
        self._hash.update(body)
        self.before, self.digest = self.digest, self._hash.hexdigest()
        return self.digest[:_SUM].encode("ascii")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file whose sum is right.

    Args:
        number: from 1.
        members: its object.
        body: the object's bytes.
        before: SHA-256 of all lines before it.
    """

    number: int
    members: dict[str, Any]
    body: bytes
    before: str = ""

    @property
    def kind(self) -> str:
        """The first name in its object."""
        return next(iter(self.members))

    @property
    def value(self) -> Any:
        """What stands behind that name."""
        return self.members[self.kind]

    def refuse(self, reason: object) -> NoReturn:
        """Say what is wrong with it.

        Args:
            reason: in words, without content.

        Raises:
            StorageError: always.
        """
        refuse(self.number, reason)


def refuse(number: int, reason: object) -> NoReturn:
    """Say what is wrong with a line.

    Args:
        number: of the line, from 1.
        reason: in words, without content.

    Raises:
        StorageError: always.
    """
    msg = f"line {number} of the file cannot be imported: {reason}"
    raise StorageError(msg, details={"line": number, "reason": str(reason)})


_DAMAGED: Final = (
    "its sum is not right: the line was changed, cut, moved or repeated, or one before it is missing; "
    "take another copy of the file, or export again"
)
_CONVERTED: Final = (
    "its line ends were changed to CRLF, and with them the sums; copy files as they are, in binary mode, "
    "or export again"
)
_BEGINNING: Final = b'{"nodellm_orm"'
_OTHERS: Final = {
    b"\x1f\x8b": "it is compressed, open it with gzip.open(path, 'rb')",
    b"BZh": "it is compressed, open it with bz2.open(path, 'rb')",
    b"\xfd7zXZ": "it is compressed, open it with lzma.open(path, 'rb')",
    b"\x28\xb5\x2f\xfd": "it is compressed by zstd, decompress it first",
    b"PK\x03\x04": "it is a zip archive, extract the file first",
    b"PAR1": "it is a Parquet file: such tables are for analysis, and cannot be imported",
    b"\xef\xbb\xbf": "an editor has put a byte order mark before it; copy files as they are",
    b"\xff\xfe": "it was converted to UTF-16; copy files as they are",
    b"\xfe\xff": "it was converted to UTF-16; copy files as they are",
}
"""What other files begin with."""
_CUT: Final = "the file ends before its last line; take another copy of it, or export again"


def read_lines(source: Source) -> Iterator[Line]:
    """The lines of a file, each checked.

    Args:
        source: the file.

    Raises:
        StorageError: a line is damaged, or the file ends where another line has to come.
    """
    chain, number, ended = Chain(), 0, False
    for number, raw in enumerate(source.lines(LINE, _FIRST), start=1):
        if number == 1 and not raw.startswith(_BEGINNING):
            refuse(number, _no_file(raw))
        if not raw.endswith(b"\n"):
            longest = LINE if number > 1 else _FIRST
            refuse(number, _CUT if len(raw) < longest else f"it is longer than {longest} bytes")
        body = chain.opened(raw[:-1])
        if body is None:
            refuse(number, _CONVERTED if raw.endswith(b"\r\n") else _DAMAGED)
        line = parsed(number, body, chain.before)
        ended = line.kind == END
        yield line
    if not ended:
        refuse(number + 1, _CUT if number else "the file is empty")


def parsed(number: int, body: bytes, before: str = "") -> Line:
    """A line from its object.

    Args:
        number: of the line, from 1.
        body: the object's bytes.
        before: SHA-256 of all lines before it.

    Raises:
        StorageError: it is no JSON object with one name in it.
    """
    try:
        value = loads(body)
    except JsonTextError:
        refuse(number, "it is not one JSON object")
    if not isinstance(value, dict) or not value or (len(value) > 1 and HEAD not in value):
        refuse(number, "it is not one JSON object with one name in it")
    return Line(number, value, body, before)


def _no_file(raw: bytes) -> str:
    told = next((f"; {told}" for mark, told in _OTHERS.items() if raw.startswith(mark)), "")
    return f"it is not the first line of what export_chats() writes{told}"
