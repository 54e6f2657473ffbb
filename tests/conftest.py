"""What every test has: one asyncio loop a test, and no network beyond loopback."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, the only loop this package supports."""
    return "asyncio"
