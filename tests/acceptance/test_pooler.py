"""Behind a pooler in transaction mode nothing rests on a session: every transaction may meet another one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from nodellm_orm import (
    StorageError,
    ToolContext,
    create_chat,
    list_chats,
    load_chat,
    make_engine,
    migrate,
    tool,
    verify,
)
from nodellm_orm.models import ChatRecord
from nodellm_orm.store.schema import check
from nodellm_orm.testing import FakeCall
from tests.acceptance.speakers import Says, Speaker
from tests.integration.databases import empty_database
from tests.integration.store.pooler import pooled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.store.pooler import Pooler

pytestmark = [pytest.mark.postgresql, pytest.mark.fault("B15")]
OPENAI: Final = Speaker("openai_chat")
SETTINGS: Final[dict[str, Any]] = {"connect_args": {"statement_cache_size": 0}}
"""What the documentation says beside ``prepared_statement_cache_size=0`` in the URL."""


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[tuple[Pooler, URL]]:
    """A pooler in front of an empty database."""
    async with empty_database("postgresql", tmp_path) as url, pooled(make_url(url)) as (pooler, through):
        yield pooler, through


def unprepared(url: URL) -> URL:
    """The URL as the documentation has it."""
    return url.update_query_dict({"prepared_statement_cache_size": "0"})


@tool
async def rename(title: str, context: ToolContext) -> str:
    """Write a row in the transaction that the result is recorded in."""
    chat = await context.session.get(ChatRecord, context.chat_id)
    assert chat is not None
    chat.title = title
    return title


async def talks(engine: AsyncEngine, number: int) -> None:
    """A whole conversation: asked, streamed, with a tool that writes, loaded, listed and deleted."""
    script = [
        Says(text="one"),
        Says(calls=[FakeCall("rename", {"title": f"title {number}"})]),
        Says(text="two"),
        Says(text="three"),
    ]
    async with OPENAI.server(*script) as server, OPENAI.llm(server) as llm:
        owner = f"owner {number}"
        chat = await create_chat(engine, llm, owner=owner, tools=[rename], metadata={"n": number})
        await chat.ask("1", idempotency_key="k")
        assert (await chat.ask("1", idempotency_key="k")).content == "one"
        async with chat.stream("2") as stream:
            assert "".join([chunk.content async for chunk in stream]) == "two"
        loaded = await load_chat(engine, llm, chat.id, owner=owner)
        assert loaded.messages == chat.messages
        assert (await loaded.ask("3")).content == "three"
        (listed,) = await list_chats(engine, owner=owner, metadata={"n": number})
        assert listed.title == f"title {number}"
        assert (await loaded.usage()).requests == 4
        await loaded.delete()


@pytest.mark.parametrize("pool", [{}, {"poolclass": NullPool}], ids=["pool", "no pool"])
async def test_whole_turns_with_the_settings_of_the_documentation(
    behind: tuple[Pooler, URL], pool: dict[str, Any]
) -> None:
    """Tables are made, and several conversations held at once, though hardly two transactions share a session."""
    pooler, url = behind
    engine = make_engine(unprepared(url), **SETTINGS, **pool)
    await migrate(engine)
    await asyncio.gather(*(talks(engine, number) for number in range(4)))
    await check(engine)
    report = await verify(engine)
    await engine.dispose()
    assert report.ok
    assert pooler.changes > 20


async def test_statements_that_are_kept_are_told(behind: tuple[Pooler, URL]) -> None:
    """Without these settings statements are prepared in sessions that are not ours: a storage error, nothing else."""
    _, url = behind
    ready = make_engine(unprepared(url), **SETTINGS)
    await migrate(ready)
    engine = create_async_engine(url)
    async with OPENAI.server(Says(text="one")) as server, OPENAI.llm(server) as llm:
        await asyncio.gather(*(create_chat(engine, llm) for _ in range(6)))
        with pytest.raises(StorageError) as caught:
            await asyncio.gather(*(create_chat(engine, llm) for _ in range(6)))
        await (await create_chat(ready, llm)).ask("go")
    assert caught.value.details["code"] in {"26000", "42P05"}
    await engine.dispose()
    await ready.dispose()
