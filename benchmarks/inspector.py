"""What the inspector's pages cost: a database full of chats, each page and filter timed, its statements counted.

Run with ``python benchmarks/inspector.py --messages 1000000 [database url]``; `make bench` takes a few. PostgreSQL and
a SQLite file are filled, and removed afterwards. There are twenty messages for each chat; a few chats are long, up to
10,000 messages. Every message has a row in the ledger, within the last ninety days.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from _databases import POSTGRES, NoServerError, own_database
from sqlalchemy import event, text

from nodellm_orm import make_engine, migrate
from nodellm_orm.inspector import create_inspector

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

DATABASE = "nodellm_bench_inspector"
TOKEN = "what opens the inspector"  # noqa: S105 — for the time of a measurement
RUNS = 5
SHORT, LONG = 19, 10_000
LONG_CHATS = 5
DAYS = 90
DATABASE_SECONDS = 600.0


@dataclass(frozen=True)
class Sql:
    """What PostgreSQL and SQLite say differently."""

    postgres: bool

    def id(self, kind: int, chat: str, number: str = "0") -> str:
        """An id made of what it is of; those of chats rise with time."""
        digits = "lpad(to_hex({0}), 8, '0')" if self.postgres else "printf('%08x', {0})"
        whole = f"{digits.format(chat)} || {digits.format(number)} || '{kind:016x}'"
        return f"CAST({whole} AS uuid)" if self.postgres else f"({whole})"

    def at(self, seconds: str) -> str:
        """A moment, by seconds since 1970."""
        if self.postgres:
            return f"to_timestamp({seconds})"
        return f"(strftime('%Y-%m-%d %H:%M:%f', {seconds}, 'unixepoch') || '000')"

    def money(self, number: str) -> str:
        """A thousandth of a cent for each."""
        return f"({number}) * 0.00001" if self.postgres else f"({number}) * 10000000"

    def numbers(self, name: str, count: str) -> str:
        """As many rows as there are to be, with their number ``n``."""
        if self.postgres:
            return f"JOIN LATERAL generate_series(0, ({count}) - 1) AS {name} (n) ON true"
        return f"JOIN bench_numbers AS {name} ON {name}.n < ({count})"

    def blob(self) -> str:
        """Some bytes."""
        return "decode('00ff', 'hex')" if self.postgres else "x'00ff'"


def filling(sql: Sql, chats: int, long: int) -> list[str]:
    """The statements that fill the tables."""
    length = f"(CASE WHEN c.n % {chats // LONG_CHATS} = {chats // LONG_CHATS - 1} THEN {long} ELSE {SHORT} END)"
    step = DAYS * 86_400 / chats
    # The last chat begins a day ago, so that nothing of it is in the future.
    begun = f":first + c.n * {step:.6f}"
    created = sql.at(begun)
    every = f"FROM (SELECT 1) AS one {sql.numbers('c', str(chats))}"
    said = sql.at(f"{begun} + p.n")
    turn = sql.id(2, "c.n", "p.n / 4")
    answers = "p.n % 2 = 1"
    owner = "'owner-' || (c.n % 500)"
    provider = "(CASE c.n % 3 WHEN 0 THEN 'openai' WHEN 1 THEN 'anthropic' ELSE 'gemini' END)"
    model = "(CASE c.n % 3 WHEN 0 THEN 'gpt-5-mini' WHEN 1 THEN 'claude-sonnet-4-5' ELSE 'gemini-2.5-pro' END)"
    labels = "'{\"team\": \"team ' || (c.n % 12) || '\"}'"
    within = f"{every} {sql.numbers('p', length)}"
    turns = f"{every} {sql.numbers('p', f'({length} + 3) / 4')}"
    is_last = f"p.n = ({length} + 3) / 4 - 1"
    held = "c.n % 4000 = 17"
    status = (
        f"(CASE WHEN {held} AND {is_last} THEN 'running' WHEN c.n % 1000 = 7 AND {is_last} THEN 'suspended' "
        f"WHEN (c.n + p.n) % 60 = 8 THEN 'failed' ELSE 'completed' END)"
    )
    failed = "p.n % 40 = 8"
    return [
        f"""INSERT INTO llm_chats (id, owner, title, model, provider, api, instructions, settings, metadata,
            active_turn_id, lease_owner, lease_until, fence, next_position, step, version, created_at, updated_at)
        SELECT {sql.id(1, "c.n")}, {owner}, CASE WHEN c.n % 4 <> 0 THEN 'Chat ' || c.n || ' on oil and vinegar' END,
            {model}, {provider}, 'chat', '["Be brief."]', '{{}}', {labels},
            CASE WHEN {held} THEN {sql.id(2, "c.n", f"({length} + 3) / 4 - 1")} END, CASE WHEN {held} THEN 'w' END,
            CASE WHEN {held} THEN {created} END, 1, {length}, 9, 0, {created}, {created} {every}""",
        f"""INSERT INTO llm_turns (chat_id, id, position, status, reason, active_slot, takeovers, settings, error_type,
            error_message, started_at, finished_at)
        SELECT {sql.id(1, "c.n")}, {sql.id(2, "c.n", "p.n")}, p.n, {status},
            CASE WHEN {status} = 'suspended' THEN 'approval' END,
            CASE WHEN {status} IN ('running', 'suspended') THEN 1 END, 0, '{{}}',
            CASE WHEN {status} = 'failed' THEN 'ServerError' END,
            CASE WHEN {status} = 'failed' THEN 'the provider is overloaded' END,
            {sql.at(f"{begun} + p.n * 4")}, CASE WHEN {status} <> 'running' THEN {sql.at(f"{begun} + p.n * 4 + 4")} END
        {turns}""",
        f"""INSERT INTO llm_messages (chat_id, position, id, turn_id, role, content, parts, status, model, provider,
            api, created_at)
        SELECT {sql.id(1, "c.n")}, p.n, {sql.id(3, "c.n", "p.n")}, {turn},
            CASE p.n % 4 WHEN 0 THEN 'user' WHEN 2 THEN 'tool' ELSE 'assistant' END,
            'Message ' || p.n || ': how much oil does the vinegar need, and does it depend on which mustard there is?',
            '[{{"type": "text", "text": "Message ' || p.n || ': how much oil does the vinegar need, and so on?"}}]',
            'complete', CASE WHEN {answers} THEN {model} END, CASE WHEN {answers} THEN {provider} END,
            CASE WHEN {answers} THEN 'chat' END, {said} {within}""",
        f"""INSERT INTO llm_tool_calls (chat_id, id, turn_id, message_id, position, call_id, name, arguments, status,
            result, attempts, started_at, finished_at)
        SELECT {sql.id(1, "c.n")}, {sql.id(4, "c.n", "p.n")}, {turn}, {sql.id(3, "c.n", "p.n")}, 0, 'call_' || p.n,
            'look_up', '{{"place": "shelf ' || p.n || '"}}', CASE WHEN p.n % 40 = 9 THEN 'failed' ELSE 'succeeded' END,
            '{{"found": [1, 2, 3], "of": "' || p.n || '"}}', 1, {said}, {said} {within} WHERE p.n % 4 = 1""",
        f"""INSERT INTO llm_thinking (chat_id, id, message_id, position, text, redacted, tokens)
        SELECT {sql.id(1, "c.n")}, {sql.id(5, "c.n", "p.n")}, {sql.id(3, "c.n", "p.n")}, 0, 'Which mustard?', false, 12
        {within} WHERE p.n % 12 = 3""",
        f"""INSERT INTO llm_requests (id, chat_id, turn_id, message_id, owner, labels, operation, provider, model,
            requested_model, status, http_status, error_type, attempt, request_id, latency_ms, first_token_ms,
            input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, other_tokens, cost,
            input_cost, output_cost, prices, price_source, created_at)
        SELECT {sql.id(6, "c.n", "p.n")}, {sql.id(1, "c.n")}, {turn},
            CASE WHEN {answers} THEN {sql.id(3, "c.n", "p.n")} END, {owner}, {labels},
            CASE WHEN {answers} OR {failed} THEN 'chat' ELSE 'embed' END, {provider}, {model}, {model},
            CASE WHEN {failed} THEN 'failed' ELSE 'ok' END, CASE WHEN {failed} THEN 529 ELSE 200 END,
            CASE WHEN {failed} THEN 'ServerError' END, 1, 'req_' || c.n || '_' || p.n,
            200 + (c.n * 7919 + p.n * 104729) % 9000, 100 + (c.n * 31 + p.n * 17) % 900,
            100 + p.n % 5000, p.n % 90, 0, 20 + p.n % 300, 0, '{{}}',
            CASE WHEN p.n % 50 <> 1 AND NOT ({failed}) THEN {sql.money("1 + (c.n + p.n) % 977")} END,
            {sql.money("1")}, {sql.money("p.n % 900")}, '{{"input": [1234, "0.25"], "output": [321, "2.00"]}}',
            'a price list', {said} {within}""",
        f"""INSERT INTO llm_blobs (owner, sha256, size, data, created_at)
        SELECT {owner}, 'digest-' || c.n, 2, {sql.blob()}, {created} {every} WHERE c.n % 20 = 3""",
        f"""INSERT INTO llm_attachments (chat_id, id, message_id, position, kind, media_type, name, size, sha256)
        SELECT {sql.id(1, "c.n")}, {sql.id(7, "c.n")}, {sql.id(3, "c.n")}, 1, 'document', 'application/pdf', 'a.pdf', 2,
            'digest-' || c.n {every} WHERE c.n % 20 = 3""",
    ]


async def fill(engine: AsyncEngine, messages: int) -> None:
    """Make the tables, and fill them by SQL."""
    sql = Sql(postgres=engine.dialect.name == "postgresql")
    chats, long = sizes(messages)
    await migrate(engine)
    async with engine.begin() as connection:
        now = "extract(epoch FROM now())" if sql.postgres else "strftime('%s', 'now')"
        first = float(await connection.scalar(text(f"SELECT {now}")) or 0) - (DAYS + 1) * 86_400
        if not sql.postgres:
            await connection.execute(text("CREATE TABLE bench_numbers (n INTEGER PRIMARY KEY)"))
            await connection.execute(
                text(
                    "WITH RECURSIVE counting (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM counting WHERE n < :last) "
                    "INSERT INTO bench_numbers SELECT n FROM counting"
                ),
                {"last": max(chats, long)},
            )
        for statement in filling(sql, chats, long):
            # A colon within a text is no parameter.
            safe = statement.replace(":first", "\0").replace(":", "\\:").replace("\0", ":first")
            await connection.execute(text(safe), {"first": first} if ":first" in safe else {})
    async with engine.connect() as connection:
        free = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await free.execute(text("VACUUM ANALYZE" if sql.postgres else "ANALYZE"))


def sizes(messages: int) -> tuple[int, int]:
    """How many chats there are, and how many messages the long ones have."""
    return max(messages // 20, 2 * LONG_CHATS), min(LONG, messages // 20)


def pages(messages: int) -> dict[str, str]:
    """What is looked at: titles and addresses."""
    chats, long = sizes(messages)
    longest = f"{chats // LONG_CHATS - 1:08x}{'0' * 8}{1:016x}"
    paged = f"{3:08x}{'0' * 8}{1:016x}"
    return {
        "chats": "/",
        "chats, text in the title": "/?title=vinegar",
        "chats, text in no title": "/?title=nowhere",
        "chats, failed": "/?state=failed",
        "chats, running": "/?state=running",
        "chats, interrupted": "/?state=interrupted",
        "chats, waiting": "/?state=waiting",
        "chats, an owner": "/?owner=owner-7",
        "chats, no such owner": "/?owner=nobody",
        "chats, a model": "/?model=gpt-5-mini",
        "chats, no such model": "/?model=none",
        "chats, a provider": "/?provider=gemini",
        "chats, metadata": "/?metadata=team%3Dteam+7",
        "chats, no such metadata": "/?metadata=team%3Dnone",
        "a long chat, first page": f"/chats/{longest}",
        "a long chat, in its middle": f"/chats/{longest}?first={long // 2}",
        "a long chat, last page": f"/chats/{longest}?first={long}",
        "a long chat, a turn": f"/chats/{longest}?turn={long // 8}",
        "a chat with a file": f"/chats/{paged}",
        "one message": f"/chats/{paged}/messages/1",
        "a file": f"/chats/{paged}/files/{3:08x}{'0' * 8}{7:016x}",
        "overview, 7 days": "/overview?days=7",
        "overview, 30 days": "/overview?days=30",
        "overview, 90 days": "/overview?days=90",
    }


class Watch:
    """Statements that an engine is given, with their times and rows."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Begin to watch."""
        self.statements: list[tuple[float, str, Any]] = []
        self.rows = 0
        self._began = 0.0
        event.listen(engine.sync_engine, "before_cursor_execute", self._before)
        event.listen(engine.sync_engine, "after_cursor_execute", self._after)

    def _before(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def _after(self, _connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        self.statements.append(((time.perf_counter() - self._began) * 1000, statement, parameters))
        # The adapters of asynchronous drivers have fetched all rows by now.
        self.rows += len(cursor._rows)  # noqa: SLF001 — there is no other way to count them


async def measure(engine: AsyncEngine, messages: int, explained: float | None) -> None:
    """Print what each page takes: the first time, and the median of some more."""
    watch = Watch(engine)
    transport = httpx.ASGITransport(create_inspector(engine, token=TOKEN))
    slow: list[tuple[str, str, Any]] = []
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=DATABASE_SECONDS) as client:
        await client.get("/", params={"token": TOKEN})
        looked_at = pages(messages)
        deep = "/"
        for _ in range(20):
            deep = older(await client.get(deep)) or deep
        looked_at["chats, twenty pages on"] = deep
        print(f"{engine.dialect.name}, {messages:,} messages: first, then median; statements; rows; page")
        for title, path in looked_at.items():
            watch.statements.clear()
            watch.rows = 0
            first, response = await looked(client, path)
            counted = f"{len(watch.statements):3}  {watch.rows:6,}"
            longest = max(watch.statements, key=lambda one: one[0], default=(0.0, "", None))
            again = statistics.median([(await looked(client, path))[0] for _ in range(RUNS)])
            if response.is_error:
                print(f"  {title}: {response.status_code} {response.text[:200]}")
                continue
            size = len(response.content) / 1024
            print(f"  {first:7.0f} {again:7.0f} ms  {counted}  {size:6.0f} KB  {title}")
            if explained is not None and longest[0] >= explained:
                slow.append((f"{title}: {longest[0]:.0f} ms", longest[1], longest[2]))
    if engine.dialect.name == "postgresql":
        async with engine.connect() as connection:
            for title, statement, parameters in slow:
                plan = await connection.exec_driver_sql(
                    f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement}", parameters
                )
                print(f"-- {title}\n{statement}")
                print("\n".join(line[:160] for (line,) in plan))


async def looked(client: httpx.AsyncClient, path: str) -> tuple[float, httpx.Response]:
    """A page, and the milliseconds until it was there."""
    began = time.perf_counter()
    response = await client.get(path)
    return (time.perf_counter() - began) * 1000, response


def older(response: httpx.Response) -> str | None:
    """The address of the next page."""
    _, found, rest = response.text.partition('<a rel="next" data-key="n" href="')
    return rest.partition('"')[0].replace("&amp;", "&") if found else None


async def on(url: str, messages: int, explained: float | None) -> None:
    """Fill a database of our own, and measure on it."""
    engine = make_engine(url, deadline=DATABASE_SECONDS)
    try:
        await fill(engine, messages)
        await measure(engine, messages, explained)
    finally:
        await engine.dispose()


async def on_sqlite(messages: int, explained: float | None) -> None:
    """Measure on a file, which is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        await on(f"sqlite:///{folder}/chats.db", messages, explained)


async def on_postgres(url: str, messages: int, explained: float | None) -> None:
    """Measure on a database of our own, which is dropped afterwards."""
    try:
        async with own_database(url, DATABASE) as mine:
            await on(mine, messages, explained)
    except NoServerError as error:
        print(error)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="about so many")
    parser.add_argument(
        "--explain", type=float, metavar="MS", help="plans of statements that take so long (PostgreSQL)"
    )
    parser.add_argument("--only", choices=["postgresql", "sqlite"], help="one of the two")
    parser.add_argument(
        "url",
        nargs="?",
        default=POSTGRES,
    )
    given = parser.parse_args()
    if given.only != "sqlite":
        asyncio.run(on_postgres(given.url, given.messages, given.explain))
    if given.only != "postgresql":
        asyncio.run(on_sqlite(given.messages, given.explain))
