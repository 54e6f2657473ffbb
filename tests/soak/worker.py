"""One process of the soak: asks, streams, resumes and cancels in chats that others work on too, until it is killed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import ssl
import traceback
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from nodellm_orm import NodeLLMError, ToolContext, interrupted_turns, load_chat, make_engine, tool
from nodellm_orm.runtime.clock import new_id
from tests.acceptance.speakers import Speaker
from tests.acceptance.victim import Elsewhere

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from uuid import UUID

    from nodellm_orm import LLM, Chat, Tool

LEASE: Final = 4.0
"""Seconds: short, so that chats of killed workers are taken over again and again."""
SPEAKER: Final = Speaker("openai_chat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """What a process works on."""

    database: str
    chats: tuple[UUID, ...]
    url: str
    """Of the provider."""
    diary: Path
    """What happened, a line of JSON each; every process adds to it."""
    seed: int


class Diary:
    """Adds lines to a file that other processes add to as well; what is in it survives a kill."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, kind: str, **what: object) -> None:
        """Add a line, in one write."""
        os.write(self._file, (json.dumps({"kind": kind, **what}) + "\n").encode())


def counting_tool(diary: Diary) -> Tool:
    """A tool whose every run leaves a trace, and which must not run twice."""

    @tool
    async def note(token: str, context: ToolContext) -> str:
        """Note a token."""
        diary.write("tool began", call=context.idempotency_key, token=token)
        await asyncio.sleep(random.uniform(0, 0.05))  # noqa: S311 — a load, not a secret
        diary.write("tool ended", call=context.idempotency_key, token=token)
        return f"noted {token}"

    return note


@asynccontextmanager
async def client_for(url: str) -> AsyncIterator[LLM]:
    """A client of the loopback provider."""
    # Certificates are not looked up: reading them takes longer than a turn.
    verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with (
        httpx.AsyncClient(verify=verify, trust_env=False) as http,
        SPEAKER.llm(Elsewhere(url), http_client=http) as llm,
    ):
        yield llm


def engine_for(url: str) -> AsyncEngine:
    """SQLite as it is recommended; elsewhere a host's plain engine."""
    return make_engine(url) if url.startswith("sqlite") else create_async_engine(url, pool_size=5)


class Worker:
    """Does one thing after the other."""

    def __init__(self, shift: Shift, llm: LLM) -> None:
        self._shift = shift
        self._chance = random.Random(shift.seed)  # noqa: S311 — a load, not a secret
        self._diary = Diary(shift.diary)
        self._engine = engine_for(shift.database)
        self._llm = llm
        self._tools = [counting_tool(self._diary)]

    async def run(self) -> None:
        """Work until killed; two things at a time."""
        await asyncio.gather(self._work(), self._work())

    async def _work(self) -> None:
        while True:
            try:
                await self._do_something()
            except NodeLLMError as error:
                self._diary.write("refused", error=type(error).__name__)
            except Exception:  # noqa: BLE001 — a boundary: nothing but our own errors may come out
                self._diary.write("violation", what=traceback.format_exc()[-3000:])

    async def _do_something(self) -> None:
        what = self._chance.random()
        if what < 0.15:
            await self._resume_one()
        elif what < 0.18:
            chat = await self._chat(self._chance.choice(self._shift.chats))
            self._diary.write("cancelled", running=await chat.cancel())
        else:
            await self._ask(await self._chat(self._chance.choice(self._shift.chats)))

    async def _chat(self, chat_id: UUID) -> Chat:
        return await load_chat(self._engine, self._llm, chat_id, tools=self._tools, lease=LEASE)

    async def _resume_one(self) -> None:
        found = await interrupted_turns(self._engine, limit=20)
        if found:
            chat = await self._chat(self._chance.choice(found).chat_id)
            reply = await chat.resume()
            self._diary.write("resumed", turn=str(reply.turn_id))

    async def _ask(self, chat: Chat) -> None:
        token = f"{chat.id}/{new_id().hex}"
        if self._chance.random() < 0.5:
            reply = await chat.ask(f"say {token}", idempotency_key=token)
        else:
            pieces: list[str] = []
            left = False
            async with chat.stream(f"say {token}", idempotency_key=token) as stream:
                async for chunk in stream:
                    pieces.append(chunk.content)
                    if self._chance.random() < 0.01:
                        left = True
                        break
                reply = await stream.reply()
            if reply.finish_reason == "stop" and not left and "".join(pieces) != reply.content:
                self._diary.write("violation", what=f"the pieces {pieces} are not the reply {reply.content!r}")
        if reply.finish_reason == "stop" and reply.content != f"you said {token}":
            self._diary.write("violation", what=f"asked {token}, got {reply.content!r}")
        self._diary.write("asked", turn=str(reply.turn_id), finish=reply.finish_reason)


async def work(shift: Shift) -> None:
    """Work until killed."""
    async with client_for(shift.url) as llm:
        await Worker(shift, llm).run()


def main(shift: Shift) -> None:
    """What the process runs."""
    logging.getLogger("nodellm_orm").setLevel(logging.ERROR)
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)  # it tells of every connection that was ended
    asyncio.run(work(shift))
