"""Chats that ask chats: not themselves, not in circles, and not without end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from nodellm_orm.errors import ChatBusyError, LimitExceededError
from nodellm_orm.runtime.nesting import DEPTH, within
from nodellm_orm.runtime.tools import tool
from tests.unit.runtime.journals import let_run
from tests.unit.runtime.scripted import calls, says
from tests.unit.runtime.test_turns import World

if TYPE_CHECKING:
    from nodellm_orm.chat import Chat

FOREVER = 1e6
"""Seconds that nobody waits."""


@pytest.mark.fault("A54")
@pytest.mark.parametrize("how", ["same object", "another object"])
@pytest.mark.parametrize("wait", [0, FOREVER])
async def test_tool_that_asks_its_own_chat_is_refused_at_once(how: str, wait: float) -> None:
    """However long it is willing to wait, a tool does not wait for the turn that it is part of."""
    refused: list[ChatBusyError] = []

    @tool
    async def ask_myself() -> str:
        """Ask again."""
        chat: Chat = world.chat if how == "same object" else await world.reloaded()
        try:
            await chat.ask("inner", wait=wait)
        except ChatBusyError as error:
            refused.append(error)
        return "refused"

    world = World(calls(("ask_myself", "{}")), says("ok"), tools=(ask_myself,))

    assert (await world.chat.ask("outer")).content == "ok"

    (error,) = refused
    assert error.turn_id == (await world.last()).id
    assert [m.content for m in await world.stored() if m.role == "user"] == ["outer"]


@pytest.mark.fault("A54")
async def test_tool_of_an_unheard_stream_is_refused_too() -> None:
    """A stream that nobody reads any more and that is to finish is no reason to wait for oneself."""

    @tool
    async def ask_myself() -> str:
        """Ask again."""
        await left.wait()
        with pytest.raises(ChatBusyError, match="part of"):
            await world.chat.ask("inner")
        return "refused"

    left = asyncio.Event()
    world = World(calls(("ask_myself", "{}")), says("ok"), tools=(ask_myself,))
    async with world.chat.stream("outer", on_abandon="finish") as stream:
        pass
    left.set()

    reply = await stream.reply()

    assert (reply.content, [call.result for call in reply.tool_calls]) == ("ok", ["refused"])


@pytest.mark.fault("A54")
async def test_circle_of_chats_is_refused() -> None:
    """A chat whose tool asks a second one whose tool asks the first is told so, however long that would wait."""

    @tool
    async def ask_second() -> str:
        """Ask the other chat."""
        return (await second.chat.ask("middle")).content

    @tool
    async def ask_first() -> str:
        """Ask back."""
        return (await (await first.reloaded()).ask("inner", wait=FOREVER)).content

    first = World(calls(("ask_second", "{}")), says("outer done"), tools=(ask_second,))
    second = World(calls(("ask_first", "{}")), says("inner done"), tools=(ask_first,))

    assert (await first.chat.ask("outer")).content == "outer done"

    (call,) = (await second.last()).calls
    assert call.status == "failed"
    assert "is running turn" in (call.result or "")


@pytest.mark.fault("C66")
async def test_agents_that_ask_agents_end_at_a_depth() -> None:
    """Chats whose tool makes a chat with the same tool go so deep and no deeper; the model is told."""
    made: list[World] = []
    refused: list[LimitExceededError] = []

    @tool
    async def delegate() -> str:
        """Let somebody else do it."""
        try:
            return (await agent().chat.ask("do it")).content
        except LimitExceededError as error:
            refused.append(error)
            raise

    def agent() -> World:
        made.append(World(calls(("delegate", "{}")), says("done"), tools=(delegate,)))
        return made[-1]

    assert (await agent().chat.ask("do it")).content == "done"

    assert (len(made), len(refused)) == (DEPTH + 1, 1)
    (call,) = (await made[-2].last()).calls
    assert call.status == "failed"
    assert "inside each other" in (call.result or "")
    assert made[-1].model.requests == []
    assert [(await world.last()).status for world in made[:-1]] == ["completed"] * DEPTH


@pytest.mark.fault("C66")
async def test_turns_that_have_ended_do_not_count() -> None:
    """Work that was left behind by a turn goes on for as long as it likes: it is inside nothing."""
    rounds = DEPTH * 2
    done: list[str] = []
    finished = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def go_on(before: asyncio.Task[Any] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        await another()

    async def another() -> None:
        """A turn whose tool has the next one begun when it is over."""
        turn = cast("asyncio.Task[Any]", asyncio.current_task())

        @tool
        async def later() -> str:
            """Begin what comes next."""
            task = asyncio.create_task(go_on(turn))
            tasks.add(task)
            return "later"

        done.append("turn")
        if len(done) == rounds:
            finished.set()
            return
        world = World(calls(("later", "{}")), says("ok"), tools=(later,))
        await world.chat.ask("go")

    tasks.add(asyncio.create_task(another()))
    await finished.wait()
    await asyncio.gather(*tasks)
    assert len(done) == rounds


async def test_code_outside_of_turns_is_within_none() -> None:
    """A task that was begun in a turn is in it as long as the turn lasts."""
    begun: list[asyncio.Task[bool]] = []
    ended = asyncio.Event()

    @tool
    async def begin() -> bool:
        """Leave work behind."""
        turn = await world.last()

        async def later() -> bool:
            await ended.wait()
            return within(turn.id)

        begun.append(asyncio.create_task(later()))
        return within(turn.id)

    world = World(calls(("begin", "{}")), says("ok"), tools=(begin,))
    reply = await world.chat.ask("go")
    await let_run()
    ended.set()

    assert [call.result for call in reply.tool_calls] == ["true"]
    assert not await begun[0]
    assert not within(reply.turn_id)
