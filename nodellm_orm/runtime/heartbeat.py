"""Renews the leases of all turns that a process drives: one statement a journal and beat, not one a chat."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from nodellm_orm.errors import NodeLLMError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.ports.journal import Hold, Journal
    from nodellm_orm.runtime.drive import Drive

log = logging.getLogger("nodellm_orm")

_PART_OF_LEASE = 4
"""A lease is renewed when a quarter of it has passed."""


class Heartbeat:
    """Beats as long as there is a turn to keep alive.

    A beat that fails because the database cannot be reached is made again sooner; a turn is given up only when its
    whole lease has passed without one, or when the journal says that somebody else has it.

    Args:
        clock: paces the beats.
    """

    def __init__(self, clock: Clock) -> None:
        """Start with nothing to watch."""
        self._clock = clock
        self._watched: dict[Drive, Journal] = {}
        self._renewed: dict[Drive, float] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is a turn to keep alive."""
        return bool(self._watched)

    def watch(self, drive: Drive, journal: Journal) -> None:
        """Keep a turn's lease alive from now on."""
        if not journal.concurrent:
            return
        self._watched[drive] = journal
        self._renewed[drive] = self._clock.monotonic()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._beat(), name="heartbeat of leases")

    def forget(self, drive: Drive) -> None:
        """The turn has ended."""
        self._watched.pop(drive, None)
        self._renewed.pop(drive, None)
        if not self._watched and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _beat(self) -> None:
        while self._watched:
            began = self._clock.monotonic()
            interval = self._interval()
            await self._clock.sleep(interval)
            late = self._clock.monotonic() - began - interval
            if late > interval:
                log.warning(
                    "the event loop was blocked for %.1f s, and leases of chats could not be renewed meanwhile; "
                    "move blocking work into threads",
                    late,
                )
            by_journal: dict[object, tuple[Journal, list[Drive]]] = {}
            for drive, journal in self._watched.items():
                by_journal.setdefault(journal.database, (journal, []))[1].append(drive)
            for journal, drives in by_journal.values():
                await self._renew(journal, drives)

    def _interval(self) -> float:
        return min(drive.turn.lease for drive in self._watched) / _PART_OF_LEASE

    async def _renew(self, journal: Journal, drives: list[Drive]) -> None:
        holds = {hold.turn_id: hold for hold in _holds(drives)}
        if not holds:
            return
        now = self._clock.monotonic()
        try:
            lost = await journal.renew(list(holds.values()))
        except NodeLLMError as error:
            log.warning("leases of %d chats could not be renewed: %s", len(holds), error)
            lost = frozenset(
                drive.turn.id
                for drive in drives
                if drive.turn.hold is not None and now - self._renewed.get(drive, now) > drive.turn.hold.lease
            )
        else:
            self._renewed.update({drive: now for drive in drives if drive in self._watched})
        for drive in drives:
            hold = drive.turn.hold
            # The turn may have ended, or written with a newer hold, while the statement was on its way.
            if drive.turn.id in lost and hold is not None and hold.fence == holds[drive.turn.id].fence:
                drive.lose()


def _holds(drives: Iterable[Drive]) -> list[Hold]:
    return [hold for drive in drives if (hold := drive.turn.hold) is not None]
