"""What the chats of one client share: the engine, the models, the turns under way and their heartbeat."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Protocol

from nodellm_orm.domain.attachments import AttachmentPolicy
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.runtime.attachments import Files
from nodellm_orm.runtime.clock import worker_name
from nodellm_orm.runtime.drive import Drive, Mailbox
from nodellm_orm.runtime.heartbeat import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from nodellm_orm.domain.replies import Reply
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.runtime.exchange import Engine
    from nodellm_orm.runtime.fallback import Alternative
    from nodellm_orm.runtime.loop import Turn
    from nodellm_orm.runtime.model import Model


class ModelSource(Protocol):
    """Finds the model that a chat names."""

    def model(self, provider: str | None, model: str | None, api: str | None) -> Model:
        """The model to ask; what is not named is the client's own default.

        Raises:
            ConfigurationError: for a provider that is not known or not configured, and when no model is named.
        """
        ...


class Host:
    """Runs turns, and sees them through when the client is closed.

    Args:
        engine: clock, ids, prices and policies.
        models: finds the models.
        worker: names this process in the rows it holds; by default a name of its own is made.
        files: reads what is attached; by default neither paths nor URLs.
        alternatives: the models that may be asked when another cannot answer; by default none.
    """

    def __init__(
        self,
        engine: Engine,
        models: ModelSource,
        worker: str | None = None,
        files: Files | None = None,
        alternatives: Callable[[], tuple[Alternative, ...]] = tuple,
    ) -> None:
        """Start with nothing under way."""
        self.engine = engine
        self.models = models
        self._worker = worker or worker_name()
        self.files = files or Files(AttachmentPolicy())
        self.alternatives = alternatives
        self._heartbeats: dict[asyncio.AbstractEventLoop, Heartbeat] = {}
        self._live: set[Drive] = set()
        self._closed = False
        self._pid = os.getpid()

    @property
    def worker(self) -> str:
        """Names this process in the rows it holds."""
        self._notice_fork()
        return self._worker

    def _notice_fork(self) -> None:
        """In a process that was forked from the one that made the client, nothing of that one's turns is ours."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._worker = worker_name()
            self._live, self._heartbeats = set(), {}

    def drive(
        self,
        turn_of: Callable[[Mailbox], Turn],
        work: Callable[[Turn], Coroutine[Any, Any, Reply[Any]]],
        journal: Journal,
        *,
        heard: bool,
    ) -> Drive:
        """Start a turn in a task of its own.

        Args:
            turn_of: makes the turn that puts its chunks into a mailbox.
            work: `Turn.run` or `Turn.resume`.
            journal: renews its lease.
            heard: whether somebody reads the chunks.

        Raises:
            ConfigurationError: the client is closed.
        """
        self._notice_fork()
        if self._closed:
            msg = "the client is closed; make a new one with create_llm(), and keep it open while chats use it"
            raise ConfigurationError(msg)
        mailbox = Mailbox()
        mailbox.heard = heard
        turn = turn_of(mailbox)
        loop = asyncio.get_running_loop()
        if loop not in self._heartbeats:
            self._forget_closed_loops()
        heartbeat = self._heartbeats.setdefault(loop, Heartbeat(self.engine.clock))

        def ended(drive: Drive) -> None:
            heartbeat.forget(drive)
            self._live.discard(drive)
            if not heartbeat.busy:
                self._heartbeats.pop(loop, None)

        drive = Drive(turn, work(turn), mailbox, ended)
        self._live.add(drive)
        heartbeat.watch(drive, journal)
        return drive

    def _forget_closed_loops(self) -> None:
        """Turns whose event loop was closed under them never end; their leases do."""
        self._live = {drive for drive in self._live if not drive.loop.is_closed()}
        self._heartbeats = {loop: kept for loop, kept in self._heartbeats.items() if not loop.is_closed()}

    async def close(self, grace: float) -> None:
        """Let the turns under way end, or come to the end of a step, and then let go of them.

        No new turn begins from now on. In the first half of the grace turns go on as ever, so that most of them end; in
        the second one each finishes the step it is at, an answer or a round of tools, and begins no other. What still
        runs then is broken off, its text so far stored. All turns that have not ended are interrupted, and free to be
        carried on by another worker at once.

        Args:
            grace: seconds.
        """
        self._closed = True
        await self._wait(grace / 2)
        for drive in list(self._live):
            drive.turn.wind_down()
        await self._wait(grace / 2)
        loop = asyncio.get_running_loop()
        for drive in list(self._live):
            if drive.loop is loop:
                drive.release()
            elif not drive.loop.is_closed():
                drive.loop.call_soon_threadsafe(drive.release)  # it ends there, in its own time
        await self._wait(None)

    async def _wait(self, limit: float | None) -> None:
        loop = asyncio.get_running_loop()
        waits = [asyncio.ensure_future(drive.settled()) for drive in list(self._live) if drive.loop is loop]
        if not waits:
            return
        _, late = await asyncio.wait(waits, timeout=limit)
        for wait in late:
            wait.cancel()
