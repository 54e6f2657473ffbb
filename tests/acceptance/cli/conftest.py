"""What tests of the command line have: a shell in an empty folder, and a SQLite file with our tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.cli.shell import Shell
from tests.integration.databases import migrated_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell in a folder of its own, in which no provider and no database is named."""
    return Shell.at(tmp_path)


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[str]:
    """URL of a SQLite file with our tables."""
    async with migrated_database("sqlite", tmp_path) as url:
        yield url
