"""Approval between processes: they meet, they are killed, and each approved call has its effect at most once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest

from nodellm_orm import create_chat, interrupted_turns, load_chat
from nodellm_orm.testing import FakeCall, LoopbackServer
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.validity import check, check_history, stored
from tests.acceptance.victim import Death, Job, tools
from tests.acceptance.workers import working

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.victim import Does, Told, Where

SPEAKER: Final = Speaker("openai_chat")
SHORT: Final = 0.5
"""A lease that is over soon."""
PATIENCE: Final = 60.0
CALLS: Final = (FakeCall("charge", {"cents": 1}), FakeCall("post", {"text": "x"}))
UNKNOWN: Final = "outcome of this call is unknown"


async def both(request: ReceivedRequest) -> Answer:
    """Asks for both tools, and is content with whatever came of them."""
    body: Any = request.json()
    check(body, SPEAKER.api)
    answered = body["messages"][-1]["role"] == "tool"
    return SPEAKER.answer(Says(text="Done.") if answered else Says(calls=CALLS), stream=False)


class Place:
    """One chat in one database, its provider, and processes that work there."""

    def __init__(self, database: str, engine: AsyncEngine, server: LoopbackServer, effects: Path) -> None:
        self._common: dict[str, Any] = {"database": database, "api": SPEAKER.api, "url": server.url, "guarded": True}
        self._engine = engine
        self._server = server
        self.effects = effects
        self.chat: UUID | None = None

    async def suspended(self) -> list[str]:
        """Begin a chat whose two calls wait, in a process of its own; their ids."""
        async with SPEAKER.llm(self._server) as llm:
            chat = await create_chat(self._engine, llm)
            self.chat = chat.id
            (told,) = await self.together(self.job("ask", "Run both"))
            assert told.error is None
            chat = await load_chat(self._engine, llm, chat.id)
            return [call.call_id for call in chat.pending_approvals]

    def job(self, does: Does, question: str = "", **changes: Any) -> Job:
        """What a process is to do."""
        common = {**self._common, "chat": self.chat, "effects": self.effects}
        return Job(**{**common, "does": does, "question": question, **changes})

    async def together(self, *jobs: Job) -> list[Told]:
        """Processes that begin at the same time; what came of each."""
        async with AsyncExitStack() as stack:
            workers = await asyncio.gather(*(stack.enter_async_context(working(job)) for job in jobs))
            for worker in workers:
                worker.go()
            return await asyncio.gather(*(worker.outcome() for worker in workers))

    async def killed(self, job: Job) -> None:
        """A process that dies at its job."""
        async with working(job) as worker:
            worker.go()
            await worker.ended()

    async def expired(self) -> None:
        """Wait until the lease of a dead process is over."""
        while not await interrupted_turns(self._engine):  # noqa: ASYNC110 — it is the database that knows
            await asyncio.sleep(0.05)

    def ran(self) -> list[str]:
        """What has had its effect."""
        return sorted(self.effects.read_text().split()) if self.effects.exists() else []


async def test_processes_ask_decide_and_carry_on(database: str, engine: AsyncEngine, tmp_path: Path) -> None:
    """Four processes, one after the other: nothing runs before the decisions, and then only what was approved."""
    async with LoopbackServer(both) as server:
        place = Place(database, engine, server, tmp_path / "effects")
        charge, post = await place.suspended()
        (without,) = await place.together(place.job("resume"))
        assert (without.error, without.commits, place.ran()) == (None, 0, [])
        (approved,) = await place.together(place.job("approve", charge, by="ada"))
        assert (approved.content, approved.commits) == ("pending", 1)
        (denied,) = await place.together(place.job("deny", post, by="bea"))
        assert (denied.content, denied.commits, place.ran()) == ("denied", 1, [])
        (resumed,) = await place.together(place.job("resume"))
        assert (resumed.content, len(server.requests)) == ("Done.", 2)

    assert place.ran() == ["charge"]
    assert place.chat is not None
    rows = await stored(engine, place.chat)
    rows.check()
    assert [(row.status, row.decided_by, row.result) for row in rows.calls] == [
        ("succeeded", "ada", "charge is done"),
        ("denied", "bea", "bea does not want it"),
    ]
    assert [turn.takeovers for turn in rows.turns] == [0]


async def test_processes_that_disagree_at_once_are_told(database: str, engine: AsyncEngine, tmp_path: Path) -> None:
    """Of six processes that approve and deny one call, those who agree with the first succeed, the others fail."""
    async with LoopbackServer(both) as server:
        place = Place(database, engine, server, tmp_path / "effects")
        charge, _ = await place.suspended()
        does: list[Does] = ["approve", "deny"] * 3
        told = await place.together(*(place.job(one, charge, by=f"{one} {n}") for n, one in enumerate(does)))

    assert place.chat is not None
    row = (await stored(engine, place.chat)).calls[0]
    verdict, _, number = str(row.decided_by).partition(" ")
    assert row.status == ("pending" if verdict == "approve" else "denied")
    assert [outcome.error for outcome in told] == [None if one == verdict else "ChatError" for one in does]
    assert told[int(number)].error is None
    assert len(server.requests) == 1


async def test_deciding_and_carrying_on_at_once(database: str, engine: AsyncEngine, tmp_path: Path) -> None:
    """While one process carries on what was approved, others approve the rest: whoever comes too soon is told so."""
    async with LoopbackServer(both) as server:
        place = Place(database, engine, server, tmp_path / "effects")
        charge, post = await place.suspended()
        await place.together(place.job("approve", charge, by="ada"))
        jobs = [place.job("resume", wait=PATIENCE), *(place.job("approve", post, by=f"p{n}") for n in range(3))]
        resumed, *decided = await place.together(*jobs)
        assert resumed.error is None
        assert {outcome.error for outcome in decided} <= {None, "ChatBusyError"}
        await place.together(place.job("approve", post, by="last"))
        (last,) = await place.together(place.job("resume"))

    assert (last.content, last.error) == ("Done.", None)
    assert place.ran() == ["charge", "post"]
    assert place.chat is not None
    rows = await stored(engine, place.chat)
    rows.check()
    assert len(server.requests) == 2
    assert str(rows.calls[1].decided_by)[0] == ("p" if None in [outcome.error for outcome in decided] else "l")


POINTS: Final[tuple[tuple[Where, int, str], ...]] = (
    ("before commit", 1, "pending"),
    ("after commit", 1, "pending"),
    ("before commit", 2, "pending"),
    ("after commit", 2, "unknown"),
    ("before effect", 1, "unknown"),
    ("after effect", 1, "unknown"),
    ("before commit", 3, "unknown"),
    ("after commit", 3, "succeeded"),
    ("after commit", 4, "succeeded"),
)
"""Where the process that carries on dies, and how far its call has come by then: take-over, start, result, end."""


@pytest.mark.parametrize(("where", "number", "status"), POINTS, ids=str)
async def test_an_approved_call_is_run_at_most_once_wherever_its_process_dies(
    database: str, engine: AsyncEngine, tmp_path: Path, where: Where, number: int, status: str
) -> None:
    """The approval survives; a call that may have run is unknown as any other, and what waits goes on waiting."""
    async with LoopbackServer(both) as server, SPEAKER.llm(server) as llm:
        place = Place(database, engine, server, tmp_path / "effects")
        charge, post = await place.suspended()
        assert place.chat is not None
        await place.together(place.job("approve", charge, by="ada"))
        death = Death(where=where, number=number)
        await place.killed(place.job("resume", dies=death, lease=SHORT))
        before = place.ran()
        if (where, number) not in {("before commit", 1), ("after commit", 4)}:
            await place.expired()
        rows = await stored(engine, place.chat)
        assert rows.calls[0].status == ("running" if status == "unknown" else status)
        assert [(row.status, row.decided_by) for row in rows.calls[1:]] == [("awaiting_approval", None)]

        # A chat whose worker is gone is decided on as well.
        chat = await load_chat(engine, llm, place.chat, tools=tools(place.effects, guarded=True))
        await chat.approve(post, by="bea")
        assert (await chat.resume()).content == "Done."

    rows = await stored(engine, place.chat)
    rows.check()
    check_history(chat.messages)
    assert [(row.status, row.decided_by) for row in rows.calls] == [
        ("unknown" if status == "unknown" else "succeeded", "ada"),
        ("succeeded", "bea"),
    ]
    assert place.ran() == sorted([*before, "post"] if status != "pending" else ["charge", "post"])
    assert (UNKNOWN in server.requests[-1].body.decode()) == (status == "unknown")
    assert len(server.requests) == 2


async def test_what_may_have_run_runs_again_only_when_told(database: str, engine: AsyncEngine, tmp_path: Path) -> None:
    """With ``unknown="retry"`` an approved call of unknown outcome runs again under the approval that it has."""
    async with LoopbackServer(both) as server, SPEAKER.llm(server) as llm:
        place = Place(database, engine, server, tmp_path / "effects")
        charge, post = await place.suspended()
        assert place.chat is not None
        await place.together(place.job("approve", charge, by="ada"))
        await place.together(place.job("deny", post, by="bea"))
        await place.killed(place.job("resume", dies=Death(where="after effect", number=1), lease=SHORT))
        await place.expired()
        chat = await load_chat(engine, llm, place.chat, tools=tools(place.effects, guarded=True))
        reply = await chat.resume(unknown="retry")

    assert [(call.status, call.result) for call in reply.tool_calls] == [
        ("succeeded", "charge is done"),
        ("denied", "bea does not want it"),
    ]
    assert place.ran() == ["charge", "charge"]
