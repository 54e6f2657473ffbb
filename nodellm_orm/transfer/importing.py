"""Import: whole chats, several a transaction, once all their lines are known to be sound."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from nodellm_orm.errors import ChatError, NodeLLMError, SchemaVersionError, StorageError
from nodellm_orm.runtime.refusals import refuse_owner, refuse_word
from nodellm_orm.store.access import open_access
from nodellm_orm.transfer.exporting import FORMAT, VERSION, chosen_records, end_of_file
from nodellm_orm.transfer.files import Spool, opened_source
from nodellm_orm.transfer.inserting import AS_IN_FILE, BATCH, AsInFile, LedgerInsertion, Target
from nodellm_orm.transfer.layout import TABLES, encoded, layout_for
from nodellm_orm.transfer.lines import END, HEAD, read_lines
from nodellm_orm.transfer.placing import Placing
from nodellm_orm.transfer.reports import Counts, ImportReport
from nodellm_orm.transfer.segments import SegmentReader, checked_row
from nodellm_orm.transfer.values import BadValueError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Records, Tables
    from nodellm_orm.store.encryption import Encryption
    from nodellm_orm.transfer.files import Readable
    from nodellm_orm.transfer.layout import Fields, Layout
    from nodellm_orm.transfer.lines import Line
    from nodellm_orm.transfer.reports import Progress
    from nodellm_orm.transfer.segments import Segment

OnConflict: TypeAlias = Literal["error", "skip"]
ROWS: Final = 1000
"""Rows beyond which no further chat is written in the same transaction."""
SIZE: Final = 1 << 22
"""Bytes of lines, likewise."""


async def import_chats(
    session: AsyncEngine | async_sessionmaker[AsyncSession] | AsyncSession,
    fp: Readable,
    *,
    owner: str | AsInFile | None = AS_IN_FILE,
    on_conflict: OnConflict = "error",
    records: Records | None = None,
    encryption: Encryption | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Read chats from a file that ``export_chats`` has written, and carry on where they were.

    A chat is written whole or not at all, once all its lines have been checked; small ones share a transaction. A line
    that is damaged, or that this version does not understand, ends the import with its number and the reason; the chats
    before it stay. A chat that is there already with the same in it is left alone, so that an import that was broken
    off is simply run again.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        fp: a file opened in binary mode (a pipe will do), or a path.
        owner: whose the chats become, ``None``: nobody's; those that the file names when omitted.
        on_conflict: what to do about a chat that is there with something else in it, and a ledger row likewise:
            ``"error"``, or ``"skip"``: leave it as it is and go on.
        records: own records, from `define_records`.
        encryption: the keys to encrypt content with.
        progress: told of each chat, and each batch of the ledger.

    Raises:
        ConfigurationError: an argument cannot be meant.
        ChatError: a chat, or a row of the ledger, is there with something else in it.
        SchemaVersionError: the file was written by a newer version; or the tables are missing.
        StorageError: a line is not what it has to be (``details["line"]``, ``details["reason"]``), or the database
            failed.

    Example:
        >>> report = await import_chats(engine, "chats.jsonl")  # doctest: +SKIP
        >>> report.chats, report.unchanged                      # doctest: +SKIP
        (12, 0)
    """
    chosen = chosen_records(records, encryption)
    refuse_word("on_conflict", on_conflict, ("error", "skip"))
    if not isinstance(owner, AsInFile):
        refuse_owner(owner)
    access = open_access(session, chosen)
    with opened_source(fp) as source:
        lines = read_lines(source)
        layout = await asyncio.to_thread(_layout, lines, chosen.tables)
        await access.settle()
        counts = Counts(progress or (lambda _: None))
        target = Target(tables=chosen.tables, layout=layout, owner=owner, keep=on_conflict == "skip")
        run = _Import(
            lines=lines,
            access=access,
            target=target,
            placing=Placing(session=session, records=chosen, access=access, target=target, counts=counts),
            counts=counts,
        )
        return await run()


def _layout(lines: Iterator[Line], tables: Tables) -> Layout:
    """What the first line says."""
    line = next(lines)
    head = line.members
    if head.get(HEAD) != FORMAT:
        line.refuse("it is not the first line of what export_chats() writes")
    version = head.get("version")
    if isinstance(version, int) and version > VERSION:
        msg = (
            f"line 1 of the file cannot be imported: it is of version {version}, and this package knows {VERSION}; "
            "upgrade nodellm_orm"
        )
        raise SchemaVersionError(msg, details={"line": 1, "version": version})
    if version != VERSION or isinstance(version, bool) or set(head) != {HEAD, "version", "columns"}:
        line.refuse("it names no version that this package knows")
    if encoded({HEAD: FORMAT, "version": VERSION, "columns": head["columns"]}) != line.body:
        line.refuse("it is not written the way this package writes it")
    try:
        return layout_for(tables, head["columns"])
    except BadValueError as error:
        line.refuse(error)


@dataclass(slots=True, kw_only=True)
class _Import:
    """One run, which holds no more than a batch of rows or one file's bytes; long chats are in temporary files."""

    lines: Iterator[Line]
    access: Access
    target: Target
    placing: Placing
    counts: Counts
    _file: Counter[str] = field(default_factory=Counter)
    """Rows of the file so far."""
    _last: UUID | None = None

    async def __call__(self) -> ImportReport:
        """Chat after chat, then the ledger."""
        line = await self._next()
        while line.kind == "chats":
            with ExitStack() as spools:
                group, after = await asyncio.to_thread(self._group, line, spools)
                await self.placing(group)
                if isinstance(after, NodeLLMError):
                    raise after
                line = after
        line = await self._ledger(line)
        await self._end(line)
        rows = {name: self.counts.rows[name] for name in TABLES if name not in {"chats", "texts", "blobs"}}
        return ImportReport(
            chats=self.placing.written,
            **rows,
            unchanged=self.placing.unchanged,
            kept=tuple(self.placing.kept),
            kept_requests=self.placing.kept_requests,
        )

    async def _next(self) -> Line:
        return await asyncio.to_thread(next, self.lines)

    def _group(self, line: Line, spools: ExitStack) -> tuple[list[Segment], Line | NodeLLMError]:
        """Chats that are written together, and what comes behind them: a line, or what is wrong with it."""
        group: list[Segment] = []
        size = rows = 0
        while line.kind == "chats" and len(group) < BATCH and rows < ROWS and size < SIZE:
            spool = spools.enter_context(Spool())
            try:
                group.append(self._segment(line, spool))
                line = next(self.lines)
            except NodeLLMError as error:
                return group, error
            size += spool.size
            rows += group[-1].rows.total()
        return group, line

    def _segment(self, first: Line, spool: Spool) -> Segment:
        """All lines of a chat, checked."""
        reader = SegmentReader(self.target.layout, spool, first)
        while not reader.take(next(self.lines)):
            pass
        segment = reader.segment
        if self._last is not None and segment.id <= self._last:
            first.refuse("the chat is not in the order in which this package writes them")
        self._last = segment.id
        self._file += segment.rows
        self._file["chats"] += 1
        return segment

    async def _ledger(self, line: Line) -> Line:
        """Requests without a chat, batch by batch; gives the line behind them."""
        last: UUID | None = None
        while line.kind == "requests":
            first = line.number
            batch, after = await asyncio.to_thread(self._batch, line, last)
            insertion = LedgerInsertion(target=self.target, rows=batch)
            try:
                new, kept = await self.access.run(insertion)
            except (ChatError, StorageError) as error:
                msg = f"lines {first} to {first + len(batch) - 1} of the file could not be imported: {error}"
                raise type(error)(msg) from error
            self._file["requests"] += len(batch)
            self.counts.rows["requests"] += new
            self.placing.kept_requests += kept
            self.counts.tell("ledger")
            if isinstance(after, NodeLLMError):
                raise after
            line, last = after, batch[-1]["id"]
        return line

    def _batch(self, line: Line, last: UUID | None) -> tuple[list[Fields], Line | NodeLLMError]:
        """Rows of the ledger that are written together, and what comes behind them."""
        batch: list[Fields] = []
        while line.kind == "requests" and len(batch) < BATCH:
            try:
                row = checked_row(self.target.layout, line)
                if last is not None and row["id"] <= last:
                    line.refuse("its row is not in the order in which this package writes them")
                batch.append(row)
                last, line = row["id"], next(self.lines)
            except NodeLLMError as error:
                return batch, error
        return batch, line

    async def _end(self, line: Line) -> None:
        if line.kind != END:
            line.refuse(f"{line.kind[:40]!r} has no place here; the package that wrote it may be newer")
        if line.body != end_of_file(self._file, line.before):
            line.refuse("the file is not what this line says of it; take another copy of it")
        if (behind := await asyncio.to_thread(next, self.lines, None)) is not None:
            behind.refuse("nothing may come behind the end")
