"""`ReplayLLM`: stored answers played without a provider, and how a request that was not recorded is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm import (
    ConfigurationError,
    ReplayLLM,
    ToolCallPart,
    ToolResultPart,
    create_chat,
    export_chats,
    import_chats,
    make_engine,
    migrate,
    tool,
)
from nodellm_orm.testing import FakeCall, FakeThinking
from tests.acceptance.replaying import QUESTIONS, SCRIPT, asked
from tests.acceptance.speakers import ALL_APIS, Fails, Says
from tests.acceptance.talks import Talk, calls, double, said

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat
    from nodellm_orm.domain.parts import Part
    from tests.acceptance.speakers import Api


def unnamed(chat: Chat) -> list[list[Part]]:
    """The parts of a chat without the ids that it has chosen itself for calls."""
    return [
        [replace(part, call_id="") if isinstance(part, ToolCallPart | ToolResultPart) else part for part in m.parts]
        for m in chat.messages
    ]


@pytest.mark.parametrize("api", ALL_APIS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_every_format_can_be_played(engine: AsyncEngine, api: Api, streamed: bool) -> None:  # noqa: FBT001
    """Parts, thinking, calls, usage and cost come as they were recorded, whole and in pieces, without a network."""
    thinking = [FakeThinking("a thought that is longer than one piece", signature="c2ln")]
    script = (Says(text="Let me see.", calls=calls(2), thinking=thinking), Says(text="It is four, as you may know."))
    async with Talk(engine, *script, api=api) as talk:
        chat = await talk.chat(tools=[double], instructions="Be brief.")
        reply = await chat.ask("Double 2")
    async with await ReplayLLM.from_chat(engine, chat.id) as player:
        played = await create_chat(engine, player, tools=[double], instructions="Be brief.")
        if streamed:
            async with played.stream("Double 2") as stream:
                pieces = [chunk.content async for chunk in stream if chunk.content]
            again = await stream.reply()
            assert "".join(pieces) == "Let me see.It is four, as you may know."
            assert len(pieces) > 2
        else:
            again = await played.ask("Double 2")
        assert player.remaining == 0
        assert (again.content, again.usage, again.cost) == (reply.content, reply.usage, reply.cost)
        assert (again.finish_reason, again.thinking, again.model) == (reply.finish_reason, reply.thinking, reply.model)
        assert unnamed(played) == unnamed(chat)
        assert said(played.messages) == said(chat.messages)
        with pytest.raises(ConfigurationError, match="no answer left"):
            await played.ask("and more")
        assert len(played.messages) == len(chat.messages)


async def deviating(engine: AsyncEngine, chat: Chat, **options: Any) -> str:
    """What a player says to a chat that was made otherwise."""
    compare = options.pop("compare", None)
    player = await ReplayLLM.from_chat(engine, chat.id, **({} if compare is None else {"compare": compare}))
    talked = player.chat(**{"instructions": "Be brief.", "tools": [double], **options})
    try:
        for question in QUESTIONS:
            await talked.ask(question)
    except ConfigurationError as error:
        return str(error)
    return "nothing"


async def test_deviation_is_told_of_with_its_place(engine: AsyncEngine) -> None:
    """Which message, which field, what was expected and what came; parts that are not compared may differ."""

    @tool(name="double")
    def wrong(x: int) -> int:
        """Double a number."""
        return 3 * x

    @tool(name="double")
    def reworded(x: int) -> int:
        """Double any number."""
        return 2 * x

    async with Talk(engine, *SCRIPT) as talk:
        chat = await asked(talk)
    prompt = await deviating(engine, chat, instructions="Be verbose.")
    assert "instructions[0]: expected 'Be brief.', got 'Be verbose.'" in prompt
    assert "call 1 of question 1" in prompt
    result = await deviating(engine, chat, tools=[wrong])
    assert "(result of double) content: expected '4', got '6'" in result
    assert "call 2 of question 2" in result
    assert "tools: double, description: expected 'Double a number.'" in await deviating(engine, chat, tools=[reworded])
    assert "tools: double is not offered" in await deviating(engine, chat, tools=[])
    assert "settings: temperature: expected nothing, got 0.5" in await deviating(engine, chat, temperature=0.5)
    assert "settings: model" in await deviating(engine, chat, model="gpt-5")
    added = [{"role": "user", "content": "before"}]
    inserted = await deviating(engine, chat, messages=added)
    assert "  messages[0] (user) is sent, and was not: 'before'\nChange" in inserted
    assert "(compare=('instructions', 'tools', 'settings') lets it pass)" in inserted

    player = await ReplayLLM.from_chat(engine, chat.id, compare=("messages",))
    talked = player.chat(instructions="Be verbose.", tools=[reworded], temperature=0.5)
    for question in player.questions:
        await talked.ask(question.parts)
    assert said(talked.messages) == said(chat.messages)
    with pytest.raises(ConfigurationError, match="compare names 'words'"):
        await ReplayLLM.from_chat(engine, chat.id, compare=("words",))  # type: ignore[arg-type]


async def test_deviation_leaves_no_turn(engine: AsyncEngine) -> None:
    """The first request of a turn is compared before anything is written."""
    async with Talk(engine, Says(text="A")) as talk:
        chat = await talk.chat()
        await chat.ask("Q")
    player = await ReplayLLM.from_chat(engine, chat.id)
    played = await create_chat(engine, player)
    with pytest.raises(ConfigurationError, match="got 'Another question'"):
        await played.ask("Another question")
    assert await played.history() == ()
    assert (await played.usage()).requests == 0
    assert (await played.ask("Q")).content == "A"


async def test_failures_are_played_too(engine: AsyncEngine) -> None:
    """A turn that failed fails again in the same way, so that what follows can be compared."""
    async with Talk(engine, Fails(status=400, message="too odd"), Says(text="A")) as talk:
        chat = await talk.chat()
        with pytest.raises(Exception, match="too odd") as first:
            await chat.ask("Q1")
        await chat.ask("Q2")
    player = await ReplayLLM.from_chat(engine, chat.id)
    talked = player.chat()
    with pytest.raises(type(first.value), match="too odd"):
        await talked.ask("Q1")
    assert (await talked.ask("Q2")).content == "A"


async def test_calls_of_a_round_may_finish_in_any_order(engine: AsyncEngine) -> None:
    """Results stand in the order of their calls, however long each of them takes."""
    gate = asyncio.Event()

    @tool(name="double")
    async def waits(x: int) -> int:
        """Double a number."""
        if x == 2:
            await gate.wait()
        gate.set()
        return 2 * x

    async with Talk(engine, *SCRIPT) as talk:
        chat = await asked(talk)
    player = await ReplayLLM.from_chat(engine, chat.id)
    played = player.chat(instructions="Be brief.", tools=[waits])
    for question in player.questions:
        await played.ask(question.parts)
    assert player.remaining == 0


async def test_an_exported_chat_is_played_without_its_database(engine: AsyncEngine, tmp_path: Path) -> None:
    """A file beside the tests is enough: it is imported into a database in memory, and played from there."""
    async with Talk(engine, *SCRIPT) as talk:
        chat = await asked(talk, owner="ada")
    await export_chats(engine, tmp_path / "chat.jsonl", chats=[chat.id])
    memory = make_engine("sqlite://")
    try:
        await migrate(memory)
        await import_chats(memory, tmp_path / "chat.jsonl")
        player = await ReplayLLM.from_chat(memory, chat.id, owner="ada")
    finally:
        await memory.dispose()
    played = player.chat(instructions="Be brief.", tools=[double])
    for question in player.questions:
        await played.ask(question.parts)
    assert said(played.messages) == said(chat.messages)


async def test_approvals_are_played(engine: AsyncEngine) -> None:
    """A call that needs approval waits in the test as it did, and what was decided is decided there again."""

    @tool(requires_approval=True)
    def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}"

    script = (Says(text="Let me see.", calls=[FakeCall("pay", {"amount": 5}, "p")]), Says(text="Paid."))
    async with Talk(engine, *script) as talk:
        chat = await talk.chat(tools=[pay])
        await chat.ask("Pay 5")
        await chat.approve("p")
        await chat.resume()
    player = await ReplayLLM.from_chat(engine, chat.id)
    played = player.chat(tools=[pay])
    waiting = await played.ask("Pay 5")
    assert (waiting.finish_reason, player.remaining) == ("approval", 1)
    await played.approve(waiting.tool_calls[0].call_id)
    assert ((await played.resume()).content, player.remaining) == ("Paid.", 0)
