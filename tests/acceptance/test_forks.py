"""A server that loads its application once and then forks its workers: each is a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from nodellm_orm.testing import LoopbackServer
from tests.acceptance.forking import CHILDREN
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.validity import check, last_words, stored

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.testing import Answer, ReceivedRequest

ROOT: Final = Path(__file__).parents[2]
SPEAKER: Final = Speaker("openai_chat")


async def answer(request: ReceivedRequest) -> Answer:
    """Its own words to every question."""
    body = request.json()
    check(body, SPEAKER.api)
    return SPEAKER.answer(Says(text=f"yes, {last_words(body, SPEAKER.api)}"), stream=False)


@pytest.mark.fault("C47")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
async def test_forked_processes_have_nothing_in_common(engine: AsyncEngine, database: str) -> None:
    """After a fork no connection of the parent's is used, ids and workers' names are new, the parent goes on."""
    async with LoopbackServer(answer) as server:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.acceptance.forking", database, server.url),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = await asyncio.wait_for(program.communicate(), 90)
        finally:
            with suppress(ProcessLookupError):  # it has ended, and its children with it
                os.killpg(program.pid, signal.SIGKILL)

    assert (program.returncode, err.decode()) == (0, "")
    told = [json.loads(line) for line in out.decode().splitlines()]
    names = {words["name"] for words in told}
    assert names == {"parent", "parent again", *(f"child {number}" for number in range(CHILDREN))}
    for words in told:
        assert words["said"] == [f"yes, {words['name']} alone", f"yes, {words['name']} together"]
    assert len({words["chat"] for words in told} | {words["next"] for words in told}) == 2 * len(told)
    assert len({words["worker"] for words in told}) == 1 + CHILDREN
    rows = await stored(engine, told[0]["shared"])
    rows.check()
    assert [turn.status for turn in rows.turns] == ["completed"] * len(told)
