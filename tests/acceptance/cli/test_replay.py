"""The command `replay` for several chats, in a pipeline, and when it is interrupted."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm import create_chat, create_llm, make_engine, migrate
from nodellm_orm.testing import LoopbackServer, Stall, json_answer, openai_chat_body
from tests.acceptance.cli.shell import COMMAND, lines

if TYPE_CHECKING:
    from uuid import UUID

    from tests.acceptance.cli.shell import Shell

KEY = "sk-test-0123456789abcdef"
OPTIONS = ("--provider", "openai_compatible", "--model", "m")


def says(*texts: str) -> list[Any]:
    return [json_answer(openai_chat_body(text)) for text in texts]


@pytest.fixture
async def chats(shell: Shell) -> list[str]:
    """Two chats of one question each, in the database of the shell's folder."""
    engine = make_engine(f"sqlite:///{shell.folder}/chats.db")
    await migrate(engine)
    ids: list[UUID] = []
    async with (
        LoopbackServer(says("Hello", "Hello")) as server,
        create_llm("openai_compatible", base_url=server.url, api_key=KEY, model="m") as llm,
    ):
        for question in ("Hi", "Hi again"):
            chat = await create_chat(engine, llm)
            await chat.ask(question)
            ids.append(chat.id)
    await engine.dispose()
    return [str(one) for one in ids]


def configured(shell: Shell, server: LoopbackServer) -> Shell:
    return shell.with_environment(OPENAI_COMPATIBLE_BASE_URL=server.url, OPENAI_COMPATIBLE_API_KEY=KEY)


async def test_several_chats_in_a_pipeline(shell: Shell, chats: list[str]) -> None:
    """A report a chat and a line of sums; the same run asks nothing again, and its differences can be an exit code."""
    options = (*OPTIONS, "--run", "nightly", "--concurrency", "1")
    async with LoopbackServer(says("Hello", "Good day")) as server:
        first = await configured(shell, server).run("replay", *chats, *options)
        again = await configured(shell, server).run("replay", *chats, *options, "--json", "--fail-on-difference")
        same = await configured(shell, server).run("replay", chats[0], *options, "--fail-on-difference")
        asked = len(server.requests)
    assert (first.code, first.err) == (0, "")
    assert lines(first.out)[-1].startswith("2 chats: 1 the same, 1 not, 0 broken off; ")
    assert max(map(len, lines(first.out))) <= 80
    reports = [json.loads(line) for line in lines(again.out)]
    assert {report["chat_id"]: report["equal"] for report in reports} == {chats[0]: True, chats[1]: False}
    assert [report["replay_id"] in first.out for report in reports] == [True, True]
    assert (again.code, again.err) == (1, "")
    assert (same.code, same.err) == (0, "")
    assert asked == 2


async def test_a_chat_that_fails_stops_no_other(shell: Shell, chats: list[str]) -> None:
    """It is told of in its place, the way to go on behind all, and the exit code says that something is missing."""
    refused = json_answer({"error": {"message": "no such key"}}, status=401)
    async with LoopbackServer([refused, *says("Hello", "Hello")]) as server:
        broken = await configured(shell, server).run("replay", *chats, *OPTIONS, "--concurrency", "1")
        (advice,) = lines(broken.err)
        run = advice.split("--run ")[1].strip("'")
        done = await configured(shell, server).run("replay", *chats, *OPTIONS, "--run", run)
        assert len(server.requests) == 3
    assert (broken.code, done.code) == (1, 0)
    assert "broken off: AuthenticationError: " in broken.out
    assert "2 chats: 1 the same, 0 not, 1 broken off" in broken.out
    assert "2 chats: 2 the same, 0 not, 0 broken off" in done.out
    assert KEY not in broken.out + broken.err


async def test_ctrl_c_tells_how_to_go_on(shell: Shell, chats: list[str]) -> None:
    """An interrupted replay says with which id it is carried on, and is."""
    arrived = asyncio.Event()

    async def stalls(_: Any) -> Any:
        arrived.set()
        return (Stall(),)

    async with LoopbackServer(stalls) as server:
        process = await configured(shell, server).start(*COMMAND, "replay", chats[0], *OPTIONS)
        await arrived.wait()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    replay_id = err.decode().split("--id ")[1].split()[0]
    async with LoopbackServer(says("Hello")) as server:
        done = await configured(shell, server).run("replay", chats[0], *OPTIONS, "--id", replay_id)
    assert (done.code, done.err) == (0, "")
    assert f"replayed as {replay_id}" in done.out


async def test_options_that_do_not_go_together(shell: Shell, chats: list[str]) -> None:
    """One line says which they are, before anything is asked."""
    one = await shell.run("replay", *chats, *OPTIONS, "--id", chats[0])
    two = await shell.run("replay", chats[0], *OPTIONS, "--id", chats[1], "--run", "nightly")
    for done, told in ((one, "carry on several with --run"), (two, "goes without --id")):
        (line,) = lines(done.err)
        assert (done.code, done.out) == (1, "")
        assert told in line
