"""A client that is closed lets go of its turns: between two steps if it can, in the middle of one if it must."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest

from nodellm_orm.chat import Chat
from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import ChatBusyError, ConfigurationError, TurnInterruptedError
from nodellm_orm.fluent import Behaviour
from nodellm_orm.runtime.host import Host
from nodellm_orm.runtime.toolbox import Toolbox
from nodellm_orm.runtime.tools import tool
from tests.unit.runtime.journals import let_run
from tests.unit.runtime.scripted import calls, says
from tests.unit.runtime.test_turns import World, _Source, add

if TYPE_CHECKING:
    from nodellm_orm.domain.replies import Reply
    from nodellm_orm.runtime.tools import ToolSource
    from tests.unit.runtime.scripted import Step

SUM: Final = ("add", '{"a": 1, "b": 2}')


class Closing(World):
    """A world whose host a test closes."""

    def __init__(self, *script: Step, tools: tuple[ToolSource, ...] = (), **behaviour: Any) -> None:
        super().__init__(*script, tools=tools, **behaviour)
        self.host = Host(self.engine, _Source(self.model), "closing")
        kept = Behaviour(toolbox=Toolbox(tools), timeout=Timeout(), **behaviour)
        self.chat = Chat(self.host, self.journal, self.conversation, kept)

    async def asked(self, words: str = "go") -> asyncio.Task[Reply[object]]:
        """Ask, until the model has been asked."""
        asking = asyncio.create_task(self.chat.ask(words))
        await self.model.asked.wait()
        return asking

    async def winding_down(self) -> asyncio.Task[None]:
        """The host while it is closed, in the half of its grace in which no step begins any more."""
        for drive in self.host._live:
            drive.turn.wind_down()
        closing = asyncio.create_task(self.host.close(120))
        await let_run()
        return closing

    async def interrupted(self) -> list[object]:
        """Turns that others may take now."""
        return [turn.turn_id for turn in await self.journal.interrupted(limit=9)]


@pytest.mark.fault("C44")
async def test_turn_that_ends_in_the_grace_is_a_turn_like_any_other() -> None:
    """While a client is closed its turns go on, and their callers get their replies."""
    gate = asyncio.Event()
    world = Closing(gate, calls(SUM), says("3"), tools=(add,))
    asking = await world.asked()
    closing = asyncio.create_task(world.host.close(120))
    await let_run()

    gate.set()

    assert (await asking).content == "3"
    await closing


@pytest.mark.fault("C44")
async def test_no_turn_begins_once_the_client_is_closed() -> None:
    """A question to a client that is being closed is refused, and nothing is stored."""
    gate = asyncio.Event()
    world = Closing(gate, says("Hello"))
    asking = await world.asked()
    closing = asyncio.create_task(world.host.close(120))
    await let_run()
    other = Chat(world.host, world.journal, world.conversation, world.chat._behaviour)

    with pytest.raises(ConfigurationError, match="closed"):
        await other.ask("too late")

    gate.set()
    assert (await asking).content == "Hello"
    await closing
    assert [m.content for m in await world.stored()] == ["go", "Hello"]


@pytest.mark.fault("C44")
async def test_calls_that_come_late_are_left_to_the_next_worker() -> None:
    """In the second half of the grace an answer is stored, and the calls in it have not begun."""
    gate = asyncio.Event()
    world = Closing(gate, calls(SUM), says("3"), tools=(add,))
    asking = await world.asked()
    closing = await world.winding_down()

    gate.set()
    with pytest.raises(TurnInterruptedError, match="resume"):
        await asking
    await closing

    turn = await world.last()
    assert (turn.status, turn.reason, [c.status for c in turn.calls]) == ("running", "released", ["pending"])
    assert [a.status for a in turn.attempts] == ["ok"]
    assert await world.interrupted() == [turn.id]
    assert (await (await world.reloaded()).resume()).content == "3"
    assert len(world.model.requests) == 2


@pytest.mark.fault("C44")
async def test_round_of_tools_is_finished_and_the_model_not_asked_again() -> None:
    """In the second half of the grace a tool runs to its end, its result is stored, and no request follows."""
    running, gate, ran = asyncio.Event(), asyncio.Event(), []

    @tool
    async def slow() -> str:
        """Take a while."""
        running.set()
        await gate.wait()
        ran.append("slow")
        return "done"

    world = Closing(calls(("slow", "{}")), says("fine"), tools=(slow,))
    asking = await world.asked()
    await running.wait()
    closing = await world.winding_down()

    gate.set()
    with pytest.raises(TurnInterruptedError) as caught:
        await asking
    await closing

    turn = await world.last()
    assert (turn.id, [c.status for c in turn.calls]) == (caught.value.turn_id, ["succeeded"])
    reply: Any = caught.value.reply
    assert [c.result for c in reply.tool_calls] == ["done"]
    assert (await (await world.reloaded()).resume()).content == "fine"
    assert (ran, len(world.model.requests), (await world.last()).takeovers) == (["slow"], 2, 0)


@pytest.mark.fault("C44")
@pytest.mark.parametrize("durability", ["step", "turn"])
async def test_what_takes_longer_is_broken_off_and_left_to_others(durability: str) -> None:
    """After the grace a call of the model is aborted; the turn is interrupted, and anybody's at once."""
    world = Closing(calls(SUM), asyncio.Event(), says("never"), tools=(add,), durability=durability)
    asking = await world.asked()
    await let_run()

    await world.host.close(0)

    with pytest.raises(TurnInterruptedError):
        await asking
    turn = await world.last()
    assert (turn.status, turn.expired, [c.status for c in turn.calls]) == ("running", True, ["succeeded"])
    assert [a.status for a in turn.attempts] == ["ok", "cancelled"]
    assert [m.role for m in await world.stored()] == ["user", "assistant", "tool"]
    assert (await (await world.reloaded()).resume()).content == "never"


@pytest.mark.fault("C44")
async def test_tool_that_is_broken_off_has_an_unknown_outcome() -> None:
    """A tool that runs longer than the grace is told of as what it is: nobody knows what came of it."""

    @tool
    async def endless() -> None:
        """Never end."""
        await asyncio.Event().wait()

    world = Closing(calls(("endless", "{}")), says("I see"), tools=(endless,))
    asking = await world.asked()
    await let_run()

    await world.host.close(0)

    with pytest.raises(TurnInterruptedError):
        await asking
    assert [c.status for c in (await world.last()).calls] == ["unknown"]
    assert (await (await world.reloaded()).resume()).content == "I see"
    (result,) = world.model.requests[-1].messages[-1].tool_results
    assert "unknown" in result.content


@pytest.mark.fault("C44")
async def test_broken_off_stream_keeps_its_text_and_the_answer_is_asked_for_anew() -> None:
    """The reader of a stream gets what arrived, then the error; the text is stored until the turn is resumed."""
    world = Closing(says("Hello"), says("Hello again"))
    world.model.pace = asyncio.Semaphore(3)
    stream = world.chat.stream("Hi")
    assert (await anext(stream)).content == "H"
    await let_run()

    await world.host.close(0)

    assert [(await anext(stream)).content, (await anext(stream)).content] == ["e", "l"]
    with pytest.raises(TurnInterruptedError) as caught:
        await anext(stream)
    reply: Any = caught.value.reply
    assert reply.content == "Hel"
    assert [(m.content, m.status) for m in await world.stored()] == [("Hi", "complete"), ("Hel", "partial")]
    world.model.pace = None
    assert (await (await world.reloaded()).resume()).content == "Hello again"
    assert [m.content for m in await world.stored()] == ["Hi", "Hello again"]


async def test_question_that_still_waits_is_told_that_nothing_began() -> None:
    """A question that waits for a busy chat when its client is closed has stored nothing, and is told so."""
    world = Closing(asyncio.Event(), says("first"))
    first = asyncio.create_task((await world.reloaded()).ask("one"))
    await world.model.asked.wait()
    waiting = asyncio.create_task(world.chat.ask("two", wait=30))
    await let_run()

    await world.host.close(0)

    with pytest.raises(ChatBusyError, match="nothing was stored"):
        await waiting
    first.cancel()
    await asyncio.wait({first})
    assert [m.content for m in await world.stored()] == ["one"]


async def test_turn_that_its_caller_cancels_is_cancelled_also_while_the_client_is_closed() -> None:
    """What a caller has ended is not left to other workers."""
    world = Closing(asyncio.Event(), says("never"))
    asking = await world.asked()
    closing = asyncio.create_task(world.host.close(120))
    await let_run()

    assert await world.chat.cancel()

    assert (await asking).finish_reason == "cancelled"
    await closing
    assert ((await world.last()).status, await world.interrupted()) == ("cancelled", [])


async def test_question_after_a_turn_that_was_let_go_of_goes_on() -> None:
    """Whoever asks instead of resuming closes what was open, and the conversation stays valid."""
    gate = asyncio.Event()
    world = Closing(gate, calls(SUM), says("ok"), tools=(add,))
    asking = await world.asked()
    closing = await world.winding_down()
    gate.set()
    await asyncio.wait({asking})
    await closing

    reply = await (await world.reloaded()).ask("never mind")

    assert reply.content == "ok"
    assert [m.role for m in await world.stored()] == ["user", "assistant", "tool", "user", "assistant"]
    assert asking.exception() is not None
