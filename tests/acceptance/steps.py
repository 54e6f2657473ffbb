"""Counts the places where the tasks of an event loop wait, and does something at one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

T = TypeVar("T")
_NOT_OURS: Final = ("LoopbackServer.", "_Line.")
"""The other side of the wire, which is on the same loop in a test."""


class Steps:
    """The places where tasks have waited so far.

    Args:
        at: numbers, from 1, at which `act` is called, while the task waits.
        act: what happens there.
    """

    def __init__(self, at: frozenset[int], act: Callable[[], object]) -> None:
        self.made = 0
        self._at = at
        self._act = act

    def one_more(self) -> None:
        """A task waits."""
        self.made += 1
        if self.made in self._at:
            asyncio.get_running_loop().call_soon(self._act)


class Counted(Coroutine[Any, Any, T]):
    """A coroutine that tells where it waits."""

    def __init__(self, inner: Coroutine[Any, Any, T], steps: Steps) -> None:
        self._inner = inner
        self._steps = steps
        self.__qualname__ = getattr(inner, "__qualname__", type(inner).__qualname__)

    def __await__(self) -> Generator[Any, Any, T]:
        return self._inner.__await__()

    def send(self, value: Any) -> Any:
        """Go on until it waits again."""
        waits_for = self._inner.send(value)
        self._steps.one_more()
        return waits_for

    def throw(self, *error: Any) -> Any:
        """Go on with an error until it waits again."""
        waits_for = self._inner.throw(*error)
        self._steps.one_more()
        return waits_for

    def close(self) -> None:
        """See the coroutine."""
        self._inner.close()


@contextmanager
def counting(steps: Steps) -> Iterator[None]:
    """Count the steps of all tasks that are created in the block, apart from the loopback server's.

    Args:
        steps: counts.
    """
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()

    def counted(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
        name = getattr(work, "__qualname__", "")
        return asyncio.Task(work if name.startswith(_NOT_OURS) else Counted(work, steps), loop=loop, **options)

    loop.set_task_factory(counted)
    try:
        yield
    finally:
        loop.set_task_factory(before)
