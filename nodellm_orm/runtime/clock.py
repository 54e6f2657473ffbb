"""The one home of real time and real ids in this package."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING

from uuid_utils.compat import uuid7

if TYPE_CHECKING:
    from uuid import UUID


class SystemClock:
    """The machine's monotonic clock."""

    def monotonic(self) -> float:
        """Seconds since some fixed point."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking the loop."""
        await asyncio.sleep(seconds)


def new_id() -> UUID:
    """A new UUIDv7 (RFC 9562): unique, also among processes that were forked, and ordered by the time it was made."""
    return uuid7()


def worker_name() -> str:
    """A name for this process that no other has, also on other machines, and that tells people where it runs."""
    return f"{socket.gethostname()[:80]}:{os.getpid()}:{new_id().hex[-12:]}"
