"""What tests of reports have: each database in turn, with the tables in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm.store.schema import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """An ordinary engine, as a host would make it."""
    engine = create_async_engine(database)
    await migrate(engine)
    yield engine
    await engine.dispose()
