"""Deleting what is old, or what was somebody's: chat after chat in short transactions, to be carried on at any time."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from nodellm_orm.errors import ChatError, ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER, AnyOwner
from nodellm_orm.runtime.refusals import refuse_limit, refuse_owner, refuse_switch, refuse_uncallable
from nodellm_orm.store.access import open_access
from nodellm_orm.store.deletion import BATCH, Removed, remove
from nodellm_orm.store.records import chosen_records
from nodellm_orm.upkeep import erasure
from nodellm_orm.upkeep.due import Due, count_due, due_chats, read_now
from nodellm_orm.upkeep.unused import sweep_texts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Records, Tables
    from nodellm_orm.upkeep.due import Place

    Database: TypeAlias = AsyncEngine | async_sessionmaker[AsyncSession] | AsyncSession
    """What names a database: an engine, a sessionmaker, or a session."""
    Progress: TypeAlias = "Callable[[PurgeReport], Awaitable[None] | None]"
    """Told of the report so far after each transaction."""

_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""No chat is older."""
_PAGE: Final = 100
"""Chats that are looked up at a time."""
_LARGEST_BATCH: Final = 10_000
"""Rows a transaction at most: each is a parameter, and SQLite takes about thirty thousand."""


class NotGiven:
    """The type of `NOT_GIVEN`."""

    def __repr__(self) -> str:
        """What it stands for."""
        return "<not given>"


NOT_GIVEN: Final = NotGiven()
"""No owner was named: chats without one are meant, and only those that are old enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeReport:
    """What a purge has deleted."""

    chats: int = 0
    turns: int = 0
    messages: int = 0
    tool_calls: int = 0
    thinking: int = 0
    attachments: int = 0
    blobs: int = 0
    """Contents of files that no other chat of their owner has."""
    texts: int = 0
    """Instructions and tool schemas that no turn refers to any more."""
    requests: int = 0
    """Ledger rows that lost chat, owner and labels, because their owner was erased."""
    referenced: tuple[UUID, ...] = ()
    """Chats that were kept, because rows of the host refer to them."""
    complete: bool = False
    """Whether nothing is left that was to be deleted; otherwise purge again."""


async def purge(
    session: Database,
    *,
    older_than: timedelta | datetime | None = None,
    owner: Owner | NotGiven = NOT_GIVEN,
    keep_labels: bool = False,
    limit: int | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
    records: Records | None = None,
) -> PurgeReport:
    """Delete the chats that were not used for some time, or everything of one owner.

    With ``older_than`` chats go that were last used before that time, unless a worker has them; their ledger rows
    stay as they are. Without it, an owner is erased: all his chats, also those that are being answered, his files and
    texts; his ledger rows stay, without chat, owner, labels and ids, so that sums by day and model remain exact.

    Each transaction is short. A purge that was broken off is carried on by the next one.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        older_than: a duration before now by the database's clock, or a time with its zone.
        owner: whose; omitted means chats without owner, `ANY_OWNER` everybody's (with ``older_than`` only).
        keep_labels: leave an erased owner's ledger rows their labels, where these say nothing of persons.
        limit: chats at most; ``complete`` says whether more are left.
        batch: rows a transaction.
        progress: a function, plain or async, that is called with the report so far after each transaction.
        records: own records.

    Raises:
        ConfigurationError: neither ``older_than`` nor ``owner`` is given, or one of the arguments cannot be meant.
        SessionStateError: the session is closed or inside an explicit transaction block.

    Example:
        >>> report = await purge(engine, older_than=timedelta(days=90), owner=ANY_OWNER)
        >>> await purge(engine, owner="ada")
    """
    if limit is not None:
        refuse_limit("limit", limit)
    refuse_switch("keep_labels", keep_labels)
    refuse_uncallable("progress", progress)
    run = await _prepared(session, older_than, owner, batch, records)
    run.limit, run.progress, run.keep_labels = limit, progress, keep_labels
    return await run()


async def purgeable(
    session: Database,
    *,
    older_than: timedelta | datetime | None = None,
    owner: Owner | NotGiven = NOT_GIVEN,
    records: Records | None = None,
) -> int:
    """How many chats a purge with these arguments would delete now.

    Args:
        session: as for `purge`.
        older_than: as for `purge`.
        owner: as for `purge`.
        records: as for `purge`.

    Raises:
        ConfigurationError: as for `purge`.
    """
    run = await _prepared(session, older_than, owner, BATCH, records)
    return await run.access.read(lambda connection: count_due(connection, run.tables.chats, run.due))


async def _prepared(
    session: Database,
    older_than: timedelta | datetime | None,
    owner: Owner | NotGiven,
    batch: int,
    records: Records | None,
) -> _Purge:
    whose = _checked(older_than, owner)
    rows: object = batch
    if isinstance(rows, bool) or not isinstance(rows, int) or not 1 <= rows <= _LARGEST_BATCH:
        msg = (
            f"batch={batch!r:.100} is not a number of rows from 1 to {_LARGEST_BATCH}; leave it out, or give one such "
            "as 500"
        )
        raise ConfigurationError(msg)
    chosen = chosen_records(records)
    access = open_access(session, chosen)
    await access.settle()
    before = older_than
    if isinstance(before, timedelta):
        now = await access.read(read_now)
        before = now - min(before, now - _BEGINNING)  # a duration may be longer than the calendar
    return _Purge(access, chosen.tables, Due(owner=whose, before=before), batch)


def _checked(older_than: object, owner: Owner | NotGiven) -> Owner:
    """The owner that is meant."""
    if older_than is None and (isinstance(owner, NotGiven) or owner is ANY_OWNER):
        msg = (
            "purge() is told what to delete: older_than=timedelta(days=90) for old chats, owner='…' for everything of "
            "one owner (None: of nobody), or both"
        )
        raise ConfigurationError(msg)
    if isinstance(owner, NotGiven):
        owner = None
    refuse_owner(owner, anybody=ANY_OWNER)
    match older_than:
        case None:
            pass
        case datetime() if older_than.utcoffset() is None:
            msg = "older_than names no time zone; give an aware datetime, or a timedelta"
            raise ConfigurationError(msg)
        case datetime():
            _refuse_beyond(older_than)
        case timedelta() if older_than < timedelta(0):
            msg = f"older_than={older_than} lies in the future; give a duration of 0 or more"
            raise ConfigurationError(msg)
        case timedelta():
            pass
        case _:
            msg = f"older_than is a timedelta or an aware datetime, not {type(older_than).__name__}"
            raise ConfigurationError(msg)
    return owner


def _refuse_beyond(time: datetime) -> None:
    """Refuse a time that UTC has no date for, at the very ends of the calendar."""
    try:
        time.astimezone(UTC)
    except OverflowError:
        msg = f"older_than={time.isoformat()} has no date in UTC; give a time within the years 2 to 9998"
        raise ConfigurationError(msg) from None


class _Purge:
    """A purge under way."""

    def __init__(self, access: Access, tables: Tables, due: Due, batch: int) -> None:
        self.access = access
        self.tables = tables
        self.due = due
        self.limit: int | None = None
        self.progress: Progress | None = None
        self.keep_labels = False
        self._batch = batch
        self._report = PurgeReport()

    async def __call__(self) -> PurgeReport:
        """Chats first, then what nothing refers to any more."""
        complete = await self._chats() and not self._report.referenced
        if self.due.before is not None:
            await self._texts(erased=False)
        elif complete:
            await self._erase()
        self._report = replace(self._report, complete=complete)
        return self._report

    async def _chats(self) -> bool:
        """Delete chat after chat; says whether none is left."""
        place: Place | None = None
        while True:
            look = partial(due_chats, chats=self.tables.chats, due=self.due, after=place, limit=_PAGE)
            page = await self.access.read(look)
            for chat in page:
                if self.limit is not None and self._report.chats >= self.limit:
                    return False
                try:
                    await remove(
                        *(self.access, self.tables, chat.id, chat.owner),
                        batch=self._batch,
                        unused_since=self.due.before,
                        told=self._removed,
                    )
                except ChatError:
                    self._report = replace(self._report, referenced=(*self._report.referenced, chat.id))
            if len(page) < _PAGE:
                return True
            place = page[-1].place

    async def _removed(self, removed: Removed) -> None:
        await self._tell(**{field.name: getattr(removed, field.name) for field in fields(Removed)})

    async def _tell(self, **counts: int) -> None:
        known = {name: getattr(self._report, name) + count for name, count in counts.items()}
        self._report = replace(self._report, **known)
        if self.progress is not None:
            told = self.progress(self._report)
            if inspect.isawaitable(told):
                await told

    async def _texts(self, *, erased: bool) -> None:
        async for count in sweep_texts(self.access, self.tables, self.due.owner, self._batch, erased=erased):
            await self._tell(texts=count)

    async def _erase(self) -> None:
        """What an owner leaves behind beside his chats."""
        owner = None if isinstance(self.due.owner, AnyOwner) else self.due.owner
        labels = self.keep_labels
        async for count in erasure.anonymise(self.access, self.tables, owner, self._batch, keep_labels=labels):
            await self._tell(requests=count)
        await erasure.forget_sums(self.access, self.tables, owner, self._batch)
        async for count in erasure.remaining_blobs(self.access, self.tables, owner, self._batch):
            await self._tell(blobs=count)
        await self._texts(erased=True)
