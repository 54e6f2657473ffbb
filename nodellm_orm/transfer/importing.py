"""Import: each chat in one transaction, once all its lines are known to be sound; what is there already is compared."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from nodellm_orm.errors import ChatBusyError, ChatError, SchemaVersionError, StorageError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.runtime.refusals import refuse_owner, refuse_word
from nodellm_orm.store.access import open_access
from nodellm_orm.transfer.chatlines import ChatLines
from nodellm_orm.transfer.exporting import FORMAT, PER_MESSAGE, VERSION, chosen_records, end_of_file
from nodellm_orm.transfer.files import Spool, opened_source
from nodellm_orm.transfer.inserting import (
    AS_IN_FILE,
    BATCH,
    AsInFile,
    ChatInsertion,
    ContentsInsertion,
    LedgerInsertion,
    Target,
    chat_owner,
)
from nodellm_orm.transfer.layout import TABLES, layout_for
from nodellm_orm.transfer.lines import END, HEAD, read_lines
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
_PATIENCE: Final = 5
"""How often a chat that is written in while it is compared is read again."""


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

    Each chat is one transaction, made once all its lines have been checked: what is there afterwards is whole. A line
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
        run = _Import(
            session=session,
            records=chosen,
            access=access,
            lines=lines,
            target=Target(tables=chosen.tables, layout=layout, owner=owner, keep=on_conflict == "skip"),
            counts=Counts(progress or (lambda _: None)),
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
    try:
        return layout_for(tables, head["columns"])
    except BadValueError as error:
        line.refuse(error)


@dataclass(slots=True, kw_only=True)
class _Import:
    """One run, which holds no more than a batch of rows or one file's bytes; a chat's lines are in a temporary file."""

    session: object
    records: Records
    access: Access
    lines: Iterator[Line]
    target: Target
    counts: Counts
    _file: Counter[str] = field(default_factory=Counter)
    """Rows of the file so far."""
    _chats: int = 0
    _unchanged: int = 0
    _kept: list[UUID] = field(default_factory=list)
    _kept_requests: int = 0
    _last: UUID | None = None

    async def __call__(self) -> ImportReport:
        """Chat after chat, then the ledger."""
        line = await self._next()
        while line.kind == "chats":
            with Spool() as spool:
                segment = await asyncio.to_thread(self._segment, line, spool)
                if self._last is not None and segment.id <= self._last:
                    line.refuse("the chat is not in the order in which this package writes them")
                self._last = segment.id
                await self._chat(segment)
            self.counts.seen += 1
            self.counts.tell("chats")
            line = await self._next()
        line = await self._ledger(line)
        await self._end(line)
        rows = {name: self.counts.rows[name] for name in TABLES if name not in {"chats", "texts", "blobs"}}
        return ImportReport(
            chats=self._chats,
            **rows,
            unchanged=self._unchanged,
            kept=tuple(self._kept),
            kept_requests=self._kept_requests,
        )

    async def _next(self) -> Line:
        return await asyncio.to_thread(next, self.lines)

    # ── chats ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _segment(self, first: Line, spool: Spool) -> Segment:
        """All lines of a chat, checked."""
        reader = SegmentReader(self.target.layout, spool, first)
        while not reader.take(next(self.lines)):
            pass
        segment = reader.segment
        self._file += segment.rows
        self._file["chats"] += 1
        return segment

    async def _chat(self, segment: Segment) -> None:
        if not await self._is_there(segment):
            deadline = self.access.deadline + PER_MESSAGE * (segment.last - segment.first)
            access = open_access(self.session, self.records, deadline=deadline)
            insertion = ChatInsertion(target=self.target, segment=segment)
            try:
                rows = await access.run(insertion, confirm=insertion.confirm)
            except ChatError as error:
                raise _told(segment, error) from error
            except StorageError as error:
                if not await self._is_there(segment):  # somebody else may have imported it just now
                    raise _told(segment, error) from error
            else:
                self._chats += 1
                self._kept_requests += insertion.kept
                self.counts.rows += rows
                return
        await self._compare(segment)

    async def _is_there(self, segment: Segment) -> bool:
        tables = self.target.tables
        return await self.access.read(lambda c: chat_owner(c, tables, segment.id)) is not None

    async def _compare(self, segment: Segment) -> None:
        """The chat is there: with the same in it, or with something else."""
        lines = ChatLines(tables=self.target.tables, layout=self.target.layout, owner=ANY_OWNER)
        owner = self.target.owner_of(segment.owner)
        there = await self.access.read(lambda c: chat_owner(c, self.target.tables, segment.id))
        if (
            there is not None
            and there["owner"] == owner
            and await self._stored_digest(lines, segment) == segment.digest
        ):
            self._unchanged += 1
        elif self.target.keep:
            self._kept.append(segment.id)
        else:
            msg = (
                f"chat {segment.id} (line {segment.first} of the file) is stored already, with something else in it or "
                'for another owner; on_conflict="skip" leaves such chats as they are; to have the one of the file, '
                "delete the stored one first"
            )
            raise ChatError(msg)
        contents = ContentsInsertion(target=self.target, segment=segment)
        await self.access.run(contents)

    async def _stored_digest(self, lines: ChatLines, segment: Segment) -> str | None:
        deadline = self.access.deadline + PER_MESSAGE * (segment.last - segment.first)
        access = open_access(self.session, self.records, deadline=deadline)
        for _ in range(_PATIENCE):
            found = await access.read(lambda c: lines.digest(c, segment.id, segment.owner))
            if found is None:
                return None
            digest, moved = found
            if not moved:
                return digest
        msg = (
            f"chat {segment.id} is stored already, and kept changing while it was compared; import again when it rests"
        )
        raise ChatBusyError(msg)

    # ── the ledger, and the end ───────────────────────────────────────────────────────────────────────────────────

    async def _ledger(self, line: Line) -> Line:
        """Requests without a chat, batch by batch; gives the line behind them."""
        last: Fields | None = None
        while line.kind == "requests":
            batch: list[Fields] = []
            first = line.number
            while line.kind == "requests" and len(batch) < BATCH:
                row = checked_row(self.target.layout, line)
                if last is not None and row["id"] <= last["id"]:
                    line.refuse("its row is not in the order in which this package writes them")
                batch.append(row)
                last = row
                line = await self._next()
            insertion = LedgerInsertion(target=self.target, rows=batch)
            try:
                new, kept = await self.access.run(insertion)
            except (ChatError, StorageError) as error:
                msg = f"lines {first} to {first + len(batch) - 1} of the file could not be imported: {error}"
                raise type(error)(msg) from error
            self._file["requests"] += len(batch)
            self.counts.rows["requests"] += new
            self._kept_requests += kept
            self.counts.tell("ledger")
        return line

    async def _end(self, line: Line) -> None:
        if line.kind != END:
            line.refuse(f"{line.kind[:40]!r} has no place here; the package that wrote it may be newer")
        if line.body != end_of_file(self._file, line.before):
            line.refuse("the file is not what this line says of it; take another copy of it")
        if (behind := await asyncio.to_thread(next, self.lines, None)) is not None:
            behind.refuse("nothing may come behind the end")


def _told(segment: Segment, error: ChatError | StorageError) -> ChatError | StorageError:
    """The same error, with the lines that it is about."""
    where = f"chat {segment.id} (lines {segment.first} to {segment.last} of the file) could not be imported: {error}"
    if isinstance(error, StorageError):
        return type(error)(where, details={**error.details, "line": segment.first})
    return ChatError(where)
