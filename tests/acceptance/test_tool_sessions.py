"""`ToolContext.session`: what a tool writes and the result it returns are there together, or neither of them is."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from nodellm_orm import (
    StaleChatError,
    Timeout,
    ToolContext,
    ToolHalt,
    create_chat,
    load_chat,
    make_engine,
    migrate,
    tool,
)
from nodellm_orm.testing import FakeCall
from tests.acceptance.bookings import Booking, HostBase, Seat, booked
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.validity import check_history, stored
from tests.acceptance.victim import Commits
from tests.integration.store.proxy import wire_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Chat, Reply
    from tests.integration.databases import DatabaseKind
    from tests.integration.store.proxy import Cut

SPEAKER = Speaker("openai_chat")
MOMENT = 0.2
"""A time limit that passes; nothing is measured by it."""


@pytest.fixture
async def engine(database: str, request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngine]:
    """A host's engine with a pool of one connection, or of as many as are told; none stays checked out."""
    options: dict[str, Any] = {"pool_size": getattr(request, "param", 1), "max_overflow": 0}
    engine = create_async_engine(database, **options)
    async with engine.begin() as connection:
        await connection.run_sync(HostBase.metadata.create_all)
    yield engine
    assert checked_out(engine) == 0
    await engine.dispose()


pools = pytest.mark.parametrize("engine", [1, 5], indirect=True, ids=["one connection", "five connections"])


def checked_out(engine: AsyncEngine) -> int:
    """Connections in use now."""
    pool: Any = engine.sync_engine.pool
    return int(pool.checkedout())


@asynccontextmanager
async def model(*calls: str, answers: int = 1) -> AsyncIterator[LLM]:
    """A model that makes these calls at once, and is content then."""
    script = [Says(calls=[FakeCall(name, {}) for name in calls]), *[Says(text="done")] * answers]
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
        yield llm


async def asked(engine: AsyncEngine, *tools: Any, **options: Any) -> tuple[Chat, Reply[Any]]:
    """A turn in which each of these tools is called once."""
    names = [str(one.name) for one in tools]
    async with model(*names) as llm:
        chat = await create_chat(engine, llm, tools=tools, **options)
        return chat, await chat.ask("go")


# ── together ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_rows_and_result_are_one_commit(engine: AsyncEngine) -> None:
    """What the tool wrote is committed by the very commit that records its result: a turn makes no more of them."""
    commits = Commits(engine)
    made: list[int] = []

    @tool
    async def book(context: ToolContext) -> str:
        """Book a seat."""
        context.session.add(Booking(chat_id=context.chat_id, seat="1A"))
        await context.session.commit()
        made.append(commits.made)
        return "booked"

    chat, reply = await asked(engine, book)
    assert reply.content == "done"
    # The chat's creation, its first point and the answer; then the round with the booking, and the end.
    assert (made, commits.made) == ([3], 5)
    assert await booked(engine) == ["1A"]
    rows = await stored(engine, chat.id)
    rows.check()
    assert [(call.status, call.result) for call in rows.calls] == [("succeeded", "booked")]


async def test_nothing_is_connected_before_the_first_statement(engine: AsyncEngine) -> None:
    """A session that is only looked at takes no connection, and others see nothing of what it writes before the end."""
    seen: list[int] = []

    @tool
    async def look(context: ToolContext) -> str:
        """Look."""
        context.session.add(Booking(chat_id=context.chat_id, seat="1A"))
        seen.append(checked_out(engine))
        context.session.expunge_all()
        assert context.session is context.session
        return "seen"

    _, reply = await asked(engine, look)
    assert (seen, reply.tool_calls[0].result) == ([0], "seen")
    assert await booked(engine) == []


async def test_commit_and_rollback_of_the_tool_end_savepoints(engine: AsyncEngine) -> None:
    """What the tool rolls back is gone, what it commits or leaves pending is committed with its result."""

    @tool
    async def book(context: ToolContext) -> str:
        """Book seats."""
        session, chat = context.session, context.chat_id
        session.add(Booking(chat_id=chat, seat="committed"))
        await session.commit()
        session.add(Booking(chat_id=chat, seat="rolled back"))
        await session.flush()
        await session.rollback()
        async with session.begin():
            session.add(Booking(chat_id=chat, seat="begun"))
        async with context.session as same:
            same.add(Booking(chat_id=chat, seat="left"))
        async with session.begin_nested():
            await session.execute(insert(Booking).values(chat_id=chat, seat="nested"))
        session.add(Booking(chat_id=chat, seat="pending"))
        return str(await session.scalar(select(func.count()).select_from(Booking)))

    _, reply = await asked(engine, book)
    assert reply.tool_calls[0].result == "5"
    assert await booked(engine) == ["begun", "committed", "left", "nested", "pending"]


@pytest.mark.parametrize("how", ["raises", "has no form", "is refused", "is refused at its end", "takes too long"])
async def test_a_tool_that_fails_has_written_nothing(engine: AsyncEngine, how: str) -> None:
    """An error, a result without a form, a refused row or a timeout: the error is recorded, the tool's rows are not."""

    @tool
    async def book(context: ToolContext) -> object:
        """Book a seat."""
        context.session.add(Booking(chat_id=context.chat_id, seat="1A"))
        await context.session.commit()
        match how:
            case "raises":
                raise ValueError(how)
            case "has no form":
                return object()
            case "is refused":
                await context.session.execute(insert(Seat).values([{"name": "1A"}, {"name": "1A"}]))
            case "is refused at its end":
                context.session.add_all([Seat(name="1A"), Seat(name="1A")])
            case _:
                await asyncio.Event().wait()
        return "booked"

    chat, reply = await asked(engine, book, timeout=Timeout(tool=MOMENT) if how == "takes too long" else None)
    assert (reply.content, reply.tool_calls[0].status) == ("done", "failed")
    assert (await booked(engine), checked_out(engine)) == ([], 0)
    (await stored(engine, chat.id)).check()


@pytest.mark.parametrize("raises", [True, False])
async def test_a_halt_keeps_what_was_written(engine: AsyncEngine, *, raises: bool) -> None:
    """A tool that ends the turn has succeeded: its rows are committed with the end of the turn."""

    @tool
    async def book(context: ToolContext) -> ToolHalt:
        """Book a seat."""
        context.session.add(Booking(chat_id=context.chat_id, seat="1A"))
        if raises:
            raise ToolHalt("booked")  # noqa: EM101 — a value, not a message
        return ToolHalt("booked")

    chat, reply = await asked(engine, book)
    assert (reply.content, reply.finish_reason, await booked(engine)) == ("booked", "halt", ["1A"])
    (await stored(engine, chat.id)).check()


async def test_points_that_are_kept_back_are_written_with_it(engine: AsyncEngine) -> None:
    """With durability ``turn``, a tool that has written makes a durable point of everything so far."""

    @tool
    async def book(context: ToolContext) -> str:
        """Book a seat."""
        context.session.add(Booking(chat_id=context.chat_id, seat="1A"))
        return "booked"

    commits = Commits(engine)
    chat, reply = await asked(engine, book, durability="turn")
    assert (reply.content, commits.made, await booked(engine)) == ("done", 4, ["1A"])
    (await stored(engine, chat.id)).check()


# ── beside others ─────────────────────────────────────────────────────────────────────────────────────────────────


@pools
@pytest.mark.parametrize("first", ["plain", "second"])
async def test_three_tools_at_once(engine: AsyncEngine, first: str) -> None:
    """Two tools write while a third ends before them: each is recorded once, nobody waits for whom waits for him."""
    wrote, ended = asyncio.Event(), asyncio.Event()

    @tool
    async def book(context: ToolContext) -> str:
        """Book a seat, and take until the other has ended."""
        context.session.add(Booking(chat_id=context.chat_id, seat="1A"))
        await context.session.flush()
        wrote.set()
        await ended.wait()
        return "booked"

    @tool
    async def rebook(context: ToolContext) -> str:
        """Book another seat, with the first statement at the very end."""
        await wrote.wait()
        context.session.add(Booking(chat_id=context.chat_id, seat="2B"))
        if first == "second":
            ended.set()
        return "rebooked"

    @tool
    async def plain() -> str:
        """Write nothing."""
        await wrote.wait()
        ended.set()
        return "plain"

    chat, reply = await asked(engine, book, plain, rebook)
    assert [call.result for call in reply.tool_calls] == ["booked", "plain", "rebooked"]
    assert (reply.content, await booked(engine)) == ("done", ["1A", "2B"])
    rows = await stored(engine, chat.id)
    rows.check()
    assert [call.status for call in rows.calls] == ["succeeded"] * 3
    check_history(chat.messages)


@pools
async def test_a_resumed_round_starts_its_calls_beside_a_transaction(engine: AsyncEngine) -> None:
    """Calls that were still to run are noted as they start, and that does not get in the way of one that writes."""
    wrote = asyncio.Event()

    @tool(requires_approval=True)
    async def book(context: ToolContext) -> str:
        """Book a seat."""
        context.session.add(Booking(chat_id=context.chat_id, seat="1A"))
        await context.session.flush()
        wrote.set()
        return "booked"

    @tool(requires_approval=True)
    async def rebook(context: ToolContext) -> str:
        """Book another seat."""
        await wrote.wait()
        context.session.add(Booking(chat_id=context.chat_id, seat="2B"))
        return "rebooked"

    async with model("book", "rebook", "book") as llm:
        chat = await create_chat(engine, llm, tools=[book, rebook])
        reply = await chat.ask("go")
        for call in reply.tool_calls:
            await chat.approve(call.call_id)
        reply = await chat.resume()
    assert [call.result for call in reply.tool_calls] == ["booked", "rebooked", "booked"]
    assert await booked(engine) == ["1A", "1A", "2B"]
    (await stored(engine, chat.id)).check()


@pytest.mark.fault("B06")
async def test_a_deadlock_with_rows_of_the_host_is_an_error_result(database: str, database_kind: DatabaseKind) -> None:
    """Of two turns that lock rows crosswise one is told so by the database: its tool failed and wrote nothing."""
    if database_kind == "sqlite":
        pytest.skip("SQLite has one writer: the second tool begins when the first has ended")
    engine = create_async_engine(database)
    async with engine.begin() as connection:
        await connection.run_sync(HostBase.metadata.create_all)
        await connection.execute(insert(Seat), [{"name": "1A", "taken": 0}, {"name": "2B", "taken": 0}])
    both = asyncio.Barrier(2)

    def taker(*seats: str) -> Any:
        @tool
        async def take(context: ToolContext) -> str:
            """Take two seats."""
            for seat in seats:
                await context.session.execute(update(Seat).where(Seat.name == seat).values(taken=Seat.taken + 1))
                if seat == seats[0]:
                    await both.wait()
            return "taken"

        return take

    turns = await asyncio.gather(asked(engine, taker("1A", "2B")), asked(engine, taker("2B", "1A")))
    assert sorted(reply.tool_calls[0].status for _, reply in turns) == ["failed", "succeeded"]
    async with AsyncSession(engine) as session:
        assert (await session.scalars(select(Seat.taken))).all() == [1, 1]
    assert checked_out(engine) == 0
    await engine.dispose()


@pytest.mark.fault("B33")
async def test_transactions_run_at_read_committed(database: str, database_kind: DatabaseKind) -> None:
    """A tool sees what others commit meanwhile, and the host's connections keep their own level."""
    if database_kind == "sqlite":
        pytest.skip("SQLite has one writer")
    engine = create_async_engine(database, isolation_level="REPEATABLE READ")
    async with engine.begin() as connection:
        await connection.run_sync(HostBase.metadata.create_all)
    seen: list[Any] = []

    @tool
    async def look(context: ToolContext) -> str:
        """Look twice."""
        for _ in range(2):
            seen.append(await context.session.scalar(select(func.count()).select_from(Seat)))
            async with AsyncSession(engine) as other, other.begin():
                other.add(Seat(name=f"seat {seen}"))
        return "seen"

    await asked(engine, look)
    assert seen == [0, 1]
    async with engine.connect() as connection:
        assert await connection.get_isolation_level() == "REPEATABLE READ"
    await engine.dispose()


@pytest.mark.fault("B01")
@pytest.mark.fault("B02")
@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_connection_lost_around_the_commit(database: str, database_kind: DatabaseKind, cut: Cut) -> None:
    """When it is found that nothing was committed, the model is told so; otherwise the tool has succeeded."""
    if database_kind == "sqlite":
        pytest.skip("SQLite has no wire")
    near = create_async_engine(database)
    async with near.begin() as connection:
        await connection.run_sync(HostBase.metadata.create_all)
    async with wire_to(near.url) as (wire, url):
        engine = create_async_engine(url)

        @tool
        async def book(context: ToolContext) -> str:
            """Book a seat, over a wire that breaks."""
            context.session.add(Booking(chat_id=context.chat_id, seat="1A"))
            await context.session.commit()
            wire.cut = cut
            return "booked"

        chat, reply = await asked(engine, book)
        assert (wire.cuts, reply.content, checked_out(engine)) == (1, "done", 0)
        await engine.dispose()
    call = reply.tool_calls[0]
    if cut == "after":
        assert (call.status, await booked(near)) == ("succeeded", ["1A"])
    else:
        assert (call.status, await booked(near)) == ("failed", [])
        assert "rolled back" in str(call.result)
    (await stored(near, chat.id)).check()
    await near.dispose()


# ── broken off ────────────────────────────────────────────────────────────────────────────────────────────────────


@pools
async def test_a_cancelled_turn_leaves_nothing_of_a_running_tool(engine: AsyncEngine) -> None:
    """The tool's rows are rolled back, a sibling that had ended is recorded, and the connection is given back."""
    wrote, never = asyncio.Event(), asyncio.Event()

    @tool
    async def book(context: ToolContext) -> str:
        """Book a seat for ever."""
        context.session.add(Booking(chat_id=context.chat_id, seat="1A"))
        await context.session.flush()
        wrote.set()
        await never.wait()
        return "booked"

    @tool
    async def plain() -> str:
        """Write nothing."""
        await wrote.wait()
        return "plain"

    async with model("book", "plain") as llm:
        chat = await create_chat(engine, llm, tools=[book, plain])
        asking = asyncio.create_task(chat.ask("go"))
        await wrote.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert await chat.cancel()
        assert (await asking).finish_reason == "cancelled"
    assert (await booked(engine), checked_out(engine)) == ([], 0)
    rows = await stored(engine, chat.id)
    assert [call.status for call in rows.calls] == ["unknown", "succeeded"]


async def test_a_tool_that_ends_while_its_turn_is_cancelled_has_happened(engine: AsyncEngine) -> None:
    """It is recorded with what it wrote, alone, and no attempt is opened for an answer that nobody asks for."""
    wrote, never = asyncio.Event(), asyncio.Event()

    @tool
    async def book(context: ToolContext) -> str:
        """Book a seat, cancelled or not."""
        context.session.add(Booking(chat_id=context.chat_id, seat="1A"))
        await context.session.flush()
        wrote.set()
        try:
            await never.wait()
        except asyncio.CancelledError:
            return "booked all the same"
        return "booked"

    async with model("book") as llm:
        chat = await create_chat(engine, llm, tools=[book])
        asking = asyncio.create_task(chat.ask("go"))
        await wrote.wait()
        await chat.cancel()
        assert (await asking).finish_reason == "cancelled"
    assert await booked(engine) == ["1A"]
    rows = await stored(engine, chat.id)
    assert [(call.status, call.result) for call in rows.calls] == [("succeeded", "booked all the same")]
    assert [request.status for request in rows.requests] == ["ok"]


async def test_a_tool_that_ignores_its_cancellation_is_left_without_its_transaction(
    engine: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """After its time its connection is taken from it; what it goes on to say is refused, and changes nothing."""
    go_on, said = asyncio.Event(), asyncio.Queue[str]()

    @tool
    async def book(context: ToolContext) -> str:
        """Book a seat, and never stop."""
        session, chat = context.session, context.chat_id
        session.add(Booking(chat_id=chat, seat="1A"))
        await session.flush()
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        try:
            await session.execute(insert(Booking).values(chat_id=chat, seat="2B"))
        except Exception as error:
            said.put_nowait(type(error).__name__)
            raise
        return "booked"

    async with model("book") as llm:
        chat = await create_chat(engine, llm, tools=[book], timeout=Timeout(tool=MOMENT))
        reply = await chat.ask("go")
        assert (reply.content, checked_out(engine)) == ("done", 0)
        go_on.set()
        assert await said.get() == "SessionStateError"
    assert await booked(engine) == []
    assert "ignores its cancellation" in caplog.text


async def test_of_two_workers_one_has_written(engine: AsyncEngine) -> None:
    """A worker that lost its chat while the tool ran is refused with all it wrote; the other one's run is the only."""
    running, go_on = asyncio.Event(), asyncio.Event()
    runs: list[str] = []

    @tool(idempotent=True)
    async def book(context: ToolContext) -> str:
        """Book a seat."""
        runs.append(context.idempotency_key)
        if len(runs) == 1:
            running.set()
            await go_on.wait()
        context.session.add(Booking(chat_id=context.chat_id, seat=f"run {len(runs)}"))
        await context.session.commit()
        return "booked"

    async with model("book") as llm:
        chat = await create_chat(engine, llm, tools=[book])
        asking = asyncio.create_task(chat.ask("go"))
        await running.wait()
        other = await load_chat(engine, llm, chat.id, tools=[book])
        assert await other.cancel()
        go_on.set()
        with pytest.raises(StaleChatError) as caught:
            await asking
        partial: Any = caught.value.reply
        assert [call.status for call in partial.tool_calls] == ["failed"]
        assert (await booked(engine), checked_out(engine)) == ([], 0)
        assert (await other.resume()).content == "done"
    assert len(runs) == 2
    assert len(set(runs)) == 1
    assert await booked(engine) == ["run 2"]
    (await stored(engine, chat.id)).check()


# ── where there is none ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_tool_in_a_thread_is_told_to_be_async(engine: AsyncEngine) -> None:
    """A session of the event loop is of no use in a thread, and the error says what to do."""

    @tool
    def book(context: ToolContext) -> str:
        """Book a seat."""
        return str(context.session)

    _, reply = await asked(engine, book)
    assert "write it as `async def`" in str(reply.tool_calls[0].result)


@tool
async def reserve(context: ToolContext) -> str:
    """Reserve a seat."""
    context.session.add(Booking(chat_id=context.chat_id, seat="1A"))
    await context.session.commit()
    return "reserved"


async def test_a_chat_in_memory_has_none() -> None:
    """Without a database there is no session, and the error says what to do."""
    async with model("reserve") as llm:
        reply = await llm.chat().with_tools(reserve).ask("go")
    assert "keep the chat in" in str(reply.tool_calls[0].result)


async def test_a_callers_transaction_is_the_tools_as_well(engine: AsyncEngine) -> None:
    """With the caller's own transaction everything is in that already, and the error says so."""
    async with model("reserve") as llm, AsyncSession(engine) as session:
        chat = await create_chat(session, llm, tools=[reserve], transactions="caller")
        reply = await chat.ask("go")
        assert "through that" in str(reply.tool_calls[0].result)
        await session.rollback()


@pools
async def test_a_hosts_rollback_fixture_undoes_tools_too(engine: AsyncEngine) -> None:
    """On a single connection the tool's transaction is a savepoint: kept or undone alone, and gone with the rest."""

    @tool
    async def fail(context: ToolContext) -> str:
        """Reserve a seat, and fail."""
        context.session.add(Booking(chat_id=context.chat_id, seat="2B"))
        await context.session.commit()
        msg = "no"
        raise ValueError(msg)

    async with engine.connect() as connection:
        outer = await connection.begin()
        async with (
            model("reserve", "fail", "reserve") as llm,
            AsyncSession(connection, join_transaction_mode="create_savepoint") as session,
        ):
            chat = await create_chat(session, llm, tools=[reserve, fail])
            reply = await chat.ask("go")
            assert [call.status for call in reply.tool_calls] == ["succeeded", "failed", "succeeded"]
            assert (await session.scalars(select(Booking.seat))).all() == ["1A", "1A"]
            await session.commit()
        await outer.rollback()
    assert await booked(engine) == []


async def test_a_database_in_memory_serves_one_after_the_other() -> None:
    """The only connection is the tool's until its result is recorded; a second chat waits meanwhile."""
    engine = make_engine("sqlite://")
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.run_sync(HostBase.metadata.create_all)
    await asyncio.gather(*(asked(engine, reserve) for _ in range(3)))
    assert await booked(engine) == ["1A"] * 3
    await engine.dispose()
