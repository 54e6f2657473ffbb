"""What tests of the command line have: a shell in an empty folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.cli.shell import Shell

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell in a folder of its own, in which no provider and no database is named."""
    return Shell.at(tmp_path)
