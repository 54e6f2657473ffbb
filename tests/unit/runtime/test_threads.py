"""Threads for blocking tools: one a call, with the caller's context, and no claim on the loop."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar

import pytest

from nodellm_orm.runtime.threads import in_thread

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


async def test_work_runs_in_a_named_daemon_thread_with_the_callers_context() -> None:
    """What it changes in the context stays its own."""

    def work() -> tuple[str, str, bool]:
        seen = NAME.get()
        NAME.set("changed")
        return seen, threading.current_thread().name, threading.current_thread().daemon

    NAME.set("caller")
    assert await in_thread(work, name="a tool") == ("caller", "a tool", True)
    assert NAME.get() == "caller"


async def test_as_many_run_at_once_as_are_asked_for() -> None:
    """No pool is waited for: all of them meet."""
    meeting = threading.Barrier(20)
    order = await asyncio.gather(*(in_thread(meeting.wait, name="t") for _ in range(20)))
    assert sorted(order) == list(range(20))


async def test_a_cancelled_future_drops_what_comes_later() -> None:
    """The thread is left to itself."""
    release, over = threading.Event(), threading.Event()

    def work() -> str:
        release.wait()
        over.set()
        return "late"

    future = in_thread(work, name="t")
    future.cancel()
    release.set()
    await asyncio.to_thread(over.wait)
    await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await future


def test_a_loop_that_is_gone_is_no_error_in_the_thread() -> None:
    """The program ended its loop while a tool was still running."""
    release, running = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def work() -> str:
        threads.append(threading.current_thread())
        running.set()
        release.wait()
        return "nobody listens"

    async def begin() -> None:
        in_thread(work, name="t")
        await asyncio.to_thread(running.wait)

    asyncio.run(begin())
    release.set()
    threads[0].join(10)
    assert not threads[0].is_alive()
