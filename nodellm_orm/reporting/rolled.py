"""A report from the roll-up: whole hours from their sums, whatever is missing there from the ledger, in one statement.

Why it equals the report over the ledger: an hour is read from its sums only if it lies before `added_until`, up to
which everything has been added up, and if no mark says that it is out of date. Both are read beforehand, so that the
database has plain limits to plan with. `added_until` never goes back, and the statement itself tells whether a mark has
come since, in the very state in which it sees everything else; then it is made again. See `store.stale` for why nobody
changes an hour without a mark.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, and_, case, false, func, literal_column, or_, select, union_all

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.reporting.functions import Total
from nodellm_orm.reporting.hours import HOUR
from nodellm_orm.reporting.keys import model_of
from nodellm_orm.reporting.statement import NO_CHANGES, TOKENS, answer, rows_of, span_of
from nodellm_orm.reporting.zones import changes
from nodellm_orm.store.stale import hour_of
from nodellm_orm.store.types import Count
from nodellm_orm.store.usage_columns import EACH_OWNER, EVERYBODY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from sqlalchemy import ColumnElement, CompoundSelect, Connection, FromClause, Select, Table

    from nodellm_orm.reporting.filters import Filters
    from nodellm_orm.reporting.rows import UsageRow
    from nodellm_orm.reporting.statement import Question
    from nodellm_orm.reporting.zones import Changes
    from nodellm_orm.store.define import Tables


_LOOKS: Final = 3
"""How often marks may come in between, before the ledger is read instead."""
_MARKED: Final = 100
"""Marked hours that are told one by one; behind them everything is read from the ledger."""


@dataclass(frozen=True, slots=True)
class _Hours:
    """The whole hours of a report that have been added up."""

    first: datetime | None
    """``None``: from the first one on."""
    end: datetime
    marked: tuple[datetime, ...] = ()
    """Those of them that are out of date."""

    def within(self, column: ColumnElement[datetime]) -> list[ColumnElement[bool]]:
        """All of them."""
        return [column < self.end] if self.first is None else [column >= self.first, column < self.end]

    def unmarked(self, column: ColumnElement[datetime]) -> list[ColumnElement[bool]]:
        """Those whose sums are right."""
        return [*self.within(column), *([column.not_in(self.marked)] if self.marked else [])]

    def remaining(self, column: ColumnElement[datetime], limits: Filters) -> ColumnElement[bool]:
        """The times, within the limits of a report, of which there are no sums."""
        spans: list[tuple[datetime | None, datetime | None]] = []
        if self.first is not None and limits.since != self.first:
            spans.append((limits.since, self.first))
        for hour in self.marked:
            begin = spans.pop()[0] if spans and spans[-1][1] == hour else hour
            spans.append((begin, hour + HOUR))
        if limits.until is None or limits.until > self.end:
            spans.append((self.end, limits.until))
        times = [
            and_(*([column >= since] if since else []), *([column < until] if until else [])) for since, until in spans
        ]
        return or_(false(), *times)


def answer_rolled(connection: Connection, tables: Tables, question: Question) -> list[UsageRow]:
    """Read the groups, in no order.

    Args:
        connection: where.
        tables: the records' tables.
        question: what is asked.

    Raises:
        ConfigurationError: hours of the time zone are not hours of UTC, or the requests lie too far apart for it.
    """
    requests, limits = tables.requests, question.filters
    offsets = NO_CHANGES
    if question.zone is not UTC and any(key.unit for key in question.keys):
        first, last = span_of(connection, requests, limits)
        if first == NO_CHANGES[0][0]:  # there are no such requests
            return answer(connection, requests, question)
        offsets = changes(question.zone, first, last)
        _refuse_parts_of_hours(question.zone, offsets)
    for _ in range(_LOOKS):
        hours = _look(connection, tables, limits)
        if hours is None:
            break
        source = _source(tables, question, hours).subquery("u")
        expressions = [key.columns(source, offsets) for key in question.keys]
        marks = select(func.count()).where(*hours.unmarked(tables.usage_stale.c.hour)).scalar_subquery()
        found = connection.execute(_statement(source, expressions).add_columns(marks.label("marks"))).freeze()
        rows = found()
        if not any(row.marks for row in rows.fetchmany(1)):
            told = found()
            return rows_of(told.columns(*list(told.keys())[:-1]), question, expressions, offsets)
    return answer(connection, requests, question)


def _look(connection: Connection, tables: Tables, limits: Filters) -> _Hours | None:
    """The hours within the limits that have been added up, if there are any."""
    until: datetime | None = connection.scalar(select(tables.usage_rollup.c.added_until))
    hours = None if until is None else _hours(limits, until)
    if hours is None:
        return None
    stale = tables.usage_stale.c.hour
    found = select(stale).where(*hours.within(stale)).distinct().order_by(stale).limit(_MARKED + 1)
    marked = tuple(connection.scalars(found))
    end = hours.end if len(marked) <= _MARKED else marked[_MARKED]
    return None if end == hours.first else replace(hours, end=end, marked=marked[:_MARKED])


def _refuse_parts_of_hours(zone: tzinfo, offsets: Changes) -> None:
    seconds = int(HOUR.total_seconds())
    moments = [moment for moment, _ in offsets[1:]]  # the first one holds before, too
    if any(offset % seconds for _, offset in offsets) or any(moment != hour_of(moment) for moment in moments):
        msg = (
            f"time_zone={str(zone)!r:.80} is not whole hours away from UTC at some time of the report, and the roll-up "
            "has sums of whole hours; leave rollup=True out, or give another time zone"
        )
        raise ConfigurationError(msg)


def _hours(limits: Filters, until: datetime) -> _Hours | None:
    """The whole hours within the limits, if there is one."""
    first = limits.since
    if first is not None and first != hour_of(first):
        first = hour_of(first) + HOUR
    end = until if limits.until is None else min(until, hour_of(limits.until))
    return None if first is not None and first >= end else _Hours(first, end)


# ── the statement ─────────────────────────────────────────────────────────────────────────────────────────────────


def _source(tables: Tables, question: Question, hours: _Hours) -> CompoundSelect[Any]:
    """Sums of hours, and single requests where there are none, under the names of the ledger's columns."""
    sums, requests = tables.usage_hours, tables.requests
    limits = replace(question.filters, since=None, until=None)
    by_owner = limits.owner is not ANY_OWNER or any(key.name == "owner" for key in question.keys)
    added = select(
        sums.c.hour.label("created_at"),
        *(sums.c[name] for name in ("owner", "provider", "model", "operation", "status", "requests", "unpriced")),
        *(sums.c[name] for name in (*TOKENS, "cost")),
    ).where(
        sums.c.scope == (EACH_OWNER if by_owner else EVERYBODY),
        *hours.unmarked(sums.c.hour),
        *limits.conditions(sums),
    )
    remaining = hours.remaining(requests.c.created_at, question.filters)
    return union_all(added, _single(requests).where(remaining, *limits.conditions(requests)))


def _single(requests: Table) -> Select[Any]:
    """Each request as a sum of its own."""
    r = requests.c
    return select(
        *(r.created_at, r.owner, r.provider, model_of(requests).label("model"), r.operation, r.status),
        literal_column("1", BigInteger()).label("requests"),
        case((r.cost.is_(None), literal_column("1", BigInteger())), else_=literal_column("0")).label("unpriced"),
        *(r[name] for name in (*TOKENS, "cost")),
    )


def _statement(source: FromClause, expressions: Sequence[Sequence[ColumnElement[Any]]]) -> Select[Any]:
    labelled = [column.label(f"k{place}") for place, column in enumerate(c for columns in expressions for c in columns)]
    u = source.c
    failed = case((u.status == "failed", u.requests)).label("failed")
    base = select(*labelled, u.requests, failed, u.unpriced, *(u[name] for name in (*TOKENS, "cost"))).subquery("r")
    b = base.c
    groups = [b[label.name] for label in labelled]
    found = select(
        *groups,
        *(
            func.coalesce(func.sum(b[name]), literal_column("0"), type_=Count()).label(told)
            for name, told in (("requests", "requests"), ("failed", "failures"), ("unpriced", "unpriced"))
        ),
        *(Total(b[name]).label(name) for name in TOKENS),
        Total(b.cost, money=True).label("cost"),
    ).select_from(base)
    return found.group_by(*groups) if groups else found
