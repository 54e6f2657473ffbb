"""Export: chat after chat in one view each, as lines that say the same wherever and whenever they are written."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Final
from uuid import UUID

from nodellm_orm.errors import ChatBusyError, ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.runtime.chat_ids import chat_id_of
from nodellm_orm.runtime.moments import moment_of
from nodellm_orm.runtime.refusals import refuse_owner, refuse_word
from nodellm_orm.store.access import open_access
from nodellm_orm.store.define import Records
from nodellm_orm.store.guard import not_found
from nodellm_orm.store.records import RECORDS
from nodellm_orm.transfer.chatlines import ChatLines
from nodellm_orm.transfer.files import Spool, opened_sink
from nodellm_orm.transfer.layout import TABLES, encoded, layout_of, line_of
from nodellm_orm.transfer.lines import END, HEAD, Chain
from nodellm_orm.transfer.named import Seen
from nodellm_orm.transfer.parquet import write_tables
from nodellm_orm.transfer.reports import Counts, ExportReport
from nodellm_orm.transfer.rows import PAGE, Chosen, sizes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from datetime import date, datetime

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Tables
    from nodellm_orm.store.encryption import Encryption
    from nodellm_orm.transfer.chatlines import Batch
    from nodellm_orm.transfer.files import Sink, Writable
    from nodellm_orm.transfer.layout import Layout
    from nodellm_orm.transfer.reports import Progress

VERSION: Final = 1
"""Of what a file says; a reader refuses another one."""
FORMAT: Final = "chats"
_PATIENCE: Final = 5
"""How often a chat that is written in while it is read is read again."""
PER_MESSAGE: Final = 0.01
"""Seconds that a transaction of a chat may take for each of its messages, beside the usual deadline."""


async def export_chats(
    session: AsyncEngine | async_sessionmaker[AsyncSession] | AsyncSession,
    fp: Writable,
    *,
    chats: Iterable[UUID | str] | None = None,
    owner: Owner = ANY_OWNER,
    since: datetime | date | None = None,
    until: datetime | date | None = None,
    format: str = "jsonl",  # noqa: A002 — the public name of the option
    records: Records | None = None,
    encryption: Encryption | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write chats to a file, with everything in them: ``import_chats`` makes the same chats of it, on any database.

    The file holds each row, one a line, with checksums; the same rows give the same bytes, wherever and whenever they
    are exported. Each chat is read in one piece, page by page, also while it is in use; memory does not grow with its
    length. A turn that is running is written as one whose worker has let go of it: where it is imported, ``resume()``
    carries it on. **Encrypted chats are written decrypted.**

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        fp: a file opened in binary mode, or a path: there a file appears once all is written. For ``"parquet"`` the
            path of a folder.
        chats: ids of the chats; all when omitted, with those ledger rows that belong to no chat or to a deleted one.
        owner: whose, ``None``: what is nobody's; everybody's when omitted.
        since: only chats that were last used at this time or later, and ledger rows without a chat that were made then;
            a date is its first moment in UTC.
        until: only those before this time.
        format: ``"jsonl"``; ``"parquet"``: messages and ledger as tables for analysis, which cannot be imported.
        records: own records, from `define_records`; further columns are exported too.
        encryption: the keys of encrypted content.
        progress: told of each chat, and each batch of the ledger.

    Raises:
        ConfigurationError: an argument cannot be meant.
        ChatNotFoundError: one of ``chats`` is not there for this owner.
        ChatBusyError: the database gives no view of one moment, and a chat kept changing.
        EncryptionError: content is encrypted, and its key was not given.
        StorageError: the database or the file failed.

    Example:
        >>> report = await export_chats(engine, "chats.jsonl", owner="ada")  # doctest: +SKIP
        >>> report.chats, report.messages                                    # doctest: +SKIP
        (12, 340)
    """
    chosen = chosen_records(records, encryption)
    refuse_word("format", format, ("jsonl", "parquet"))
    export = Export(
        session=session,
        records=chosen,
        access=open_access(session, chosen),
        tables=chosen.tables,
        layout=layout_of(chosen.tables),
        which=_which(owner, since, until),
        ids=_ids(chats, since, until),
        counts=Counts(progress or (lambda _: None)),
    )
    if format == "parquet":
        return await write_tables(export, fp)
    with opened_sink(fp) as sink:
        return await export.write(sink)


def chosen_records(records: Records | None, encryption: Encryption | None) -> Records:
    """The records that are meant, encrypted where keys were given.

    Args:
        records: as given.
        encryption: as given.

    Raises:
        ConfigurationError: they are no records.
    """
    chosen = RECORDS if records is None else records
    if not isinstance(chosen, Records):
        msg = f"records is what define_records() gave, not {type(chosen).__name__}"
        raise ConfigurationError(msg)
    return chosen if encryption is None else chosen.encrypted(encryption)


def _which(owner: Owner, since: datetime | date | None, until: datetime | date | None) -> Chosen:
    refuse_owner(owner, anybody=ANY_OWNER)
    return Chosen(owner=owner, since=moment_of("since", since, UTC), until=moment_of("until", until, UTC))


def _ids(chats: Iterable[UUID | str] | None, since: object, until: object) -> list[UUID] | None:
    if chats is None:
        return None
    if since is not None or until is not None:
        msg = "chats= names the chats; since= and until= choose among all: give one or the other"
        raise ConfigurationError(msg)
    if isinstance(chats, str | UUID):
        msg = "chats is a list of ids; for one chat write chats=[chat.id]"
        raise ConfigurationError(msg)
    try:
        return sorted({chat_id_of(each) for each in chats})
    except TypeError:
        msg = "chats is a list of ids, each a UUID or its text"
        raise ConfigurationError(msg) from None


class _Exported:
    """Ids of the chats that were exported, in their order, 16 bytes each."""

    def __init__(self) -> None:
        self._ids = bytearray()

    def add(self, chat_id: UUID) -> None:
        """One more, after all others."""
        self._ids += chat_id.bytes

    def __contains__(self, chat_id: UUID) -> bool:
        places = range(len(self._ids) // 16)
        place = bisect_left(places, chat_id.bytes, key=self._id)
        return place < len(places) and self._id(place) == chat_id.bytes

    def _id(self, place: int) -> bytes:
        return bytes(self._ids[16 * place : 16 * place + 16])


def end_of_file(rows: Mapping[str, int], digest: str) -> bytes:
    """The last line.

    Args:
        rows: how many there are of each table.
        digest: SHA-256 of all lines before.
    """
    return encoded({END: {"rows": {suffix: rows.get(suffix, 0) for suffix in TABLES}, "sha256": digest}})


@dataclass(slots=True, kw_only=True)
class Export:
    """One run, which holds no more than a page of rows of each table, and a few files' bytes."""

    session: object
    records: Records
    access: Access
    tables: Tables
    layout: Layout
    which: Chosen
    ids: list[UUID] | None
    counts: Counts
    _chain: Chain = field(default_factory=Chain)
    _seen: Seen = field(default_factory=Seen)
    _exported: _Exported = field(default_factory=_Exported)
    _missing: int = 0

    async def write(self, sink: Sink) -> ExportReport:
        """All lines of a file.

        Args:
            sink: the file.
        """
        columns = {suffix: list(self.layout[suffix].names) for suffix in TABLES}
        sink.put(self._chain.closed(encoded({HEAD: FORMAT, "version": VERSION, "columns": columns})))
        async for group in self.groups():
            await self._write(sink, group)
        if self.ids is None:
            await self._ledger(sink)
        rows = self.counts.rows
        totals = {suffix: rows[suffix] for suffix in TABLES}
        digest = self._chain.digest
        sink.put(self._chain.closed(end_of_file(rows, digest)))
        await asyncio.to_thread(sink.flush)
        return ExportReport(**totals, missing=self._missing, size=sink.size, sha256=digest)

    async def groups(self) -> AsyncIterator[dict[UUID, int]]:
        """The chats that are meant, as many at a time as have a page of messages, or one that has more."""
        group: dict[UUID, int] = {}
        weight = 0
        async for chat_id, size in self._chats():
            if group and (len(group) >= PAGE or weight + size > PAGE):
                yield group
                group, weight = {}, 0
            group[chat_id] = size
            weight += size
        if group:
            yield group

    async def _chats(self) -> AsyncIterator[tuple[UUID, int]]:
        """Ids of the chats that are meant, in their order, with the number of their messages."""
        if self.ids is not None:
            ids = self.ids
            found = await self.access.read(lambda c: sizes(c, self.tables, ids, self.which.owner))
            self.counts.total = len(ids)
            for chat_id in ids:
                if chat_id not in found:
                    not_found(chat_id)
            for chat_id in ids:
                yield chat_id, found[chat_id]
            return
        self.counts.total = await self.access.read(lambda c: self.which.count(c, self.tables))
        after: UUID | None = None
        while True:
            place = after
            page = await self.access.read(lambda c: self.which.page(c, self.tables, place))  # noqa: B023 — awaited before the next round
            for each in page:
                yield each
            if len(page) < PAGE:
                return
            after = page[-1][0]

    async def _write(self, sink: Sink, group: Mapping[UUID, int]) -> None:
        """Chats of these sizes, read in one view of the database."""
        lines = ChatLines(tables=self.tables, layout=self.layout, owner=self.which.owner)
        deadline = self.access.deadline + PER_MESSAGE * sum(group.values())
        access = open_access(self.session, self.records, deadline=deadline)
        ids = list(group)
        with Spool() as spool:

            def read(connection: Connection) -> Batch:
                spool.clear()
                return lines.write(connection, ids, spool.put, self._seen)

            batch = await access.read(read)
            if batch.moved and len(ids) > 1:
                for chat_id, size in group.items():
                    await self._write(sink, {chat_id: size})
                return
            tries = 1
            while batch.moved:
                if tries == _PATIENCE:
                    msg = f"chat {ids[0]} kept changing while it was read; export it again when it rests"
                    raise ChatBusyError(msg)
                batch = await access.read(read)
                tries += 1
            await asyncio.to_thread(self._copy, spool, sink)
        self._seen.update(batch.contents)
        for written in batch.chats:
            self._exported.add(written.id)
            self._missing += written.missing
            self.counts.rows += written.rows
            self.counts.seen += 1
            self.counts.tell("chats")

    def _copy(self, lines: Iterable[bytes], sink: Sink) -> None:
        for body in lines:
            sink.put(self._chain.closed(body))

    async def _ledger(self, sink: Sink) -> None:
        """Requests that belong to no chat, or to none that is still there."""
        layout = self.layout["requests"]
        after: UUID | None = None
        while True:
            place = after
            page = await self.access.read(lambda c: self.which.ledger(c, self.tables, layout.names, place))  # noqa: B023 — awaited before the next round
            rows = [row for row in page if row["chat_id"] is None or row["chat_id"] not in self._exported]
            await asyncio.to_thread(self._copy, [line_of(layout, row) for row in rows], sink)
            self.counts.rows["requests"] += len(rows)
            self.counts.tell("ledger")
            if len(page) < PAGE:
                return
            after = page[-1]["id"]
