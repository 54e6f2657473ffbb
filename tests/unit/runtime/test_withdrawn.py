"""Questions that are withdrawn before they begin, chats that lie idle, and what races of several holders come to."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.domain.messages import user
from nodellm_orm.domain.replies import Reply
from nodellm_orm.errors import ChatBusyError
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.runtime.drive import Drive
from nodellm_orm.runtime.memory.journal import MemoryJournal
from tests.unit.runtime.journals import (
    InterruptedJournal,
    LateJournal,
    MeetingJournal,
    RacedJournal,
    SuspendedMeanwhileJournal,
    keep_in,
    let_run,
)
from tests.unit.runtime.scripted import ManualClock, calls, says
from tests.unit.runtime.test_turns import World, add

if TYPE_CHECKING:
    from uuid import UUID


def drives_of(turn_id: UUID) -> list[Drive]:
    """What is still in memory of a turn."""
    gc.collect()
    return [found for found in gc.get_objects() if type(found) is Drive and found.turn.id == turn_id]


async def test_idle_chat_keeps_nothing_of_its_last_turn() -> None:
    """A chat that lies idle does not keep its last turn, with all that it read, in memory."""
    world = World(says("Hello"))

    reply = await world.chat.ask("Hi")
    await let_run()

    assert drives_of(reply.turn_id) == []
    assert world.chat.messages[-1].content == "Hello"


async def test_running_turn_is_kept_although_nobody_else_holds_it() -> None:
    """A turn under way is not lost to the garbage collector, and `cancel` finds it."""
    world = World(asyncio.Event(), says("never"))
    asking = asyncio.create_task(world.chat.ask("Hi"))
    await world.model.asked.wait()
    gc.collect()

    assert await world.chat.cancel()

    assert (await asking).finish_reason == "cancelled"


async def test_waiting_question_is_withdrawn() -> None:
    """Cancelling a question that only waits for its chat is no cancelled turn: it raises, and `cancel` says False."""
    clock, gate = ManualClock(), asyncio.Event()
    world = World(gate, says("first"))
    keep_in(MemoryJournal(clock), world, clock)
    asking = asyncio.create_task(world.chat.ask("one"))
    await world.model.asked.wait()
    other = await world.reloaded()
    waiting = asyncio.create_task(other.ask("two", wait=30))
    await clock.until_asleep(0.02)

    assert not await other.cancel()

    with pytest.raises(ChatBusyError, match="nothing was stored"):
        await waiting
    gate.set()
    assert (await asking).content == "first"
    assert [m.content for m in await world.stored()] == ["one", "first"]


@pytest.mark.parametrize("steps", range(12))
async def test_cancel_at_any_step_of_a_beginning_turn_says_what_became_of_it(steps: int) -> None:
    """However early a question is cancelled, its caller is told: answered, cancelled, or withdrawn; as the rows say."""
    world = World(asyncio.Event(), says("never"))
    asking = asyncio.create_task(world.chat.ask("Hi"))
    for _ in range(steps):
        await asyncio.sleep(0)

    ended = await world.chat.cancel()
    while not ended and not asking.done():  # there was nothing to cancel yet
        await asyncio.sleep(0)
        ended = await world.chat.cancel()
    outcome: object = (await asyncio.gather(asking, return_exceptions=True))[0]

    stored = [m.content for m in await world.stored()]
    if ended:
        assert isinstance(outcome, Reply)
        assert (outcome.finish_reason, stored, (await world.last()).status) == ("cancelled", ["Hi"], "cancelled")
    else:
        assert isinstance(outcome, ChatBusyError)
        assert stored == []


async def test_cancellation_behind_a_failed_take_is_not_lost() -> None:
    """A question that is cancelled while it learns that its chat is busy does not go on waiting."""
    gate = asyncio.Event()
    world = World(gate, says("first"), says("second"))
    journal = keep_in(LateJournal(world.engine.clock), world)
    asking = asyncio.create_task(world.chat.ask("one"))
    await world.model.asked.wait()
    journal.late = True
    other = await world.reloaded()
    waiting = asyncio.create_task(other.ask("two", wait=30))
    await journal.reached.wait()

    withdrawing = asyncio.create_task(other.cancel())
    await let_run()
    gate.set()
    journal.go_on.set()

    assert not await withdrawing
    with pytest.raises(ChatBusyError, match="nothing was stored"):
        await waiting
    await asking
    assert [m.content for m in await world.stored()] == ["one", "first"]


async def test_cancelled_task_whose_take_fails_is_cancelled() -> None:
    """The same for a task that is cancelled from outside: nothing of its question goes on."""
    gate = asyncio.Event()
    world = World(gate, says("first"), says("second"))
    journal = keep_in(LateJournal(world.engine.clock), world)
    asking = asyncio.create_task(world.chat.ask("one"))
    await world.model.asked.wait()
    journal.late = True
    waiting = asyncio.create_task((await world.reloaded()).ask("two", wait=30))
    await journal.reached.wait()

    waiting.cancel()
    await let_run()
    gate.set()
    journal.go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asking
    await let_run()
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("turn ")] == []
    assert [m.content for m in await world.stored()] == ["one", "first"]


async def test_cancelled_while_its_take_succeeds_is_a_cancelled_turn() -> None:
    """A question that is cancelled while its first point is on its way has begun, and ends as a cancelled turn."""
    world = World(says("never"))
    journal = keep_in(LateJournal(world.engine.clock, late=True), world)
    asking = asyncio.create_task(world.chat.ask("Hi"))
    await journal.reached.wait()

    withdrawing = asyncio.create_task(world.chat.cancel())
    await let_run()
    journal.go_on.set()

    assert await withdrawing
    assert (await asking).finish_reason == "cancelled"
    turn = await world.last()
    assert (turn.status, [a.status for a in turn.attempts], world.model.requests) == ("cancelled", ["cancelled"], [])


@pytest.mark.parametrize("refused", ['{"a": "one"}', "{", '{"a": 1}'])
async def test_forced_tool_stays_forced_while_its_arguments_are_refused(refused: str) -> None:
    """A forced tool that could not run because of its arguments is asked for again, until it has run."""
    world = World(calls(("add", refused)), calls(("add", '{"a": 1, "b": 2}')), says("3"), tools=(add,))

    await world.chat.ask("1+2?", tool_choice="add")

    assert [r.settings.tool_choice for r in world.model.requests] == ["add", "add", "auto"]


async def test_forced_tool_that_is_never_called_rightly_ends_at_the_limit_of_rounds() -> None:
    """A model that never gets the arguments of a forced tool right does not go on for ever."""
    world = World(*[calls(("add", "{}"))] * 4, tools=(add,))

    reply = await world.chat.ask("1+2?", tool_choice="add", max_tool_rounds=3)

    assert (reply.finish_reason, len(world.model.requests)) == ("tool_limit", 4)


async def test_stored_reply_names_the_provider_that_gave_it() -> None:
    """The reply of a turn that was held with one provider keeps its name, whatever the chat asks by now."""
    world = World(says("Hello"))
    first = await world.chat.ask("Hi")
    world.model.origin = replace(world.model.origin, provider="another")

    again = await (await world.reloaded()).resume()

    assert (first.provider, again.provider, again.content) == ("scripted", "scripted", "Hello")


@pytest.mark.parametrize("committed", [True, False])
async def test_write_that_the_end_of_the_loop_interrupts_is_made_again(committed: bool) -> None:  # noqa: FBT001 — a parameter
    """A point whose writing task was cancelled is written once more, and told that it may be there already."""
    world = World(says("Hello"))
    journal = keep_in(InterruptedJournal(world.engine.clock, committed=committed), world)

    reply = await world.chat.ask("Hi")

    assert (reply.content, journal.tries) == ("Hello", [False, True])
    assert [m.content for m in await world.stored()] == ["Hi", "Hello"]


async def test_message_is_added_behind_one_that_came_first() -> None:
    """A message that is added while another process adds one takes the next place."""
    world = World()
    keep_in(RacedJournal(world.engine.clock, (new_id(), user("theirs"))), world)

    added = await world.chat.add_message("user", "mine")

    assert [m.content for m in await world.stored()] == ["theirs", "mine"]
    assert added.position == 1


async def test_no_message_comes_between_a_call_and_its_result() -> None:
    """A turn that leaves calls open while another process adds a message keeps it out: the call has no result yet."""
    gate = asyncio.Event()
    world = World(gate, calls(("add", '{"a":1,"b":2}')), says("no sum"), tools=(add,))
    journal = keep_in(SuspendedMeanwhileJournal(world.engine.clock), world)
    asking = asyncio.create_task(world.chat.ask("Hi", max_tool_rounds=0))
    await world.model.asked.wait()
    other = await world.reloaded()

    async def ends() -> None:
        gate.set()
        await asking

    journal.meanwhile = ends
    with pytest.raises(ChatBusyError):
        await other.add_message("user", "mine")

    assert [m.role for m in await world.stored()] == ["user", "assistant"]
    assert (await other.ask("And?")).content == "no sum"
    assert [m.role for m in await world.stored()] == ["user", "assistant", "tool", "user", "assistant"]


async def test_two_processes_that_change_a_chat_at_once_both_succeed() -> None:
    """Changes of different fields that were saved at the same moment are both in the row."""
    world = World()
    journal = keep_in(MeetingJournal(world.engine.clock), world)
    other = world.another(world.conversation.of(journal.keep(world.head)))

    await asyncio.gather(world.chat.update(title="Title"), other.update(instructions="Be kind."))

    stored = (await journal.load(world.head.id, None)).head
    assert (stored.title, stored.instructions) == ("Title", ("Be kind.",))
