"""A process that is killed around a tool's own transaction: the tool's rows and its result are there, or neither is."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import pytest

from nodellm_orm import create_chat, load_chat
from nodellm_orm.testing import FakeCall, LoopbackServer
from tests.acceptance.bookings import HostBase, booked, booking
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.validity import check, check_history, last_words, stored
from tests.acceptance.victim import Death, Job
from tests.acceptance.workers import working

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.testing import Answer, ReceivedRequest

SPEAKER: Final = Speaker("openai_chat")
LEASE: Final = 1.0
PATIENCE: Final = 60.0
DEATHS: Final = (
    Death(where="before effect", number=3),
    Death(where="after effect", number=3),
    # Begin, the answer that calls the tool, and then the tool's rows with its result.
    Death(where="before commit", number=3),
    Death(where="after commit", number=3),
)


async def answer(request: ReceivedRequest) -> Answer:
    """Ask for a booking, and be content with it."""
    body = request.json()
    check(body, SPEAKER.api)
    said = Says(calls=[FakeCall("book", {})]) if last_words(body, SPEAKER.api) else Says(text="done")
    return SPEAKER.answer(said, stream=False)


@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("death", DEATHS, ids=str)
async def test_a_booking_happens_once(
    engine: AsyncEngine, database: str, tmp_path: Path, death: Death, *, repeatable: bool
) -> None:
    """Killed anywhere, an idempotent tool has booked exactly once after `resume`; another one at most once."""
    async with engine.begin() as connection:
        await connection.run_sync(HostBase.metadata.create_all)
    async with LoopbackServer(answer) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(engine, llm)
        job = Job(
            database=database,
            chat=chat.id,
            api=SPEAKER.api,
            url=server.url,
            effects=tmp_path / "effects",
            question="Book",
            lease=LEASE,
            dies=death,
            repeatable=repeatable,
        )
        async with working(job) as victim:
            victim.go()
            assert await victim.ended() == -signal.SIGKILL
        there = ["1A"] if death.where == "after commit" else []
        assert await booked(engine) == there
        calls = (await stored(engine, chat.id)).calls
        assert [call.status for call in calls] == ["succeeded" if there else "running"]

        chat = await load_chat(engine, llm, chat.id, tools=[booking(idempotent=repeatable)], lease=LEASE)
        reply = await chat.resume(wait=PATIENCE)

    assert reply.content == "done"
    assert await booked(engine) == (["1A"] if repeatable else there)
    assert [call.status for call in reply.tool_calls] == ["succeeded" if there or repeatable else "unknown"]
    rows = await stored(engine, chat.id)
    rows.check()
    check_history(chat.messages)
