"""Processes that are told to end, that are killed in the middle of an answer, and whose chats are ended elsewhere."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import delete, func, select

from nodellm_orm import StaleChatError, create_chat, interrupted_turns, load_chat
from nodellm_orm.models import Base, ChatRecord
from nodellm_orm.testing import LoopbackServer, Stall, cut, json_answer
from tests.acceptance.cli.shell import Shell
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.test_two_processes import SHORT, Place, Provider, chat_id, expired, place
from tests.acceptance.validity import stored
from tests.acceptance.victim import tools
from tests.acceptance.workers import working

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.testing import Answer, ReceivedRequest

__all__ = ["chat_id", "place"]  # fixtures

ROOT: Final = Path(__file__).parents[2]
SPEAKER: Final = Speaker("openai_chat")
LONG_GRACE: Final = 120.0


@pytest.mark.fault("C44")
@pytest.mark.parametrize("at", [1, 2])
async def test_a_process_that_is_told_to_end_hands_its_turn_over(
    engine: AsyncEngine, place: Place, chat_id: UUID, at: int
) -> None:
    """On SIGTERM a call of the model that takes too long is left; another process carries on at once."""
    provider = Provider(at - 1)
    async with provider.server as server, SPEAKER.llm(server) as llm:
        async with working(job := place.job(provider, "ask", "Run both", closes=0.0)) as worker:
            worker.go()
            await provider.received(at)
            worker.send(signal.SIGTERM)
            assert (await worker.outcome()).error == "TurnInterruptedError"
            assert await worker.ended() == 0
        (turn,) = await interrupted_turns(engine)
        provider.release(at - 1)
        chat = await load_chat(engine, llm, chat_id, tools=tools(job.effects))
        reply = await chat.resume(turn=turn)

    assert (reply.content, reply.turn_id) == ("answer 2 to None", turn.turn_id)
    rows = await stored(engine, chat_id)
    rows.check()
    statuses = ["ok"] * 3
    statuses[at - 1] = "cancelled"
    assert [row.status for row in rows.requests] == statuses
    assert [turn.takeovers for turn in rows.turns] == [0]
    assert sorted(job.effects.read_text().split()) == ["charge", "post"]


@pytest.mark.fault("C44")
async def test_a_process_that_is_told_to_end_finishes_what_ends_in_its_grace(
    engine: AsyncEngine, place: Place, chat_id: UUID
) -> None:
    """After a SIGTERM the answer that arrives in time is the caller's, and then the process leaves at once."""
    provider = Provider(0)
    async with provider.server, working(place.job(provider, "ask", "Run both", closes=LONG_GRACE)) as worker:
        worker.go()
        await provider.received(1)
        worker.send(signal.SIGTERM)
        provider.release(0)
        told = await worker.outcome()
        assert await worker.ended() == 0

    assert (told.content, told.error) == ("answer 1 to None", None)
    (await stored(engine, chat_id)).check()


@pytest.mark.fault("C46")
@pytest.mark.timeout(180)
async def test_a_process_that_is_killed_while_a_huge_answer_arrives(
    engine: AsyncEngine, place: Place, chat_id: UUID
) -> None:
    """Killed for its memory in the middle of megabytes of an answer, a process leaves a turn to resume."""
    huge = cut(json_answer(SPEAKER.body(Says(text="x" * 8_000_000))), after=6_000_000, then=Stall())
    whole = SPEAKER.answer(Says(text="y" * 2_000_000), stream=False)
    provider = Provider()
    async with LoopbackServer([huge, whole]) as server, SPEAKER.llm(server) as llm:
        provider.server = server
        async with working(place.job(provider, "ask", "Hello", lease=SHORT)) as victim:
            victim.go()
            await server.until_received(1)
            victim.send(signal.SIGKILL)
            await victim.ended()
        await expired(engine)
        reply = await (await load_chat(engine, llm, chat_id)).resume()

    assert reply.content == "y" * 2_000_000
    rows = await stored(engine, chat_id)
    rows.check()
    assert [row.status for row in rows.requests] == ["unknown", "ok"]


@pytest.mark.fault("C64")
async def test_a_turn_that_is_cancelled_elsewhere_leaves_its_provider(
    engine: AsyncEngine, place: Place, chat_id: UUID
) -> None:
    """``cancel`` ends the turn of another process, which notices, aborts its request and writes nothing."""
    provider = Provider(0)
    async with provider.server as server, SPEAKER.llm(server) as llm:
        async with working(place.job(provider, "ask", "Hello", lease=SHORT * 4)) as worker:
            worker.go()
            await provider.received(1)
            assert await (await load_chat(engine, llm, chat_id)).cancel()
            before = await stored(engine, chat_id)
            assert (await worker.outcome()).error == "StaleChatError"
            assert await worker.ended() == 0
        provider.release(0)
        assert (await stored(engine, chat_id)).values() == before.values()
        assert [(turn.status, turn.active_slot) for turn in before.turns] == [("cancelled", None)]
        chat = await load_chat(engine, llm, chat_id)
        assert (await chat.ask("Again")).content == "answer 1 to Again"


@pytest.mark.fault("C63")
async def test_a_chat_that_is_deleted_under_its_turn_leaves_no_row(engine: AsyncEngine) -> None:
    """A turn whose chat is gone when its answer arrives writes nothing, and its caller has the answer."""
    gate = asyncio.Event()

    async def answer(_: ReceivedRequest) -> Answer:
        await gate.wait()
        return SPEAKER.answer(Says(text="too late"), stream=False)

    async with LoopbackServer(answer) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm)
        asking = asyncio.create_task(chat.ask("Hello"))
        await server.until_received(1)
        tables = [table for table in reversed(Base.metadata.sorted_tables) if "chat_id" in table.c]
        async with engine.begin() as connection:
            for table in tables:
                await connection.execute(delete(table).where(table.c.chat_id == chat.id))
            await connection.execute(delete(ChatRecord).where(ChatRecord.id == chat.id))
        gate.set()
        with pytest.raises(StaleChatError) as caught:
            await asking

    reply: Any = caught.value.reply
    assert reply.content == "too late"
    async with engine.connect() as connection:
        for table in tables:
            assert await connection.scalar(select(func.count()).select_from(table)) == 0


LEAVES: Final = """
import asyncio, logging, sys
from nodellm_orm import create_chat, create_llm
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine

logging.basicConfig(level="WARNING")
kept = []

async def main():
    # Nobody is left to close a pool, and connections of aiomysql complain of that by themselves.
    options = {"poolclass": NullPool} if "aiomysql" in sys.argv[1] else {}
    engine = create_async_engine(sys.argv[1], **options)
    llm = create_llm("openai", api="chat", base_url=sys.argv[2], api_key="sk-none", model="gpt-5-mini")
    chat = await create_chat(engine, llm)
    kept.append((engine, llm, chat, asyncio.create_task(chat.ask("Hello"))))
    await asyncio.to_thread(sys.stdin.readline)
    if sys.argv[3] == "raise":
        raise SystemExit(3)

asyncio.run(main())
print("left", kept[0][2].id)
"""


@pytest.mark.fault("C53")
@pytest.mark.parametrize("how", ["return", "raise"])
async def test_a_program_that_ends_under_a_turn_says_nothing_of_it(
    engine: AsyncEngine, database: str, tmp_path: Path, how: str
) -> None:
    """``asyncio.run`` that ends with a turn and its connections open leaves no noise, and a turn to resume."""
    script: list[Answer] = [(Stall(),), SPEAKER.answer(Says(text="after all"), stream=False)]
    async with LoopbackServer(script) as server, SPEAKER.llm(server) as llm:
        shell = Shell.at(tmp_path, PYTHONPATH=str(ROOT))
        program = await shell.start(sys.executable, "-c", LEAVES, database, server.url, how)
        await server.until_received(1)
        out, err = await asyncio.wait_for(program.communicate(b"\n"), 60)
        assert (program.returncode, err.decode()) == (3 if how == "raise" else 0, "")
        assert out.startswith(b"left") == (how == "return")
        async with engine.connect() as connection:
            found = await connection.scalar(select(ChatRecord.id))
        assert found is not None
        reply = await (await load_chat(engine, llm, found)).resume()

    assert reply.content == "after all"
    rows = await stored(engine, found)
    rows.check()
    assert [row.status for row in rows.requests] == ["cancelled", "ok"]
