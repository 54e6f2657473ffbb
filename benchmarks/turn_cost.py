"""What a turn costs: statements, commits, bytes on the wire, and milliseconds beside a bare HTTP request.

Run with ``make bench``, or ``python benchmarks/turn_cost.py [database url …]``. The model is a loopback server that
answers at once, so that nearly all of the time is ours and the database's.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from _databases import POSTGRES, own_database
from sqlalchemy import event, make_url

from nodellm_orm import create_chat, create_llm, load_chat, make_engine, migrate, tool
from nodellm_orm.testing import FakeCall, LoopbackServer, json_answer, openai_chat_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.testing import Answer, ReceivedRequest

TURNS = 100
DATABASE = "nodellm_bench"


@tool
async def double(x: int) -> int:
    """Double a number."""
    return 2 * x


async def answer(request: ReceivedRequest) -> Answer:
    """Call the tool where one is offered and has not run, else answer."""
    body: Any = request.json()
    if body.get("tools") and body["messages"][-1]["role"] == "user":
        return json_answer(openai_chat_body(tool_calls=[FakeCall("double", {"x": 21})]))
    return json_answer(openai_chat_body("forty-two"))


class Counter:
    """Statements and commits of an engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Begin to count."""
        self.statements = self.commits = 0
        event.listen(engine.sync_engine, "before_cursor_execute", self._statement)
        event.listen(engine.sync_engine, "commit", self._commit)

    def _statement(self, *_: object) -> None:
        self.statements += 1

    def _commit(self, *_: object) -> None:
        self.commits += 1


async def timed(work: Callable[[], Awaitable[object]], times: int = TURNS) -> float:
    """Milliseconds of one run, the median of many."""
    await work()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


async def measure(url: str) -> None:
    """Print the costs of turns on one database."""
    engine = make_engine(url)
    await migrate(engine)
    name = make_url(url).get_backend_name()
    async with (
        LoopbackServer(answer) as server,
        create_llm("openai", api="chat", base_url=f"{server.url}/v1", api_key="k") as llm,
    ):
        async with httpx.AsyncClient() as client:
            bare = await timed(lambda: client.post(f"{server.url}/v1/chat/completions", json={"messages": []}))
        memory = llm.chat()
        in_memory = await timed(lambda: memory.ask("what?"))
        counter = Counter(engine)
        print(f"{name}: a bare HTTP request {bare:.2f} ms, a turn in memory {in_memory:.2f} ms")
        for kind, tools in (("plain turn", ()), ("one-tool turn", (double,))):
            chat = await create_chat(engine, llm, tools=tools)
            await chat.ask("warm up")
            before = (counter.statements, counter.commits)
            taken = await timed(lambda chat=chat: chat.ask("what?"))  # type: ignore[misc]  # bound at once
            runs = TURNS + 1
            statements = (counter.statements - before[0]) / runs
            commits = (counter.commits - before[1]) / runs
            size = len(server.requests[-1].body)
            counts = f"{statements:4.1f} statements  {commits:3.1f} commits"
            print(f"  {kind:14} {taken:6.2f} ms  {counts}  last body {size:,} B")
        long = await create_chat(
            engine, llm, messages=[{"role": ("user", "assistant")[n % 2], "content": "x" * 200} for n in range(2000)]
        )
        await long.ask("warm up")
        taken = await timed(lambda: long.ask("what?"), 20)
        loading = await timed(lambda: load_chat(engine, llm, long.id), 20)
        print(f"  in a chat of 2,000 messages: a plain turn {taken:.2f} ms, loading it {loading:.2f} ms")
    await engine.dispose()


async def main(urls: list[str]) -> None:
    """SQLite, then the servers that are named or answer."""
    with tempfile.TemporaryDirectory() as folder:
        await measure(f"sqlite:///{Path(folder) / 'bench.db'}")
    for url in urls:
        async with own_database(url, DATABASE) as mine:
            await measure(mine)


if __name__ == "__main__":
    asyncio.run(
        main(
            sys.argv[1:]
            or [
                POSTGRES,
                os.environ.get("NODELLM_TEST_MYSQL_URL", "mysql+aiomysql://root@127.0.0.1:3306/test"),
            ]
        )
    )
