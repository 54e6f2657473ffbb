"""`replay_chat` and `replay_chats`: stored questions asked again, and the answers beside the old ones."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from nodellm_orm import (
    ANY_OWNER,
    BadRequestError,
    ChatNotFoundError,
    ConfigurationError,
    LLMCompleteResult,
    ReplayLLM,
    RetryPolicy,
    ServerError,
    ToolHalt,
    load_chat,
    replay_chat,
    replay_chats,
    tool,
    verify,
)
from nodellm_orm.domain.jsontext import loads
from nodellm_orm.models import ChatRecord, ToolCallRecord
from nodellm_orm.testing import FakeCall
from tests.acceptance.replaying import KINDS, PICTURE, QUESTIONS, SCRIPT, asked, conversation_of
from tests.acceptance.speakers import Fails, Says, Speaker
from tests.acceptance.talks import Talk, calls, double, said, words

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat, ReplayProgress, ReplayReport
    from tests.acceptance.speakers import Line


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
from tests.acceptance.replaying import KINDS, PICTURE, QUESTIONS, SCRIPT, asked, conversation_of
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


@dataclass(frozen=True, slots=True)
class Ends:
    """A turn that does not simply end."""

    script: tuple[Line, ...]
    tools: tuple[Any, ...] = ()
    then: str = ""
    """What becomes of the call that waits: ``approve``, ``deny``, or ``abandon``."""


@tool(requires_approval=True)
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


@tool
def halt(x: int) -> ToolHalt:
    """Stop."""
    return ToolHalt({"x": x})


@tool
def burst(x: int) -> str:
    """Burst."""
    raise ValueError(x)


PAYS = Says(text="Let me see.", calls=[*calls(2), FakeCall("pay", {"amount": 5}, "p")])
ENDS = {
    "pending": Ends((PAYS,), (double, pay)),
    "approved": Ends((PAYS, Says(text="Paid.")), (double, pay), "approve"),
    "denied": Ends((PAYS, Says(text="Not paid.")), (double, pay), "deny"),
    "abandoned": Ends((PAYS, Says(text="Well.")), (double, pay), "abandon"),
    "halted": Ends((Says(text="Hm", calls=[FakeCall("halt", {"x": 1}, "h")]),), (halt,)),
    "raised": Ends((Says(text="Hm", calls=[FakeCall("burst", {"x": 1}, "h")]), Says(text="Sorry.")), (burst,)),
    "bad arguments": Ends((Says(text="Hm", calls=[FakeCall("double", {"x": "?"}, "h")]), Says(text="A")), (double,)),
    "unknown tool": Ends((Says(text="Hm", calls=[FakeCall("treble", {}, "h")]), Says(text="A")), (double,)),
    "silent": Ends((Says(text=None),)),
    "refused": Ends((Fails(status=400),)),
}


async def held(talk: Talk, ends: Ends) -> Chat:
    """A chat with such a turn in it."""
    chat = await talk.chat(tools=ends.tools)
    try:
        await chat.ask("Q")
    except BadRequestError:
        return chat
    match ends.then:
        case "approve":
            await chat.approve("p")
            await chat.resume()
        case "deny":
            await chat.deny("p", reason="too much")
            await chat.resume()
        case "abandon":
            await chat.ask("Never mind", abandon_pending=True)
        case _:
            pass
    return chat


async def test_turns_that_do_not_simply_end(engine: AsyncEngine) -> None:
    """With the same answers a turn ends as it did, and asks for no answer beyond; nobody is asked for an approval."""
    for kind, ends in ENDS.items():
        async with Talk(engine, *ends.script) as talk:
            chat = await held(talk, ends)
        reports: list[ReplayReport] = []
        for _ in range(2):  # the replay can be replayed itself
            source = reports[0].replay_id if reports else chat.id
            player = await ReplayLLM.from_chat(engine, source)
            reports.append(await replay_chat(engine, source, player))
            assert player.remaining == 0, kind
        assert [(report.equal, report.unrecorded) for report in reports] == [(True, 0)] * 2, kind
    waiting = select(ToolCallRecord.name).where(ToolCallRecord.status == "awaiting_approval")
    async with AsyncSession(engine) as session:
        assert (await session.scalars(waiting)).all() == ["pay"]  # of the one that was recorded
    assert (await verify(engine)).ok


async def test_waiting_call_runs_when_that_is_said(engine: AsyncEngine) -> None:
    """A call that still waits in the record runs where tools may run for what was not recorded, and approved."""
    async with Talk(engine, PAYS, PAYS, Says(text="Paid.")) as talk:
        chat = await talk.chat(tools=[double, pay])
        await chat.ask("Q")
        options: dict[str, Any] = {"tools": [double, pay], "results": "recorded-or-live", "approved": True}
        report = await replay_chat(engine, chat.id, talk.llm, **options)
    (turn,) = report.turns
    assert [(call.replayed and call.replayed.result) for call in turn.calls] == ["4", "paid 5"]
    assert (turn.original.finish_reason, turn.replayed.finish_reason) == ("approval", "stop")


async def test_cancelled_turn_is_told_of(engine: AsyncEngine) -> None:
    """A turn that was cancelled is asked again like any other, and what follows it too; a player goes past it."""
    script = (Says(text="a long answer that nobody reads to its end"), Says(text="B"))
    async with Talk(engine, *script, *script) as talk:
        chat = await talk.chat()
        async with chat.stream("Tell") as stream:
            async for _ in stream:
                break
        await chat.ask("Next")
        report = await replay_chat(engine, chat.id, talk.llm)
        assert [turn.equal for turn in report.turns] == [False, True]
        assert (report.turns[0].original.error, report.turns[0].replayed.finish_reason) == ("Cancelled", "stop")
        assert "ended: Cancelled, now stop" in str(report)
    player = await ReplayLLM.from_chat(engine, chat.id)
    played = await replay_chat(engine, chat.id, player)
    assert (played.complete, player.remaining) == (True, 0)


async def test_two_workers_replay_the_same_chat(engine: AsyncEngine, database: str) -> None:
    """Two at once with the same id ask each question once, copy each message once, and have one summary."""
    answers = [Says(text=f"A{n}") for n in range(5)]
    new = "0199d6a4-0000-7000-8000-000000000004"
    async with Talk(engine, *answers, *answers) as talk:
        chat = await talk.chat()
        await chat.ask("Q1")
        await chat.add_message("user", "by the way")
        await chat.add_message("assistant", "I see")
        await chat.ask("Q2")
        await chat.ask("Q3")
        await chat.compact(keep=1)
        await chat.ask("Q4")
        other = create_async_engine(database)
        try:
            reports = await asyncio.gather(
                *(replay_chat(where, chat.id, talk.llm, id=new, wait=60) for where in (engine, other))
            )
        finally:
            await other.dispose()
        assert [report.equal for report in reports] == [True, True]
        assert len(talk.server.requests) == 2 * len(answers)
        again = await load_chat(engine, talk.llm, new)
        assert said(again.messages) == said(chat.messages)
        assert (await verify(engine)).ok


async def test_report_fits_a_terminal(engine: AsyncEngine) -> None:
    """Both sides in 80 columns: sums with their differences, and of a turn what is not the same."""
    long = "It will rain in the morning, and in the afternoon the sun comes out. " * 3
    again = (
        Says(text="Hello!"),
        Says(text="Let me see.", calls=calls(2, 5)),
        Says(text=long, usage=(20, 90)),
        SCRIPT[3],
    )
    async with Talk(engine, *SCRIPT, *again) as talk:
        chat = await asked(talk)
        report = await replay_chat(engine, chat.id, talk.llm)
    text = str(report)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines if line.startswith("  output")] == [["output", "tokens", "28", "111", "+83"]]
    assert "1. Hi: the same" in lines
    assert '   - double({"x":4})' in lines
    assert '   + double({"x":5})' in lines
    assert "1 call was not run" in text
    assert "   -4 and 8." in lines
    assert " ".join(line[4:] for line in lines if line[:4] == "   +" and "double" not in line).split() == long.split()


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
