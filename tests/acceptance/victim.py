"""A program that holds one turn in a process of its own, and dies where it is told to."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from uuid import UUID

import httpx
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import NodeLLMError, load_chat, tool
from nodellm_orm.domain.replies import ToolCall
from nodellm_orm.models import ChatRecord
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.testing import LoopbackServer
from tests.acceptance.bookings import booking
from tests.acceptance.speakers import Speaker

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Chat, Reply
    from nodellm_orm.runtime.tools import Tool
    from tests.acceptance.speakers import Api

Where: TypeAlias = Literal[
    "before commit", "after commit", "before effect", "after effect", "before renewal", "after renewal"
]
Does: TypeAlias = Literal["ask", "resume", "leave", "approve", "deny", "compact", "regenerate", "edit"]

RENEWAL: Final = f"UPDATE {ChatRecord.__tablename__} SET lease_until="  # noqa: S608 — looked for, not executed
READY: Final = "ready"
LONGER: Final = 60.0
"""Seconds that nothing here takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """Where the process kills itself, so that nothing of it has a chance to clean up."""

    where: Where
    number: int
    """Which commit, which tool's effect or which renewal, from 1."""

    def at(self, where: str, number: int) -> None:
        """Die, if this is the place."""
        if (self.where, self.number) == (where, number):
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a process is to do."""

    database: str
    chat: UUID
    api: Api
    url: str
    """Of the loopback server."""
    effects: Path
    """The file to which each tool that runs adds a line."""
    does: Does = "ask"
    """``leave`` asks, and lets ``asyncio.run`` end under the turn."""
    question: str = ""
    """What is asked; the call that is decided on."""
    by: str = ""
    """Who decides."""
    guarded: bool = False
    """Whether the tools need approval."""
    repeatable: bool = False
    """Whether the tool that books through `ToolContext.session` is idempotent."""
    key: str | None = None
    wait: float = 0.0
    lease: float = LONGER
    dies: Death | None = None
    sleeps: bool = False
    """At the next word it is stopped (SIGSTOP), at a moment when it has no transaction open."""
    graceful: bool = False
    """On SIGTERM the main task is cancelled, as a server does it; otherwise the process dies of it."""
    closes: float | None = None
    """On SIGTERM the client is closed, with this grace in seconds."""
    ahead: float = 0.0
    """Seconds by which the clock and the ids of this process are wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of it."""

    content: str = ""
    turn_id: UUID | None = None
    error: str | None = None
    """The class of the error."""
    commits: int = 0
    """Durable points that were committed, renewals of the lease not counted."""


class Commits:
    """Counts the commits of an engine, apart from its renewals of leases, and is where a process dies at one.

    A renewal is a transaction that writes nothing but ``lease_until``; one that writes anything else counts. That a
    commit is done is noticed when its connection goes back to the pool.
    """

    def __init__(self, engine: AsyncEngine, death: Death | None = None) -> None:
        self._counts: Counter[str] = Counter()
        self._death = death
        self.sleepy = False
        """Whether the next renewal is the last before the process is stopped."""
        sync = engine.sync_engine
        event.listen(sync, "before_cursor_execute", self._statement)
        event.listen(sync, "commit", self._before)
        event.listen(sync, "rollback", self._forget)
        event.listen(sync.pool, "checkin", self._returned)

    @property
    def made(self) -> int:
        """How many there were."""
        return self._counts["commit"]

    def _statement(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(RENEWAL) and "updated_at=" not in statement:
            connection.info.setdefault("writes", "renewal")
        elif not statement.startswith("SELECT"):
            connection.info["writes"] = "commit"

    def _before(self, connection: Any) -> None:
        kind = connection.info.pop("writes", "nothing")
        self._counts[kind] += 1
        self._reach("before", kind, self._counts[kind])
        connection.info["committing"] = kind, self._counts[kind]

    def _forget(self, connection: Any) -> None:
        if not connection.invalidated:
            connection.info.pop("writes", None)
            connection.info.pop("committing", None)

    def _returned(self, _driver: Any, entry: Any) -> None:
        if committed := entry.info.pop("committing", None):
            self._reach("after", *committed)
            if self.sleepy and committed[0] == "renewal":
                self.sleepy = False
                os.kill(os.getpid(), signal.SIGSTOP)

    def _reach(self, when: str, kind: str, number: int) -> None:
        if self._death is not None:
            self._death.at(f"{when} {kind}", number)


def tools(effects: Path, death: Death | None = None, *, guarded: bool = False) -> list[Tool]:
    """Two tools that must not run twice: their effect is a line in a file, written through to the disk."""

    def effect(name: str, number: int) -> str:
        if death is not None:
            death.at("before effect", number)
        file = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{name}\n".encode())
        os.fsync(file)
        os.close(file)
        if death is not None:
            death.at("after effect", number)
        return f"{name} is done"

    @tool(requires_approval=guarded)
    async def charge(cents: int) -> str:
        """Charge a card."""
        del cents
        return effect("charge", 1)

    @tool(requires_approval=guarded)
    def post(text: str) -> str:
        """Post a letter."""
        del text
        return effect("post", 2)

    return [charge, post]


class WrongClock:
    """A clock that is off."""

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def monotonic(self) -> float:
        """Seconds since some fixed point, and then some."""
        return asyncio.get_running_loop().time() + self._ahead

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def set_clock(llm: LLM, ahead: float) -> None:
    """Make the clock of this process, and the times in the ids that it chooses, wrong."""

    def wrong_id() -> UUID:
        return UUID(int=new_id().int + (int(ahead * 1000) << 80))

    llm._host.engine = replace(llm._host.engine, clock=WrongClock(ahead), new_id=wrong_id)


class Elsewhere(LoopbackServer):
    """The server of the process that started this one."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._elsewhere = url

    @property
    def url(self) -> str:
        """Its address."""
        return self._elsewhere


async def heard(pipe: Connection) -> None:
    """Wait for a word of the other side."""
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(pipe.fileno(), arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(pipe.fileno())
    pipe.recv()


async def turn(chat: Chat, job: Job) -> Reply[Any] | ToolCall:
    """The turn of a job, or its decision."""
    if job.does == "approve":
        return await chat.approve(job.question, by=job.by)
    if job.does == "deny":
        return await chat.deny(job.question, f"{job.by} does not want it", by=job.by)
    if job.does == "regenerate":
        return await chat.regenerate(wait=job.wait)
    if job.does == "edit":
        return await chat.edit(0, job.question, wait=job.wait)
    if job.does == "compact":
        await chat.compact(keep=1)
        return await chat.resume()
    if job.does == "resume":
        return await chat.resume(wait=job.wait)
    return await chat.ask(job.question, idempotency_key=job.key, wait=job.wait)


async def work(job: Job, pipe: Connection) -> None:
    """Load the chat, say so, wait for the word, and hold the turn."""
    engine = create_async_engine(job.database)
    commits = Commits(engine, job.dies)
    # Certificates are not looked up: reading them takes longer than the whole turn.
    client = httpx.AsyncClient(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False)
    llm = Speaker(job.api).llm(Elsewhere(job.url), http_client=client)
    if job.ahead:
        set_clock(llm, job.ahead)
    offered = [
        *tools(job.effects, job.dies, guarded=job.guarded),
        booking(job.dies.at if job.dies is not None else None, idempotent=job.repeatable),
    ]
    chat = await load_chat(engine, llm, job.chat, tools=offered, lease=job.lease)
    current = asyncio.current_task()
    if job.graceful and current is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    if job.closes is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, llm.close_soon, job.closes)
    pipe.send(READY)
    await heard(pipe)
    asking = asyncio.create_task(turn(chat, job))
    if job.does == "leave":
        await heard(pipe)
        return
    if job.sleeps:
        await heard(pipe)
        commits.sleepy = True
    try:
        reply = await asking
    except NodeLLMError as error:
        partial: Any = getattr(error, "reply", None)
        content = partial.content if partial is not None else ""
        pipe.send(Told(content=content, error=type(error).__name__, commits=commits.made))
    else:
        if isinstance(reply, ToolCall):
            pipe.send(Told(content=reply.status, commits=commits.made))
        else:
            pipe.send(Told(content=reply.content, turn_id=reply.turn_id, commits=commits.made))
    await llm.aclose()
    await client.aclose()
    await engine.dispose()


def main(job: Job, pipe: Connection) -> None:
    """What the process runs."""
    # On a busy machine leases of a second are renewed late; here that is no news.
    logging.getLogger("nodellm_orm").setLevel(logging.ERROR)
    with suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(work(job, pipe))
