"""Journals in memory that fail, tarry or are interrupted where a test tells them to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from nodellm_orm.domain.windows import EVERYTHING
from nodellm_orm.runtime.conversation import Conversation
from nodellm_orm.runtime.memory.journal import MemoryJournal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.windows import Window
    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.ports.entries import Entry, TurnOpened
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.ownership import Hold, Take
    from nodellm_orm.ports.states import Snapshot
    from tests.unit.runtime.test_turns import World

J = TypeVar("J", bound=MemoryJournal)


def keep_in(journal: J, world: World, clock: Clock | None = None) -> J:
    """Keep a world's chat in this journal from now on, and go by this clock."""
    if clock is not None:
        world.engine = replace(world.engine, clock=clock)
    world.journal = journal
    world.conversation = Conversation.of(journal.keep(world.head))
    world.chat = world.another(world.conversation)
    return journal


async def let_run() -> None:
    """Let every task go on until it waits for something that only the test can give it."""
    for _ in range(20):
        await asyncio.sleep(0)


class LateJournal(MemoryJournal):
    """Begins a turn, and says so only when it is let go on: what happens in between is the test's."""

    def __init__(self, clock: Clock, *, late: bool = False) -> None:
        super().__init__(clock)
        self.late = late
        self.reached = asyncio.Event()
        """The work is done, or has failed, and nobody knows yet."""
        self.go_on = asyncio.Event()

    async def begin(
        self,
        take: Take,
        turn: TurnOpened,
        entries: Sequence[Entry],
        *,
        closing: Sequence[Entry] = (),
        again: bool = False,
    ) -> Hold:
        """As the journal does, late."""
        try:
            return await super().begin(take, turn, entries, closing=closing, again=again)
        finally:
            if self.late:
                self.reached.set()
                await self.go_on.wait()


class InterruptedJournal(MemoryJournal):
    """The task that writes is cancelled the first time, as the end of an event loop does it."""

    def __init__(self, clock: Clock, *, committed: bool) -> None:
        super().__init__(clock)
        self._committed = committed
        self._outcome: Hold | None = None
        self.tries: list[bool] = []
        """What each try to record was told of earlier ones."""

    async def record(self, hold: Hold, entries: Sequence[Entry], *, again: bool = False) -> Hold:
        """As the journal does, but for the first time; a point that has happened is not written again."""
        self.tries.append(again)
        if len(self.tries) == 1:
            if self._committed:
                self._outcome = await super().record(hold, entries)
            raise asyncio.CancelledError
        if again and self._outcome is not None:
            return self._outcome
        return await super().record(hold, entries, again=again)


class WatchedJournal(MemoryJournal):
    """Tells of every renewal of leases, and fails or hangs in those that a test picks."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.errors: list[Exception] = []
        """What the next renewals fail with."""
        self.hang: asyncio.Event | None = None
        """Renewals wait for it."""
        self.renewals: asyncio.Queue[Exception | None] = asyncio.Queue()
        """What came of each: an error, or nothing."""

    async def renew(self, holds: Sequence[Hold]) -> frozenset[UUID]:
        """As the journal does, unless it is to fail."""
        if self.hang is not None:
            await self.hang.wait()
        error = self.errors.pop(0) if self.errors else None
        self.renewals.put_nowait(error)
        if error is not None:
            raise error
        return await super().renew(holds)


class RacedJournal(MemoryJournal):
    """Another process adds a message between the first loading of a chat and what follows from it."""

    def __init__(self, clock: Clock, meanwhile: tuple[UUID, Message]) -> None:
        super().__init__(clock)
        self._meanwhile = [meanwhile]

    async def load(self, chat_id: UUID, owner: Owner, *, window: Window | None = EVERYTHING) -> Snapshot:
        """As the journal does; what it gives is outdated the first time."""
        snapshot = await super().load(chat_id, owner, window=window)
        if self._meanwhile:
            await self.append(snapshot.head, snapshot.fence, [self._meanwhile.pop()])
        return snapshot


class SuspendedMeanwhileJournal(MemoryJournal):
    """The running turn of a chat ends between the first loading of the chat by another process and what follows."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """Lets the turn end; done once."""

    async def load(self, chat_id: UUID, owner: Owner, *, window: Window | None = EVERYTHING) -> Snapshot:
        """As the journal does; what it gives is outdated the first time."""
        snapshot = await super().load(chat_id, owner, window=window)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return snapshot


class MeetingJournal(MemoryJournal):
    """Two processes have both loaded a chat before either of them saves it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._both = asyncio.Barrier(2)
        self._met = False

    async def load(self, chat_id: UUID, owner: Owner, *, window: Window | None = EVERYTHING) -> Snapshot:
        """As the journal does; the first two wait for each other."""
        snapshot = await super().load(chat_id, owner, window=window)
        if not self._met:
            await self._both.wait()
            self._met = True
        return snapshot
