"""What a search costs on PostgreSQL: with the index of words and without it, for rare words and for common ones.

Run with ``python benchmarks/search.py --messages 1000000 [database url]``; `make bench` takes a small number. Without a
server that answers there is nothing to be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any

from _databases import POSTGRES, NoServerError, own_database
from sqlalchemy import text

from nodellm_orm import ANY_OWNER, create_search_index, make_engine, migrate, search_messages

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import FoundMessages

DATABASE = "nodellm_bench_search"
RUNS = 5
SEARCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "a word in every 20,000th message": ("needle", {}),
    "two words, each in every 100th": ("seldom1 seldom2", {}),
    "a beginning": ("needl*", {}),
    "a word in every second message": ("often", {}),
    "a word that only old messages have, in 2 of 100 of all": ("once", {}),
    "a word that nobody has said": ("nothing", {}),
    "a word in every 100th, of one owner": ("seldom1", {"owner": "owner-7"}),
}
CHATS = """
    INSERT INTO llm_chats (id, owner, instructions, settings, metadata, fence, next_position, step, version, created_at,
        updated_at)
    SELECT CAST(lpad(to_hex(n), 32, '0') AS uuid), 'owner-' || (n % 500), '[]', '{}', '{}', 0, 20, 0, 0, moment, moment
    FROM (SELECT n, timestamptz '2026-01-01 00:00+00' + n * interval '1 minute' AS moment
        FROM generate_series(0, CAST(:messages AS bigint) / 20 - 1) AS n) AS chats
"""
MESSAGES = """
    INSERT INTO llm_messages (chat_id, position, id, role, content, parts, status, created_at)
    SELECT CAST(lpad(to_hex(n / 20), 32, '0') AS uuid), n % 20, gen_random_uuid(),
        CASE WHEN n % 2 = 0 THEN 'user' ELSE 'assistant' END,
        (SELECT string_agg('word' || floor(20000 * power(random(), 3)), ' ') FROM generate_series(1, 60 + 0 * n))
            || CASE WHEN n % 20000 = 77 THEN ' Needle.' ELSE '' END
            || CASE WHEN n % 2 = 0 THEN ' often' ELSE '' END
            || CASE WHEN n % 100 = 3 THEN ' seldom1' ELSE '' END
            || CASE WHEN n % 97 = 3 THEN ' seldom2' ELSE '' END
            || CASE WHEN n < CAST(:messages AS bigint) / 10 AND n % 5 = 0 THEN ' once' ELSE '' END,
        '[]', 'complete', timestamptz '2026-01-01 00:00+00' + n * interval '3 seconds'
    FROM generate_series(0, CAST(:messages AS bigint) - 1) AS n
"""


async def measure(engine: AsyncEngine, messages: int) -> None:
    """Print the median time of the first page of each search, with the index and without."""
    await migrate(engine)
    async with engine.begin() as connection:
        for statement in (CHATS, MESSAGES):
            await connection.execute(text(statement), {"messages": messages})
    await tidy(engine)
    await searches(engine, messages, "read")
    began = time.perf_counter()
    await create_search_index(engine)
    print(f"{messages:,} messages, the index was made in {time.perf_counter() - began:.1f} s")
    await tidy(engine)
    async with engine.connect() as connection:
        sizes = "SELECT pg_relation_size('ix_llm_messages_words') / 1048576, pg_table_size('llm_messages') / 1048576"
        index, table = (await connection.execute(text(sizes))).one()
    print(f"{messages:,} messages, the index has {index} MB, the table {table} MB")
    await searches(engine, messages, "indexed")


async def tidy(engine: AsyncEngine) -> None:
    """What PostgreSQL does by itself after some time."""
    async with engine.connect() as connection:
        free = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await free.execute(text("VACUUM ANALYZE llm_messages, llm_chats"))


async def searches(engine: AsyncEngine, messages: int, way: str) -> None:
    """Print the median time of each search's first page, and what was read for it."""
    for title, (typed, options) in SEARCHES.items():
        taken: list[float] = []
        pages: list[FoundMessages] = []
        for _ in range(RUNS):
            began = time.perf_counter()
            pages.append(await search_messages(engine, typed, **{"owner": ANY_OWNER, **options}))
            taken.append((time.perf_counter() - began) * 1000)
        page = pages[-1]
        more = ", more to read" if page.next else ""
        print(
            f"{messages:,} messages, {way}, {title}: {statistics.median(taken):.0f} ms, {len(page)} found in "
            f"{page.searched:,}{more}"
        )


async def main(url: str, messages: int) -> None:
    """Measure on a database of our own, which is dropped afterwards."""
    try:
        async with own_database(url, DATABASE) as mine:
            engine = make_engine(mine, deadline=600)
            try:
                await measure(engine, messages)
            finally:
                await engine.dispose()
    except NoServerError as error:
        print(error)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="messages, in chats of twenty")
    parser.add_argument(
        "url",
        nargs="?",
        default=POSTGRES,
    )
    given = parser.parse_args()
    asyncio.run(main(given.url, given.messages))
