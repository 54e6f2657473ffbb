"""The overview adds up the ledger: exactly, once for all who ask, and without writing anything."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from nodellm_orm import ANY_OWNER, create_chat, tool, usage_report
from nodellm_orm.inspector import create_inspector
from nodellm_orm.inspector.overview import Overviews, overview_of
from nodellm_orm.inspector.source import Source
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.incidents import read_incidents
from nodellm_orm.store.records import RECORDS
from nodellm_orm.testing import FakeCall
from tests.acceptance.inspector.hostile import PNG
from tests.acceptance.inspector.test_long_chats import Reads
from tests.acceptance.inspector.visits import TOKEN, Page, visitor
from tests.acceptance.speakers import Says, Speaker

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncEngine

DAYS = 7


@tool
def look(text: str) -> str:
    """Look."""
    return text


async def ledger(engine: AsyncEngine, owner: str = "ada") -> datetime:
    """A month of requests of three models: some failed, some not timed, some of unknown cost; gives the present."""
    chance = random.Random(7)  # noqa: S311 — the same rows each time
    now = (await read_incidents(engine, owner=ANY_OWNER)).read_at
    rows: list[dict[str, Any]] = [
        {
            "id": new_id(),
            "owner": owner,
            "labels": {},
            "operation": "chat",
            "provider": "openai",
            "model": None if number % 9 == 0 else f"model-{number % 3}",
            "requested_model": f"model-{number % 3}",
            "status": "failed" if number % 9 == 0 else "ok",
            "attempt": 1,
            "latency_ms": None if number % 10 == 0 else int(chance.lognormvariate(7, 2)),
            "input_tokens": None if number % 3 == 1 else number,
            "output_tokens": 2**40,
            "other_tokens": {},
            "cost": None if number % 7 == 0 else Decimal(chance.randrange(10**12)).scaleb(-12),
            "created_at": now - timedelta(hours=number),
        }
        for number in range(24 * 30)
    ]
    requests = RECORDS.tables.requests
    async with engine.begin() as connection:
        await connection.execute(requests.insert(), rows)
    return now


async def test_sums_are_those_of_the_report(engine: AsyncEngine) -> None:
    """Counts and costs are the report's to the last digit, of all, by day and by model; times are rounded down."""
    now = await ledger(engine)
    await ledger(engine, owner="bob")
    found = await overview_of(Source(session=engine, records=RECORDS, owner="ada"), now, DAYS)

    async def told(*names: str) -> dict[Any, Any]:
        rows = await usage_report(engine, group_by=names, since=found.days[0], owner="ada")
        return {next(iter(row.keys.values()), None): row for row in rows}

    assert len(found.days) == DAYS
    assert [name for name, _ in found.models] == sorted(
        (name for name, _ in found.models), key=lambda name: -sum(found.cost[name].values())
    )
    for shown, rows in (
        ({None: found.total}, await told()),
        (dict(found.models), await told("model")),
        (dict(found.by_day), await told("day")),
    ):
        assert shown.keys() == rows.keys()
        for name, sums in shown.items():
            row = rows[name]
            for field in ("requests", "failures", "unpriced", "input_tokens", "output_tokens", "cost"):
                assert getattr(sums, field) == getattr(row, field), (name, field)
            for exact, about in ((row.latency_p50, sums.latency_p50), (row.latency_p95, sums.latency_p95)):
                assert about is not None
                assert exact * 0.95 <= about <= exact


async def test_sums_are_added_up_once_for_all_who_ask(engine: AsyncEngine) -> None:
    """Readers at the same time, and soon after, are given the same sums; another span or another day is a new one."""
    now = await ledger(engine)
    reads = Reads(engine)
    overviews = Overviews(Source(session=engine, records=RECORDS, owner=ANY_OWNER), times=1e9)
    first, *others = await asyncio.gather(*(overviews.of(DAYS, now) for _ in range(5)))
    once = reads.statements["SELECT"]
    await overviews.of(DAYS, now)

    assert all(other is first for other in others)
    assert once <= 3
    assert reads.statements["SELECT"] == once
    assert (await overviews.of(30, now)).days[0] < first.days[0]
    assert (await overviews.of(DAYS, now + timedelta(days=1))) is not first
    fresh = Overviews(Source(session=engine, records=RECORDS, owner=ANY_OWNER), times=0)
    assert await fresh.of(DAYS, now) is not await fresh.of(DAYS, now)


async def test_no_page_writes(engine: AsyncEngine) -> None:
    """Every page is shown by a database that refuses to be written to, and sends nothing but questions."""
    script = [Says(calls=[FakeCall("look", {"text": "x"})]), Says(text="done")]
    async with Speaker("anthropic").server(*script) as server, Speaker("anthropic").llm(server) as llm:
        chat = await create_chat(engine, llm, title="kept", tools=[look])
        await chat.ask("go", files=[PNG])
    await ledger(engine)
    await engine.dispose()
    refusal = {
        "postgresql": "SET default_transaction_read_only = on",
        "mysql": "SET SESSION TRANSACTION READ ONLY",
        "sqlite": "PRAGMA query_only = ON",
    }[engine.dialect.name]

    @event.listens_for(engine.sync_engine, "connect")
    def refuse(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute(refusal)
        cursor.close()
        connection.commit()

    reads = Reads(engine)
    async with visitor(create_inspector(engine, token=TOKEN)) as client:
        page = Page.of(await client.get(f"/chats/{chat.id}"))
        paths = ["/", "/?state=waiting&title=k&metadata=a%3Db", f"/chats/{chat.id}?turn=1", *page.links()]
        paths += ["/overview?days=90", f"/chats/{chat.id}/messages/1"]
        statuses = {path: (await client.get(path)).status_code for path in paths if path.startswith("/")}

    assert any("/files/" in path for path in statuses)
    assert set(statuses.values()) == {200}
    assert set(reads.statements) <= {"SELECT", "SET", "SHOW", "PRAGMA", "BEGIN", "ROLLBACK"}
    with pytest.raises(DBAPIError):
        async with engine.begin() as connection:
            await connection.execute(RECORDS.tables.chats.delete())
