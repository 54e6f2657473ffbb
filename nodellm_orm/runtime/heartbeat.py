"""Renews the leases of all turns that a process drives: one statement a database and beat, not one a chat."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.ownership import Hold
    from nodellm_orm.runtime.drive import Drive

log = logging.getLogger("nodellm_orm")

_PART_OF_LEASE = 4
"""A lease is renewed when a quarter of it has passed."""


class Heartbeat:
    """Beats as long as there is a turn to keep alive.

    A beat that fails because the database cannot be reached is repeated at the next one; a turn is given up only when
    its whole lease has passed since it was last extended, or when the journal says that somebody else has it.

    Args:
        clock: paces the beats.
    """

    def __init__(self, clock: Clock) -> None:
        """Start with nothing to watch."""
        self._clock = clock
        self._watched: dict[Drive, Journal] = {}
        self._renewals: dict[object, asyncio.Task[None]] = {}
        self._pace: float | None = None
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
        if self._pace is None or self._interval() < self._pace:
            self._restart()

    def forget(self, drive: Drive) -> None:
        """The turn has ended."""
        self._watched.pop(drive, None)
        if not self._watched:
            self._stop()

    def _restart(self) -> None:
        """Beat at the pace of the shortest lease; a beat under way is finished first."""
        self._stop()
        self._pace = self._interval()
        self._task = asyncio.create_task(self._beat(self._pace), name="heartbeat of leases")

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = self._pace = None

    def _interval(self) -> float:
        return min(drive.turn.lease for drive in self._watched) / _PART_OF_LEASE

    async def _beat(self, pace: float) -> None:
        while True:
            began = self._clock.monotonic()
            await self._clock.sleep(pace)
            late = self._clock.monotonic() - began - pace
            if late > pace:
                log.warning(
                    "the event loop was blocked for %.1f s, and leases of chats could not be renewed meanwhile; "
                    "move blocking work into threads",
                    late,
                )
            by_database: dict[object, tuple[Journal, list[Drive]]] = {}
            for drive, journal in self._watched.items():
                by_database.setdefault(journal.database, (journal, []))[1].append(drive)
            for database, (journal, drives) in by_database.items():
                self._start_renewal(database, journal, drives)

    def _start_renewal(self, database: object, journal: Journal, drives: list[Drive]) -> None:
        """Renew in a task of its own: a database that hangs must not starve the others."""
        last = self._renewals.get(database)
        if last is not None and not last.done():
            self._give_up(drives)
            return
        self._renewals[database] = asyncio.create_task(self._renew(journal, drives), name="renewal of leases")

    def _give_up(self, drives: list[Drive]) -> None:
        """Abort turns whose whole lease has passed since it was last extended: somebody else may have them."""
        now = self._clock.monotonic()
        for drive in drives:
            if drive.turn.hold is not None and now - drive.turn.scribe.extended_at > drive.turn.lease:
                drive.lose()

    async def _renew(self, journal: Journal, drives: list[Drive]) -> None:
        holds = {hold.turn_id: hold for hold in _holds(drives)}
        if not holds:
            return
        try:
            lost = await journal.renew(list(holds.values()))
        except Exception as error:  # noqa: BLE001 — a boundary: the heart has to go on beating whatever happens
            log.warning("leases of %d chats could not be renewed: %s", len(holds), error)
            self._give_up(drives)
            return
        for drive in drives:
            hold = drive.turn.hold
            asked = holds.get(hold.turn_id) if hold is not None else None
            # The turn may have ended, or been begun, while the statement was on its way.
            if hold is None or asked is None or asked.fence != hold.fence:
                continue
            if hold.turn_id in lost:
                drive.lose()
            else:
                drive.turn.scribe.extended()


def _holds(drives: Iterable[Drive]) -> list[Hold]:
    return [hold for drive in drives if (hold := drive.turn.hold) is not None]
