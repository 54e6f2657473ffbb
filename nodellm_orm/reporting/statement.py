"""The one statement of a report: the groups with their sums and percentiles, from one look at the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, DateTime, and_, case, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from nodellm_orm.reporting.functions import MemberJson, Total
from nodellm_orm.reporting.rows import UsageRow
from nodellm_orm.reporting.zones import changes, starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import tzinfo

    from sqlalchemy import ColumnElement, Connection, Label, Result, Select, Subquery, Table

    from nodellm_orm.reporting.filters import Filters
    from nodellm_orm.reporting.keys import GroupKey
    from nodellm_orm.reporting.zones import Changes

TOKENS: Final = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_TIMES: Final = {"latency": "latency_ms", "first_token": "first_token_ms"}
_PERCENT: Final = (50, 95)
_MYSQL: Final = frozenset({"mysql", "mariadb"})
_LATER: Final = timedelta(days=1)
"""A request may be made after the first look and before the second."""
_JOINED: Final = 1000
"""Hours, days, weeks or months that are listed at most."""
NO_CHANGES: Final[Changes] = ((datetime(1, 1, 3, tzinfo=UTC), 0),)
"""Those of UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a report is asked for."""

    keys: tuple[GroupKey, ...]
    filters: Filters
    zone: tzinfo
    percentiles: bool


def answer(connection: Connection, requests: Table, question: Question) -> list[UsageRow]:
    """Read the groups, in no order.

    Args:
        connection: where.
        requests: the ledger.
        question: what is asked.

    Raises:
        ConfigurationError: the requests lie too far apart for the time zone.
    """
    dialect = connection.dialect.name
    span = None
    if any(key.unit for key in question.keys) and (question.zone is not UTC or dialect == "postgresql"):
        span = span_of(connection, requests, question.filters)
    offsets = NO_CHANGES if span is None or question.zone is UTC else changes(question.zone, *span)
    expressions = [key.columns(requests, offsets) for key in question.keys]
    known: dict[int, list[datetime]] = {}
    if span is not None and dialect == "postgresql":
        known = _starts(question.keys, expressions, offsets, span)
    rows = connection.execute(_statement(requests, expressions, question, dialect, known))
    return rows_of(rows, question, expressions, offsets)


def rows_of(
    result: Result[Any], question: Question, expressions: Sequence[Sequence[object]], offsets: Changes
) -> list[UsageRow]:
    """What the database gave, as rows of a report.

    Args:
        result: columns of the keys, then what is told of each group.
        question: what was asked.
        expressions: the columns of each key.
        offsets: those of the time zone.
    """
    width = sum(map(len, expressions))
    names = tuple(result.keys())[width:]
    unknown: dict[str, Any] = {} if question.percentiles else {f"{time}_p{percent}": None for time, percent in _each()}
    found = []
    for row in result:
        given = iter(row[:width])
        groups = {
            key.name: key.value([next(given) for _ in columns], offsets)
            for key, columns in zip(question.keys, expressions, strict=True)
        }
        found.append(UsageRow(keys=groups, **dict(zip(names, row[width:], strict=True)), **unknown))
    return found


def span_of(connection: Connection, requests: Table, limits: Filters) -> tuple[datetime, datetime]:
    """Between which moments the requests were made.

    Args:
        connection: where.
        requests: the ledger.
        limits: which of them.
    """
    bounds = select(func.min(requests.c.created_at), func.max(requests.c.created_at))
    first, last = connection.execute(bounds.where(*limits.times(requests))).one()
    if first is None:
        first = last = NO_CHANGES[0][0]  # there is nothing to be dated
    return first, last + _LATER


def _starts(
    keys: Sequence[GroupKey], expressions: Sequence[Sequence[object]], offsets: Changes, span: tuple[datetime, datetime]
) -> dict[int, list[datetime]]:
    """The beginnings of hours, days, weeks and months, by the place of the column that they are values of."""
    places = accumulate(map(len, expressions), initial=0)
    found = {
        place: starts(key.unit, offsets, *span, at_most=_JOINED)
        for key, place in zip(keys, places, strict=False)
        if key.unit
    }
    return {place: known for place, known in found.items() if known is not None}


def _each() -> Iterator[tuple[str, int]]:
    return ((time, percent) for time in _TIMES for percent in _PERCENT)


def _statement(
    requests: Table,
    expressions: Sequence[Sequence[ColumnElement[Any]]],
    question: Question,
    dialect: str,
    known: Mapping[int, list[datetime]],
) -> Select[Any]:
    r = requests.c
    labelled = [column.label(f"k{place}") for place, column in enumerate(c for columns in expressions for c in columns)]
    names = [label.name for label in labelled]
    digests = _digests(labelled) if dialect in _MYSQL else []
    within = [*names, *(digest.name for digest in digests)]
    wanted = [r[name] for name in (*TOKENS, "cost", *(_TIMES.values() if question.percentiles else ()))]
    failed = case((r.status == "failed", 1)).label("failed")
    base = select(*labelled, *digests, failed, *wanted).where(*question.filters.conditions(requests)).subquery("r")
    measured: list[ColumnElement[Any]] = []
    if question.percentiles:
        if dialect == "postgresql":
            measured = [_discrete(base, time, percent) for time, percent in _each()]
        else:
            base = _ranked(base, within)
            measured = [_nearest(base, time, percent) for time, percent in _each()]
    b = base.c
    # PostgreSQL takes each moment for a group of its own, and would sort them all. Joined with a short list of values,
    # they are a short list of groups, which several of its processes add up at once.
    joined = {f"k{place}": _listed(place, values) for place, values in known.items()}
    groups = [joined.get(name, b[name]) for name in names]
    found = select(
        *(column.label(name) for column, name in zip(groups, names, strict=True)),
        func.count().label("requests"),
        func.count(b.failed).label("failures"),
        (func.count() - func.count(b.cost)).label("unpriced"),
        *(Total(b[name]).label(name) for name in TOKENS),
        Total(b.cost, money=True).label("cost"),
        *measured,
    ).select_from(base)
    found = found.where(*(b[name] == column for name, column in joined.items()))
    return found.group_by(*groups, *(b[digest.name] for digest in digests)) if names else found


def _digests(columns: Sequence[Label[Any]]) -> list[Label[Any]]:
    """What tells long texts apart on MySQL, which compares their first thousand bytes (``max_sort_length``)."""
    long = [column for column in columns if isinstance(column.element, MemberJson)]
    return [func.sha2(column.element, 256).label(f"digest_{column.name}") for column in long]


def _listed(place: int, values: list[datetime]) -> ColumnElement[Any]:
    """Values as a table of one column."""
    return func.unnest(literal(values, ARRAY(DateTime()))).column_valued(f"start{place}")


def _discrete(base: Subquery, time: str, percent: int) -> ColumnElement[Any]:
    """PostgreSQL's own nearest rank; the two of one column share their sorting."""
    return func.percentile_disc(percent / 100).within_group(base.c[_TIMES[time]]).label(f"{time}_p{percent}")


def _ranked(base: Subquery, names: Sequence[str]) -> Subquery:
    """Each row with its place among the times of its group, and how many of them there are."""
    within = [base.c[name] for name in names]
    places: list[ColumnElement[Any]] = []
    for time, column in _TIMES.items():
        value = base.c[column]
        order = [case((value.is_(None), 1), else_=0), value]
        places += [
            func.row_number().over(partition_by=within or None, order_by=order).label(f"{time}_place"),
            func.count(value).over(partition_by=within or None).label(f"{time}_count"),
        ]
    return select(base, *places).subquery("ranked")


def _nearest(ranked: Subquery, time: str, percent: int) -> ColumnElement[Any]:
    """The value at place percent * count / 100, rounded up: the nearest rank, in whole numbers."""
    place, count = ranked.c[f"{time}_place"], ranked.c[f"{time}_count"]
    there = and_(place * 100 >= count * percent, (place - 1) * 100 < count * percent)
    return func.max(case((there, ranked.c[_TIMES[time]])), type_=BigInteger()).label(f"{time}_p{percent}")
