"""A turn under way in a task of its own: the consumer only reads what it says, and may leave at any time.

The consumer never awaits a closing write inside its own cancellation: an anyio scope, which cancels again and again
until a task leaves it, would spin a core meanwhile. Whoever uses the chat next waits for the turn to have ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from nodellm_orm.domain.replies import Chunk, Reply
    from nodellm_orm.runtime.loop import Turn


class Mailbox:
    """Chunks on their way from a turn to its consumer; unbounded, as answers are bounded elsewhere."""

    def __init__(self) -> None:
        """Begin empty and open."""
        self._chunks: deque[Chunk] = deque()
        self._news = asyncio.Event()
        self._closed = False
        self.heard = True
        """Whether anybody will read what is put in."""
        self.dropped = False
        """Whether there was a reader who has left."""

    def put(self, chunk: Chunk) -> bool:
        """Hand over a chunk; says whether there is a consumer."""
        if self.heard:
            self._chunks.append(chunk)
            self._news.set()
        return self.heard

    def close(self) -> None:
        """No more will come."""
        self._closed = True
        self._news.set()

    def drop(self) -> None:
        """The consumer has left."""
        self.heard = False
        self.dropped = True
        self._chunks.clear()

    async def get(self) -> Chunk | None:
        """The next chunk; ``None`` when there will be none."""
        while not self._chunks:
            if self._closed:
                return None
            self._news.clear()
            await self._news.wait()
        return self._chunks.popleft()


class Drive:
    """One turn's task, and the only way to stop it.

    Args:
        turn: the turn.
        work: `Turn.run` or `Turn.resume`, not yet started.
        mailbox: where the turn puts its chunks.
        ended: called once when the task is over, whatever came of it.
    """

    def __init__(
        self,
        turn: Turn,
        work: Coroutine[Any, Any, Reply[Any]],
        mailbox: Mailbox,
        ended: Callable[[Drive], None],
    ) -> None:
        """Start."""
        self.turn = turn
        self.mailbox = mailbox
        self._ended = ended
        self.loop = asyncio.get_running_loop()
        self._task = self.loop.create_task(work, name=f"turn {turn.id}")
        self._task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[Reply[Any]]) -> None:
        self.mailbox.close()
        if not task.cancelled():
            task.exception()  # looked at, so that a turn nobody waits for is not reported as forgotten
        self._ended(self)

    @property
    def over(self) -> bool:
        """Whether the turn has ended."""
        return self._task.done()

    async def reply(self) -> Reply[Any]:
        """Wait for the turn's reply; being cancelled here does not stop the turn."""
        return await asyncio.shield(self._task)

    async def settled(self) -> None:
        """Wait until the turn has ended, whatever came of it."""
        await asyncio.wait({self._task})

    async def settled_within(self, seconds: float) -> bool:
        """Wait a while for the turn to have ended.

        Args:
            seconds: how long.
        """
        if seconds > 0:
            await asyncio.wait({self._task}, timeout=seconds)
        return self._task.done()

    def leave(self, *, cancel: bool) -> None:
        """The consumer has left.

        Args:
            cancel: whether the turn ends with that.
        """
        if self._task.done():
            return
        self.mailbox.drop()
        if cancel and not self.turn.stopping:
            self.stop()

    def stop(self) -> None:
        """End the turn: what had arrived is stored, and its reply says ``cancelled``."""
        if not self._task.done():
            self.turn.stopping = True
            # Not before its first step: a task that is cancelled sooner never runs, and nothing of it would be told.
            self.loop.call_soon(self._task.cancel)

    def lose(self) -> None:
        """The lease is gone: abort at once and write nothing."""
        if not self._task.done():
            self.turn.lost = True
            self._task.cancel()
