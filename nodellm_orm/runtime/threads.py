"""Threads for tools that are not async: one a call, so that one that hangs holds up no pool and no exit."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def in_thread(work: Callable[[], T], *, name: str) -> asyncio.Future[T]:
    """Run blocking work in a daemon thread of its own, with the caller's context variables.

    Args:
        work: called once; it must return, not raise.
        name: name of the thread.

    Returns:
        A future of the running loop. Cancelling it leaves the thread to itself and drops what it returns.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def deliver(result: T) -> None:
        if not future.done():
            future.set_result(result)

    def run() -> None:
        result = context.run(work)
        # The loop may be gone by now: nobody waits for the result any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(deliver, result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
