"""What the transport's tests have: a pool that ignores this machine's proxies and is closed in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nodellm_orm.transport import HttpPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def pool() -> AsyncIterator[HttpPool]:
    """A pool with an httpx client of its own."""
    pool = HttpPool(trust_env=False)
    yield pool
    await pool.aclose()
