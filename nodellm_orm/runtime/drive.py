"""A turn under way in a task of its own: the consumer only reads what it says, and may leave at any time.

The consumer never awaits a closing write inside its own cancellation: an anyio scope, which cancels again and again
until a task leaves it, would spin a core meanwhile. Whoever uses the chat next waits for the turn to have ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nodellm_orm.runtime.nesting import inside

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from nodellm_orm.domain.replies import Chunk, Reply
    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.runtime.loop import Turn

_LOOK = 0.02
"""Seconds between two looks at a turn in another event loop."""


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
        try:
            context = inside(turn)
        except BaseException:
            work.close()
            raise
        self._task = self.loop.create_task(work, name=f"turn {turn.id}", context=context)
        self._task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[Reply[Any]]) -> None:
        self.turn.over = True
        self.mailbox.close()
        if not task.cancelled():
            task.exception()  # looked at, so that a turn nobody waits for is not reported as forgotten
        self._ended(self)

    @property
    def over(self) -> bool:
        """Whether the turn has ended, or its event loop has, without it."""
        return self._task.done() or self.loop.is_closed()

    @property
    def abandoned(self) -> bool:
        """Whether the event loop was closed under the turn: it is interrupted, and its lease will end."""
        return self.loop.is_closed() and not self._task.done()

    @property
    def elsewhere(self) -> bool:
        """Whether it runs in another event loop than the one that asks."""
        return self.loop is not asyncio.get_running_loop()

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

    async def stopped(self, clock: Clock) -> None:
        """Stop the turn and wait until it has ended, in whatever event loop it runs.

        Args:
            clock: paces the looks at another loop.
        """
        if not self.elsewhere:
            self.stop()
            await self.settled()
            return
        with suppress(RuntimeError):  # that loop was closed a moment ago
            self.loop.call_soon_threadsafe(self.stop)
        while not self.over:
            await clock.sleep(_LOOK)

    def leave(self, *, cancel: bool) -> None:
        """The consumer has left.

        Args:
            cancel: whether the turn ends with that.
        """
        if self.over:
            return
        self.mailbox.drop()
        if cancel and not self.turn.stopping:
            self.stop()

    def stop(self) -> None:
        """End the turn: what had arrived is stored, and its reply says ``cancelled``."""
        if not self.over:
            self.turn.stopping = True
            # Not before its first step: a task that is cancelled sooner never runs, and nothing of it would be told.
            self.loop.call_soon(self._task.cancel)

    def release(self) -> None:
        """Break off the step that the turn is at, store what had arrived, and let go of it."""
        if not self.over:
            self.turn.wind_down()
            self.turn.releasing = True
            self.loop.call_soon(self._task.cancel)

    def lose(self) -> None:
        """The lease is gone: abort at once and write nothing."""
        if not self._task.done():
            self.turn.lost = True
            self._task.cancel()
