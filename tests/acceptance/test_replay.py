"""Stored questions asked again beside their old answers, and stored answers played without a provider."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from nodellm_orm import (
    ANY_OWNER,
    ChatNotFoundError,
    ConfigurationError,
    LLMCompleteResult,
    ReplayLLM,
    RetryPolicy,
    ServerError,
    ToolCallPart,
    ToolResultPart,
    create_chat,
    load_chat,
    replay_chat,
    replay_chats,
    tool,
    verify,
)
from nodellm_orm.domain.jsontext import loads
from nodellm_orm.models import ChatRecord
from nodellm_orm.testing import FakeThinking
from tests.acceptance.speakers import ALL_APIS, Fails, Says, Speaker
from tests.acceptance.talks import Talk, calls, double, said, words

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat, ReplayProgress, ReplayReport
    from nodellm_orm.domain.parts import Part
    from tests.acceptance.speakers import Api, Line

PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01"
SCRIPT = (
    Says(text="Hello!"),
    Says(text="Let me see.", calls=calls(2, 4)),
    Says(text="4 and 8."),
    Says(text="Goodbye."),
)
QUESTIONS = ("Hi", "Double 2 and 4", "Bye")


async def asked(talk: Talk, **options: Any) -> Chat:
    """A chat in which the questions were asked."""
    chat = await talk.chat(**{"instructions": "Be brief.", "tools": [double], **options})
    for question in QUESTIONS:
        await chat.ask(question)
    return chat


# ── asked again ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_same_model_gives_no_difference(engine: AsyncEngine) -> None:
    """With the same scripted model, every request goes out with the same bytes, and nothing differs but the chat."""
    async with Talk(engine, *SCRIPT, *SCRIPT) as talk:
        chat = await asked(talk, owner="ada", title="Sums", metadata={"team": "blue"})
        report = await replay_chat(engine, chat.id, talk.llm, owner="ada")

        assert report.equal
        assert report.complete
        assert [turn.question for turn in report.turns] == list(QUESTIONS)
        assert report.original.usage == report.replayed.usage
        assert report.cost_difference == Decimal(0)
        assert report.unrecorded == 0
        assert [call.verdict for call in report.turns[1].calls] == ["same", "same"]
        half = len(talk.server.requests) // 2
        bodies = [request.body for request in talk.server.requests]
        assert bodies[:half] == bodies[half:]

        again = await load_chat(engine, talk.llm, report.replay_id, owner="ada", tools=[double])
        assert said(again.messages) == said(chat.messages)
        assert (again.title, again.instructions, again.model) == (chat.title, chat.instructions, chat.model)
        assert again.metadata == {"team": "blue", "replay_of": str(chat.id)}
        async with AsyncSession(engine) as session:
            row = await session.get_one(ChatRecord, report.replay_id)
        assert (row.parent_chat_id, row.fork_position) == (chat.id, None)
        assert (await verify(engine)).ok


async def test_changed_prompt_shows_exactly_that(engine: AsyncEngine) -> None:
    """Other instructions and one other answer: this turn differs, the others do not, and the text says how."""
    other = (*SCRIPT[:2], Says(text="4 and 8, of course.", usage=(30, 9)), SCRIPT[3])
    async with Talk(engine, *SCRIPT, *other) as talk:
        chat = await asked(talk)
        report = await replay_chat(engine, chat.id, talk.llm, instructions="Be verbose.")

        assert [turn.equal for turn in report.turns] == [True, False, True]
        assert not report.equal
        changed = report.turns[1]
        assert changed.difference.splitlines()[-2:] == ["-4 and 8.", "+4 and 8, of course."]
        assert [call.verdict for call in changed.calls] == ["same", "same"]
        assert {words(request.json())[0] for request in talk.server.requests[4:]} == {"Be verbose."}
        assert report.replayed.usage.input_tokens == (report.original.usage.input_tokens or 0) + 19
        text = str(report)
        assert "2 the same, 1 not" in text
        assert "+4 and 8, of course." in text
        plain: Any = loads(report.to_json())
        assert [turn["equal"] for turn in plain["turns"]] == [True, False, True]
        assert Decimal(plain["original"]["cost"]) == report.original.cost


async def test_recorded_results_run_nothing(engine: AsyncEngine) -> None:
    """Recorded calls get their recorded results though the tool would run; a call that was not recorded is told so."""
    ran: list[int] = []

    @tool(name="double", requires_approval=True)
    def counted(x: int) -> int:
        """Double a number."""
        ran.append(x)
        return 0

    again = (SCRIPT[0], Says(text="Let me see.", calls=calls(4, 5)), *SCRIPT[2:])
    async with Talk(engine, *SCRIPT, *again) as talk:
        chat = await asked(talk)
        report = await replay_chat(engine, chat.id, talk.llm, tools=[counted])

    assert ran == []
    assert report.unrecorded == 1
    assert [call.verdict for call in report.turns[1].calls] == ["missing", "same", "added"]
    made = report.turns[1].replayed.tool_calls
    assert (made[0].result, made[0].is_error, made[1].is_error) == ("8", False, True)
    assert "no call of this tool with these arguments was recorded" in (made[1].result or "")


@pytest.mark.parametrize(("results", "expected"), [("live", [2, 4, 5]), ("recorded-or-live", [5])])
async def test_live_tools_run(engine: AsyncEngine, results: Any, expected: list[int]) -> None:
    """Tools run when that is asked for: all calls, or those that were not recorded."""
    ran: list[int] = []

    @tool(name="double")
    def counted(x: int) -> int:
        """Double a number."""
        ran.append(x)
        return 2 * x

    again = (SCRIPT[0], Says(text="Let me see.", calls=calls(2, 4, 5)), *SCRIPT[2:])
    async with Talk(engine, *SCRIPT, *again) as talk:
        chat = await asked(talk)
        report = await replay_chat(engine, chat.id, talk.llm, tools=[counted], results=results)

    assert sorted(ran) == expected
    assert [call.verdict for call in report.turns[1].calls] == ["same", "same", "added"]
    assert report.unrecorded == 0


async def test_guarded_tools_do_not_run_unless_that_is_said(engine: AsyncEngine) -> None:
    """A tool that needs approval runs in a replay only with ``approved=True``; nobody is waited for."""
    ran: list[int] = []

    @tool(name="double", requires_approval=True)
    def guarded(x: int) -> int:
        """Double a number."""
        ran.append(x)
        return 2 * x

    async with Talk(engine, *SCRIPT, *SCRIPT, *SCRIPT) as talk:
        chat = await asked(talk)
        refused = await replay_chat(engine, chat.id, talk.llm, tools=[guarded], results="live")
        assert (ran, refused.unrecorded) == ([], 2)
        report = await replay_chat(engine, chat.id, talk.llm, tools=[guarded], results="live", approved=True)
        assert (sorted(ran), report.equal) == ([2, 4], True)
        with pytest.raises(ConfigurationError, match="pass tools="):
            await replay_chat(engine, chat.id, talk.llm, results="live")


async def test_files_are_replayed_from_the_rows(engine: AsyncEngine) -> None:
    """A question with a file is asked with the stored bytes."""
    async with Talk(engine, Says(text="a dot"), Says(text="a dot")) as talk:
        chat = await talk.chat()
        await chat.ask("What is it?", files=PICTURE)
        report = await replay_chat(engine, chat.id, talk.llm)
        assert report.equal
        assert talk.server.requests[0].body == talk.server.requests[1].body


async def test_broken_off_replay_goes_on_with_what_is_missing(engine: AsyncEngine) -> None:
    """After a failure the same id asks only what is missing, and nothing that was asked is paid for again."""
    script: list[Line] = [*SCRIPT, *SCRIPT[:2], *[Fails(status=500)] * 3, *SCRIPT[2:]]
    new = "0199d6a4-0000-7000-8000-000000000001"
    async with Talk(engine, *script) as talk:
        talk.llm = talk.speaker.llm(talk.server, retry=RetryPolicy(max_attempts=3, base_ms=1, jitter=False))
        chat = await asked(talk)
        with pytest.raises(ServerError) as broken:
            await replay_chat(engine, chat.id, talk.llm, id=new)
        assert new in broken.value.__notes__[-1]

        steps: list[tuple[int, int]] = []
        report = await replay_chat(
            engine, chat.id, talk.llm, id=new, progress=lambda step: steps.append((step.turn, step.turns))
        )
        assert report.equal
        assert steps == [(1, 3), (2, 3), (3, 3)]
        asked_before = len(talk.server.requests)
        assert (await replay_chat(engine, chat.id, talk.llm, id=new)).equal
        assert len(talk.server.requests) == asked_before == len(script)
        with pytest.raises(ConfigurationError, match="other instructions"):
            await replay_chat(engine, chat.id, talk.llm, id=new, instructions="Otherwise.")
        with pytest.raises(ConfigurationError, match="no replay"):
            await replay_chat(engine, chat.id, talk.llm, id=chat.id)
        assert (await verify(engine)).ok


async def test_cancelled_replay_goes_on(engine: AsyncEngine) -> None:
    """A replay whose task is cancelled can be carried on by its id; every question is in the new chat once."""
    new = "0199d6a4-0000-7000-8000-000000000002"

    async with Talk(engine, *SCRIPT, *SCRIPT, *SCRIPT) as talk:
        chat = await asked(talk)

        def cancel(step: ReplayProgress) -> None:
            if step.turn == 1:
                tasks[0].cancel()

        tasks = [asyncio.create_task(replay_chat(engine, chat.id, talk.llm, id=new, progress=cancel))]
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        player = await ReplayLLM.from_chat(engine, chat.id, compare=())
        player.skip(1)
        report = await replay_chat(engine, chat.id, player, id=new)
        assert report.equal
        again = await load_chat(engine, talk.llm, new)
        assert said(again.messages) == said(chat.messages)
        assert (await verify(engine)).ok


KILLED = """
import asyncio, os, signal, sys
from sqlalchemy.ext.asyncio import create_async_engine
from nodellm_orm import replay_chat, tool
from tests.acceptance.speakers import Speaker
from tests.acceptance.victim import Elsewhere

@tool(sequential=True)
def double(x: int) -> int:
    "Double a number."
    if x == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * x

async def main(database, url, chat, new):
    llm = Speaker("openai_chat").llm(Elsewhere(url))
    await replay_chat(create_async_engine(database), chat, llm, id=new, tools=[double], results="live", lease=1)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_killed_replay_goes_on(engine: AsyncEngine, database: str) -> None:
    """A replay whose process is killed in the middle of a turn is carried on; no answer is asked for twice."""
    new = "0199d6a4-0000-7000-8000-000000000003"
    async with Talk(engine, *SCRIPT, *SCRIPT) as talk:
        chat = await asked(talk)
        given = (database, talk.server.url, str(chat.id), new)
        victim = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, *given, cwd=Path(__file__).parents[2]
        )
        assert await victim.wait() == -signal.SIGKILL
        assert len(talk.server.requests) == len(SCRIPT) + 2
        report = await replay_chat(engine, chat.id, talk.llm, id=new, wait=60)
        assert (report.equal, report.unrecorded) == (True, 0)
        assert len(talk.server.requests) == 2 * len(SCRIPT)
        again = await load_chat(engine, talk.llm, new)
        assert said(again.messages) == said(chat.messages)
        assert (await verify(engine)).ok


async def test_other_owner_finds_nothing(engine: AsyncEngine) -> None:
    """A chat of another owner is not found, neither to be asked again nor to be played."""
    async with Talk(engine, Says(text="one"), Says(text="one")) as talk:
        chat = await talk.chat(owner="ada")
        await chat.ask("Q")
        with pytest.raises(ChatNotFoundError):
            await replay_chat(engine, chat.id, talk.llm, owner="bob")
        with pytest.raises(ChatNotFoundError):
            await ReplayLLM.from_chat(engine, chat.id)
        report = await replay_chat(engine, chat.id, talk.llm, owner=ANY_OWNER)
        async with AsyncSession(engine) as session:
            assert (await session.get_one(ChatRecord, report.replay_id)).owner == "ada"


async def test_refusal_of_the_provider_is_an_outcome(engine: AsyncEngine) -> None:
    """A request that is not accepted is told of in its turn, and the next question is asked."""
    script = (*SCRIPT[:3], SCRIPT[3], SCRIPT[0], Fails(status=400, message="no"), SCRIPT[3])
    async with Talk(engine, *script) as talk:
        chat = await asked(talk)
        report = await replay_chat(engine, chat.id, talk.llm)
        assert [turn.equal for turn in report.turns] == [True, False, True]
        assert report.turns[1].replayed.error == "BadRequestError"
        assert report.complete


# ── many ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Pairs:
    """A client that answers two questions at a time, and knows how many were ever asked at once."""

    def __init__(self) -> None:
        self.most = self.now = self.asked = 0
        self._both = asyncio.Barrier(2)

    async def complete(self, **_: Any) -> LLMCompleteResult:
        """Wait for the other one."""
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await self._both.wait()
        self.now -= 1
        return LLMCompleteResult(text="one")


async def test_many_chats_within_a_limit(engine: AsyncEngine) -> None:
    """As many chats at a time as were asked for; one that fails is told of; a run of that name asks nothing twice."""
    async with Talk(engine, *[Says(text="one")] * 4) as talk:
        chats = [await talk.chat(metadata={"team": "blue"}) for _ in range(4)]
        for chat in chats:
            await chat.ask("Q")
    client, missing, seen = Pairs(), UUID(int=7), list[tuple[int, int]]()

    def watch(step: ReplayProgress) -> None:
        seen.append((step.chats_done, step.chats))

    ids, named = [chat.id for chat in chats], {"model": "m", "run": "nightly"}
    found = replay_chats(engine, [missing, *ids], client, concurrency=2, progress=watch, **named)  # type: ignore[arg-type]
    reports = [report async for report in found]
    assert {report.chat_id for report in reports if report.equal} == set(ids)
    failed = [report for report in reports if report.error is not None]
    assert [(report.chat_id, str(report.error)[:17]) for report in failed] == [(missing, "ChatNotFoundError")]
    assert (client.most, client.asked) == (2, 4)
    assert seen[-1] == (5, 5)

    again = [report async for report in replay_chats(engine, {"team": "blue"}, client, **named)]  # type: ignore[arg-type]
    assert {report.replay_id for report in again} == {report.replay_id for report in reports if report.equal}
    assert client.asked == 4


# ── other conversations ───────────────────────────────────────────────────────────────────────────────────────────


async def conversation_of(kind: str, talk: Talk) -> Chat:
    """A chat that did not simply go on."""
    chat = await talk.chat(instructions="Be brief.")
    await chat.ask("Q1")
    match kind:
        case "regenerated":
            await chat.regenerate()
        case "edited":
            await chat.edit(0, "Q1, please")
        case "forked":
            branch = await chat.fork(at=0)
            await branch.regenerate()
            await branch.ask("Q2")
            return branch
        case "compacted":
            await chat.ask("Q2")
            await chat.compact(keep=1)
        case "windowed":
            await chat.ask("Q2", history_window=1)
        case "added":
            await chat.add_message("user", "by the way")
            await chat.add_message("assistant", "I see")
        case _:
            raise AssertionError(kind)
    await chat.ask("Q3")
    return chat


KINDS = ("regenerated", "edited", "forked", "compacted", "windowed", "added")


@pytest.mark.parametrize("kind", KINDS)
async def test_conversations_that_took_turns(engine: AsyncEngine, kind: str) -> None:
    """Regenerated, edited, branched and compacted chats are replayed as they stand, and played likewise."""
    async with Talk(engine, *(Says(text=f"A{n}") for n in range(8))) as talk:
        chat = await conversation_of(kind, talk)
        sent = len(talk.server.requests)
        player = await ReplayLLM.from_chat(engine, chat.id)
        report = await replay_chat(engine, chat.id, player)
        assert report.equal
        assert player.remaining == 0
        assert len(talk.server.requests) == sent
        again = await load_chat(engine, player, report.replay_id)
        assert said(again.messages) == said(chat.messages)
        assert (await verify(engine)).ok


# ── played ────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    assert "settings: temperature: expected nothing, got '0.5'" in await deviating(engine, chat, temperature=0.5)
    assert "settings: model" in await deviating(engine, chat, model="gpt-5")
    added = [{"role": "user", "content": "before"}]
    assert "messages[0] (user) text: expected 'Hi', got 'before'" in await deviating(engine, chat, messages=added)

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


def counted(report: ReplayReport) -> int:
    """Turns of a report that are the same."""
    return sum(turn.equal for turn in report.turns)


async def test_another_provider_is_asked_with_its_own_model(engine: AsyncEngine) -> None:
    """A client of another provider answers with its own model, and ``model=`` names another one."""
    async with Talk(engine, *SCRIPT) as talk:
        chat = await asked(talk)
    speaker = Speaker("anthropic")
    async with speaker.server(*SCRIPT) as server, speaker.llm(server) as llm:
        report = await replay_chat(engine, chat.id, llm, max_tokens=100)
        assert (report.equal, counted(report)) == (True, 3)
        assert {turn.replayed.model for turn in report.turns} == {"claude-haiku-4-5"}
        assert {request.json()["max_tokens"] for request in server.requests} == {100}
    async with AsyncSession(engine) as session:
        assert await session.scalar(select(func.count()).select_from(ChatRecord)) == 2
