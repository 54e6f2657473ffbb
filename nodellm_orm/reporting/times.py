"""How long answers took, as a distribution: how many requests of each day and model took about so long.

The percentiles of any of these groups together follow from it, where a report would sort the ledger for each of them.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from sqlalchemy import case, func, select

from nodellm_orm.reporting.filters import filters
from nodellm_orm.reporting.keys import group_keys
from nodellm_orm.reporting.statement import NO_CHANGES
from nodellm_orm.runtime.moments import moment_of
from nodellm_orm.store.access import open_access
from nodellm_orm.store.records import RECORDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement, Connection, Select, Table

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Records

Distribution: TypeAlias = "Counter[int]"
"""How many requests took so many milliseconds, rounded down to a step."""

_STEPS: Final = ((200, 1), (2_000, 10), (20_000, 100), (200_000, 1_000), (2_000_000, 10_000))
"""Below how many milliseconds which step: a twentieth of the time at most, and about what is written of it anyway."""
_LONGEST_STEP: Final = 100_000


async def read_latencies(
    session: object, *, since: date, owner: Owner = None, records: Records = RECORDS
) -> Mapping[tuple[date, str], Distribution]:
    """How long answers took since a day, by day (in UTC) and model; in one query.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        since: the first day.
        owner: whose; ``None`` means requests without owner, `ANY_OWNER` means everybody's.
        records: own records.
    """
    requests = records.tables.requests
    limits = filters(owner=owner, since=moment_of("since", since, UTC), until=None, chat_id=None, metadata=None)
    day, model = group_keys(("day", "model"))
    statement = _statement(
        requests,
        [day.columns(requests, NO_CHANGES)[0].label("day"), model.columns(requests, NO_CHANGES)[0].label("model")],
        limits.conditions(requests),
    )

    def work(connection: Connection) -> dict[tuple[date, str], Distribution]:
        found: dict[tuple[date, str], Distribution] = {}
        dates: dict[Any, Any] = {}
        for given, name, milliseconds, number in connection.execute(statement):
            if given not in dates:
                dates[given] = day.value([given], NO_CHANGES)
            found.setdefault((dates[given], name), Counter())[milliseconds] += number
        return found

    return await open_access(session, records).read(work)


def percentile(distribution: Distribution, percent: int) -> int | None:
    """The nearest rank: so long took as many of 100 requests at most; ``None`` where none was timed.

    Args:
        distribution: of the requests.
        percent: from 1 to 100.

    Example:
        >>> percentile(Counter({100: 3, 900: 1}), 50), percentile(Counter({100: 3, 900: 1}), 95)
        (100, 900)
    """
    rank = -(-distribution.total() * percent // 100)
    passed = 0
    for milliseconds in sorted(distribution):
        passed += distribution[milliseconds]
        if passed >= rank:
            return milliseconds
    return None


def _statement(requests: Table, groups: list[ColumnElement[Any]], conditions: list[ColumnElement[bool]]) -> Select[Any]:
    latency = requests.c.latency_ms
    steps = ((latency < below, latency - latency % step) for below, step in _STEPS)
    rounded = case(*steps, else_=latency - latency % _LONGEST_STEP).label("latency")
    base = select(*groups, rounded).where(*conditions, latency.is_not(None)).subquery("r")
    return select(*base.c, func.count()).group_by(*base.c)
