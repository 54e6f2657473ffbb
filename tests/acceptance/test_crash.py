"""A process dies at every point of a turn; whoever comes next carries the chat on, and nothing is lost or repeated."""

from __future__ import annotations

import asyncio
import re
import signal
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import count, cycle, islice, product
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import ChatError, create_chat, load_chat, make_engine
from nodellm_orm.testing import FakeCall, LoopbackServer, Stall
from tests.acceptance.speakers import APIS, Says, Speaker
from tests.acceptance.validity import check, check_history, last_words, stored
from tests.acceptance.victim import Commits, Death, Job, Where, tools
from tests.acceptance.workers import working
from tests.integration.databases import DatabaseKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Chat
    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.speakers import Api
    from tests.acceptance.validity import Rows
    from tests.acceptance.workers import Worker

How: TypeAlias = Literal["ask", "resume"]
Chain: TypeAlias = "tuple[Point, How, Death]"
"""Where the first process dies, what the second one does, and where that dies."""

LEASE: Final = 6.0
"""Long enough for a turn that waits for its turn on a busy machine, short enough to be waited for."""
PATIENCE: Final = 60.0
DYING: Final = 8
"""Processes at work at a time."""
WAITING: Final = 16
"""Chats at a time whose leases are waited for."""
COMMITS: Final = 5
"""Of a turn with two calls: begin · answer · one result · the other result, attempt 2 · answer and end."""
NUMBER: Final = re.compile(rb"as number (\d+)")
ASKED: Final = "asking"
"""Killed by us, when the server has received its request."""
UNKNOWN: Final = "outcome of this call is unknown"


@dataclass(frozen=True, slots=True)
class Point:
    """Where the first process dies."""

    where: Where | Literal["asking"]
    number: int

    @property
    def death(self) -> Death | None:
        """As the process is told of it."""
        return None if self.where == ASKED else Death(where=self.where, number=self.number)


def points(commits: int) -> list[Point]:
    """Before and after each commit, in each request, around each tool's effect, and around a renewal of the lease."""
    around: list[tuple[Where, Where]] = [("before commit", "after commit"), ("before effect", "after effect")]
    return [
        *(Point(where, number) for number, where in product(range(1, commits + 1), around[0])),
        *(Point(where, number) for number, where in product((1, 2), around[1])),
        Point("asking", 1),
        Point("asking", 2),
        Point("before renewal", 1),
        Point("after renewal", 1),
    ]


@dataclass(slots=True)
class Case:
    """One chat whose process dies."""

    number: int
    point: Point | None
    api: Api
    chat: UUID
    effects: Path
    requests: list[bytes] = field(default_factory=list)
    deaths: int = 0
    victim: Worker | None = None
    """The process that is to die at the point, while it is at work."""

    @property
    def question(self) -> str:
        """It tells the server which case it is."""
        return f"Run both, as number {self.number}"

    def said_to(self, words: str) -> str:
        """What the model says in the end."""
        return "both are done" if words == self.question else f"to {words}: yes"

    def ran(self) -> Counter[str]:
        """How often each tool had its effect."""
        return Counter(self.effects.read_text().split()) if self.effects.exists() else Counter()


class Sweep:
    """Deaths of processes on one database.

    Args:
        database: its URL.
        folder: for the effects of tools.
        shift: which wire format and which second death come first; together, the databases see them all.
    """

    def __init__(self, database: str, folder: Path, shift: int) -> None:
        self._database = database
        self._folder = folder
        self._shift = shift
        self._engine = make_engine(database)
        self._server = LoopbackServer(self._answer)
        self._llms: dict[Api, LLM] = {}
        self._cases: dict[int, Case] = {}
        self._numbers = count()
        self._room = asyncio.Semaphore(DYING)
        self._free: asyncio.Queue[tuple[AsyncEngine, Commits]] = asyncio.Queue()
        self.deaths = self.recoveries = 0

    async def run(self) -> None:
        """Let a process die at each point, and go on in both ways; then let the second one die as well."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._server)
            self._llms = {api: await stack.enter_async_context(Speaker(api).llm(self._server)) for api in APIS}
            engines = [create_async_engine(self._database) for _ in range(WAITING)]
            for engine in (self._engine, *engines):
                stack.push_async_callback(engine.dispose)
            for engine in engines:
                self._free.put_nowait((engine, Commits(engine)))
            assert await self._undisturbed() == COMMITS
            swept = list(product(points(COMMITS), get_args(How)))
            made = dict(zip(swept, await self._all([self._once(*case) for case in swept]), strict=True))
            await self._all([self._twice(*chain) for chain in self._chains(made)])
            assert await self._undisturbed() == COMMITS

    @asynccontextmanager
    async def _of(self, *told: object) -> AsyncIterator[tuple[AsyncEngine, Commits]]:
        """An engine to recover with that nobody else uses meanwhile; what fails says where."""
        engine = await self._free.get()
        try:
            yield engine
        except AssertionError as error:
            error.add_note(", then ".join(map(str, told)))
            raise
        finally:
            self._free.put_nowait(engine)

    def _chains(self, made: dict[tuple[Point, How], int]) -> Iterator[Chain]:
        """One second death for each point, at another commit of the recovery each time."""
        wheres: tuple[Where, ...] = ("before commit", "after commit")
        deaths: dict[tuple[How, int], Iterator[Death]] = {}
        hows: tuple[How, ...] = get_args(How)
        for index, point in enumerate(points(COMMITS)):
            how = hows[(index + self._shift) % len(hows)]
            if point == points(COMMITS)[0] or not made[point, how]:
                how = "ask"  # there is nothing to resume
            commits = made[point, how]
            if (how, commits) not in deaths:
                every = [Death(where=w, number=n) for n, w in product(range(1, commits + 1), wheres)]
                deaths[how, commits] = islice(cycle(every), self._shift * len(every) // 3, None)
            yield point, how, next(deaths[how, commits])

    async def _all(self, cases: list[Any]) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(case) for case in cases]
        return [task.result() for task in tasks]

    # ── the provider ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _answer(self, request: ReceivedRequest) -> Answer:
        """Both tools are called once; whatever else is said is answered in text."""
        number, body = NUMBER.search(request.body), request.json()
        assert number is not None
        case = self._cases[int(number[1])]
        check(body, case.api)
        case.requests.append(request.body)
        words = last_words(body, case.api)
        if case.victim is not None and case.point is not None and self._is_last(case.victim, case.point, words):
            return (Stall(),)
        if words == case.question:
            said = Says(calls=[FakeCall("charge", '{"cents": 100}', "id_1"), FakeCall("post", '{"text": "x"}', "id_2")])
        else:
            said = Says(text=case.said_to(words or case.question))
        return Speaker(case.api).answer(said, stream=False)

    def _is_last(self, victim: Worker, point: Point, words: str | None) -> bool:
        """Whether the process dies while it waits for this answer."""
        if point == Point("asking", 2 if words is None else 1):
            victim.send(signal.SIGKILL)
            return True
        return "renewal" in point.where

    # ── the processes ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _new_case(self, point: Point | None) -> Case:
        number = next(self._numbers)
        api = APIS[(number + self._shift) % len(APIS)]
        chat = await create_chat(self._engine, self._llms[api])
        effects = self._folder / f"effects of {number}"
        self._cases[number] = case = Case(number=number, point=point, api=api, chat=chat.id, effects=effects)
        return case

    def _job(self, case: Case, **changes: Any) -> Job:
        where = {"database": self._database, "chat": case.chat, "api": case.api, "url": self._server.url}
        return Job(**{**where, "effects": case.effects, "lease": LEASE, "question": case.question, **changes})

    async def _undisturbed(self) -> int:
        """A turn that nobody kills: how many commits it makes."""
        case = await self._new_case(None)
        async with working(self._job(case)) as worker:
            worker.go()
            told = await worker.outcome()
            assert await worker.ended() == 0
        assert (told.content, told.error) == (case.said_to(case.question), None)
        assert case.ran() == {"charge": 1, "post": 1}
        assert len(case.requests) == 2
        return told.commits

    async def _die(self, case: Case, job: Job, *, first: bool) -> None:
        # A second process waits for the lease of the first: it takes no room.
        async with self._room if first else nullcontext(), working(job) as worker:
            case.victim = worker if first else None
            worker.go()
            status = await worker.ended()
            assert status == -signal.SIGKILL, await worker.outcome()
            case.victim = None
        case.deaths += 1
        self.deaths += 1

    async def _once(self, point: Point, how: How) -> int:
        """A process dies, and this one carries on: how many commits that takes."""
        async with self._of(point, how) as (engine, commits):
            case = await self._new_case(point)
            await self._die(case, self._job(case, dies=point.death), first=True)
            before = commits.made
            await self._recover(case, how, engine)
            return commits.made - before

    async def _twice(self, point: Point, how: How, death: Death) -> int:
        """A process dies, a second one carries on and dies at that, and this one carries on in the other way."""
        async with self._of(point, how, death) as (engine, commits):
            case = await self._new_case(point)
            await self._die(case, self._job(case, dies=point.death), first=True)
            second = self._job(case, does=how, question=f"Go on, as number {case.number}", wait=PATIENCE, dies=death)
            await self._die(case, second, first=False)
            before = commits.made
            await self._recover(case, "resume" if how == "ask" else "ask", engine)
            return commits.made - before

    async def _recover(self, case: Case, how: How, engine: AsyncEngine) -> None:
        llm, before, ran = self._llms[case.api], await stored(self._engine, case.chat), case.ran()
        chat = await load_chat(engine, llm, case.chat, tools=tools(case.effects), lease=LEASE)
        await carry_on(chat, how, case, before)
        again = await load_chat(self._engine, llm, case.chat)
        assert chat.messages == again.messages
        check_history(again.messages)
        after = await stored(self._engine, case.chat)
        after.check()
        check_calls(case, before, after, ran)
        check_ledger(case, before, after)
        words = f"And then, as number {case.number}"
        assert (await again.ask(words)).content == case.said_to(words)
        self.recoveries += 1


async def carry_on(chat: Chat, how: How, case: Case, before: Rows) -> None:
    """Go on after a death, and hear what is to be heard."""
    words = f"So, as number {case.number}"
    if how == "resume" and before.turns:
        reply = await chat.resume(wait=PATIENCE)
        assert reply.turn_id == before.turns[-1].id
        words = next(m.content for m in before.messages if m.role == "user" and m.turn_id == reply.turn_id)
    else:
        if how == "resume":
            with pytest.raises(ChatError, match="no turn to resume"):
                await chat.resume(wait=PATIENCE)
        reply = await chat.ask(words, wait=PATIENCE)
    assert reply.content == chat.messages[-1].content == case.said_to(words)


def check_calls(case: Case, before: Rows, after: Rows, ran: Counter[str]) -> None:
    """Nothing that had begun ran again; what was stored has stayed; what nobody knows was told to the model."""
    now = case.ran()
    assert all(times == 1 for times in now.values())
    known = {call.id: call for call in before.calls}
    assert known.keys() <= {call.id for call in after.calls}
    for call in after.calls:
        old = known.get(call.id)
        assert call.result_message_id is not None
        if old is None:
            assert (call.status, call.result, now[call.name]) == ("succeeded", f"{call.name} is done", 1)
        elif old.status == "succeeded":
            assert (call.status, call.result) == (old.status, old.result)
        else:
            assert old.status in {"running", "unknown"}
            assert call.status == "unknown"
            assert call.result is not None
            assert UNKNOWN in call.result
            assert now[call.name] == ran[call.name]
            assert UNKNOWN.encode() in case.requests[-1]


def check_ledger(case: Case, before: Rows, after: Rows) -> None:
    """Every request that arrived has its row; rows of the dead are unknown, and no others."""
    received, ledger = len(case.requests), {row.id: row for row in after.requests}
    assert received <= len(ledger) <= received + case.deaths
    statuses = Counter(row.status for row in after.requests)
    assert statuses.keys() <= {"ok", "unknown"}
    assert statuses["unknown"] <= case.deaths
    answers = [message.id for message in after.messages if message.role == "assistant"]
    assert [row.message_id for row in after.requests if row.status == "ok"] == answers
    assert all(row.cost is not None for row in after.requests if row.status == "ok")
    for old in before.requests:
        assert ledger[old.id].status == ("unknown" if old.status == "started" else old.status)


@pytest.mark.fault("C01")
@pytest.mark.fault("C42")
@pytest.mark.timeout(300)
async def test_a_killed_turn_is_carried_on_from_every_point(
    database: str, database_kind: DatabaseKind, tmp_path: Path
) -> None:
    """Killed around every commit, effect and request, and again while it recovers, a turn ends well (C01-C41, C42)."""
    sweep = Sweep(database, tmp_path, get_args(DatabaseKind).index(database_kind))
    await sweep.run()
    swept = len(points(COMMITS))
    assert (sweep.deaths, sweep.recoveries) == (4 * swept, 3 * swept)
