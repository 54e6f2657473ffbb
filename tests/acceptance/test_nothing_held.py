"""No connection is held while a provider or a tool runs, however the session was given."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import String, func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from nodellm_orm import ANY_OWNER, SessionStateError, create_chat, list_chats, load_chat, tool
from nodellm_orm.models import ChatRecord, MessageRecord, TurnRecord
from nodellm_orm.testing import FakeCall, Hold, LoopbackServer
from tests.acceptance.speakers import Says, Speaker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat
    from nodellm_orm.testing import Answer, ReceivedRequest

CHATS = 8
HOST_TABLE = "host_notes"


class HostBase(DeclarativeBase):
    """A host's own tables."""


class Note(HostBase):
    """A row of the host."""

    __tablename__ = HOST_TABLE
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(200))


@pytest.fixture
async def narrow(database: str) -> AsyncIterator[AsyncEngine]:
    """An engine whose pool has one connection, and gives up soon when it is not free."""
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 10}
    engine = create_async_engine(database, **options)
    async with engine.begin() as connection:
        await connection.run_sync(HostBase.metadata.create_all)
    yield engine
    await engine.dispose()


def checked_out(engine: AsyncEngine) -> int:
    """Connections in use now."""
    pool: Any = engine.sync_engine.pool
    return int(pool.checkedout())


@asynccontextmanager
async def given(kind: str, engine: AsyncEngine) -> AsyncIterator[Any]:
    """The database in one of the three ways."""
    maker = async_sessionmaker(engine)
    if kind == "engine":
        yield engine
    elif kind == "sessionmaker":
        yield maker
    else:
        async with maker() as session:
            yield session


@pytest.mark.fault("B13")
@pytest.mark.parametrize("kind", ["engine", "sessionmaker", "session"])
async def test_eight_chats_meet_inside_provider_and_tool_on_one_connection(narrow: AsyncEngine, kind: str) -> None:
    """With a pool of one connection eight turns are inside the provider, then inside a tool, at the same time."""
    in_provider, in_tool = asyncio.Barrier(CHATS), asyncio.Barrier(CHATS)
    seen: list[int] = []
    speaker = Speaker("openai_chat")

    @tool
    async def meet() -> str:
        """Meet the others."""
        await in_tool.wait()
        seen.append(checked_out(narrow))
        await in_tool.wait()
        return "met"

    async def handle(request: ReceivedRequest) -> Answer:
        if request.json()["messages"][-1]["role"] == "user":  # type: ignore[index, call-overload]  # a body we know
            await in_provider.wait()
            seen.append(checked_out(narrow))
            await in_provider.wait()
            return speaker.answer(Says(calls=[FakeCall("meet")]), stream=False)
        return speaker.answer(Says(text="done"), stream=False)

    async def one(stack: AsyncExitStack) -> str:
        session = await stack.enter_async_context(given(kind, narrow))
        chat = await create_chat(session, llm, tools=[meet])
        return (await chat.ask("go")).content

    async with LoopbackServer(handle) as server, speaker.llm(server) as llm, AsyncExitStack() as stack:
        contents = await asyncio.gather(*(one(stack) for _ in range(CHATS)))

    assert contents == ["done"] * CHATS
    assert seen == [0] * (2 * CHATS)
    assert checked_out(narrow) == 0


@pytest.mark.fault("B37")
@pytest.mark.fault("B38")
async def test_pending_rows_of_the_caller_are_committed_once_and_his_objects_stay_usable(narrow: AsyncEngine) -> None:
    """A turn first commits the caller's pending work, alone; his objects are not expired, his session stays his own."""
    speaker = Speaker("openai_chat")
    async with speaker.server(Says(text="one"), Says(text="two")) as server, speaker.llm(server) as llm:
        async with AsyncSession(narrow) as session:
            note = Note(text="pending")
            session.add(note)
            chat = await create_chat(session, llm)
            assert note.text == "pending"  # expired, this would need the database, and raise
            session.add(Note(text="second"))
            await chat.ask("go")
            assert (note.id, note.text) == (1, "pending")
            session.add(Note(text="rolled back"))
            await session.flush()
            await session.rollback()
            await chat.ask("again")
            count = await session.scalar(select(func.count()).select_from(Note))
        assert count == 2
        assert checked_out(narrow) == 0


@pytest.mark.parametrize("nested", [False, True])
async def test_explicit_blocks_are_refused_before_anything_is_written(narrow: AsyncEngine, *, nested: bool) -> None:
    """Inside ``begin()`` or ``begin_nested()`` a turn is refused with a remedy, and the block goes on undisturbed."""
    speaker = Speaker("openai_chat")
    async with speaker.server(Says(text="fine")) as server, speaker.llm(server) as llm:
        async with AsyncSession(narrow) as session:
            chat = await create_chat(session, llm)
            await session.rollback()
            async with session.begin():
                session.add(Note(text="inside"))
                if nested:
                    async with session.begin_nested():
                        with pytest.raises(SessionStateError, match="begin"):
                            await chat.ask("go")
                else:
                    with pytest.raises(SessionStateError, match="begin"):
                        await chat.ask("go")
                    with pytest.raises(SessionStateError, match="begin"):
                        await create_chat(session, llm)
            assert await session.scalar(select(Note.text)) == "inside"
            assert await session.scalar(select(func.count()).select_from(TurnRecord)) == 0
            await session.commit()
        assert server.requests == []
        assert (await chat.ask("outside")).content == "fine"


async def test_closed_session_is_refused(narrow: AsyncEngine) -> None:
    """A session made with ``close_resets_only=False`` that is closed cannot be used, and the error says so."""
    speaker = Speaker("openai_chat")
    async with speaker.server() as server, speaker.llm(server) as llm:
        session = AsyncSession(narrow, close_resets_only=False)
        chat = await create_chat(session, llm)
        await session.close()
        with pytest.raises(SessionStateError, match="closed"):
            await chat.ask("go")
        with pytest.raises(SessionStateError, match="closed"):
            await create_chat(session, llm)


@pytest.mark.fault("B37")
async def test_rollback_fixture_of_a_host_leaves_nothing(engine: AsyncEngine) -> None:
    """In a test suite's rollback fixture chats work through savepoints, and nothing is left after the rollback."""
    speaker = Speaker("openai_chat")
    call = FakeCall("double", {"x": 2})

    @tool
    def double(x: int) -> int:
        """Double a number."""
        return 2 * x

    script = (Says(calls=[call]), Says(text="4"), Says(text="more"))
    async with speaker.server(*script) as server, speaker.llm(server) as llm, engine.connect() as connection:
        outer = await connection.begin()
        async with AsyncSession(connection, join_transaction_mode="create_savepoint") as session:
            chat = await create_chat(session, llm, tools=[double])
            assert (await chat.ask("2*2")).content == "4"
            again = await load_chat(session, llm, chat.id, tools=[double])
            async with again.stream("more") as stream:
                assert "".join([chunk.content async for chunk in stream]) == "more"
            assert await session.scalar(select(func.count()).select_from(MessageRecord)) == 6
            assert len(await list_chats(session)) == 1
            await session.rollback()
            assert await session.scalar(select(func.count()).select_from(MessageRecord)) == 6
        await outer.rollback()
    assert len(await list_chats(engine, owner=ANY_OWNER)) == 0


@pytest.mark.fault("B38")
async def test_consumer_may_use_and_close_his_session_while_a_stream_runs(narrow: AsyncEngine) -> None:
    """After a turn has begun the caller's session is not touched: he may query with it and close it in the loop."""
    speaker = Speaker("openai_chat")
    gate = asyncio.Event()
    events = speaker.events(Says(text="a longer answer"))

    async def handle(_: ReceivedRequest) -> Answer:
        from nodellm_orm.testing import sse_answer  # noqa: PLC0415 — beside its only use

        return sse_answer([*events[:3], Hold(gate), *events[3:]])

    async with LoopbackServer(handle) as server, speaker.llm(server) as llm:
        async with AsyncSession(narrow) as session:
            chat: Chat = await create_chat(session, llm)
            received = ""
            async with chat.stream("go") as stream:
                async for chunk in stream:
                    received += chunk.content
                    if not gate.is_set():
                        assert await session.scalar(select(func.count()).select_from(ChatRecord)) == 1
                        await session.close()
                        gate.set()
        assert received == "a longer answer"
        assert checked_out(narrow) == 0
