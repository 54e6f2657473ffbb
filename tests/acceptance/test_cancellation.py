"""Cancelled at any point, once or twice, by whatever asyncio has for that, a turn ends in rows that make sense."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from itertools import count
from types import coroutine
from typing import TYPE_CHECKING, Any, Final

import pytest

from nodellm_orm import create_chat, load_chat, tool
from nodellm_orm.testing import FakeCall, LoopbackServer, Stall
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.validity import check, check_history, last_words, stored

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Generator, Iterator
    from contextvars import Context

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM
    from nodellm_orm.testing import Answer, ReceivedRequest

SPEAKER: Final = Speaker("openai_chat")
TURN: Final = "Turn.run"


@tool
async def double(x: int) -> int:
    """Double a number."""
    await asyncio.sleep(0)
    return 2 * x


class Steps:
    """The task of a turn, cancelled before some of its steps.

    Args:
        at: the numbers of these steps, from 1.
    """

    def __init__(self, at: Collection[int]) -> None:
        self._at = at
        self.made = 0

    @coroutine
    def _stepped(self, turn: Coroutine[Any, Any, Any]) -> Generator[Any, None, Any]:
        error: BaseException | None = None
        while True:
            self.made += 1
            task = asyncio.current_task()
            if self.made in self._at and task is not None:
                task.cancel()
            try:
                waited = turn.send(None) if error is None else turn.throw(error)
            except StopIteration as stop:
                return stop.value
            error = None
            try:
                yield waited
            except BaseException as thrown:  # noqa: BLE001 — it is handed on
                error = thrown

    async def _run(self, turn: Coroutine[Any, Any, Any]) -> Any:
        return await self._stepped(turn)

    def make(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        """A task, as an event loop has them made."""
        stepped = self._run(work) if getattr(work, "__qualname__", "") == TURN else work
        return asyncio.Task(stepped, loop=loop, context=context)


@contextmanager
def cancelled(at: Collection[int]) -> Iterator[Steps]:
    """Turns that begin in this block are cancelled before these steps."""
    loop, steps = asyncio.get_running_loop(), Steps(at)
    loop.set_task_factory(steps.make)  # type: ignore[arg-type]  # versions of Python differ in what they hand over
    try:
        yield steps
    finally:
        loop.set_task_factory(None)


async def answer(request: ReceivedRequest) -> Answer:
    """A call for the first question, words for the rest."""
    body = request.json()
    check(body, SPEAKER.api)
    if last_words(body, SPEAKER.api) == "go":
        return SPEAKER.answer(Says(calls=[FakeCall("double", {"x": 21})]), stream=False)
    return SPEAKER.answer(Says(text="fine"), stream=False)


async def swept(engine: AsyncEngine, llm: LLM, at: Collection[int]) -> bool:
    """Ask, be cancelled, look at the rows, ask again; whether there still was such a step."""
    chat = await create_chat(engine, llm, tools=[double])
    with cancelled(at) as steps:
        asking = asyncio.create_task(chat.ask("go"))
        await asyncio.wait({asking})
    pool: Any = engine.sync_engine.pool
    assert pool.checkedout() == 0
    rows = await stored(engine, chat.id)
    assert (rows.chat.active_turn_id, rows.chat.lease_owner) == (None, None)
    assert {turn.status for turn in rows.turns} <= {"cancelled", "completed"}
    assert {row.status for row in rows.requests} <= {"ok", "cancelled"}
    assert {call.status for call in rows.calls} <= {"succeeded", "unknown", "skipped"}
    again = await (chat if steps.made % 2 else await load_chat(engine, llm, chat.id)).ask("again")
    assert again.content == "fine"
    (rows := await stored(engine, chat.id)).check()
    check_history((await load_chat(engine, llm, chat.id)).messages)
    questions = [message.content for message in rows.messages if message.role == "user"]
    assert questions in (["go", "again"], ["again"])
    return max(at) <= steps.made


@pytest.mark.fault("C48")
@pytest.mark.timeout(300)
async def test_a_turn_that_is_cancelled_at_any_step_leaves_whole_rows(engine: AsyncEngine) -> None:
    """At each place where a turn can be cancelled its rows are as before or as after, and nothing is held."""
    async with LoopbackServer(answer) as server, SPEAKER.llm(server) as llm:
        for step in count(1):
            if not await swept(engine, llm, {step}):
                break
    assert step > 10


@pytest.mark.fault("C49")
@pytest.mark.timeout(300)
async def test_a_turn_that_is_cancelled_while_it_is_being_cancelled(engine: AsyncEngine) -> None:
    """A second cancellation, while the end of the turn is written, changes nothing of that."""
    async with LoopbackServer(answer) as server, SPEAKER.llm(server) as llm:
        for step in count(1, 2):
            if not await swept(engine, llm, {step, step + 1, step + 2}):
                break
    assert step > 10


async def ended(engine: AsyncEngine, server: LoopbackServer, llm: LLM, chat_id: Any) -> None:
    """The provider was left, the turn is cancelled, and the chat is free."""
    await server.until_interrupted()
    chat = await load_chat(engine, llm, chat_id)
    assert (await chat.ask("again", wait=60)).content == "fine"
    rows = await stored(engine, chat_id)
    rows.check()
    assert [turn.status for turn in rows.turns] == ["cancelled", "completed"]
    assert [row.status for row in rows.requests] == ["cancelled", "ok"]


def silent() -> LoopbackServer:
    """A provider that does not answer its first request."""
    return LoopbackServer([(Stall(),), SPEAKER.answer(Says(text="fine"), stream=False)])


@pytest.mark.fault("C50")
async def test_a_question_whose_time_is_up(engine: AsyncEngine) -> None:
    """``asyncio.timeout`` around a question ends its turn and leaves the provider."""
    async with silent() as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm)

        async def impatient() -> None:
            async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
                group.create_task(chat.ask("Hello"))
                await server.until_received(1)
                limit.reschedule(0)

        with pytest.raises(TimeoutError):
            await impatient()
        await ended(engine, server, llm, chat.id)


@pytest.mark.fault("C51")
async def test_a_question_whose_neighbour_fails(engine: AsyncEngine) -> None:
    """In a task group that fails the turn of every other task ends, and its provider is left."""

    async def fail() -> None:
        await server.until_received(1)
        raise ZeroDivisionError

    async with silent() as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm)

        async def together() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(chat.ask("Hello"))
                group.create_task(fail())

        with pytest.raises(ExceptionGroup) as caught:
            await together()
        assert caught.group_contains(ZeroDivisionError)
        await ended(engine, server, llm, chat.id)
