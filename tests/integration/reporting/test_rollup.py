"""Reports from the roll-up equal those over the ledger, whatever happens to it and whenever it is refreshed."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, insert, select, update

from nodellm_orm.domain.money import Cost
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.models import RECORDS
from nodellm_orm.ports.entries import AttemptClosed
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.ownership import Hold
from nodellm_orm.reporting.report import usage_report
from nodellm_orm.reporting.rollup import RollupReport, refresh_rollup
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.closing import account, close_attempts, closing_parameters, lose_attempts
from nodellm_orm.store.stale import hour_of, mark
from nodellm_orm.transfer.exporting import export_chats
from nodellm_orm.transfer.importing import import_chats
from nodellm_orm.upkeep.retention import PurgeReport, purge
from tests.integration.reporting.ledger import CHATS, ROWS, TOKENS, Row, row

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.reporting.rows import UsageRow

TABLES: Final = RECORDS.tables
REQUESTS: Final = TABLES.requests
ROLLUP: Final = (TABLES.usage_hours, TABLES.usage_stale, TABLES.usage_rollup)
NINE: Final = datetime(2026, 3, 14, 9, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
GROUPS: Final = ("hour", "day", "week", "month", "model", "provider", "owner", "operation", "status")
HOLD: Final = Hold(chat_id=CHATS[0], owner=None, turn_id=CHATS[0], worker="w", fence=1, step=1, lease=60.0, labels={})
WHOLE: Final = ("UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia")
"""Zones that are whole hours away from UTC."""


def fixed(at: datetime, **columns: Any) -> Row:
    """A row of the ledger."""
    return {"id": new_id(), "attempt": 1, "other_tokens": {}, **row(created_at=at, **columns)}


async def empty(engine: AsyncEngine) -> None:
    """Forget everything."""
    async with engine.begin() as connection:
        for table in (REQUESTS, *ROLLUP):
            await connection.execute(delete(table))


async def add(engine: AsyncEngine, *rows: Row) -> None:
    """Put rows into the ledger, as an import does: with marks on their hours."""

    def work(connection: Connection) -> None:
        connection.execute(insert(REQUESTS), rows)
        mark(connection, TABLES, [line["created_at"] for line in rows])

    async with engine.begin() as connection:
        await connection.run_sync(work)


async def rows_of(engine: AsyncEngine, table: Any) -> list[Any]:
    """Everything in a table."""
    async with engine.connect() as connection:
        return list((await connection.execute(select(table))).all())


async def now_of(engine: AsyncEngine) -> datetime:
    """The database's clock."""
    async with engine.connect() as connection:
        now: datetime = (await connection.execute(select(DatabaseNow()))).scalar_one()
        return now


async def both(engine: AsyncEngine, **options: Any) -> list[UsageRow]:
    """A report, which must be the same from the ledger and from the roll-up."""
    asked: dict[str, Any] = {"owner": ANY_OWNER, "percentiles": False, **options}
    wanted = await usage_report(engine, **asked)
    found = await usage_report(engine, **asked, rollup=True)
    assert [repr(asdict(line)) for line in found] == [repr(asdict(line)) for line in wanted]
    return found


# ── any ledger, at any moment ─────────────────────────────────────────────────────────────────────────────────────

_NEAR: Final = st.builds(
    lambda hours, away: NINE + hours * HOUR + away,
    st.integers(0, 5),
    st.sampled_from([timedelta(0), timedelta(microseconds=1), timedelta(microseconds=-1), timedelta(minutes=30)]),
)
_ROWS: Final = st.lists(
    st.builds(lambda line, at: line if at is None else {**line, "created_at": at}, ROWS, st.none() | _NEAR), max_size=8
)
_NEAR_ROWS: Final = st.lists(
    st.builds(lambda line, at: {**line, "created_at": at}, ROWS, _NEAR), min_size=1, max_size=8
)
_DEEDS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("add"), _ROWS | _NEAR_ROWS),
        st.tuples(st.just("refresh"), st.none() | _NEAR),
        st.tuples(st.just("again"), st.none()),
        st.tuples(st.just("close"), st.integers(0, 40)),
        st.tuples(st.just("lose"), st.sampled_from(CHATS)),
        st.tuples(st.just("erase"), st.sampled_from(["ann", "Ann", "ann ", "", "böb"])),
    ),
    min_size=1,
    max_size=5,
)
_QUESTIONS: Final = st.fixed_dictionaries(
    {
        "group_by": st.lists(st.sampled_from(GROUPS), max_size=3, unique=True),
        "time_zone": st.sampled_from(WHOLE),
    },
    optional={
        "owner": st.sampled_from([None, "ann", "ann ", "", "böb"]),
        "since": _NEAR,
        "until": _NEAR.map(lambda at: at + 6 * HOUR),
        "models": st.sampled_from([["gpt-5"], ["gpt-5 ", "m\x00"]]),
        "providers": st.just(["openai"]),
        "operations": st.just(["embed"]),
        "statuses": st.just(["ok", "failed"]),
    },
)


async def do(engine: AsyncEngine, deed: str, given_: Any) -> None:
    """One thing that happens to a ledger."""
    match deed:
        case "add":
            if given_:
                await add(engine, *({"id": new_id(), "attempt": 1, "other_tokens": {}, **line} for line in given_))
        case "refresh":
            await refresh_rollup(engine, until=given_)
        case "again":
            await refresh_rollup(engine, again=True)
        case "close":
            await close(engine, given_)
        case "lose":
            await lose(engine, given_)
        case _:
            await purge(engine, owner=given_)


async def close(engine: AsyncEngine, place: int) -> None:
    """Some attempt is closed late, by a worker whose chat is there or gone."""

    def work(connection: Connection) -> None:
        rows = connection.execute(select(REQUESTS.c.id, REQUESTS.c.chat_id).order_by(REQUESTS.c.id)).all()
        if not rows:
            return
        key, chat = rows[place % len(rows)]
        entry = closed(key, place)
        if chat is None or place % 2:
            account(connection, TABLES, HOLD if chat is None else replace(HOLD, chat_id=chat), [entry])
        else:
            close_attempts(connection, TABLES, [closing_parameters(chat, entry)])

    async with engine.begin() as connection:
        await connection.run_sync(work)


async def lose(engine: AsyncEngine, chat: UUID) -> None:
    """A chat is deleted while attempts are open."""
    async with engine.begin() as connection:
        await connection.run_sync(lose_attempts, TABLES, chat)


def closed(key: UUID, place: int = 7) -> AttemptClosed:
    """What came of an attempt."""
    cost = Cost(total=Decimal("0.000000000001") * place, source="user")
    return AttemptClosed(id=key, status="ok", model="late", usage=Usage(input_tokens=place), cost=cost)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=_NEAR_ROWS, deeds=_DEEDS, question=_QUESTIONS)
async def test_a_report_from_the_roll_up_is_that_of_the_ledger(
    engine: AsyncEngine, rows: list[Row], deeds: list[tuple[str, Any]], question: dict[str, Any]
) -> None:
    """Imports, late ends of attempts and erasures between refreshes: no moment at which the two differ."""
    await empty(engine)
    await do(engine, "add", rows)
    await do(engine, "refresh", None)
    for deed, value in deeds:
        await do(engine, deed, value)
        await both(engine, group_by=["hour", "owner"])
        await both(engine, **question)
    report = await refresh_rollup(engine)
    assert report.left == 0
    await both(engine, **question)


# ── a refresh ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_added_up_is_not_read_again(engine: AsyncEngine) -> None:
    """Sums of the hours that are in come from the roll-up, the young hour and marked ones from the ledger."""
    await add(
        engine, *(fixed(NINE + hours * HOUR, owner="ann", input_tokens=1, cost=Decimal(1)) for hours in (0, 0, 2))
    )
    report = await refresh_rollup(engine)
    assert (report.added, report.corrected, report.left) == (2, 0, 0)
    assert report.until is not None
    assert report.until > NINE + 3 * HOUR
    assert await rows_of(engine, TABLES.usage_stale) == []
    assert {
        (line.scope, line.hour, line.owner, line.requests) for line in await rows_of(engine, TABLES.usage_hours)
    } == {
        (scope, NINE + hours * HOUR, owner, requests)
        for scope, owner in (("all", None), ("owner", "ann"))
        for hours, requests in ((0, 2), (2, 1))
    }
    async with engine.begin() as connection:  # by hand, so that it can be seen where a report reads
        await connection.execute(update(TABLES.usage_hours).values(requests=70, unpriced=7))
    await add(engine, fixed(NINE + 2 * HOUR, input_tokens=5), fixed(await now_of(engine), input_tokens=1))

    found = await usage_report(engine, group_by=["hour"], owner=ANY_OWNER, rollup=True)

    assert [(line.requests, line.unpriced, line.input_tokens, line.cost) for line in found] == [
        (70, 7, 2, Decimal(2)),
        (2, 1, 6, Decimal(1)),
        (1, 1, 1, None),
    ]
    assert (await refresh_rollup(engine)).corrected == 1
    assert (await refresh_rollup(engine, again=True)).corrected == 2
    await both(engine, group_by=["hour", "owner"])


async def test_rows_that_were_changed_by_hand_are_added_up_again_when_told(engine: AsyncEngine) -> None:
    """``again`` is the remedy for what nobody could mark."""
    await add(engine, fixed(NINE, input_tokens=1))
    await refresh_rollup(engine)
    async with engine.begin() as connection:
        await connection.execute(update(REQUESTS).values(input_tokens=2))
        await connection.execute(insert(REQUESTS), [fixed(NINE - HOUR, input_tokens=3)])
    (stale,) = await usage_report(engine, group_by=[], rollup=True)
    assert stale.input_tokens == 1

    await refresh_rollup(engine, again=True)

    (line,) = await both(engine, group_by=[])
    assert line.input_tokens == 5


async def test_a_refresh_that_is_broken_off_is_carried_on(engine: AsyncEngine) -> None:
    """Whatever hour it stops at, reports are right, and the next one adds up the others only."""
    await add(engine, *(fixed(NINE + hours * HOUR, cost=Decimal(hours)) for hours in range(6)))
    await refresh_rollup(engine, until=NINE + HOUR)
    told: list[RollupReport] = []

    class StoppedError(Exception):
        pass

    async def stop(report: RollupReport) -> None:
        told.append(report)
        await asyncio.sleep(0)
        if report.added == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        await refresh_rollup(engine, progress=stop)
    assert told[0].left > told[-1].left > 0
    await both(engine, group_by=["hour"])

    assert (await refresh_rollup(engine)).added == 3
    await both(engine, group_by=["hour"])


async def test_two_refreshes_at_once_share_the_work(engine: AsyncEngine) -> None:
    """Each hour is added up by one of them, also where one was marked."""
    hours = 12
    await add(engine, *(fixed(NINE + n * HOUR, owner=f"o{n % 3}", cost=Decimal(n)) for n in range(hours)))
    reports = await asyncio.gather(*(refresh_rollup(engine) for _ in range(3)))
    assert sum(report.added for report in reports) == hours
    await add(engine, *(fixed(NINE + n * HOUR) for n in range(hours)))

    reports = await asyncio.gather(*(refresh_rollup(engine) for _ in range(3)))

    assert sum(report.corrected for report in reports) == hours
    assert await rows_of(engine, TABLES.usage_stale) == []
    await both(engine, group_by=["hour", "owner"])


@pytest.mark.parametrize(
    "database_kind",
    [pytest.param("postgresql", marks=pytest.mark.postgresql), pytest.param("mysql", marks=pytest.mark.mysql)],
)
async def test_an_open_transaction_is_waited_for(engine: AsyncEngine) -> None:
    """A row that was young when it was written, in a transaction of a host's that is open for hours, is not missed."""
    await add(engine, fixed(NINE - HOUR), fixed(NINE))
    async with engine.connect() as host:
        await host.execute(insert(REQUESTS), [fixed(NINE, cost=Decimal(3))])
        report = await refresh_rollup(engine, wait=0)
        assert report.left > 0
        assert report.until is None or report.until <= NINE
        await both(engine, group_by=["hour"])
        await host.commit()
    await both(engine, group_by=["hour"])

    assert (await refresh_rollup(engine)).left == 0

    assert [line.cost for line in await both(engine, group_by=["hour"])] == [None, Decimal(3)]


async def test_sums_that_no_column_holds_stay_in_the_ledger(engine: AsyncEngine) -> None:
    """An hour beyond 64 bits remains marked, and is read request by request; the others are added up."""
    await add(engine, *(fixed(NINE, **dict.fromkeys(TOKENS, 2**63 - 1)) for _ in range(3)), fixed(NINE + HOUR))
    for _ in range(2):
        report = await refresh_rollup(engine)
        assert (report.left, report.corrected) == (0, 0)
        assert {line.hour for line in await rows_of(engine, TABLES.usage_hours)} == {NINE + HOUR}
        assert {line.hour for line in await rows_of(engine, TABLES.usage_stale)} == {NINE}
        (line, _) = await both(engine, group_by=["hour"])
        assert line.input_tokens == 3 * (2**63 - 1)


async def test_a_clock_that_was_put_back_is_noticed(engine: AsyncEngine) -> None:
    """Hours that are in and are not over are read from the ledger until they are."""
    await add(engine, fixed(NINE))
    await refresh_rollup(engine)
    now = await now_of(engine)
    async with engine.begin() as connection:
        await connection.execute(update(TABLES.usage_rollup).values(added_until=hour_of(now) + 3 * HOUR))
        await connection.execute(insert(REQUESTS), [fixed(now, cost=Decimal(1))])

    for _ in range(2):
        await refresh_rollup(engine)
        (_, line) = await both(engine, group_by=["day"])
        assert line.cost == 1
    assert 3 <= len(await rows_of(engine, TABLES.usage_stale)) <= 5


# ── who marks ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["closed", "lost", "accounted"])
async def test_only_old_attempts_are_marked_when_they_end(engine: AsyncEngine, how: str) -> None:
    """What the roll-up cannot have yet costs no statement more; what it may have is marked with its end."""
    status = "unknown" if how == "accounted" else "started"
    now = await now_of(engine)
    rows = {age: fixed(now - age, chat_id=CHATS[0], status=status) for age in (timedelta(minutes=5), 30 * HOUR)}
    statements: list[str] = []

    def end(connection: Connection, line: Row) -> None:
        match how:
            case "closed":
                close_attempts(connection, TABLES, [closing_parameters(CHATS[0], closed(line["id"]))])
            case "lost":
                lose_attempts(connection, TABLES, CHATS[0])
            case _:
                account(connection, TABLES, HOLD, [closed(line["id"])])

    event.listen(engine.sync_engine, "before_cursor_execute", lambda *given_: statements.append(given_[2]))
    marked = []
    for line in rows.values():
        await empty(engine)
        async with engine.begin() as connection:
            await connection.execute(insert(REQUESTS), [line])
            statements.clear()
            await connection.run_sync(end, line)
            counted = [said.split()[0] for said in statements]
        (after,) = await rows_of(engine, REQUESTS)
        assert after.status == ("unknown" if how == "lost" else "ok")
        marked.append(([mark_.hour for mark_ in await rows_of(engine, TABLES.usage_stale)], counted))

    look = [] if how == "closed" else ["SELECT"]
    hour = hour_of(now - 30 * HOUR)
    assert marked[0] == ([], ["UPDATE", *look])
    assert marked[1] == ([hour], ["UPDATE", *(["UPDATE"] if how == "closed" else []), "SELECT", "INSERT"])


async def test_what_is_imported_is_read_at_once(engine: AsyncEngine, tmp_path: Path) -> None:
    """Old rows that come from a file, of a chat that is there or of one that is gone, are in the next report."""
    chat = new_id()
    head = {"id": chat, "owner": "ann", "created_at": NINE, "updated_at": NINE}
    await add(engine, *(fixed(NINE + n * HOUR, owner="ann", chat_id=chat if n else None) for n in range(2)))
    async with engine.begin() as connection:
        await connection.execute(insert(TABLES.chats), [head])
    wanted = await usage_report(engine, group_by=["hour", "owner"], owner=ANY_OWNER, percentiles=False)
    await export_chats(engine, tmp_path / "chats.jsonl")
    assert "usage_" not in (tmp_path / "chats.jsonl").read_text()
    await empty(engine)
    async with engine.begin() as connection:
        await connection.execute(delete(TABLES.chats))
    await add(engine, fixed(NINE + 5 * HOUR, owner="bob"))
    await refresh_rollup(engine)

    await import_chats(engine, tmp_path / "chats.jsonl")

    assert (await both(engine, group_by=["hour", "owner"]))[:2] == wanted
    assert (await refresh_rollup(engine)).corrected == 2
    await both(engine, group_by=["hour", "owner"])


async def test_nothing_of_an_erased_owner_stays(engine: AsyncEngine) -> None:
    """His name is in none of the tables, also of hours that were marked before; all sums stay what they were."""
    await add(
        engine,
        *(fixed(NINE + n * HOUR, owner=owner, cost=Decimal(n + 1)) for n in range(5) for owner in ("ann", "bob")),
    )
    await refresh_rollup(engine)
    await add(engine, fixed(NINE, owner="ann", cost=Decimal(9)))
    before = await both(engine, group_by=["hour"])

    async def look(_: PurgeReport) -> None:
        assert await both(engine, group_by=["hour"]) == before
        await both(engine, group_by=["owner"])

    await purge(engine, owner="ann", batch=2, progress=look)

    for table in (REQUESTS, *ROLLUP):
        assert "ann" not in repr(await rows_of(engine, table))
    assert await both(engine, group_by=["hour"]) == before
    assert {line.keys["owner"] for line in await both(engine, group_by=["owner"])} == {None, "bob"}
    assert (await refresh_rollup(engine)).corrected == 5
    assert await both(engine, group_by=["hour"]) == before


# ── what is asked ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_report_is_one_statement_over_one_state(engine: AsyncEngine) -> None:
    """Two looks tell how far the roll-up is and what is marked; a refresh with nothing to do only takes its lock."""
    await add(engine, fixed(NINE, owner="ann"), fixed(NINE + 30 * HOUR))
    await refresh_rollup(engine)
    statements: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *given_: statements.append(given_[2].split()[0]))

    await usage_report(engine, group_by=["day", "model"], owner=ANY_OWNER, rollup=True)
    assert statements.count("SELECT") == len(statements) == 3
    statements.clear()
    await refresh_rollup(engine)
    assert [said for said in statements if said in {"INSERT", "UPDATE", "DELETE"}] == ["UPDATE"]


@pytest.mark.parametrize(("comings", "asked"), [(1, 2), (2, 3), (9, 3)])
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_mark_that_comes_in_between_is_noticed(engine: AsyncEngine, comings: int, asked: int) -> None:
    """The report is made again, and from the ledger alone where that happens time and again."""
    await add(engine, *(fixed(NINE + n * HOUR, cost=Decimal(n)) for n in range(9)))
    await refresh_rollup(engine)
    made: list[str] = []

    def come(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "UNION ALL" not in statement:
            return
        made.append(statement)
        if len(made) <= comings:
            hour = f"2026-03-14 {8 + len(made):02}:00:00.000000"
            with closing(sqlite3.connect(engine.url.database or "")) as other, other:
                other.execute("UPDATE llm_requests SET cost = cost + 5 WHERE created_at = ?", (hour,))
                other.execute("INSERT INTO llm_usage_stale (hour, id) VALUES (?, ?)", (hour, new_id().hex))

    event.listen(engine.sync_engine, "before_cursor_execute", come)
    found = await usage_report(engine, group_by=["hour"], owner=ANY_OWNER, rollup=True)
    event.remove(engine.sync_engine, "before_cursor_execute", come)

    assert len(made) == asked
    assert found == await both(engine, group_by=["hour"])


async def test_limits_within_hours_are_read_from_the_ledger(engine: AsyncEngine) -> None:
    """Moments and days that are no whole hours of UTC are limits as they always are."""
    away = (timedelta(minutes=10), timedelta(minutes=20), timedelta(minutes=50))
    await add(engine, *(fixed(NINE + n * HOUR + minutes, cost=Decimal(1)) for n in range(4) for minutes in away))
    await refresh_rollup(engine)
    for since, until, requests in (
        (timedelta(minutes=20), timedelta(hours=2, minutes=50), 7),
        (timedelta(minutes=15), timedelta(minutes=30), 1),
        (timedelta(minutes=15), timedelta(hours=1), 2),
        (timedelta(minutes=15), timedelta(hours=1, minutes=15), 3),
        (timedelta(hours=1), timedelta(hours=3), 6),
    ):
        (line,) = await both(engine, group_by=[], since=NINE + since, until=NINE + until)
        assert line.requests == requests
    (line,) = await both(engine, group_by=[], since=date(2026, 3, 14), time_zone="Asia/Kolkata")
    assert line.requests == 12


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"percentiles": True}, "percentiles"),
        ({"group_by": ["day", "chat"]}, "group_by 'chat'"),
        ({"group_by": ["metadata.team"], "chat_id": CHATS[0]}, "group_by 'metadata.team', chat_id"),
        ({"metadata": {"team": "a"}}, "metadata"),
        ({"time_zone": "Asia/Kolkata"}, "'Asia/Kolkata' is not whole hours away"),
        ({"rollup": "yes"}, "rollup is True or False"),
    ],
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_what_sums_of_hours_do_not_tell_is_refused(
    engine: AsyncEngine, options: dict[str, Any], said: str
) -> None:
    """The error names what is in the way, and how to go on."""
    await add(engine, fixed(NINE))
    with pytest.raises(ConfigurationError, match=said) as caught:
        await usage_report(engine, owner=ANY_OWNER, **{"rollup": True, **options})
    assert options.get("rollup") or "leave" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lag": timedelta(minutes=29)}, "lag=.* at least half an hour"),
        ({"lag": 3600}, "lag=3600"),
        ({"until": datetime(2026, 3, 1)}, "until names no time zone"),  # noqa: DTZ001 — that is what is refused
        ({"wait": -1}, "wait"),
        ({"again": 1}, "again"),
        ({"progress": 1}, "progress"),
        ({"records": REQUESTS}, "records"),
    ],
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_arguments_that_cannot_be_meant_are_refused(
    engine: AsyncEngine, options: dict[str, Any], said: str
) -> None:
    """Before anything is read or written."""
    with pytest.raises(ConfigurationError, match=said):
        await refresh_rollup(engine, **options)


async def test_an_empty_ledger_has_an_empty_roll_up(engine: AsyncEngine) -> None:
    """There is nothing to add up, and a report has what the one over the ledger has."""
    await both(engine)
    report = await refresh_rollup(engine, lag=timedelta(days=10**6))
    assert (report.added, report.left) == (0, 0)
    await refresh_rollup(engine)
    (line,) = await both(engine, group_by=[])
    assert line.requests == 0
