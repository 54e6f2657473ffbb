"""Connections that a forked process has inherited: they are those of the process it was forked from, and left alone.

A server that loads its application once and then forks its workers (gunicorn with ``preload``) gives all of them the
same sockets, and threads of drivers that exist in none of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from sqlalchemy import Engine, Pool

_PIDS: Final[WeakKeyDictionary[Pool, int]] = WeakKeyDictionary()
"""The process that each pool was first seen in."""
_INHERITED: Final[list[Pool]] = []
"""Kept for good: what their connections do when they are dropped would reach the other process's server."""


def own_pool(engine: Engine) -> None:
    """Give an engine a new pool if the one it has is that of the process that this one was forked from.

    Args:
        engine: any; nothing else of it is changed.
    """
    pid, pool = os.getpid(), engine.pool
    if _PIDS.setdefault(pool, pid) != pid:
        _INHERITED.append(pool)
        engine.dispose(close=False)
        _PIDS[engine.pool] = pid
