"""Resuming: what a worker may take up, how often, what becomes of calls nobody knows the end of, and keys."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.errors import (
    ChatBusyError,
    ChatError,
    ConfigurationError,
    IdempotencyError,
    OverloadedError,
    ToolError,
    TurnInterruptedError,
)
from nodellm_orm.runtime.memory.journal import MemoryJournal
from nodellm_orm.runtime.tools import tool
from tests.unit.runtime.journals import keep_in, let_run
from tests.unit.runtime.scripted import ManualClock, calls, says
from tests.unit.runtime.test_release import Closing
from tests.unit.runtime.test_turns import World

if TYPE_CHECKING:
    from nodellm_orm.domain.pages import InterruptedTurn
    from nodellm_orm.runtime.plan import UnknownPolicy

LEASE = 60.0


class Dying(World):
    """A chat whose workers die of its turn, under a clock that stands still."""

    def __init__(self, **behaviour: Any) -> None:
        super().__init__(lease=LEASE, **behaviour)
        self.clock = ManualClock()
        keep_in(MemoryJournal(self.clock), self, self.clock)

    async def dies(self, chat: Any = None) -> None:
        """A worker that asks, or resumes, and stops without a word while the model is silent."""
        self.model.script[:] = [asyncio.Event()]
        self.model.asked.clear()
        if chat is None:
            work = asyncio.create_task(self.chat.ask("Hi"))
        else:
            work = asyncio.create_task(chat.resume(turn=await self.listed()))
        await self.model.asked.wait()
        (drive,) = (self.chat if chat is None else chat)._host._live
        drive.turn.lost = True  # it writes nothing any more, as the dead do
        drive._task.cancel()
        await asyncio.wait({work})
        assert work.exception() is not None
        self.clock.advance(LEASE + 1)

    async def listed(self) -> InterruptedTurn:
        """The one interrupted turn."""
        (turn,) = await self.journal.interrupted(limit=9)
        return turn


@pytest.mark.fault("C43")
@pytest.mark.parametrize("limit", [0, 2])
async def test_turn_that_kills_its_workers_fails_and_the_chat_goes_on(limit: int) -> None:
    """After ``max_takeovers`` deaths the next worker is told why, the turn is failed, and a question works."""
    world = Dying(max_takeovers=limit)
    await world.dies()
    for _ in range(limit):
        await world.dies(await world.reloaded())
    turn = await world.listed()
    assert turn.takeovers == limit

    with pytest.raises(ChatError, match=f"taken over {limit} times") as caught:
        await (await world.reloaded()).resume(turn=turn)

    assert not isinstance(caught.value, ChatBusyError)
    state = await world.last()
    assert (state.status, state.error_type, [a.status for a in state.attempts]) == (
        *("failed", "TakeoverLimit"),
        ["unknown"] * (limit + 1),
    )
    assert await world.journal.interrupted(limit=9) == ()
    with pytest.raises(ChatBusyError, match="not interrupted any more"):
        await (await world.reloaded()).resume(turn=turn)  # of a worker whose list is old
    world.model.script[:] = [says("fine")]
    assert (await (await world.reloaded()).ask("Still there?")).content == "fine"


@pytest.mark.fault("C43")
async def test_person_may_resume_such_a_turn() -> None:
    """Resumed on demand, the failed turn runs once more."""
    world = Dying(max_takeovers=0)
    await world.dies()
    with pytest.raises(ChatError, match="resume"):
        await (await world.reloaded()).resume()
    world.model.script[:] = [says("after all")]

    assert (await (await world.reloaded()).resume()).content == "after all"


async def test_turn_that_a_person_has_ended_is_not_taken_up_by_a_worker() -> None:
    """A worker with an old list leaves a cancelled turn, and one that another has completed, as they are."""
    world = Dying()
    await world.dies()
    turn = await world.listed()
    worker = await world.reloaded()
    await (await world.reloaded()).cancel()

    with pytest.raises(ChatBusyError, match="leave it"):
        await worker.resume(turn=turn, wait=1e6)

    assert (await world.last()).status == "cancelled"
    world.model.script[:] = [says("done")]
    await (await world.reloaded()).resume()
    with pytest.raises(ChatBusyError, match="leave it"):
        await worker.resume(turn=turn)
    assert world.model.script == []


async def test_only_what_was_listed_can_be_given() -> None:
    """Something else than an interrupted turn is refused before anything happens."""
    wrong: Any = "the last one"
    with pytest.raises(ConfigurationError, match="interrupted_turns"):
        await World().chat.resume(turn=wrong)


# ── calls of unknown outcome ──────────────────────────────────────────────────────────────────────────────────────


class Broken(Closing):
    """A turn whose process was told to end while a tool ran."""

    def __init__(self, *, idempotent: bool = False) -> None:
        self.runs = 0

        @tool(idempotent=idempotent)
        async def charge() -> str:
            """Charge a card."""
            self.runs += 1
            if self.runs == 1:
                await asyncio.Event().wait()
            return "charged"

        super().__init__(calls(("charge", "{}")), says("I see"), tools=(charge,))

    async def broken_off(self) -> None:
        """Ask, and be closed in the middle."""
        asking = await self.asked()
        await let_run()
        await self.host.close(0)
        with pytest.raises(TurnInterruptedError):
            await asking

    def told(self) -> str:
        """What the model was told came of the call."""
        (result,) = self.model.requests[-1].messages[-1].tool_results
        return result.content


@pytest.mark.parametrize(
    ("unknown", "idempotent", "runs", "told"),
    [
        ("report", False, 1, "outcome of this call is unknown"),
        ("retry", False, 2, "charged"),
        ("report", True, 2, "charged"),
        ("retry", True, 2, "charged"),
        ("fail", True, 2, "charged"),
    ],
)
async def test_call_of_unknown_outcome_follows_the_policy(
    unknown: UnknownPolicy,
    idempotent: bool,  # noqa: FBT001 — a parameter of the test
    runs: int,
    told: str,
) -> None:
    """The model is told, or the call is run again; that of an idempotent tool is run again in any case."""
    world = Broken(idempotent=idempotent)
    await world.broken_off()

    reply = await (await world.reloaded()).resume(unknown=unknown)

    assert (reply.content, world.runs) == ("I see", runs)
    assert told in world.told()
    (call,) = (await world.last()).calls
    assert (call.status, call.attempts) == ("unknown" if runs == 1 else "succeeded", runs)


async def test_call_of_unknown_outcome_can_fail_and_be_decided_later() -> None:
    """With ``fail`` the turn ends with an error that says what to do; the call stays unknown, both ways are open."""
    world = Broken()
    await world.broken_off()

    with pytest.raises(ToolError, match="nobody knows"):
        await (await world.reloaded()).resume(unknown="fail")

    state = await world.last()
    assert (state.status, [call.status for call in state.calls], world.runs) == ("failed", ["unknown"], 1)
    assert (await (await world.reloaded()).resume(unknown="retry")).content == "I see"
    assert (world.runs, world.told()) == (2, "charged")


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("C56")
async def test_key_of_a_running_turn_is_busy_or_waited_for() -> None:
    """While its turn runs a key is busy; whoever waits gets that turn's reply, and nothing is asked twice."""
    gate = asyncio.Event()
    world = World(gate, says("once"))
    first = asyncio.create_task(world.chat.ask("Hi", idempotency_key="k"))
    await world.model.asked.wait()
    with pytest.raises(ChatBusyError):
        await (await world.reloaded()).ask("Hi", idempotency_key="k")
    waiting = asyncio.create_task((await world.reloaded()).ask("Hi", idempotency_key="k", wait=60))
    await let_run()
    gate.set()

    one, two = await asyncio.gather(first, waiting)

    assert (one.turn_id, one.content) == (two.turn_id, two.content)
    assert len(world.model.requests) == 1


@pytest.mark.fault("C57")
async def test_key_for_another_question_is_refused_whatever_its_turn_does() -> None:
    """Another question, or the same one with other options, is refused under a key, running or ended."""
    gate = asyncio.Event()
    world = World(gate, says("once"))
    first = asyncio.create_task(world.chat.ask("Hi", idempotency_key="k"))
    await world.model.asked.wait()
    with pytest.raises(IdempotencyError):
        await (await world.reloaded()).ask("Ho", idempotency_key="k")
    gate.set()
    await first
    for words, options in (("Ho", {}), ("Hi", {"temperature": 0.5}), ("Hi", {"schema": int})):
        with pytest.raises(IdempotencyError, match="another request"):
            await (await world.reloaded()).ask(words, idempotency_key="k", **options)
    assert len(world.model.requests) == 1


@pytest.mark.fault("C58")
async def test_key_of_an_interrupted_turn_carries_it_on() -> None:
    """The same question under its key goes on where its dead worker was: one turn, one question in the rows."""
    world = Dying()
    world.model.script[:] = [asyncio.Event()]
    asking = asyncio.create_task(world.chat.ask("Hi", idempotency_key="k"))
    await world.model.asked.wait()
    (drive,) = world.chat._host._live
    drive.turn.lost = True
    drive._task.cancel()
    await asyncio.wait({asking})
    world.clock.advance(LEASE + 1)
    world.model.script[:] = [says("after all")]

    reply = await (await world.reloaded()).ask("Hi", idempotency_key="k")

    assert (asking.exception() is not None, reply.content) == (True, "after all")
    assert [m.content for m in await world.stored()] == ["Hi", "after all"]


async def test_key_of_a_failed_turn_that_was_left_behind_is_told() -> None:
    """Once the conversation went on, the question of a failed turn is not asked again in its middle."""
    world = World(*[OverloadedError("busy", status=529)] * 3, says("on"))
    with pytest.raises(OverloadedError):
        await world.chat.ask("Hi", idempotency_key="k")
    await world.chat.ask("Something else")

    with pytest.raises(IdempotencyError, match="new key"):
        await (await world.reloaded()).ask("Hi", idempotency_key="k")


# ── waiting ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_waiting_ends_when_it_was_said_to() -> None:
    """A question waits for a busy chat as long as it was told, and no longer."""
    clock = ManualClock()
    world = World(asyncio.Event(), says("never"))
    keep_in(MemoryJournal(clock), world, clock)
    asking = asyncio.create_task(world.chat.ask("one"))
    await world.model.asked.wait()
    waiting = asyncio.create_task((await world.reloaded()).ask("two", wait=1.0))

    for _ in range(60):
        await let_run()
        clock.advance(0.02)
    await let_run()

    assert isinstance(waiting.exception(), ChatBusyError)
    await world.chat.cancel()
    await asking


async def test_those_who_wait_on_one_object_are_answered_in_the_order_in_which_they_came() -> None:
    """Questions that wait for the same object are answered first come, first served."""
    gate = asyncio.Event()
    world = World(gate, *[says("yes")] * 6)
    asking = [asyncio.create_task(world.chat.ask("0"))]
    await world.model.asked.wait()
    for number in range(1, 6):
        asking.append(asyncio.create_task(world.chat.ask(str(number), wait=60)))
        await let_run()
    gate.set()

    await asyncio.gather(*asking)

    assert [m.content for m in await world.stored() if m.role == "user"] == list("012345")
