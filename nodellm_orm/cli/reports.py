"""What `usage` is asked for, the database that answers, and what groups are called for people."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from nodellm_orm.cli.database import opened
from nodellm_orm.domain.figures import NONE
from nodellm_orm.domain.printable import one_line
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.reporting.report import usage_report
from nodellm_orm.store.clock import DatabaseNow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from decimal import Decimal

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.reporting.rows import GroupValue, UsageRow
    from nodellm_orm.reporting.series import Series
    from nodellm_orm.store.define import Records


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be added up.

    Args:
        database: its URL.
        names: what the groups are made by.
        since: the first moment, or day of the time zone.
        until: the first one that is not meant any more.
        owner: whose; ``None`` means everybody's.
        time_zone: whose days.
        rollup: whether the sums of hours may be taken, which know no times.
        records: `package.module:NAME` of an application's own.
    """

    database: str
    names: Sequence[str]
    since: datetime | date | None
    until: datetime | date | None
    owner: str | None
    time_zone: str
    rollup: bool = False
    records: str | None = None

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[Ledger]:
        """The ledger that answers."""
        async with opened(self.database, self.records) as (engine, stored):
            yield Ledger(engine, self, stored)

    async def rows(self) -> list[UsageRow]:
        """The groups that were asked for."""
        async with self.asked() as ledger:
            return await ledger.rows(self.names)


class Ledger:
    """Answers a question, by these groups and by others.

    Args:
        engine: the database.
        question: its limits.
        records: what is in the database.
    """

    def __init__(self, engine: AsyncEngine, question: Question, records: Records) -> None:
        """Keep all of it."""
        self._records = records
        self._engine = engine
        self._question = question

    async def rows(self, names: Sequence[str], *, percentiles: bool | None = None) -> list[UsageRow]:
        """The sums, group by group.

        Args:
            names: what the groups are made by.
            percentiles: whether those of the times are wanted; where nothing is said, if they can be had.
        """
        question = self._question
        return await usage_report(
            self._engine,
            group_by=names,
            since=question.since,
            until=question.until,
            # An owner who is the empty text is not everybody.
            owner=ANY_OWNER if question.owner is None else question.owner,
            time_zone=question.time_zone,
            percentiles=percentiles,
            rollup=question.rollup,
            records=self._records,
        )

    async def now(self) -> datetime:
        """The database's time."""
        async with self._engine.connect() as connection:
            now: datetime = (await connection.execute(select(DatabaseNow()))).scalar_one()
        return now


def word(value: object) -> str:
    """What a group is named by, for people.

    Args:
        value: of a row's keys.
    """
    match value:
        case None:
            return NONE
        case str():
            return value
        case datetime():
            return f"{value:%Y-%m-%d %H:%M %z}"
        case bool() | int() | float() | list() | dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def title(name: str) -> str:
    """What a key is called.

    Args:
        name: of ``group_by``.
    """
    return one_line(name.removeprefix("metadata."))


def share(part: Decimal | int | None, whole: Decimal | int | None) -> str:
    """How much of something a part is.

    Args:
        part: of the whole; ``None`` where it is unknown.
        whole: of all parts whose value is known.

    Example:
        >>> share(1, 3), share(1, 100_000), share(None, 3)
        ('33 %', '<1 %', '')
    """
    if part is None or not whole:
        return ""
    percent = float(part) / float(whole) * 100
    return f"{percent:.0f} %" if percent >= 1 or not part else "<1 %"


def label(series: Series) -> str:
    """What a series is called, on one line and harmless.

    Args:
        series: one group, or several.
    """
    return f"{series.groups:,} others" if series.groups > 1 else named(series.keys)


def named(keys: Mapping[str, GroupValue]) -> str:
    """What a group is called, on one line and harmless.

    Args:
        keys: of a row.

    Example:
        >>> named({"model": "gpt-5", "owner": None}), named({})
        ('gpt-5 · -', 'all requests')
    """
    return " · ".join(one_line(word(value)) or '""' for value in keys.values()) or "all requests"
