"""`refresh_rollup`: sums of the ledger hour by hour, so that a report need not read every request again.

It is optional, and nothing keeps it up but this function: whoever never calls it pays nothing. Each hour is a
transaction of its own, so it can be broken off at any point, and run by several processes at once: they take turns.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import literal, select

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.reporting.functions import Cut
from nodellm_orm.reporting.hours import HOUR, add_next, correct
from nodellm_orm.reporting.underway import UnderWayError, remaining, writers
from nodellm_orm.runtime.clock import SystemClock
from nodellm_orm.runtime.moments import moment_of
from nodellm_orm.runtime.refusals import refuse_seconds, refuse_switch, refuse_uncallable
from nodellm_orm.store.access import open_access
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.records import chosen_records
from nodellm_orm.store.stale import YOUNG, hold, hour_of, mark
from nodellm_orm.store.usage_columns import EVERYBODY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Records, Tables

    Database: TypeAlias = AsyncEngine | async_sessionmaker[AsyncSession] | AsyncSession
    """What names a database: an engine, a sessionmaker, or a session."""
    Progress: TypeAlias = "Callable[[RollupReport], Awaitable[None] | None]"
    """Told of the report so far after each transaction."""

LAG: Final = timedelta(hours=1)
"""How old an hour must be before it is added up, unless said otherwise."""
_LEAST: Final = timedelta(seconds=2 * YOUNG)
"""The shortest: what is written without a mark is young, and half of this is left for a clock that is put back."""
_WAIT: Final = 5.0
_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupReport:
    """What a refresh has done."""

    added: int = 0
    """Hours that were added up for the first time; those without requests are not counted."""
    corrected: int = 0
    """Hours that were added up again, because old rows in them had changed or come."""
    until: datetime | None = None
    """Before this moment everything is in; ``None``: nothing is."""
    left: int = 0
    """Hours that were due and are not in, empty ones included: in the end 0, unless a transaction is still open that
    may have written to the next of them. They are read from the ledger; refresh again."""


async def refresh_rollup(
    session: Database,
    *,
    until: datetime | date | None = None,
    lag: timedelta = LAG,
    again: bool = False,
    wait: float = _WAIT,
    progress: Progress | None = None,
    records: Records | None = None,
    database_timeout: float | None = None,
) -> RollupReport:
    """Add up the hours of the ledger that are over, and again those in which something has changed since.

    Call it every hour or every day, from any number of processes: ``usage_report(..., rollup=True)`` reads from the
    ledger whatever is not in yet, so that its result is always that of the whole ledger. A refresh that was broken off
    is carried on by the next one.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        until: only hours that are over by this moment; a date is its first moment in UTC.
        lag: how long an hour must be over, half an hour at least.
        again: whether all hours are added up again: after rows of the ledger were changed by hand.
        wait: seconds to wait for open transactions that may have written to the hours that are due.
        progress: a function, plain or async, that is called with the report so far after each hour.
        records: own records.
        database_timeout: seconds one hour may take; by default what the engine was made with, or 30.

    Raises:
        ConfigurationError: an argument that cannot be meant.
        SessionStateError: the session is closed or inside an explicit transaction block.

    Example:
        >>> report = await refresh_rollup(engine)
        >>> rows = await usage_report(engine, owner=ANY_OWNER, rollup=True)
    """
    limit = moment_of("until", until, UTC)
    _refuse_lag(lag)
    refuse_switch("again", again)
    refuse_seconds("wait", wait, zero=True)
    refuse_uncallable("progress", progress)
    chosen = chosen_records(records)
    access = open_access(session, chosen, deadline=database_timeout)
    await access.settle()
    refresh = _Refresh(access, chosen.tables, wait=wait, progress=progress)
    if again:
        await access.run(partial(_mark_all, tables=chosen.tables))
    return await refresh(limit, lag)


def _refuse_lag(lag: object) -> None:
    if not isinstance(lag, timedelta) or lag < _LEAST:
        msg = f"lag={lag!r:.80} is no timedelta of at least half an hour; leave it out, or give one such as {LAG!r}"
        raise ConfigurationError(msg)


@dataclass(frozen=True, slots=True)
class _Start:
    """What a refresh begins with."""

    now: datetime
    writers: frozenset[str]
    first: datetime | None
    """The first hour that is not in."""
    until: datetime | None
    stale: tuple[datetime, ...]


class _Refresh:
    """A refresh under way."""

    def __init__(self, access: Access, tables: Tables, *, wait: float, progress: Progress | None) -> None:
        self._access = access
        self._tables = tables
        self._progress = progress
        self._clock = SystemClock()
        self._patience = wait
        self._report = RollupReport()

    async def __call__(self, limit: datetime | None, lag: timedelta) -> RollupReport:
        """First the hours that are marked, then those that are new."""
        start = await self._access.read(partial(_look, tables=self._tables))
        await self._access.run(partial(_mark_turned_back, tables=self._tables, now=start.now))
        due = hour_of(start.now - min(lag, start.now - _CALENDAR))
        if limit is not None:
            due = min(due, hour_of(limit))
        # What is too young to be added up may change without a mark, if the clock was put back.
        stale = [hour for hour in start.stale if hour < due]
        new = 0 if start.first is None else max((due - start.first) // HOUR, 0)
        await self._tell(until=start.until, left=len(stale) + new)
        for hour in stale:
            done = await self._access.run(partial(correct, tables=self._tables, hour=hour))
            await self._tell(corrected=self._report.corrected + done, left=self._report.left - 1)
        if await self._ended(start.writers):
            await self._add(due)
        return self._report

    async def _add(self, due: datetime) -> None:
        while True:
            try:
                step = await self._access.run(partial(add_next, tables=self._tables, until=due))
            except UnderWayError:
                if not await self._pause():
                    return
                continue
            left = max((due - step.until) // HOUR, 0)
            await self._tell(added=self._report.added + step.added, until=step.until, left=left)
            if not left:
                return

    async def _ended(self, before: frozenset[str]) -> bool:
        """Wait for transactions to end."""
        look = partial(remaining, requests=self._tables.requests, before=before)
        while before and await self._access.read(look):
            if not await self._pause():
                return False
        return True

    async def _pause(self) -> bool:
        """Wait a little, unless it has been long enough."""
        if self._patience <= 0:
            return False
        self._patience -= _PAUSE
        await self._clock.sleep(_PAUSE)
        return True

    async def _tell(self, **changed: Any) -> None:
        self._report = replace(self._report, **changed)
        if self._progress is not None:
            told = self._progress(self._report)
            if inspect.isawaitable(told):
                await told


_CALENDAR: Final = datetime(1, 1, 2, tzinfo=UTC)


def _look(connection: Connection, tables: Tables) -> _Start:
    # In this order: whoever wrote before this moment has ended, or is among the writers.
    now: datetime = connection.scalar(select(DatabaseNow()))  # type: ignore[assignment]  # it always is one
    open_ones = writers(connection, tables.requests)
    until: datetime | None = connection.scalar(select(tables.usage_rollup.c.added_until))
    created, stale = tables.requests.c.created_at, tables.usage_stale.c.hour
    first = until or connection.scalar(select(created).order_by(created).limit(1))
    hours: tuple[datetime, ...] = ()
    if until is not None:
        hours = tuple(connection.scalars(select(stale).where(stale < until).distinct().order_by(stale)))
    return _Start(now, open_ones, None if first is None else hour_of(first), until, hours)


def _mark_turned_back(connection: Connection, tables: Tables, now: datetime) -> None:
    """Mark the hours that are in although they are not over: the clock was put back, and rows in them are young."""
    young = hour_of(now - min(_LEAST, now - _CALENDAR))
    stale = tables.usage_stale
    in_already = select(tables.usage_rollup.c.added_until).where(tables.usage_rollup.c.added_until > young)
    if (until := connection.scalar(in_already)) is not None:
        known = set(connection.scalars(select(stale.c.hour).where(stale.c.hour >= young)))
        hours = (young + HOUR * n for n in range((until - young) // HOUR))
        mark(connection, tables, [hour for hour in hours if hour not in known])


def _mark_all(connection: Connection, tables: Tables) -> None:
    """Mark every hour in which there is anything, in the ledger or in the roll-up."""
    until = hold(connection, tables)
    if until is None:
        return
    created, sums = tables.requests.c.created_at, tables.usage_hours
    cut = Cut("hour", created, literal(0)).label("hour")
    hours = connection.scalars(select(cut).where(created < until).distinct()).all()
    added = connection.scalars(select(sums.c.hour).where(sums.c.scope == EVERYBODY).distinct()).all()
    mark(connection, tables, {*map(_moment, hours), *added})


def _moment(hour: object) -> datetime:
    """What a database gives for an hour of UTC."""
    found = hour if isinstance(hour, datetime) else datetime.fromisoformat(str(hour))
    return found.replace(tzinfo=UTC)
