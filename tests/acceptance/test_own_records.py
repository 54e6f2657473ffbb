"""Chats in a host's own tables: its base, its prefix, its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import String, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from nodellm_orm import ConfigurationError, create_chat, define_records, list_chats, load_chat, tool
from nodellm_orm.testing import FakeCall
from tests.acceptance.speakers import Says, Speaker
from tests.integration.databases import empty_database

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.databases import DatabaseKind


class HostBase(DeclarativeBase):
    """A host's base."""


class Priced:
    """What the host adds to a chat."""

    tier: Mapped[str | None] = mapped_column(String(20))


RECORDS = define_records(HostBase, prefix="assistant_", chat=Priced)


@tool
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


async def test_chats_live_in_the_hosts_own_tables(database_kind: DatabaseKind, tmp_path: Path) -> None:
    """With own records everything works in the host's tables, and its own columns are filled by ``values``."""
    speaker = Speaker("openai_chat")
    script = (Says(calls=[FakeCall("double", {"x": 2})]), Says(text="4"), Says(text="more"))
    async with empty_database(database_kind, tmp_path) as url:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(HostBase.metadata.create_all)
        async with speaker.server(*script) as server, speaker.llm(server) as llm:
            chat = await create_chat(
                engine, llm, tools=[double], records=RECORDS, values={"tier": "gold"}, instructions="Be brief."
            )
            assert (await chat.ask("2*2")).content == "4"
            again = await load_chat(engine, llm, chat.id, tools=[double], records=RECORDS)
            assert (await again.ask("more")).content == "more"
            assert [summary.id for summary in await list_chats(engine, records=RECORDS)] == [chat.id]
            with pytest.raises(ConfigurationError, match="there are: tier"):
                await create_chat(engine, llm, records=RECORDS, values={"owner": "eve"})
        async with engine.connect() as connection:
            assert await connection.scalar(select(RECORDS.tables.chats.c.tier)) == "gold"
        await engine.dispose()
