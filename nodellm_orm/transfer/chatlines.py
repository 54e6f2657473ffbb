"""Chats as lines: each its row, everything in it, and what it names by digest; many small ones are read together."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.ports.statuses import RELEASED
from nodellm_orm.transfer.layout import CONTENTS, TABLES, encoded, line_of
from nodellm_orm.transfer.named import Contents, Seen
from nodellm_orm.transfer.pages import Cursor, Pages, chat_rows
from nodellm_orm.transfer.rows import STATE, one_view
from nodellm_orm.upkeep.digests import texts_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import Connection

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Tables
    from nodellm_orm.transfer.layout import Fields, Layout

CHILDREN: Final = TABLES[1 : -len(CONTENTS)]
"""The tables of a chat beside its own row, in the order of a file."""


@dataclass(slots=True, kw_only=True)
class Written:
    """What was written of one chat."""

    id: UUID
    digest: str = ""
    rows: Counter[str] = field(default_factory=Counter)
    missing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What was written of chats that were read together."""

    chats: list[Written]
    contents: set[bytes]
    """What stands for the files and texts that were written with them."""
    moved: bool
    """Somebody wrote in one of the chats while they were read: what was read need not belong together."""


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

    def write(self, connection: Connection, ids: Sequence[UUID], put: Callable[[bytes], None], seen: Seen) -> Batch:
        """Chats with all that they name, and a line that ends each.

        Args:
            connection: where.
            ids: the chats in their order, a page of them at most.
            put: takes each line.
            seen: contents that the file has already.

        Returns:
            What was written of those that are there.
        """
        with one_view(connection) as still:
            chats = self._chats(connection, ids)
            rows = _Rows(self, connection, chats, put)
            contents = Contents(connection, self.tables, self.layout, seen)
            done: list[Written] = []
            for chat_id, chat in chats.items():
                written = rows.write(chat)
                named = (("texts", rows.texts, rows.texts_ahead), ("blobs", rows.blobs, rows.blobs_ahead))
                for suffix, digests, ahead in named:
                    for digest in sorted(digests):
                        lines = contents.lines(suffix, chat["owner"], digest, ahead)
                        written.missing += lines is None
                        for place, line in enumerate(lines or ()):
                            put(line)
                            written.rows[suffix] += place == 0
                put(end_of_chat(chat_id, written.rows, written.digest))
                done.append(written)
            moved = not still and self._moved(connection, chats)
            return Batch(chats=done, contents=contents.written, moved=moved)

    def digests(self, connection: Connection, owners: Mapping[UUID, str | None]) -> tuple[dict[UUID, str], bool]:
        """What a file would say of chats' rows in the line that ends each.

        Args:
            connection: where.
            owners: the chats in their order, a page of them at most, and who the file says they belong to.

        Returns:
            The SHA-256 of each that is there, and whether somebody wrote in one of them meanwhile.
        """
        with one_view(connection) as still:
            chats = self._chats(connection, list(owners))
            rows = _Rows(self, connection, chats, lambda _: None)
            found = {chat_id: rows.write(chat, {"owner": owners[chat_id]}).digest for chat_id, chat in chats.items()}
            return found, not still and self._moved(connection, chats)

    def _chats(self, connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Fields]:
        return chat_rows(connection, self.layout["chats"], self.tables, ids, self.owner)

    def _moved(self, connection: Connection, before: Mapping[UUID, Fields]) -> bool:
        after = self._chats(connection, list(before))
        return any(
            chat_id not in after or any(after[chat_id][name] != chat[name] for name in STATE)
            for chat_id, chat in before.items()
        )


class _Rows:
    """The rows of chats on their way to lines."""

    def __init__(
        self, lines: ChatLines, connection: Connection, chats: Mapping[UUID, Fields], put: Callable[[bytes], None]
    ) -> None:
        self._layout, self._put = lines.layout, put
        self._owners = {chat_id: chat["owner"] for chat_id, chat in chats.items()}
        self._cursors = {
            suffix: Cursor(connection, Pages(lines.layout[suffix], lines.tables, self._owners)) for suffix in CHILDREN
        }
        self._total, self._counts = hashlib.sha256(), Counter[str]()
        self.texts: set[str] = set()
        """Digests that the last chat names."""
        self.blobs: set[str] = set()
        """Likewise."""

    def write(self, chat: Fields, named: Mapping[str, Any] | None = None) -> Written:
        """All of a chat; ``named`` is the owner that the lines are to name in place of theirs."""
        self._total, self._counts, self.texts, self.blobs = hashlib.sha256(), Counter(), set(), set()
        self._row("chats", chat if named is None else {**chat, **named})
        for suffix in CHILDREN:
            for row in self._cursors[suffix].of(chat["id"]):
                if suffix == "turns":
                    self.texts |= texts_named(row["settings"])
                    self._row(suffix, {**row, "reason": RELEASED} if row["status"] == "running" else row)
                else:
                    self._row(suffix, {**row, **named} if suffix == "requests" and named is not None else row)
                if suffix == "attachments" and isinstance(row["sha256"], str):
                    self.blobs.add(row["sha256"])
        return Written(id=chat["id"], digest=self._total.hexdigest(), rows=self._counts)

    def texts_ahead(self) -> Iterator[tuple[str | None, str, int]]:
        """Texts that chats name whose turns were read already: owner, digest, and bytes, which are not known."""
        for row in self._cursors["turns"].ahead:
            for digest in sorted(texts_named(row["settings"])):
                yield self._owners[row["chat_id"]], digest, 0

    def blobs_ahead(self) -> Iterator[tuple[str | None, str, int]]:
        """Files, likewise."""
        for row in self._cursors["attachments"].ahead:
            if isinstance(row["sha256"], str):
                yield self._owners[row["chat_id"]], row["sha256"], row["size"] or 0

    def _row(self, suffix: str, row: Mapping[Any, Any]) -> None:
        line = line_of(self._layout[suffix], row)
        self._total.update(line)
        self._put(line)
        self._counts[suffix] += 1


def end_of_chat(chat_id: UUID, rows: Mapping[str, int], digest: str) -> bytes:
    """The line that ends a chat.

    Args:
        chat_id: the chat.
        rows: how many it has of each table.
        digest: SHA-256 of their lines.
    """
    counts = {suffix: rows.get(suffix, 0) for suffix in CHILDREN}
    return encoded({"end_of_chat": {"id": str(chat_id), "rows": counts, "sha256": digest}})
