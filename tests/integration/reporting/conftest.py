"""What tests of reports have: each database in turn, with the tables in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.databases import migrated_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.databases import DatabaseKind


@pytest.fixture
async def database(database_kind: DatabaseKind, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a database with the tables in it."""
    async with migrated_database(database_kind, tmp_path) as url:
        yield url
