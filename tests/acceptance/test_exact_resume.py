"""Any process carries on exactly: the same next question sends the same bytes, each request a prefix of the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm import create_chat, load_chat, tool
from nodellm_orm.testing import FakeCall, FakeThinking
from tests.acceptance.speakers import APIS, Says, Speaker

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat
    from nodellm_orm.testing import ReceivedRequest

HOSTILE = 'naïve 🜚 \x00 \ud800 ﷐ \u2028 \\u0041 "quoted" </script> \U0001f9d1‍🚀\r\n\t'


@tool
async def weather(city: str, days: float = 1.50) -> dict[str, object]:
    """The weather of a city."""
    return {"city": city, "days": days, "sky": "☁️", "note": HOSTILE}


@tool
def broken(reason: str) -> None:
    """Always fails."""
    raise ValueError(reason)


SCRIPT = [
    Says(
        text="Let me look. " + HOSTILE.replace("\x00", ""),
        thinking=[FakeThinking("Two calls 🤔", "c2lnbmVkLTE="), FakeThinking("", "b21pdHRlZA==")],
        calls=[
            FakeCall("weather", '{"city":"Orléans \\ud83d\\ude80","days":1.50}', "toolu_a"),
            FakeCall("broken", '{ "reason" : "b\\u0061d" }', "toolu_b"),
            FakeCall("unheard_of", "{}", "toolu_c"),
        ],
        usage=(120, 40),
    ),
    Says(text="Cloudy. The other call failed.", thinking=[FakeThinking("Summing up", "c2lnbmVkLTI=")]),
    Says(text="A second answer"),
    Says(
        text="Third",
        thinking=[FakeThinking("hm", "c2lnbmVkLTM=")],
        calls=[FakeCall("weather", '{"city":"é"}', "toolu_a")],
    ),
    Says(text="done"),
]
NEXT = "And now? " + HOSTILE


async def hold(chat: Chat) -> None:
    """A conversation with text, thinking, parallel calls, failures and unicode; asked and streamed in turn."""
    await chat.ask("Weather? " + HOSTILE)
    async with chat.stream("Thanks. Again?") as stream:
        async for _ in stream:
            pass
    await chat.ask("One more")


def bodies(requests: list[ReceivedRequest]) -> list[bytes]:
    """What left the process."""
    return [request.body for request in requests]


def growing(body: bytes) -> bytes:
    """Tools, system and messages of a request without the closing brackets: what the next one must begin with."""
    start = min(at for name in (b'"tools":', b'"system":', b'"messages":') if (at := body.find(name)) >= 0)
    end = body.rindex(b"]}")
    return body[start:end]


async def test_fresh_object_sends_the_same_bytes(engine: AsyncEngine, speaker: Speaker) -> None:
    """The next question sends identical bytes from the object that held the conversation and from one just loaded."""
    async with speaker.server(*SCRIPT, Says(text="x"), Says(text="x")) as server, speaker.llm(server) as llm:
        chat = await create_chat(
            engine, llm, instructions=["Be brief. " + HOSTILE, "Two texts."], tools=[weather, broken]
        )
        await hold(chat)
        loaded = await load_chat(engine, llm, chat.id, tools=[weather, broken])
        assert loaded.messages == chat.messages

        mine, theirs = chat.render(NEXT), loaded.render(NEXT)
        await chat.ask(NEXT)

    assert mine == theirs
    assert server.requests[-1].body == theirs.body


async def test_every_request_is_a_prefix_of_the_next(engine: AsyncEngine, speaker: Speaker) -> None:
    """Tools, system and messages of request n are a byte prefix of those of request n+1, over turns and processes."""
    async with speaker.server(*SCRIPT, Says(text="x"), Says(text="y")) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, instructions="Be brief.", tools=[weather, broken])
        await hold(chat)
        await (await load_chat(engine, llm, chat.id, tools=[weather, broken])).ask(NEXT)
        await (await load_chat(engine, llm, chat.id, tools=[weather, broken])).ask("last")

    sent = [growing(body) for body in bodies(server.requests)]
    assert len(sent) == len(SCRIPT) + 2
    for earlier, later in pairwise(sent):
        assert later.startswith(earlier)


@pytest.mark.fault("B32")
async def test_arguments_and_signatures_go_back_as_they_came(engine: AsyncEngine, speaker: Speaker) -> None:
    """Tool arguments keep their digits and key order, and signatures their bytes, in every later request."""
    async with speaker.server(*SCRIPT) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, tools=[weather, broken])
        await hold(chat)

    last = server.requests[-1].body.decode("utf-8", "surrogatepass")
    if speaker.api == "anthropic":
        assert '"days":1.50' in last
        assert all(f'"signature":"{signature}"' in last for signature in ("c2lnbmVkLTE=", "b21pdHRlZA=="))
    else:
        assert json.dumps('{"city":"Orléans \\ud83d\\ude80","days":1.50}', ensure_ascii=False) in last
        assert json.dumps('{ "reason" : "b\\u0061d" }') in last


async def test_another_process_sends_the_same_bytes(engine: AsyncEngine, database: str) -> None:
    """A really separate process, which hashes texts otherwise, renders the same next requests from the rows."""
    wanted, told = [], []
    for speaker in map(Speaker, APIS):
        async with speaker.server(*SCRIPT) as server, speaker.llm(server) as llm:
            chat = await create_chat(engine, llm, instructions="Be brief.", tools=[weather, broken])
            await hold(chat)
            wanted.append(chat.render(NEXT).body)
            told += [speaker.api, server.url, str(chat.id)]

    command = [sys.executable, __file__, database, *told]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "77"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment, timeout=60)  # noqa: S603, ASYNC221 — our own file; nothing else runs meanwhile

    assert done.stderr == b""
    assert done.stdout.split(b"\n") == [*wanted, b""]


async def render_elsewhere(database: str, *told: Any) -> None:
    """What the other process does: write the next request of each chat, a line each."""
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 — only in the other process

    from tests.acceptance.victim import Elsewhere  # noqa: PLC0415 — likewise

    engine = create_async_engine(database)
    for api, url, chat_id in zip(told[::3], told[1::3], told[2::3], strict=True):
        async with Speaker(api).llm(Elsewhere(url)) as llm:
            chat = await load_chat(engine, llm, chat_id, tools=[weather, broken])
            sys.stdout.buffer.write(chat.render(NEXT).body + b"\n")
    await engine.dispose()


if __name__ == "__main__":
    import asyncio

    asyncio.run(render_elsewhere(*sys.argv[1:]))
