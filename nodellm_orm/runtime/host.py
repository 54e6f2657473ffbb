"""What the chats of one client share: the engine, the models, the turns under way and their heartbeat."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from nodellm_orm.domain.attachments import AttachmentPolicy
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.runtime.attachments import Files
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
        worker: names this process in the rows it holds.
        files: reads what is attached; by default neither paths nor URLs.
        alternatives: the models that may be asked when another cannot answer; by default none.
    """

    def __init__(
        self,
        engine: Engine,
        models: ModelSource,
        worker: str,
        files: Files | None = None,
        alternatives: Callable[[], tuple[Alternative, ...]] = tuple,
    ) -> None:
        """Start with nothing under way."""
        self.engine = engine
        self.models = models
        self.worker = worker
        self.files = files or Files(AttachmentPolicy())
        self.alternatives = alternatives
        self._heartbeats: dict[asyncio.AbstractEventLoop, Heartbeat] = {}
        self._live: set[Drive] = set()
        self._closed = False

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
        if self._closed:
            msg = "the client is closed; make a new one with create_llm(), and keep it open while chats use it"
            raise ConfigurationError(msg)
        mailbox = Mailbox()
        mailbox.heard = heard
        turn = turn_of(mailbox)
        loop = asyncio.get_running_loop()
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

    async def close(self, grace: float) -> None:
        """Let the turns under way end; those that take longer are stopped, and their text so far is stored.

        Args:
            grace: seconds they are given.
        """
        self._closed = True
        loop = asyncio.get_running_loop()
        await self._wait(grace)
        for drive in list(self._live):
            if drive.loop is loop:
                drive.stop()
            elif not drive.loop.is_closed():
                drive.loop.call_soon_threadsafe(drive.stop)  # it ends there, in its own time
        await self._wait(None)

    async def _wait(self, limit: float | None) -> None:
        loop = asyncio.get_running_loop()
        waits = [asyncio.ensure_future(drive.settled()) for drive in list(self._live) if drive.loop is loop]
        if not waits:
            return
        _, late = await asyncio.wait(waits, timeout=limit)
        for wait in late:
            wait.cancel()
