"""A stream as its consumer sees it: iterate it, enter it, leave it at any point, ask it for the whole reply."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Generic, Literal, Self, TypeAlias, TypeVar, cast

from nodellm_orm.domain.replies import Reply
from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from nodellm_orm.domain.replies import Chunk
    from nodellm_orm.runtime.drive import Drive

T = TypeVar("T")

OnAbandon: TypeAlias = Literal["cancel", "finish"]
"""What becomes of the turn when its consumer leaves: it is cancelled, or the answer completes unheard."""


class ReplyStream(Generic[T]):
    """The chunks of one turn; made by `Chat.stream`.

    Iterating or entering it begins the turn; a stream that is neither iterated nor entered begins none. However the
    consumer leaves (end, ``break``, exception, cancellation, dropped reference, end of the event loop), the turn
    reaches a final state and the text so far is stored.

    Args:
        start: begins the turn.
        on_abandon: what becomes of it when the consumer leaves.

    Example:
        >>> async with chat.stream("Tell me a story") as stream:
        ...     async for chunk in stream:
        ...         print(chunk.content, end="")
        >>> reply = await stream.reply()
    """

    def __init__(self, start: Callable[[ReplyStream[T]], Awaitable[Drive]], on_abandon: OnAbandon = "cancel") -> None:
        """Prepare; nothing begins yet."""
        self._start = start
        self._on_abandon = on_abandon
        self._drive: Drive | None = None
        self._starting = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._entered = False
        self._reader: asyncio.Task[object] | None = None
        self._reading = False

    async def _begun(self) -> Drive:
        async with self._starting:
            if self._drive is None:
                self._loop = asyncio.get_running_loop()
                self._drive = await self._start(self)
        if self._drive.elsewhere:
            msg = "a stream is read in the event loop in which it was begun; hand its chunks on from there"
            raise ConfigurationError(msg)
        return self._drive

    def __aiter__(self) -> Self:
        """The stream itself: it can be read once."""
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk.

        Raises:
            NodeLLMError: what ended the turn, after the last chunk.
        """
        drive = await self._begun()
        self._reader, self._reading = asyncio.current_task(), True
        try:
            chunk = await drive.mailbox.get()
        except BaseException:
            self.abandon()
            raise
        finally:
            self._reading = False
        if chunk is not None:
            return chunk
        await drive.reply()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        """Begin the turn."""
        await self._begun()
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the stream; what has not arrived is not waited for."""
        self._entered = False
        self.abandon()

    async def reply(self) -> Reply[T]:
        """The whole reply, equal to what ``ask`` would have given; waits for it.

        Of a stream that was left before its end, it is the reply as far as it went (``finish_reason`` is
        ``cancelled``).

        Raises:
            NodeLLMError: what ended the turn.
        """
        drive = await self._begun()
        try:
            return cast(Reply[T], await drive.reply())
        except asyncio.CancelledError:
            self.abandon()
            raise

    async def aclose(self) -> None:
        """Leave the stream and wait until the turn has ended."""
        if self._drive is not None:
            self.abandon()
            await self._drive.settled()

    def abandon(self) -> None:
        """Leave the stream; the turn ends in its own task."""
        if self._drive is not None:
            self._drive.leave(cancel=self._on_abandon == "cancel")

    @property
    def left(self) -> bool:
        """Whether its reader has stopped reading without saying so: he is the task that asks, or is no more.

        Only a bare ``async for`` that was broken off while the stream is still referred to by a name looks so; inside
        ``async with`` a stream is left when that block is.
        """
        reader = self._reader
        if self._entered or self._reading or reader is None:
            return False
        return reader is asyncio.current_task() or reader.done()

    def __del__(self) -> None:
        """A dropped stream was left."""
        drive, loop = self._drive, self._loop
        if drive is None or loop is None or drive.over or loop.is_closed():
            return
        loop.call_soon_threadsafe(functools.partial(drive.leave, cancel=self._on_abandon == "cancel"))
