"""How many connections there may be, for how many turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from nodellm_orm.upkeep.doctor.checks import ok, skipped, warning

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from nodellm_orm.upkeep.doctor.checks import Check

_NAME = "pool"


def check_pool(engine: Engine, concurrency: int | None) -> Check:
    """Whether the pool is large enough; a turn holds a connection only while it writes or reads.

    Args:
        engine: the engine.
        concurrency: turns that are expected to run at once.
    """
    pool: Any = engine.pool
    if isinstance(pool, StaticPool):
        told = "one connection for all: turns take it in turns"
        if concurrency is not None and concurrency > 1 and engine.dialect.name != "sqlite":
            return warning(_NAME, told, "leave poolclass out, so that there are more")
        return ok(_NAME, told)
    if isinstance(pool, NullPool):
        return ok(_NAME, "a new connection for each transaction")
    if not isinstance(pool, QueuePool):
        return skipped(_NAME, f"{type(pool).__name__} does not say how many connections it may have")
    size, overflow = pool.size(), pool._max_overflow  # noqa: SLF001 — there is no public way
    if size == 0 or overflow < 0:
        return ok(_NAME, "any number of connections")
    most = size + overflow
    told = f"{size} connections, {overflow} more at peaks; a turn needs one only while it reads or writes"
    if concurrency is not None and concurrency > 10 * most:
        remedy = f"make_engine(url, pool_size={max(size, concurrency // 10)})"
        return warning(_NAME, f"{told}, and {concurrency} turns are expected at once", remedy)
    return ok(_NAME, told)
