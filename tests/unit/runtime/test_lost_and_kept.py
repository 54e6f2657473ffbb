"""What becomes of paid answers, open calls and options when something fails in the middle of a turn."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm.errors import ChatBusyError, StorageError, ToolError
from nodellm_orm.ports.entries import AttemptClosed
from nodellm_orm.runtime.memory.journal import MemoryJournal
from nodellm_orm.runtime.tools import tool
from tests.unit.runtime.scripted import calls, says
from tests.unit.runtime.test_turns import World, add

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.ownership import Hold


class FailingJournal(MemoryJournal):
    """Refuses the points that hold an answered attempt, a given number of times."""

    failures = 1

    async def record(self, hold: Hold, entries: Sequence[Entry], *, again: bool = False) -> Hold:
        """As the journal does, unless it is to fail."""
        answered = any(isinstance(entry, AttemptClosed) and entry.status == "ok" for entry in entries)
        if answered and self.failures:
            self.failures -= 1
            msg = "the disk is full"
            raise StorageError(msg)
        return await super().record(hold, entries, again=again)


def failing(world: World, failures: int) -> FailingJournal:
    """The world's journal, made to fail."""
    journal = FailingJournal(world.engine.clock)
    journal.failures = failures
    world.journal = journal
    world.conversation = type(world.conversation).of(journal.keep(world.head, []))
    world.chat = world.another(world.conversation)
    return journal


async def test_answer_that_could_not_be_written_is_in_the_error_and_in_the_ledger() -> None:
    """When the database fails once, the error carries the whole answer, and the ledger its tokens and its price."""
    world = World(says("Hello"))
    failing(world, 1)

    with pytest.raises(StorageError) as caught:
        await world.chat.ask("Hi")

    reply: Any = caught.value.reply
    assert (reply.content, reply.cost, reply.finish_reason) == ("Hello", Decimal(1), "stop")
    turn = await world.last()
    assert (turn.status, [(a.status, a.cost) for a in turn.attempts]) == ("failed", [("ok", Decimal(1))])
    assert [m.content for m in await world.stored()] == ["Hi", "Hello"]


async def test_answer_is_in_the_error_when_nothing_can_be_written_any_more() -> None:
    """When the database stays away, the error still carries the whole answer."""
    world = World(says("Hello"))
    failing(world, 9)

    with pytest.raises(StorageError) as caught:
        await world.chat.ask("Hi")

    reply: Any = caught.value.reply
    assert reply.content == "Hello"


@pytest.mark.parametrize("failures", [1, 2])
async def test_kept_back_points_survive_a_failed_write(failures: int) -> None:
    """With durability ``turn``, rounds that were kept back are written by the next try, and lost by none."""
    world = World(calls(("add", '{"a": 1, "b": 2}')), says("3"), tools=(add,), durability="turn")
    failing(world, failures)

    with pytest.raises(StorageError):
        await world.chat.ask("1+2?")

    stored = await world.stored()
    expected = ["user", "assistant", "tool", "assistant"] if failures == 1 else ["user"]
    assert [m.role for m in stored] == expected


async def test_failing_hook_does_not_lose_what_was_paid() -> None:
    """When a hook raises after the answer has arrived, the attempt is ok, with its price, and the answer is kept."""
    world = World(says("Hello"))

    def bad(_: object) -> None:
        msg = "hook"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="hook"):
        await world.chat.after_response(bad).ask("Hi")

    turn = await world.last()
    assert (turn.status, [(a.status, a.cost) for a in turn.attempts]) == ("failed", [("ok", Decimal(1))])
    assert [m.content for m in await world.stored()] == ["Hi", "Hello"]


async def test_question_after_a_round_in_which_a_call_never_began() -> None:
    """A fatal tool ends the turn before another call began: that one is skipped, and the next question works."""

    @tool(sequential=True)
    def explode() -> None:
        """Explode."""
        msg = "stop"
        raise ToolError(msg, fatal=True)

    world = World(calls(("explode", "{}"), ("add", '{"a": 1, "b": 2}')), says("fine"), tools=(explode, add))
    with pytest.raises(ToolError, match="stop"):
        await world.chat.ask("go")
    assert [c.status for c in (await world.last()).calls] == ["failed", "skipped"]

    await world.chat.ask("again")

    assert [m.role for m in await world.stored()] == ["user", "assistant", "tool", "tool", "user", "assistant"]


async def test_resume_runs_a_call_that_never_began() -> None:
    """Resuming such a turn runs the call that never began, and not the one that failed."""
    ran: list[str] = []

    @tool(sequential=True)
    def explode() -> None:
        """Explode."""
        ran.append("explode")
        msg = "stop"
        raise ToolError(msg, fatal=True)

    @tool
    def note() -> str:
        """Take a note."""
        ran.append("note")
        return "noted"

    world = World(calls(("explode", "{}"), ("note", "{}")), says("done"), tools=(explode, note))
    with pytest.raises(ToolError, match="stop"):
        await world.chat.ask("go")

    reply = await (await world.reloaded()).resume()

    assert reply.content == "done"
    assert ran == ["explode", "note"]


async def test_tool_limit_is_no_way_around_approval() -> None:
    """A call that needs approval waits for a decision, also when the limit of rounds is reached with it."""
    ran: list[str] = []

    @tool(requires_approval=True)
    def pay() -> str:
        """Pay."""
        ran.append("pay")
        return "paid"

    world = World(calls(("pay", "{}")), tools=(pay,))

    first = await world.chat.ask("go", max_tool_rounds=0)
    again = await (await world.reloaded()).resume()

    assert (first.finish_reason, again.finish_reason, ran) == ("approval", "approval", [])


async def test_resumed_turn_keeps_the_options_it_was_asked_with() -> None:
    """Temperature, lengths and limits of the question hold when another process carries it on; given ones win."""
    call = ("add", '{"a": 1, "b": 2}')
    world = World(calls(call), says("3"), tools=(add,))
    await world.chat.ask("go", temperature=0.5, max_tokens=77, max_tool_rounds=0)

    await (await world.reloaded()).resume(max_tokens=99)

    settings = world.model.requests[-1].settings
    assert (settings.temperature, settings.max_tokens, settings.max_tool_rounds) == (0.5, 99, 0)


async def test_two_questions_that_wait_on_one_object_are_answered_one_after_the_other() -> None:
    """Two waiting questions on one object never run on one conversation: the second sees the first one's answer."""
    gate = asyncio.Event()
    world = World(gate, says("a"), says("b"), says("c"))
    first = asyncio.create_task(world.chat.ask("one"))
    await world.model.asked.wait()
    others = [asyncio.create_task(world.chat.ask(words, wait=30)) for words in ("two", "three")]
    await asyncio.sleep(0)
    gate.set()

    await asyncio.gather(first, *others)

    messages = await world.stored()
    assert [m.role for m in messages] == ["user", "assistant"] * 3
    assert world.model.requests[-1].messages == messages[:-1]


async def test_two_questions_at_once_on_one_object() -> None:
    """Of two questions at the same moment one is answered and one is refused, and nothing else happens."""
    world = World(says("a"), says("b"))

    done = await asyncio.gather(world.chat.ask("one"), world.chat.ask("two"), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in done) == ["ChatBusyError", "Reply"]
    assert any(isinstance(outcome, ChatBusyError) for outcome in done)
    assert len(world.model.requests) == 1
