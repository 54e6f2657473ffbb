"""A process dies in the middle of a new answer or an edited question; another one carries the turn on from its rows."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import create_chat, load_chat
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.testing import FakeCall, LoopbackServer
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.validity import check, check_history, last_words, stored
from tests.acceptance.victim import Death, Job, tools
from tests.acceptance.workers import working

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM
    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.validity import Rows
    from tests.acceptance.victim import Where

Does: TypeAlias = Literal["regenerate", "edit"]
How: TypeAlias = Literal["resume", "again"]

LEASE: Final = 6.0
"""Of the processes that die: long enough for a busy machine, short enough to be waited for."""
PATIENCE: Final = 60.0
COMMITS: Final = 5
"""Of a turn with two calls: begin · answer · one result · the other result, attempt 2 · answer and end."""
OLD: Final = "the old answer"
NEW: Final = "both are done"
SPEAKER: Final = Speaker("anthropic")

AROUND: Final[tuple[Where, ...]] = ("before commit", "after commit")
DEATHS: Final = (
    *(Death(where=where, number=number) for number, where in product(range(1, COMMITS + 1), AROUND)),
    *(Death(where="after effect", number=number) for number in (1, 2)),
)


class Provider:
    """Says the old answer to what is asked first, and from then on asks for two calls."""

    def __init__(self) -> None:
        self.bodies: list[str] = []
        self.server = LoopbackServer(self._answer)

    async def _answer(self, request: ReceivedRequest) -> Answer:
        body: Any = request.json()
        check(body, SPEAKER.api)
        words = last_words(body, SPEAKER.api)
        if words == "the first time":
            return SPEAKER.answer(Says(text=OLD), stream=False)
        self.bodies.append(request.body.decode())
        if words in {"Run both", "Run both, please"} and len(body["messages"]) == 1:
            said = Says(calls=[FakeCall("charge", '{"cents": 100}', "id_1"), FakeCall("post", '{"text": "x"}', "id_2")])
            return SPEAKER.answer(said, stream=False)
        return SPEAKER.answer(Says(text=NEW), stream=False)


async def dies_and_goes_on(engine: AsyncEngine, job: Job, llm: LLM, how: How, room: asyncio.Semaphore) -> None:
    """One process dies at a point of its turn, and this one goes on."""
    does, death, effects = job.does, job.dies, job.effects
    question = "Run both" if does == "regenerate" else "Run both, please"
    history = [{"role": "user", "content": "Run both"}, {"role": "assistant", "content": OLD}]
    chat = await create_chat(engine, llm, messages=history)
    job = replace(job, chat=chat.id, question=question)
    async with room, working(job) as worker:
        worker.go()
        assert await worker.ended() == -signal.SIGKILL
    before = await stored(engine, chat.id)
    begun = bool(before.turns)
    assert begun == (death != DEATHS[0])
    other = await load_chat(engine, llm, chat.id, tools=tools(effects))
    if how == "resume" and begun:
        reply = await other.resume(wait=PATIENCE)
        assert reply.turn_id == before.turns[-1].id
    elif does == "regenerate":
        reply = await other.regenerate(wait=PATIENCE)
    else:
        last = max(message.position or 0 for message in other.messages if message.role == "user")
        reply = await other.edit(last, question, wait=PATIENCE)
    assert reply.content == NEW
    assert (other.messages[0].content, other.messages[-1].content) == (question, NEW)
    assert [m.role for m in other.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    check_history(other.messages)
    assert (await load_chat(engine, llm, chat.id)).messages == other.messages
    check_rows(await stored(engine, chat.id), how, effects)


def check_rows(rows: Rows, how: How, effects: Path) -> None:
    """Nobody holds the chat, nothing is lost, no tool of a turn that was resumed ran twice."""
    rows.check()
    assert OLD in [message.content for message in rows.messages if message.superseded_at is not None]
    statuses = Counter(request.status for request in rows.requests)
    assert statuses.keys() <= {"ok", "unknown"}
    assert statuses["unknown"] <= 1
    assert all(call.result_message_id is not None for call in rows.calls)
    ran = Counter(effects.read_text().split() if effects.exists() else ())
    assert max(ran.values(), default=0) <= (1 if how == "resume" else 2)


@pytest.mark.timeout(300)
async def test_a_killed_revision_is_carried_on_from_every_point(database: str, tmp_path: Path) -> None:
    """Killed around each commit and effect of a new answer or an edit, the turn is resumed, or begun once more."""
    provider, room = Provider(), asyncio.Semaphore(4)
    engine = create_async_engine(database)
    cases = list(product(get_args(Does), get_args(How), DEATHS))
    async with provider.server, SPEAKER.llm(provider.server) as llm:

        async def one(number: int, does: Does, how: How, death: Death) -> None:
            job = Job(
                database=database,
                chat=new_id(),
                api=SPEAKER.api,
                url=provider.server.url,
                effects=tmp_path / f"effects_{number}",
                does=does,
                lease=LEASE,
                dies=death,
            )
            try:
                await dies_and_goes_on(engine, job, llm, how, room)
            except AssertionError as error:
                error.add_note(f"{does}, {how}, {death}")
                raise

        async with asyncio.TaskGroup() as group:
            for number, case in enumerate(cases):
                group.create_task(one(number, *case))
    assert not any(OLD in body for body in provider.bodies)
    await engine.dispose()
