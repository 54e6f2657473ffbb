"""What acceptance tests have: each database in turn with the tables in it, and each wire format in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from tests.acceptance.speakers import APIS, Speaker
from tests.integration.databases import KINDS, migrated_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.databases import DatabaseKind


@pytest.fixture(params=KINDS)
def database_kind(request: pytest.FixtureRequest) -> DatabaseKind:
    """Each database in turn."""
    kind: DatabaseKind = request.param
    return kind


@pytest.fixture
async def database(database_kind: DatabaseKind, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a database with the tables in it."""
    async with migrated_database(database_kind, tmp_path) as url:
        yield url


@pytest.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    """A host's ordinary engine on it."""
    engine = create_async_engine(database)
    yield engine
    await engine.dispose()


@pytest.fixture(params=("memory", *KINDS))
async def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine | None]:
    """Each database in turn, and none."""
    if request.param == "memory":
        yield None
        return
    async with migrated_database(request.param, tmp_path) as url:
        engine = create_async_engine(url)
        yield engine
        await engine.dispose()


@pytest.fixture(params=APIS)
def speaker(request: pytest.FixtureRequest) -> Speaker:
    """Each wire format in turn."""
    return Speaker(request.param)
