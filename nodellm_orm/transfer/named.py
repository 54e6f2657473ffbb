"""Files and texts, which chats name by their digests: each is in a file once, with the first chat that names it."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.errors import StorageError
from nodellm_orm.transfer.layout import encoded, line_of
from nodellm_orm.transfer.pages import CONTENTS_AT_ONCE, contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sqlalchemy import Connection

    from nodellm_orm.store.define import Tables
    from nodellm_orm.transfer.layout import Layout, TableLayout

    Ahead = Callable[[], Iterable[tuple[str | None, str, int]]]
    """What chats that follow name: owner, digest and bytes of each."""

PIECE: Final = 3 * (1 << 18)
"""Bytes of a file in one line, 1 MiB in base64."""
_WEIGHT: Final = 1 << 22
"""Bytes of files that are read at once, unless one of them has more."""


class Seen:
    """Contents that the file has already, each remembered by 16 bytes.

    A file or text is shared by many chats of its owner; it is written with the first of them.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._known: set[bytes] = set()

    @staticmethod
    def mark(suffix: str, owner: str | None, digest: str) -> bytes:
        """What stands for a content.

        Args:
            suffix: its table's name without prefix.
            owner: whose.
            digest: its digest.
        """
        name = f"{suffix}\0{digest}\0{'' if owner is None else '=' + owner}"
        return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:16]

    def __contains__(self, mark: bytes) -> bool:
        return mark in self._known

    def update(self, marks: set[bytes]) -> None:
        """Take contents for written.

        Args:
            marks: what stands for them.
        """
        self._known |= marks


class Contents:
    """Reads what chats name, together with what those that follow name.

    Args:
        connection: where.
        tables: the records' tables.
        layout: the columns of a file.
        seen: what the file has already.
    """

    def __init__(self, connection: Connection, tables: Tables, layout: Layout, seen: Seen) -> None:
        """Begin with nothing read."""
        self._connection, self._tables, self._layout, self._seen = connection, tables, layout, seen
        self._read: dict[tuple[str, str | None, str], Mapping[Any, Any] | None] = {}
        """Rows that were read and not written yet; ``None``: it is not stored."""
        self.written: set[bytes] = set()
        """What stands for those that were written."""

    def lines(self, suffix: str, owner: str | None, digest: str, ahead: Ahead) -> Iterator[bytes] | None:
        """The lines of a file or text; none at all when the file has it.

        Args:
            suffix: its table's name without prefix.
            owner: whose.
            digest: its digest.
            ahead: what chats that follow name in the same table.

        Returns:
            ``None`` when it is not stored.
        """
        mark = self._seen.mark(suffix, owner, digest)
        if mark in self._seen or mark in self.written:
            return iter(())
        place = (suffix, owner, digest)
        if place not in self._read:
            self._fetch(suffix, (owner, digest), ahead)
        row = self._read[place]
        if row is None:
            return None
        del self._read[place]
        self.written.add(mark)
        return _lines_of(self._layout[suffix], row, digest)

    def _fetch(self, suffix: str, first: tuple[str | None, str], ahead: Ahead) -> None:
        named, weight = {first: None}, 0
        for owner, digest, size in ahead():
            if len(named) >= CONTENTS_AT_ONCE:
                break
            each, mark = (owner, digest), self._seen.mark(suffix, owner, digest)
            if each in named or (suffix, *each) in self._read or mark in self._seen or mark in self.written:
                continue
            weight += size
            if weight > _WEIGHT:
                break
            named[each] = None
        found = contents(self._connection, self._layout[suffix], self._tables, list(named))
        self._read |= {(suffix, *each): found.get(each) for each in named}


def _lines_of(layout: TableLayout, row: Mapping[Any, Any], digest: str) -> Iterator[bytes]:
    data: bytes = row.get("data", b"")
    actual = digest_of_text(row["text"]) if layout.suffix == "texts" else hashlib.sha256(data).hexdigest()
    if actual != digest or row.get("size", 0) != len(data):
        msg = (
            f"row {digest} of {layout.table.name} is damaged: it is not what its digest says; restore it from a "
            "backup, or delete the chats that have it (verify() names them), and export again"
        )
        raise StorageError(msg, details={"table": layout.table.name, "sha256": digest})
    yield line_of(layout, row)
    for start in range(0, len(data), PIECE):
        yield data_line(data[start : start + PIECE])


def data_line(data: bytes) -> bytes:
    """A piece of a file as a line.

    Args:
        data: its bytes.
    """
    return encoded({"data": base64.b64encode(data).decode("ascii")})
