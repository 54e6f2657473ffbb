"""One chat as lines: its row, everything in it, and what it names by digest."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.errors import StorageError
from nodellm_orm.ports.statuses import RELEASED
from nodellm_orm.store.sealed import Sealed
from nodellm_orm.transfer.layout import CONTENTS, TABLES, encoded
from nodellm_orm.transfer.rows import STATE, chat_row, content, one_view, rows_of_chat
from nodellm_orm.upkeep.digests import texts_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from uuid import UUID

    from sqlalchemy import Connection

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Tables
    from nodellm_orm.transfer.layout import Layout, TableLayout

PIECE: Final = 3 * (1 << 18)
"""Bytes of a file in one line, 1 MiB in base64."""
CHILDREN: Final = TABLES[1 : -len(CONTENTS)]
"""The tables of a chat beside its own row, in the order of a file."""
_AS_THEY_ARE: Final[Mapping[str, Any]] = MappingProxyType({})


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


@dataclass(slots=True, kw_only=True)
class Written:
    """What was written of one chat."""

    digest: str
    rows: Counter[str]
    contents: set[bytes] = field(default_factory=set)
    missing: int = 0
    moved: bool = False
    """Something was written in the chat while it was read: what was read need not belong together."""

    def note(self, suffix: str, mark: bytes, *, found: bool) -> None:
        """Count a file or text.

        Args:
            suffix: its table's name without prefix.
            mark: what stands for it.
            found: whether it is stored.
        """
        if found:
            self.contents.add(mark)
            self.rows[suffix] += 1
        else:
            self.missing += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLines:
    """Reads chats and makes lines of them.

    Args:
        tables: the records' tables.
        layout: the columns of a file.
        owner: whose chats.
    """

    tables: Tables
    layout: Layout
    owner: Owner

    def write(self, connection: Connection, chat_id: UUID, put: Callable[[bytes], None], seen: Seen) -> Written | None:
        """A chat with all that it names, and a line that ends it.

        Args:
            connection: where.
            chat_id: the chat.
            put: takes each line.
            seen: contents that the file has already.

        Returns:
            What was written; ``None`` when there is no such chat any more.
        """
        with one_view(connection) as still:
            chat = self._chat(connection, chat_id)
            if chat is None:
                return None
            rows = _Rows(self, put)
            rows.write(connection, chat)
            written = Written(digest=rows.total.hexdigest(), rows=rows.counts)
            for suffix, digests in (("texts", rows.texts), ("blobs", rows.blobs)):
                for digest in sorted(digests):
                    mark = seen.mark(suffix, chat["owner"], digest)
                    if mark in seen:
                        continue
                    found = False
                    for line in self._content(connection, self.layout[suffix], chat["owner"], digest):
                        put(line)
                        found = True
                    written.note(suffix, mark, found=found)
            put(end_of_chat(chat_id, written.rows, written.digest))
            written.moved = not still and self._moved(connection, chat)
        return written

    def digest(self, connection: Connection, chat_id: UUID, owner: str | None) -> tuple[str, bool] | None:
        """What a file would say of a chat's rows in its last line.

        Args:
            connection: where.
            chat_id: the chat.
            owner: who the file says it belongs to.

        Returns:
            The SHA-256, and whether somebody wrote in the chat meanwhile; ``None`` when it is not there.
        """
        with one_view(connection) as still:
            chat = self._chat(connection, chat_id)
            if chat is None:
                return None
            rows = _Rows(self, lambda _: None)
            rows.write(connection, chat, {"owner": owner})
            return rows.total.hexdigest(), not still and self._moved(connection, chat)

    def _chat(self, connection: Connection, chat_id: UUID) -> Mapping[str, Any] | None:
        return chat_row(connection, self.layout["chats"], self.tables, chat_id, self.owner)

    def _moved(self, connection: Connection, chat: Mapping[str, Any]) -> bool:
        after = self._chat(connection, chat["id"])
        return after is None or any(after[name] != chat[name] for name in STATE)

    def _content(self, connection: Connection, layout: TableLayout, owner: str | None, digest: str) -> Iterator[bytes]:
        """The lines of a file or text; none when it is not stored."""
        row = content(connection, layout, self.tables, owner, digest)
        if row is None:
            return
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
            yield encoded({"data": base64.b64encode(data[start : start + PIECE]).decode("ascii")})


class _Rows:
    """The rows of one chat on their way to lines."""

    def __init__(self, lines: ChatLines, put: Callable[[bytes], None]) -> None:
        self._tables, self._layout, self._put = lines.tables, lines.layout, put
        self.total = hashlib.sha256()
        self.counts: Counter[str] = Counter()
        self.texts: set[str] = set()
        self.blobs: set[str] = set()

    def write(self, connection: Connection, chat: Mapping[str, Any], named: Mapping[str, Any] = _AS_THEY_ARE) -> None:
        """All of them; ``named`` is the owner that the lines are to name in place of theirs."""
        owner = chat["owner"]
        self._row("chats", {**chat, **named})
        for suffix in CHILDREN:
            for row in rows_of_chat(connection, self._layout[suffix], self._tables, chat["id"], owner):
                if suffix == "turns":
                    self.texts |= texts_named(row["settings"])
                    self._row(suffix, {**row, "reason": RELEASED} if row["status"] == "running" else row)
                else:
                    self._row(suffix, {**row, **named} if suffix == "requests" else row)
                if suffix == "attachments" and isinstance(row["sha256"], str):
                    self.blobs.add(row["sha256"])

    def _row(self, suffix: str, row: Mapping[Any, Any]) -> None:
        line = line_of(self._layout[suffix], row)
        self.total.update(line)
        self._put(line)
        self.counts[suffix] += 1


def line_of(layout: TableLayout, row: Mapping[Any, Any]) -> bytes:
    """A row as a line.

    Args:
        layout: its table.
        row: values by column, decrypted.

    Raises:
        StorageError: a value is not one of its column; who stored it did it past this package.
    """
    try:
        return layout.line(row)
    except (ValueError, TypeError, AttributeError) as error:
        key = next((row[name] for name in ("id", "sha256") if name in row), None)
        sealed = any(isinstance(value, Sealed) for value in row.values())
        told = "is encrypted in a column that is not" if sealed else "has a value that its column cannot hold"
        msg = f"row {key} of {layout.table.name} {told}; verify() tells more; correct it, and export again"
        raise StorageError(msg, details={"table": layout.table.name, "id": str(key)}) from error


def end_of_chat(chat_id: UUID, rows: Mapping[str, int], digest: str) -> bytes:
    """The line that ends a chat.

    Args:
        chat_id: the chat.
        rows: how many it has of each table.
        digest: SHA-256 of their lines.
    """
    counts = {suffix: rows.get(suffix, 0) for suffix in CHILDREN}
    return encoded({"end_of_chat": {"id": str(chat_id), "rows": counts, "sha256": digest}})
