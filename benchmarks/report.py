"""What a report costs: a month of requests on PostgreSQL, by day and model with the plan, and from the roll-up.

Run with ``python benchmarks/report.py --rows 1000000 [database url]``; `make bench` takes a small month. Without a
server that answers there is nothing to be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from datetime import date
from typing import TYPE_CHECKING, Any

from _databases import POSTGRES, NoServerError, own_database
from sqlalchemy import event, text

from nodellm_orm import ANY_OWNER, make_engine, migrate, refresh_rollup, usage_report

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

DATABASE = "nodellm_bench_report"
RUNS = 5
MONTH = {"since": date(2026, 3, 1), "until": date(2026, 4, 1), "owner": ANY_OWNER}
REPORTS: dict[str, dict[str, Any]] = {
    "by day and model": {"group_by": ["day", "model"]},
    "by day and model, no percentiles": {"group_by": ["day", "model"], "percentiles": False},
    "the same, in Berlin": {"group_by": ["day", "model"], "percentiles": False, "time_zone": "Europe/Berlin"},
    "by metadata, no percentiles": {"group_by": ["metadata.team"], "percentiles": False},
    "one owner, by day and model": {"group_by": ["day", "model"], "owner": "owner-7"},
}
ROLLED: dict[str, dict[str, Any]] = {
    "by day and model": {"group_by": ["day", "model"]},
    "the same, in Berlin": {"group_by": ["day", "model"], "time_zone": "Europe/Berlin"},
    "by owner": {"group_by": ["owner"]},
    "one owner, by day and model": {"group_by": ["day", "model"], "owner": "owner-7"},
}
"""What the roll-up is asked for."""
FILL = """
    INSERT INTO llm_requests (id, chat_id, turn_id, owner, labels, operation, provider, model, requested_model, status,
        http_status, attempt, request_id, latency_ms, first_token_ms, input_tokens, cached_tokens, cache_write_tokens,
        output_tokens, reasoning_tokens, other_tokens, cost, input_cost, output_cost, prices, price_source, created_at)
    SELECT gen_random_uuid(), CAST(md5(CAST(n / 20 AS text)) AS uuid), CAST(md5(CAST(n / 2 AS text)) AS uuid),
        'owner-' || (n % 500), '{"team": "team ' || (n % 12) || '"}', 'chat', p.name, p.model, p.model,
        CASE WHEN n % 40 = 7 THEN 'failed' WHEN n % 90 = 8 THEN 'cancelled' ELSE 'ok' END,
        200, 1, 'req_' || md5(CAST(n AS text)), CAST(random() * random() * 20000 AS int), CAST(random() * 2000 AS int),
        CAST(random() * 8000 AS int), CAST(random() * 4000 AS int), 0, CAST(random() * 1000 AS int), 0, '{}',
        CASE WHEN n % 50 <> 0 THEN CAST(random() * 0.05 AS numeric(24, 12)) END,
        CAST(random() * 0.02 AS numeric(24, 12)), CAST(random() * 0.03 AS numeric(24, 12)),
        '{"input": [1234, "0.25"], "output": [321, "2.00"]}', 'a price list',
        timestamptz '2026-03-01 00:00+00' + n * (interval '31 days' / CAST(:rows AS double precision))
    FROM generate_series(0, CAST(:rows AS bigint) - 1) AS n
    JOIN (VALUES (0, 'openai', 'gpt-5-mini'), (1, 'anthropic', 'claude-sonnet-4-5'), (2, 'gemini', 'gemini-2.5-pro'),
        (3, 'openai', 'gpt-5')) AS p (place, name, model) ON p.place = n % 4
"""


async def measure(engine: AsyncEngine, rows: int) -> None:
    """Print the median time of each report, and the plan of the first."""
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.execute(text(FILL), {"rows": rows})
    async with engine.connect() as connection:
        free = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await free.execute(text("VACUUM ANALYZE llm_requests"))
    for title, options in REPORTS.items():
        await timed(engine, f"{rows:,} requests, {title}", options)
    began = time.perf_counter()
    report = await refresh_rollup(engine)
    taken = time.perf_counter() - began
    print(f"{rows:,} requests, added up: {taken:.1f} s, {report.added} hours")
    for title, options in ROLLED.items():
        await timed(engine, f"{rows:,} requests, from the roll-up, {title}", {**options, "rollup": True})
    for title in ("by day and model, no percentiles", "by day and model"):
        await explain(engine, title)


async def timed(engine: AsyncEngine, title: str, options: dict[str, Any]) -> None:
    """Print the median time of a report."""
    taken: list[float] = []
    groups = 0
    for _ in range(RUNS):
        began = time.perf_counter()
        groups = len(await usage_report(engine, **{**MONTH, **options}))
        taken.append((time.perf_counter() - began) * 1000)
    print(f"{title}: {statistics.median(taken):.1f} ms, {groups} rows")


async def explain(engine: AsyncEngine, title: str) -> None:
    """Print PostgreSQL's own account of how it answers a report."""
    plans: list[Any] = []

    def ask(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "GROUP BY" in statement and not statement.startswith("EXPLAIN"):
            cursor.execute(f"EXPLAIN (ANALYZE, COSTS OFF) {statement}", parameters)
            plans.extend(line for (line,) in cursor.fetchall())
        del connection

    event.listen(engine.sync_engine, "before_cursor_execute", ask)
    await usage_report(engine, **{**MONTH, **REPORTS[title]})
    event.remove(engine.sync_engine, "before_cursor_execute", ask)
    print(f"-- {title}")
    print("\n".join(line[:160] for line in plans))


async def main(url: str, rows: int) -> None:
    """Measure on a database of our own, which is dropped afterwards."""
    try:
        async with own_database(url, DATABASE) as mine:
            engine = make_engine(mine, deadline=600)
            try:
                await measure(engine, rows)
            finally:
                await engine.dispose()
    except NoServerError as error:
        print(error)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="requests in the month")
    parser.add_argument(
        "url",
        nargs="?",
        default=POSTGRES,
    )
    given = parser.parse_args()
    asyncio.run(main(given.url, given.rows))
