"""Whoever asks is cancelled while any task of the turn waits, wherever that is; the chat is as before, or as after."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import pytest

from nodellm_orm import Chat, create_chat, load_chat, make_engine, tool
from nodellm_orm.testing import FakeCall, LoopbackServer
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.steps import Steps, counting
from tests.acceptance.validity import check, check_history, last_words, stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM
    from nodellm_orm.domain.jsontext import JsonObject
    from nodellm_orm.testing import Answer, ReceivedRequest

How: TypeAlias = Literal["ask", "stream"]
SPEAKER: Final = Speaker("openai_chat")
SAFETY: Final = 60.0
LEAST: Final = 40
"""A turn with two rounds waits more often than this."""
QUESTION: Final = "What is 2 + 3, and 4 + 5?"


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    await asyncio.sleep(0)
    return a + b


def line(body: JsonObject) -> Says:
    """What the model says: calls first, then the answer; to anything else, a word."""
    check(body, SPEAKER.api)
    words = last_words(body, SPEAKER.api)
    if words is None:
        return Says(text="5 and 9", usage=(30, 5))
    if words == QUESTION:
        return Says(calls=[FakeCall("add", {"a": 2, "b": 3}), FakeCall("add", {"a": 4, "b": 5})], usage=(20, 9))
    return Says(text=f"you said {words}", usage=(10, 3))


@asynccontextmanager
async def provider() -> AsyncIterator[tuple[LoopbackServer, LLM]]:
    """A provider that checks what it is sent."""

    async def handle(request: ReceivedRequest) -> Answer:
        return SPEAKER.answer(line(request.json()), stream=SPEAKER.streams(request))

    async with LoopbackServer(handle) as server, SPEAKER.llm(server) as llm:
        yield server, llm


async def turn(chat: Chat, how: How) -> str:
    """One turn, to its end."""
    if how == "ask":
        return (await chat.ask(QUESTION)).content
    async with chat.stream(QUESTION) as stream:
        async for _ in stream:
            pass
        return (await stream.reply()).content


async def cancelled_at(places: Sequence[int], chat: Chat, how: How) -> bool:
    """Hold a turn and cancel it at these steps; whether it came to the last of them."""
    task: asyncio.Task[str] | None = None

    def cancel() -> None:
        if task is not None:
            task.cancel()

    steps = Steps(frozenset(places), cancel)
    with counting(steps):
        task = asyncio.create_task(turn(chat, how))
        with suppress(asyncio.CancelledError):
            assert await task == "5 and 9"
        await chat._quiet(asyncio.get_running_loop().time() + SAFETY)
    return steps.made >= max(places)


async def check_after(engine: AsyncEngine, llm: LLM, chat: Chat, server: LoopbackServer, received: int) -> None:
    """Rows are as before or as after, nothing is held, and whoever comes next goes on."""
    rows = await stored(engine, chat.id)
    assert rows.chat.active_turn_id is None
    assert {turn.status for turn in rows.turns} <= {"cancelled", "completed"}
    assert all(request.status != "started" for request in rows.requests)
    assert len(rows.requests) >= len(server.requests) - received
    assert all(call.status != "running" for call in rows.calls)
    next_one = await load_chat(engine, llm, chat.id, tools=[add])
    assert (await next_one.ask("hello")).content == "you said hello"
    whole = [message for message in next_one.messages if message.status == "complete"]
    check_history(whole)
    again = await stored(engine, chat.id)
    again.check()


@pytest.mark.fault("C48")
@pytest.mark.parametrize("how", get_args(How))
async def test_cancelled_at_every_step(database: str, how: How) -> None:
    """Wherever a turn waits when its caller is cancelled, it ends at once, and the chat can be carried on."""
    engine = make_engine(database)
    async with provider() as (server, llm):
        for place in count(1, 1 if how == "ask" else 3):  # most of a stream's steps are those of a question
            received = len(server.requests)
            chat = await create_chat(engine, llm, tools=[add])
            reached = await cancelled_at([place], chat, how)
            assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            await check_after(engine, llm, chat, server, received)
            if not reached:
                break
    assert place > LEAST
    await engine.dispose()


@pytest.mark.fault("C49")
async def test_cancelled_twice(database: str) -> None:
    """A second cancellation while the first is being dealt with changes nothing."""
    engine = make_engine(database)
    async with provider() as (server, llm):
        for place in count(1, 3):
            received = len(server.requests)
            chat = await create_chat(engine, llm, tools=[add])
            reached = await cancelled_at([place, place + 1, place + 3, place + 6], chat, "ask")
            assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
            await check_after(engine, llm, chat, server, received)
            if not reached:
                break
    assert place > LEAST
    await engine.dispose()
