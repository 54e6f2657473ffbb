"""One chat, or a batch of the ledger, as it comes out of a file: checked row by row before anything is written."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.transfer.chatlines import end_of_chat
from nodellm_orm.transfer.layout import CONTENTS, KEYS, TABLES
from nodellm_orm.transfer.lines import parsed
from nodellm_orm.transfer.named import PIECE, data_line
from nodellm_orm.transfer.values import BadValueError, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from nodellm_orm.transfer.files import Spool
    from nodellm_orm.transfer.layout import Fields, Layout, TableLayout
    from nodellm_orm.transfer.lines import Line


@dataclass(slots=True, kw_only=True)
class Segment:
    """The lines of one chat, checked.

    Args:
        spool: where they are.
        first: number of the first line.
    """

    spool: Spool
    first: int
    id: UUID
    owner: str | None
    digest: str = ""
    rows: Counter[str] = field(default_factory=Counter)
    last: int = 0


class SegmentReader:
    """Takes the lines of one chat, from its row to its end.

    Args:
        layout: the file's columns.
        spool: where to put them.
        line: the chat's own row.
    """

    def __init__(self, layout: Layout, spool: Spool, line: Line) -> None:
        """Begin with the chat's row."""
        self._layout, self._spool = layout, spool
        self._hash = hashlib.sha256()
        self._place = -1
        self._key: Any = None
        self._blob: _Blob | None = None
        row = self._row(line)
        self._next: int = row.get("next_position", 0)
        self.segment = Segment(spool=spool, first=line.number, id=row["id"], owner=row["owner"])
        self._hash.update(line.body)
        spool.put(line.body)

    def take(self, line: Line) -> bool:
        """Take the next line; says whether it was the last.

        Args:
            line: the line.

        Raises:
            StorageError: it has no place here, or is not what it has to be.
        """
        if self._blob is not None:
            self._data(line, self._blob)
            return False
        if line.kind == "end_of_chat":
            self._end(line)
            return True
        if line.kind not in TABLES[1:]:
            line.refuse(f"{line.kind[:40]!r} has no place in a chat; the package that wrote it may be newer")
        row = self._row(line)
        if line.kind in CONTENTS:
            self._content(line, row)
        elif row["chat_id"] == self.segment.id:
            self._hash.update(line.body)
        else:
            line.refuse("its row belongs to another chat")
        self.segment.rows[line.kind] += 1
        self._spool.put(line.body)
        return False

    def _row(self, line: Line) -> Fields:
        """The row of a line, in the order in which rows come."""
        row = checked_row(self._layout, line)
        place, key = TABLES.index(line.kind), row[KEYS[line.kind]]
        if place < self._place or (place == self._place and not key > self._key):
            line.refuse("its row is not in the order in which this package writes them")
        if line.kind == "messages" and key != (following := 0 if place > self._place else self._key + 1):
            line.refuse(
                f"its position is {key}, and {following} comes next: the chat is damaged, or was when it was exported; "
                "verify() tells more there"
            )
        self._place, self._key = place, key
        return row

    def _content(self, line: Line, row: Fields) -> None:
        if row["owner"] != self.segment.owner:
            line.refuse("it belongs to another owner than the chat")
        if line.kind == "texts":
            if digest_of_text(row["text"]) != row["sha256"]:
                line.refuse("the text is not what its digest says")
        elif row["size"] < 0:
            line.refuse("size of blobs is negative")
        elif row["size"] or row["sha256"] != hashlib.sha256().hexdigest():
            self._blob = _Blob(row["sha256"], row["size"])

    def _data(self, line: Line, blob: _Blob) -> None:
        if line.kind != "data":
            line.refuse("the bytes of a file have to come here")
        try:
            data = read_bytes(line.value)
            if line.body != data_line(data) or len(data) != min(PIECE, blob.missing):
                line.refuse("data is not as long as it has to be, or not written the way this package writes it")
            finished = blob.take(data)
        except BadValueError as error:
            line.refuse(f"data {error}")
        self._spool.put(line.body)
        if finished:
            self._blob = None

    def _end(self, line: Line) -> None:
        digest = self._hash.hexdigest()
        if line.body != end_of_chat(self.segment.id, self.segment.rows, digest):
            line.refuse("the chat above is not what this line says of it; take another copy of the file")
        messages = self.segment.rows["messages"]
        if self._next != messages:
            line.refuse(f"the chat above has {messages} messages, and says that {self._next} is the next position")
        self.segment.digest, self.segment.last = digest, line.number


@dataclass(slots=True)
class _Blob:
    """Bytes of a file that are coming."""

    sha256: str
    missing: int
    _hash: Any = field(default_factory=hashlib.sha256)

    def take(self, data: bytes) -> bool:
        """Some of them; says whether these were the last.

        Raises:
            BadValueError: they are not those that the digest names.
        """
        self._hash.update(data)
        self.missing -= len(data)
        if self.missing:
            return False
        if self._hash.hexdigest() != self.sha256:
            msg = "is not what the file's digest says"
            raise BadValueError(msg)
        return True


def checked_row(layout: Layout, line: Line) -> Fields:
    """The row of a line, which is written as this package writes it.

    Args:
        layout: the file's columns.
        line: the line.

    Raises:
        StorageError: it is not.
    """
    table = layout[line.kind]
    try:
        row = table.row(line.value)
        same = table.line(row) == line.body
    except (BadValueError, ValueError, TypeError) as error:
        line.refuse(error if isinstance(error, BadValueError) else f"its row cannot be read ({type(error).__name__})")
    if not same:
        line.refuse("its row is not written the way this package writes it, and would come out of an export otherwise")
    return row


def stored_rows(layout: Layout, bodies: Spool) -> Iterator[tuple[TableLayout, Fields]]:
    """The rows of a segment again, files with their bytes.

    Args:
        layout: the file's columns.
        bodies: the segment's lines, which were checked.
    """
    blob: Fields | None = None
    pieces: list[bytes] = []
    missing = 0
    for number, body in enumerate(bodies, start=1):
        line = parsed(number, body)
        if line.kind == "data" and blob is not None:
            pieces.append(read_bytes(line.value))
            missing -= len(pieces[-1])
        else:
            table = layout[line.kind]
            row = table.row(line.value)
            if line.kind != "blobs":
                yield table, row
                continue
            blob, pieces, missing = row, [], row["size"]
        if not missing:
            yield layout["blobs"], {**blob, "data": b"".join(pieces)}
            blob = None
