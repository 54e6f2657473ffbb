"""Several processes and one chat: one at a time has it, whoever lost it writes nothing, and nobody waits in vain."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from nodellm_orm import ChatBusyError, create_chat, interrupted_turns, load_chat
from nodellm_orm.testing import FakeCall, LoopbackServer
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.validity import check, check_history, last_words, stored
from tests.acceptance.victim import Job, tools
from tests.acceptance.workers import working

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.victim import Does, Told

MANY: Final = 6
SHORT: Final = 0.5
"""A lease that is over soon."""
PATIENCE: Final = 60.0
HOUR: Final = 3600.0
SPEAKER: Final = Speaker("openai_chat")


class Provider:
    """Answers each question with its own words; two tools are called when it is asked to.

    Args:
        holds: numbers of the requests, from 0, that are not answered before they are released.
    """

    def __init__(self, *holds: int) -> None:
        self._gates = {number: asyncio.Event() for number in holds}
        self.server = LoopbackServer(self._answer)
        self.asked: list[str | None] = []
        """What was said last in each request; ``None`` for results of tools."""
        self.at_once = 0
        """The most requests that were being answered at a time."""
        self._under_way = 0

    def release(self, number: int) -> None:
        """Answer a request that was held."""
        self._gates[number].set()

    async def received(self, count: int) -> None:
        """Wait until that many requests have arrived."""
        async with asyncio.timeout(PATIENCE):
            await self.server.until_received(count)

    async def _answer(self, request: ReceivedRequest) -> Answer:
        body = request.json()
        check(body, SPEAKER.api)
        words, number = last_words(body, SPEAKER.api), len(self.asked)
        self.asked.append(words)
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        if number in self._gates:
            await self._gates[number].wait()
        await asyncio.sleep(0)
        self._under_way -= 1
        if words == "Run both":
            return SPEAKER.answer(
                Says(calls=[FakeCall("charge", {"cents": 1}), FakeCall("post", {"text": "x"})]), stream=False
            )
        return SPEAKER.answer(Says(text=f"answer {number} to {words}"), stream=False)


@pytest.fixture
async def chat_id(engine: AsyncEngine) -> UUID:
    """A new chat."""
    async with LoopbackServer() as nowhere, SPEAKER.llm(nowhere) as llm:
        return (await create_chat(engine, llm)).id


class Place:
    """Where processes work: one chat in one database, and one provider."""

    def __init__(self, database: str, chat_id: UUID, folder: Path) -> None:
        self._common: dict[str, Any] = {"database": database, "chat": chat_id, "effects": folder / "effects"}

    def job(self, provider: Provider, does: Does, question: str = "", **changes: Any) -> Job:
        """What a process is to do there."""
        url = provider.server.url
        return Job(**{**self._common, "api": SPEAKER.api, "url": url, "does": does, "question": question, **changes})


@pytest.fixture
def place(database: str, chat_id: UUID, tmp_path: Path) -> Place:
    """The chat's."""
    return Place(database, chat_id, tmp_path)


async def together(*jobs: Job) -> list[Told]:
    """Processes that begin their turns at the same time; what came of each."""
    async with AsyncExitStack() as stack:
        workers = await asyncio.gather(*(stack.enter_async_context(working(job)) for job in jobs))
        for worker in workers:
            worker.go()
        return await asyncio.gather(*(worker.outcome() for worker in workers))


@pytest.mark.fault("C55")
async def test_second_question_is_refused_before_anything_is_sent(
    engine: AsyncEngine, place: Place, chat_id: UUID
) -> None:
    """While one process waits for its answer another one is told that the chat is busy, and sends nothing."""
    provider = Provider(0)
    async with (
        provider.server as server,
        SPEAKER.llm(server) as llm,
        working(place.job(provider, "ask", "First")) as one,
    ):
        one.go()
        await provider.received(1)
        chat = await load_chat(engine, llm, chat_id)
        with pytest.raises(ChatBusyError) as caught:
            await chat.ask("Second")
        assert caught.value.turn_id == (await stored(engine, chat_id)).turns[0].id
        provider.release(0)
        assert (await one.outcome()).content == "answer 0 to First"
        assert provider.asked == ["First"]
        assert (await chat.ask("Third")).content == "answer 1 to Third"


@pytest.mark.fault("C55")
async def test_questions_of_many_processes_are_answered_one_after_the_other(
    engine: AsyncEngine, place: Place, chat_id: UUID
) -> None:
    """Six processes that ask one chat at once, with time to wait, all get the answer to their own question."""
    provider = Provider()
    async with provider.server:
        questions = [f"Question {number}" for number in range(MANY)]
        told = await together(*(place.job(provider, "ask", question, wait=PATIENCE) for question in questions))

    assert [outcome.error for outcome in told] == [None] * MANY
    for question, outcome in zip(questions, told, strict=True):
        assert outcome.content.endswith(f"to {question}")
    rows = await stored(engine, chat_id)
    rows.check()
    assert [row.role for row in rows.messages] == ["user", "assistant"] * MANY
    for asked, answered in zip(rows.messages[::2], rows.messages[1::2], strict=True):
        assert answered.content is not None
        assert answered.content.endswith(f"to {asked.content}")
        assert answered.turn_id == asked.turn_id
    assert (len(provider.asked), provider.at_once) == (MANY, 1)


@pytest.mark.fault("C56")
async def test_one_key_runs_once_in_many_processes(engine: AsyncEngine, place: Place, chat_id: UUID) -> None:
    """The same question with the same key from six processes is asked once, and all get the same reply."""
    provider = Provider()
    async with provider.server:
        job = place.job(provider, "ask", "Run both", key="order 7", wait=PATIENCE)
        told = await together(*[job] * MANY)

    assert {(outcome.content, outcome.error) for outcome in told} == {("answer 1 to None", None)}
    assert len({outcome.turn_id for outcome in told}) == 1
    assert provider.asked == ["Run both", None]
    assert sorted(job.effects.read_text().split()) == ["charge", "post"]
    rows = await stored(engine, chat_id)
    rows.check()
    assert (len(rows.turns), len(rows.requests)) == (1, 2)


@pytest.mark.fault("C45")
@pytest.mark.parametrize("asleep", [1, 2])
async def test_a_process_that_sleeps_through_its_lease_writes_nothing(
    engine: AsyncEngine, place: Place, chat_id: UUID, asleep: int
) -> None:
    """Woken while its successor is at work, a process is told that it lost the chat, and changes no row."""
    provider = Provider(asleep - 1, asleep)
    async with (
        provider.server as server,
        SPEAKER.llm(server) as llm,
        working(job := place.job(provider, "ask", "Run both", lease=SHORT, sleeps=True)) as sleeper,
    ):
        sleeper.go()
        await provider.received(asleep)
        sleeper.go()
        chat = await load_chat(engine, llm, chat_id, tools=tools(job.effects))
        resumed = asyncio.create_task(chat.resume(wait=PATIENCE))
        await provider.received(asleep + 1)
        before = await stored(engine, chat_id)

        provider.release(asleep - 1)
        sleeper.send(signal.SIGCONT)
        assert (await sleeper.outcome()).error == "StaleChatError"
        assert await sleeper.ended() == 0
        assert (await stored(engine, chat_id)).values() == before.values()

        provider.release(asleep)
        assert (await resumed).content == "answer 2 to None"

    rows = await stored(engine, chat_id)
    rows.check()
    statuses = ["ok", "ok", "ok"]
    statuses[asleep - 1] = "unknown"
    assert [row.status for row in rows.requests] == statuses
    assert [turn.takeovers for turn in rows.turns] == [1]
    assert sorted(job.effects.read_text().split()) == ["charge", "post"]
    check_history((await load_chat(engine, llm, chat_id)).messages)


async def expired(engine: AsyncEngine) -> None:
    """Wait until the lease of a dead process is over."""
    while not await interrupted_turns(engine):  # noqa: ASYNC110 — it is the database that knows
        await asyncio.sleep(0.05)


async def interrupted(provider: Provider, job: Job) -> None:
    """A turn whose process is killed while it waits for its answer."""
    async with working(job) as victim:
        victim.go()
        await provider.received(1)
        victim.send(signal.SIGKILL)
        await victim.ended()


@pytest.mark.fault("C42")
async def test_of_many_that_carry_on_an_interrupted_turn_one_does(
    engine: AsyncEngine, place: Place, chat_id: UUID
) -> None:
    """Five processes resume at once what a sixth has left: one takes it over, the others are told it is busy."""
    provider = Provider(0, 1)
    async with provider.server, AsyncExitStack() as stack:
        await interrupted(provider, place.job(provider, "ask", "Hello", lease=SHORT))
        jobs = [place.job(provider, "resume", wait=0.0) for _ in range(MANY - 1)]
        workers = [await stack.enter_async_context(working(job)) for job in jobs]
        await expired(engine)
        for worker in workers:
            worker.go()
        outcomes = {asyncio.create_task(worker.outcome()) for worker in workers}
        while len(outcomes) > 1:
            done, outcomes = await asyncio.wait(outcomes, return_when=asyncio.FIRST_COMPLETED)
            assert {task.result().error for task in done} == {"ChatBusyError"}
        await provider.received(2)
        provider.release(1)
        (winner,) = outcomes
        assert (await winner).content == "answer 1 to Hello"

    rows = await stored(engine, chat_id)
    rows.check()
    assert provider.asked == ["Hello", "Hello"]
    assert [turn.takeovers for turn in rows.turns] == [1]
    assert [row.status for row in rows.requests] == ["unknown", "ok"]


@pytest.mark.fault("C61")
@pytest.mark.parametrize(
    ("first", "second"), [(HOUR, -HOUR), (-HOUR, HOUR)], ids=["ahead then behind", "behind then ahead"]
)
async def test_clocks_that_are_an_hour_off_have_no_effect(
    engine: AsyncEngine, place: Place, chat_id: UUID, first: float, second: float
) -> None:
    """Processes two hours apart respect each other's leases, take over in time, and agree about a turn."""
    provider = Provider(1)
    async with provider.server:
        asks = place.job(provider, "ask", "Run both", key="k", lease=4.0, ahead=first)
        resumes = place.job(provider, "resume", ahead=second)
        async with working(asks) as victim:
            victim.go()
            await provider.received(2)
            assert [told.error for told in await together(resumes)] == ["ChatBusyError"]
            victim.send(signal.SIGKILL)
            await victim.ended()
        provider.release(1)
        (resumed,) = await together(replace(resumes, wait=PATIENCE))
        (repeated,) = await together(place.job(provider, "ask", "Run both", key="k"))

    assert (resumed.content, resumed.error) == ("answer 2 to None", None)
    assert (repeated.content, repeated.error) == (resumed.content, None)
    rows = await stored(engine, chat_id)
    rows.check()
    assert [row.status for row in rows.requests] == ["ok", "unknown", "ok"]


@pytest.mark.fault("C44")
@pytest.mark.fault("C53")
@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "asyncio.run"])
async def test_a_chat_is_free_as_soon_as_its_process_has_left(
    engine: AsyncEngine, place: Place, chat_id: UUID, end: str
) -> None:
    """A process that is told to stop, or whose loop ends, cancels its turn and frees the chat at once (C44, C53)."""
    provider = Provider(0)
    async with provider.server as server, SPEAKER.llm(server) as llm:
        job = place.job(provider, "leave" if end == "asyncio.run" else "ask", "Hello", graceful=True)
        async with working(job) as worker:
            worker.go()
            await provider.received(1)
            if end == "asyncio.run":
                worker.go()
            else:
                worker.send(signal.Signals[end])
            assert await worker.ended() == 0
        provider.release(0)
        chat = await load_chat(engine, llm, chat_id)
        assert (await chat.ask("Still there?")).content == "answer 1 to Still there?"

    rows = await stored(engine, chat_id)
    rows.check()
    assert [turn.status for turn in rows.turns] == ["cancelled", "completed"]
    assert [row.status for row in rows.requests] == ["cancelled", "ok"]
