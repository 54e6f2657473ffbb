"""Time, ids and chance: asked for through these, so that tests can hold them still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uuid import UUID


class Clock(Protocol):
    """The process's own clock: for durations only; the order and the leases of rows come from the database."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class IdSource(Protocol):
    """Where new ids come from (UUIDv7: ordered by time)."""

    def __call__(self) -> UUID:
        """A new id."""
        ...
