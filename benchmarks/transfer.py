"""What export and import cost: many small chats, and one long one.

Run with ``python benchmarks/transfer.py [--chats 20000] [--length 100000] [database url …]``; `make bench` takes few.
The rows are written directly, so that nothing but the transfer is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import tracemalloc
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from _databases import POSTGRES, NoServerError, own_database
from sqlalchemy import event, insert, make_url

from nodellm_orm import export_chats, import_chats, make_engine, migrate
from nodellm_orm.store.records import RECORDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator

    from sqlalchemy.ext.asyncio import AsyncEngine

DATABASE = "nodellm_bench_transfer"
T = RECORDS.tables
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 1000


def chat_rows(number: int, turns: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A chat of so many turns, each of a question, an answer and a request."""
    chat = UUID(int=(number << 64) + 1)
    made = NOW + timedelta(seconds=number)
    owner = f"owner-{number % 1000}"
    yield (
        "chats",
        {"id": chat, "owner": owner, "next_position": 2 * turns, "model": "m", "created_at": made, "updated_at": made},
    )
    for place in range(turns):
        turn = uuid5(chat, f"turn {place}")
        ends = {"status": "completed", "settings": "{}", "started_at": made, "finished_at": made}
        yield "turns", {"chat_id": chat, "id": turn, "position": place, **ends}
        for position, role in ((2 * place, "user"), (2 * place + 1, "assistant")):
            said = f"{role} says {place} " + "word " * 20
            message = {"chat_id": chat, "turn_id": turn, "position": position, "id": uuid5(chat, str(position))}
            message |= {"role": role, "content": said, "parts": json.dumps([{"type": "text", "text": said}])}
            yield "messages", {**message, "status": "complete", "created_at": made}
        request = {"id": uuid5(turn, "request"), "chat_id": chat, "turn_id": turn, "owner": owner, "operation": "chat"}
        request |= {"provider": "p", "model": "m", "requested_model": "m", "status": "ok", "attempt": 1}
        yield "requests", {**request, "cost": Decimal("0.001234"), "input_tokens": 100, "created_at": made}


async def fill(engine: AsyncEngine, chats: int, length: int) -> None:
    """Small chats of one turn each, and one of so many messages."""
    waiting: dict[str, list[dict[str, Any]]] = {name: [] for name in ("chats", "turns", "messages", "requests")}
    async with engine.begin() as connection:

        async def send(least: int) -> None:
            if max(map(len, waiting.values())) >= least:
                for name, rows in waiting.items():
                    if rows:
                        await connection.execute(insert(getattr(T, name)), rows)
                    rows.clear()

        for number in range(1, chats + 1):
            for name, row in chat_rows(number, 1):
                waiting[name].append(row)
            await send(BATCH)
        for name, row in chat_rows(chats + 1, length // 2) if length else ():
            waiting[name].append(row)
            await send(BATCH)
        await send(1)


class Cost:
    """Seconds and statements of a piece of work."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Begin to count."""
        self.statements = 0
        event.listen(engine.sync_engine, "before_cursor_execute", self._statement)

    def _statement(self, *_: object) -> None:
        self.statements += 1

    async def of(self, title: str, work: Awaitable[object], items: int) -> None:
        """Print the cost of one piece of work."""
        self.statements = 0
        began = time.perf_counter()
        await work
        taken = time.perf_counter() - began
        each = taken / items * 1000
        print(f"  {title:34} {taken:7.2f} s  {each:6.3f} ms each  {self.statements:,} statements")


async def measure(source: AsyncEngine, target: AsyncEngine, chats: int, length: int, path: Path) -> None:
    """Print what the transfer from one database into another one of the same kind costs."""
    print(f"{source.dialect.name}: {chats:,} chats of two messages, one of {length:,}")
    for engine in (source, target):
        await migrate(engine)
    await fill(source, chats, length)
    ids = [UUID(int=(number << 64) + 1) for number in range(1, chats + 2)]
    read, written = Cost(source), Cost(target)
    for title, chosen, items in (("small chats", ids[:-1], chats), ("long chat, a message", ids[-1:], length)):
        if items:
            await read.of(f"export, {title}", export_chats(source, path, chats=chosen), items)
            await written.of(f"import, {title}", import_chats(target, path), items)
            await written.of(f"import again, {title}", import_chats(target, path), items)
    for name, work in (("export", lambda: export_chats(source, path)), ("import", lambda: import_chats(target, path))):
        tracemalloc.start()
        await work()
        print(f"  {name} of all: at most {tracemalloc.get_traced_memory()[1] / (1 << 20):.1f} MiB of Python's memory")
        tracemalloc.stop()


@asynccontextmanager
async def databases(url: str, folder: Path) -> AsyncIterator[tuple[AsyncEngine, AsyncEngine]]:
    """Two databases of our own, which are dropped afterwards."""
    async with AsyncExitStack() as stack:
        engines = []
        for name in (f"{DATABASE}_1", f"{DATABASE}_2"):
            if make_url(url).get_backend_name() == "sqlite":
                mine = f"sqlite:///{folder / name}.db"
            else:
                mine = await stack.enter_async_context(own_database(url, name))
            engines.append(make_engine(mine, deadline=600))
            stack.push_async_callback(engines[-1].dispose)
        yield engines[0], engines[1]


async def main(urls: list[str], chats: int, length: int) -> None:
    """Measure on each database that answers."""
    for url in urls:
        with tempfile.TemporaryDirectory() as folder:
            try:
                async with databases(url, Path(folder)) as (source, target):
                    await measure(source, target, chats, length, Path(folder) / "chats.jsonl")
            except NoServerError as error:
                print(error, file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chats", type=int, default=1000, help="small chats")
    parser.add_argument("--length", type=int, default=10_000, help="messages of the long chat")
    parser.add_argument("urls", nargs="*")
    given = parser.parse_args()
    usual = [
        "sqlite://",
        POSTGRES,
    ]
    asyncio.run(main(given.urls or usual, given.chats, given.length))
