"""One short transaction at a time: tried again where that is safe, looked up afterwards where its end is unknown."""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy.util import greenlet_spawn

from nodellm_orm.errors import StorageError
from nodellm_orm.store.failures import Nature, is_database_error, nature, timed_out, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy import Connection, Engine

T = TypeVar("T")

DEADLINE: Final = 30.0
"""Seconds that a durable point may take."""
_ATTEMPTS: Final = {Nature.TRANSIENT: 12, Nature.SLOW: 2, Nature.LOST: 3}
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0
_CHANCE: Final = secrets.SystemRandom()

_locks: WeakKeyDictionary[object, tuple[asyncio.AbstractEventLoop, asyncio.Lock]] = WeakKeyDictionary()


def lock_of(shared: object) -> asyncio.Lock:
    """The lock of a connection that several journals may use, one an event loop."""
    loop = asyncio.get_running_loop()
    known = _locks.get(shared)
    if known is None or known[0] is not loop:
        known = _locks[shared] = (loop, asyncio.Lock())
    return known[1]


class Access(ABC):
    """How a journal reaches its database.

    Args:
        target: what stands for the database: an engine, a connection or a session.
        deadline: seconds that one transaction may take, retries included.
        shared: whether all users of the target have one connection, so that they have to take turns.
    """

    durable: bool = True
    """Whether what was written stays when `run` returns; if not, the caller commits or rolls back."""

    def __init__(self, target: Hashable, *, deadline: float, shared: bool) -> None:
        """Keep what the database is reached by."""
        self.target = target
        self._deadline = deadline
        self._shared = shared

    @property
    def deadline(self) -> float:
        """Seconds that one transaction may take, retries included."""
        return self._deadline

    @property
    def concurrent(self) -> bool:
        """Whether several tasks may run transactions at once."""
        return not self._shared

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The engine behind it."""

    async def settle(self) -> None:  # noqa: B027 — only a caller's session needs it
        """Come to terms with the caller's own session; see `Journal.settle`."""

    @abstractmethod
    def write(self, work: Callable[[Connection], T]) -> T:
        """Run work in one transaction and end it; called in a greenlet.

        Args:
            work: executes statements.
        """

    @abstractmethod
    def look(self, work: Callable[[Connection], T]) -> T:
        """Run work that only reads, and leave every transaction as it is; called in a greenlet.

        Args:
            work: executes statements.
        """

    async def run(
        self,
        work: Callable[[Connection], T],
        *,
        confirm: Callable[[Connection], T | None] | None = None,
        again: bool = False,
    ) -> T:
        """Run one transaction: begin, work, commit.

        It is tried again on a fresh connection after a deadlock, a serialization failure or a lock timeout. When it
        is not known whether it was committed (a lost connection, the deadline), ``confirm`` looks.

        Args:
            work: executes statements and gives the result; may be run several times.
            confirm: reads whether the work has been done: its result, or ``None`` when it has to be done again.
                Without it, doing the work twice is as good as once.
            again: an earlier run of the same work was broken off, and may have been committed.

        Raises:
            StorageError: the database failed; whatever ``work`` and ``confirm`` raise passes as well.
        """
        try:
            async with asyncio.timeout(self._deadline):
                return await self._persist(work, confirm, unsure=again)
        except TimeoutError as error:
            found = None
            if confirm is not None and self.durable:
                found = await self._look_back(confirm)
            if found is None:
                raise timed_out(self._deadline) from error
            return found

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run work that only reads.

        Args:
            work: executes statements and gives the result; may be run several times.

        Raises:
            StorageError: the database failed.
        """
        try:
            async with asyncio.timeout(self._deadline):
                return await self._persist(work, None, reading=True)
        except TimeoutError as error:
            raise timed_out(self._deadline) from error

    async def _persist(
        self,
        work: Callable[[Connection], T],
        confirm: Callable[[Connection], T | None] | None,
        *,
        reading: bool = False,
        unsure: bool = False,
    ) -> T:
        failures = dict.fromkeys(Nature, 0)
        while True:
            try:
                if unsure and confirm is not None and (found := await self._once(confirm, reading=True)) is not None:
                    return found
                return await self._once(work, reading=reading)
            except Exception as error:
                kind = nature(error) if is_database_error(error) else None
                if kind is None:
                    if unsure and confirm is not None:
                        # What looks like another's doing may be our own earlier attempt, committed after all.
                        found = await self._once(confirm, reading=True)
                        if found is not None:
                            return found
                    raise
                failures[kind] += 1
                if not self.durable or failures[kind] >= _ATTEMPTS.get(kind, 1):
                    raise translate(error) from error
                unsure = unsure or kind is Nature.LOST
                await asyncio.sleep(pause(failures[kind]))

    async def _look_back(self, confirm: Callable[[Connection], T | None]) -> T | None:
        try:
            async with asyncio.timeout(self._deadline):
                return await self._persist(confirm, None, reading=True)
        except (TimeoutError, StorageError):
            return None

    async def _once(self, work: Callable[[Connection], T], *, reading: bool) -> T:
        turnstile: AbstractAsyncContextManager[object] = lock_of(self.target) if self._shared else nullcontext()
        async with turnstile:
            return await greenlet_spawn(self.look if reading else self.write, work)


def pause(failures: int) -> float:
    """Seconds to wait before something is tried again, longer each time.

    Args:
        failures: how often it has failed, from 1.
    """
    longest = min(_FIRST_PAUSE * 2.0**failures, _LONGEST_PAUSE)
    return _CHANCE.uniform(longest / 4, longest)
