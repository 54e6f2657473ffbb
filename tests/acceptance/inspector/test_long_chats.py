"""What a page reads is what it shows, however much there is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from nodellm_orm import create_chat, create_llm
from nodellm_orm.inspector import create_inspector
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.records import RECORDS
from tests.acceptance.inspector.visits import TOKEN, Page, visitor

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

TURNS = 2_500
MESSAGES = 4 * TURNS


class Reads:
    """Statements that an engine was given, and the rows that came back."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Count from now on."""
        self.statements: Counter[str] = Counter()
        self.rows = 0
        event.listen(engine.sync_engine, "after_cursor_execute", self._executed)

    def _executed(self, _connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        self.statements[statement.split(maxsplit=1)[0].upper()] += 1
        # The adapters of asynchronous drivers have fetched all rows by now: what is counted came from the database.
        self.rows += len(cursor._rows)


async def long_chat(engine: AsyncEngine) -> UUID:
    """A chat of 2,500 turns: question, call, result, answer; two attempts each."""
    tables = RECORDS.tables
    async with create_llm("openai", model="gpt-5-mini", api_key="sk-inspector-test") as llm:
        chat = await create_chat(engine, llm, title="long")
    turns, messages, calls, requests = [], [], [], []
    async with engine.begin() as connection:
        row = (await connection.execute(tables.chats.select())).mappings().one()
        for number in range(TURNS):
            turn = {"chat_id": chat.id, "id": new_id(), "position": number, "status": "completed"}
            turns.append({**turn, "settings": "{}", "started_at": row["created_at"], "finished_at": row["created_at"]})
            ids = [new_id() for _ in range(4)]
            for place, role in enumerate(("user", "assistant", "tool", "assistant")):
                messages.append(
                    {
                        "chat_id": chat.id,
                        "position": 4 * number + place,
                        "id": ids[place],
                        "turn_id": turn["id"],
                        "role": role,
                        "content": f"message {4 * number + place}.",
                        "parts": f'[{{"type": "text", "text": "message {4 * number + place}."}}]',
                        "status": "complete",
                        "created_at": row["created_at"],
                    }
                )
            calls.append(
                {
                    "chat_id": chat.id,
                    "id": new_id(),
                    "turn_id": turn["id"],
                    "message_id": ids[1],
                    "position": 0,
                    "call_id": f"call_{number}",
                    "name": "look",
                    "arguments": "{}",
                    "status": "succeeded",
                    "result": "found",
                }
            )
            requests += [
                {
                    "id": new_id(),
                    "chat_id": chat.id,
                    "turn_id": turn["id"],
                    "message_id": answer,
                    "operation": "chat",
                    "provider": "openai",
                    "requested_model": "gpt-5-mini",
                    "status": "ok",
                    "attempt": 1,
                    "other_tokens": {},
                    "metadata": {},
                    "created_at": row["created_at"],
                }
                for answer in (ids[1], ids[3])
            ]
        rows = ((tables.turns, turns), (tables.messages, messages), (tables.tool_calls, calls))
        for table, values in (*rows, (tables.requests, requests)):
            for start in range(0, len(values), 1000):
                await connection.execute(table.insert(), values[start : start + 1000])
        await connection.execute(tables.chats.update().values(next_position=MESSAGES))
    return chat.id


async def test_a_page_of_a_long_chat_reads_one_page_of_rows(engine: AsyncEngine) -> None:
    """Of 10,000 messages, 2,500 turns, 2,500 calls and 5,000 attempts, each page reads its own hundred messages."""
    chat = await long_chat(engine)
    reads = Reads(engine)
    async with visitor(create_inspector(engine, token=TOKEN)) as client:
        for query, first in (("", 0), ("?first=5000", 5000), ("?first=9900", 9900), ("?turn=1251", 5000)):
            reads.rows, reads.statements = 0, Counter()
            page = Page.of(await client.get(f"/chats/{chat}{query}"))
            shown = [attributes["id"] for attributes in page.named("article")]

            assert shown == [f"m{position}" for position in range(first, first + 100)]
            assert "2 attempts" in page.words
            assert "10,000 in 2,500 turns" in page.words
            # 100 messages, 25 turns, 25 calls, 50 attempts, and one row each for the chat, its sums and its places.
            assert reads.rows <= 205
            assert reads.statements["SELECT"] <= 12
            assert set(reads.statements) <= {"SELECT", "SET", "SHOW", "PRAGMA", "BEGIN", "ROLLBACK"}


async def test_a_long_chat_is_walked_by_its_links(engine: AsyncEngine) -> None:
    """Earlier, later, first and last lead to where they say, and nothing is shown twice on the way."""
    chat = await long_chat(engine)
    async with visitor(create_inspector(engine, token=TOKEN)) as client:
        last = Page.of(await client.get(f"/chats/{chat}?first=99999999"))
        middle = Page.of(await client.get(f"/chats/{chat}?first=150"))
        turns = Page.of(await client.get(f"/chats/{chat}?first=1"))
        behind = Page.of(await client.get(f"/chats/{chat}?turn={TURNS + 1}"))

    assert [a["id"] for a in last.named("article")][-1] == f"m{MESSAGES - 1}"
    assert [a["id"] for a in behind.named("article")] == [a["id"] for a in last.named("article")]
    assert not [a for a in last.named("a") if a.get("rel") == "next"]
    assert next(a["href"] for a in middle.named("a") if a.get("rel") == "prev") == f"/chats/{chat}?first=50"
    assert next(a["href"] for a in middle.named("a") if a.get("rel") == "next") == f"/chats/{chat}?first=250"
    assert "carried on from the page before" in turns.words


# The places of a page of chats (and one more), their rows, and the moment; a page that shows none has its end instead.
BOUNDS = (
    ("", 51 + 50 + 1),
    ("title=none", 5_000 + 1),
    ("metadata=a%3Db", 5_000 + 1),
    *((query, 2) for query in ("state=failed", "state=waiting", "state=running", "state=interrupted", "model=x")),
    ("provider=x&state=interrupted&title=none", 3 + 1),
)


async def test_the_list_looks_at_a_bounded_number_of_chats(engine: AsyncEngine) -> None:
    """A filter that meets no chat ends after 5,000 of them, and offers to search on; rows are read where we decide."""
    async with create_llm("openai", model="m", api_key="sk-inspector-test") as llm:
        await create_chat(engine, llm, title="first")
    chats = RECORDS.tables.chats
    async with engine.begin() as connection:
        row = dict((await connection.execute(chats.select())).mappings().one())
        others = [{**row, "id": new_id()} for _ in range(5_200)]
        for start in range(0, len(others), 650):
            await connection.execute(chats.insert(), others[start : start + 650])
    reads = Reads(engine)
    async with visitor(create_inspector(engine, token=TOKEN)) as client:
        for query, rows in BOUNDS:
            reads.rows, reads.statements = 0, Counter()
            page = Page.of(await client.get(f"/?{query}"))
            following = [a["href"] for a in page.named("a") if a.get("rel") == "next"]

            assert reads.rows <= rows, query
            assert reads.statements["SELECT"] <= 9
            rest = Page.of(await client.get(following[0]))
            if query:
                assert "among 5,000 looked at" in page.words
                assert "among 201 looked at" in rest.words
                assert not [a for a in rest.named("a") if a.get("rel") == "next"]
        nobody = Page.of(await client.get("/?owner=nobody&model=m"))

    assert "among 0 looked at" in nobody.words
