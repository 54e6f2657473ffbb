"""What migration tests have: each database in turn, empty, and a host's ordinary engine on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from tests.integration.databases import KINDS, empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.databases import DatabaseKind


@pytest.fixture(params=KINDS)
def database_kind(request: pytest.FixtureRequest) -> DatabaseKind:
    """Each database in turn: ``sqlite``, ``postgresql``, ``mysql``."""
    kind: DatabaseKind = request.param
    return kind


@pytest.fixture
async def database(database_kind: DatabaseKind, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of an empty database."""
    async with empty_database(database_kind, tmp_path) as url:
        yield url


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """An ordinary engine, as a host would make it, on an empty database."""
    engine = create_async_engine(database)
    yield engine
    await engine.dispose()
