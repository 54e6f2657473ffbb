"""Chats in tables that are partitioned by their chat: no key, lock or statement of ours spans two of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final

import pytest
from sqlalchemy import func, inspect, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import create_chat, define_records, list_chats, load_chat, migrate, purge, tool, verify
from nodellm_orm.store.deletion import BATCH
from nodellm_orm.testing import FakeCall
from tests.acceptance.speakers import Says, Speaker
from tests.integration.databases import empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

pytestmark = pytest.mark.postgresql
PARTITIONS: Final = 4
LONG: Final = 1500


class ById:
    """The chats themselves."""

    __table_args__: ClassVar[dict[str, str]] = {"postgresql_partition_by": "HASH (id)"}


class ByChat:
    """What belongs to a chat."""

    __table_args__: ClassVar[dict[str, str]] = {"postgresql_partition_by": "HASH (chat_id)"}


RECORDS: Final = define_records(
    chat=ById, turn=ByChat, message=ByChat, tool_call=ByChat, thinking=ByChat, attachment=ByChat
)
PARTITIONED: Final = ("chats", "turns", "messages", "tool_calls", "thinking", "attachments")


@tool
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


def create(connection: Connection) -> None:
    """Create the tables and their partitions."""
    RECORDS.metadata.create_all(connection)
    for suffix in PARTITIONED:
        for number in range(PARTITIONS):
            bounds = f"WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
            connection.execute(
                text(f"CREATE TABLE llm_{suffix}_p{number} PARTITION OF llm_{suffix} FOR VALUES {bounds}")
            )


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database with partitioned tables, which the migrations have taken over."""
    async with empty_database("postgresql", tmp_path) as url:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(create)
        await migrate(engine)
        yield engine
        await engine.dispose()


async def test_a_chat_is_held_in_partitioned_tables(engine: AsyncEngine) -> None:
    """Turns, tools, branches, new answers, lists and integrity: everything works, and the rows are spread."""
    speaker = Speaker("openai_chat")
    first = (Says(calls=[FakeCall("double", {"x": 2})]), Says(text="4"))
    later = (Says(text="four"), Says(text="4 again"), Says(text="more"))
    async with speaker.server(*first, *later) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[double], instructions="Be brief.", owner="ada")
        assert (await chat.ask("2*2")).content == "4"
        loaded = await load_chat(engine, llm, chat.id, owner="ada", tools=[double])
        assert (await loaded.regenerate()).content == "four"
        branch = await loaded.fork(at=0)
        assert (await branch.ask("2*2?")).content == "4 again"
        async with loaded.stream("And?") as stream:
            assert (await stream.reply()).content == "more"
        others = [await create_chat(engine, llm, owner="ada") for _ in range(20)]
    listed = {summary.id for summary in await list_chats(engine, owner="ada")}
    assert listed == {chat.id, branch.id, *(other.id for other in others)}
    assert (await verify(engine)).ok
    async with engine.connect() as connection:
        placed = select(func.count(text("DISTINCT tableoid"))).select_from(RECORDS.tables.chats)
        assert await connection.scalar(placed) == PARTITIONS


async def test_chats_are_deleted_from_partitioned_tables(engine: AsyncEngine) -> None:
    """A chat of many batches goes too: partitions of ours are not taken for tables of the host's."""
    assert LONG > BATCH
    speaker = Speaker("openai_chat")
    history = [{"role": ("user", "assistant")[n % 2], "content": f"message {n}"} for n in range(LONG)]
    async with speaker.server(Says(text="A")) as server, speaker.llm(server) as llm:
        long = await create_chat(engine, llm, owner="ada", messages=history)
        short = await create_chat(engine, llm, owner="ada")
        await short.ask("Q")
        assert await long.delete()
        assert [summary.id for summary in await list_chats(engine, owner="ada")] == [short.id]
    report = await purge(engine, older_than=timedelta(0), owner="ada")
    assert (report.chats, report.complete) == (1, True)
    async with engine.connect() as connection:
        for suffix in PARTITIONED:
            assert await connection.scalar(select(func.count()).select_from(getattr(RECORDS.tables, suffix))) == 0
        assert "llm_chats_p0" in await connection.run_sync(lambda reader: inspect(reader).get_table_names())
