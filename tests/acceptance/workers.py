"""Other processes as a test sees them: started in a moment, spoken to, stopped and killed."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.acceptance import victim
from tests.acceptance.forks import FORKS, ended, readable

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator

    from tests.acceptance.victim import Job, Told


class Worker:
    """A process at its job."""

    def __init__(self, job: Job) -> None:
        self._pipe, other = FORKS.Pipe()
        self._process = FORKS.Process(target=victim.main, args=(job, other), daemon=True)
        self._process.start()
        other.close()

    async def _told(self) -> Any:
        await readable(self._pipe.fileno())
        return self._pipe.recv()

    async def ready(self) -> None:
        """Wait until it has loaded its chat."""
        assert await self._told() == victim.READY

    def go(self) -> None:
        """Let it begin its turn, or leave it."""
        self._pipe.send("go")

    async def outcome(self) -> Told:
        """What came of its turn."""
        told: Told = await self._told()
        return told

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        pid = self._process.pid
        assert pid is not None
        os.kill(pid, number)

    async def ended(self) -> int:
        """Wait until it is gone; its exit status, or the signal that it died of as a negative number."""
        return await ended(self._process)

    async def aclose(self) -> None:
        """Whatever it is doing, it is over."""
        self._process.kill()
        await self.ended()
        self._process.close()
        self._pipe.close()


@asynccontextmanager
async def working(job: Job) -> AsyncIterator[Worker]:
    """A process that has loaded its chat, and is gone after the block."""
    worker = Worker(job)
    try:
        await worker.ready()
        yield worker
    finally:
        await worker.aclose()
