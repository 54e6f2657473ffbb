"""Row level security of PostgreSQL: the host's policies hold for our statements, and nothing of ours breaks."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import event, func, make_url, select, text, true
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from nodellm_orm import ANY_OWNER, ChatNotFoundError, create_chat, list_chats, load_chat, migrate, tool, verify
from nodellm_orm.store.records import RECORDS
from nodellm_orm.testing import FakeCall, LoopbackServer
from tests.acceptance.speakers import Says, Speaker
from tests.integration.databases import empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.testing import Answer, ReceivedRequest

pytestmark = [pytest.mark.postgresql, pytest.mark.fault("E11")]
SPEAKER: Final = Speaker("openai_chat")
MINE: Final = "current_setting('app.owner', true)"
OF_NOBODY: Final = frozenset({"usage_stale", "usage_rollup"})
"""Tables in which there is nothing of any owner: which hours must be added up again, and how far that is."""
OF_A_CHAT: Final = ("turns", "messages", "tool_calls", "thinking", "attachments")
"""Tables whose rows belong to the owner of their chat."""


@tool
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


def policies() -> list[str]:
    """What a host's own migration says, in which only rows of the current owner exist."""
    names = {table.name.removeprefix("llm_"): table.name for table in RECORDS.tables}
    found = []
    for suffix, name in names.items():
        if suffix in OF_NOBODY:
            continue
        mine = f"owner = {MINE}"
        if suffix in OF_A_CHAT:
            mine = f"chat_id IN (SELECT id FROM llm_chats WHERE {mine})"  # noqa: S608 — our names
        found += [
            f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY own_rows ON {name} USING ({mine}) WITH CHECK ({mine})",
        ]
    return found


@asynccontextmanager
async def guarded(folder: Path) -> AsyncIterator[AsyncEngine]:
    """A host's engine, whose user sees the rows of the owner that each of its transactions names."""
    async with empty_database("postgresql", folder) as url:
        name = f"u{secrets.token_hex(6)}"
        administrator = create_async_engine(url)
        await migrate(administrator)
        async with administrator.begin() as connection:
            for statement in (
                *policies(),
                f"CREATE ROLE {name} LOGIN",
                f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}",
            ):
                await connection.execute(text(statement))
        engine = create_async_engine(make_url(url).set(username=name), pool_size=2, max_overflow=0)
        event.listen(engine.sync_engine, "begin", name_the_owner)
        yield engine
        await engine.dispose()
        async with administrator.begin() as connection:
            await connection.execute(text(f"DROP OWNED BY {name}"))
            await connection.execute(text(f"DROP ROLE {name}"))
        await administrator.dispose()


def name_the_owner(connection: Connection) -> None:
    """The host's listener: each transaction begins with whom it is for; the setting ends with it."""
    owner = connection.get_execution_options().get("owner", "")
    connection.execute(select(func.set_config("app.owner", owner, true())))


async def test_chats_work_under_policies_and_see_their_own_rows_only(tmp_path: Path) -> None:
    """An engine an owner: tools, streams, lists, verification and leases work; the rows of others do not exist."""
    async with guarded(tmp_path) as base:
        engines = {owner: base.execution_options(owner=owner) for owner in ("ada", "bob")}
        script = [Says(calls=[FakeCall("double", {"x": 2})]), Says(text="4"), Says(text="done")] * len(engines)
        async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
            chats = {}
            for owner, engine in engines.items():
                chat = await create_chat(engine, llm, owner=owner, tools=[double], instructions="Be brief.")
                assert (await chat.ask("Double 2", files=[("a.txt", b"two")])).content == "4"
                async with AsyncSession(engine) as session:
                    again = await load_chat(session, llm, chat.id, owner=owner, tools=[double])
                    assert (await again.stream("And?").reply()).content == "done"
                chats[owner] = chat
            for owner, engine in engines.items():
                assert [chat.id for chat in await list_chats(engine, owner=ANY_OWNER)] == [chats[owner].id]
                report = await verify(engine, owner=owner)
                assert (report.findings, report.chats) == ((), 1)
            with pytest.raises(ChatNotFoundError):
                await load_chat(engines["bob"], llm, chats["ada"].id, owner=ANY_OWNER)
            async with base.connect() as connection:
                for table in RECORDS.tables:
                    assert await connection.scalar(select(func.count()).select_from(table)) == 0
            await chats["ada"].delete()


async def test_leases_of_several_owners_are_renewed_each_under_its_policy(tmp_path: Path) -> None:
    """Leases are renewed with one statement an engine, so that it is for the owner that the engine names."""
    async with guarded(tmp_path) as base:
        engines = {owner: base.execution_options(owner=owner) for owner in ("ada", "bob")}
        go = asyncio.Event()

        async def handle(_: ReceivedRequest) -> Answer:
            await go.wait()
            return SPEAKER.answer(Says(text="At last."), stream=False)

        async with LoopbackServer(handle) as server, SPEAKER.llm(server) as llm:
            chats = [await create_chat(engine, llm, owner=owner, lease=1.0) for owner, engine in engines.items()]
            asked = [asyncio.create_task(chat.ask("Slowly?")) for chat in chats]
            await server.until_received(len(chats))
            for engine in engines.values():
                await renewed(engine, times=6)
            go.set()
            assert [reply.content for reply in await asyncio.gather(*asked)] == ["At last."] * len(chats)


async def renewed(engine: AsyncEngine, times: int) -> None:
    """Wait until the lease of the only chat that is seen was renewed so often."""
    leases: set[object] = set()
    while len(leases) <= times:
        async with engine.connect() as connection:
            leases.add(await connection.scalar(select(RECORDS.tables.chats.c.lease_until)))
        assert None not in leases, "the turn has ended"
        await asyncio.sleep(0.01)
