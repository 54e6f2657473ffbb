"""What every test has: one asyncio loop a test, no network beyond loopback, and properties without a stopwatch."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings

# A deadline would be a timed assertion: it says how busy the machine is, not whether the code is right.
settings.register_profile("nodellm_orm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Where it is enough to know that there is a failure: it is not made smaller.
settings.register_profile("quick", settings.get_profile("nodellm_orm"), phases=[Phase.generate], database=None)
settings.load_profile("nodellm_orm")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, the only loop this package supports."""
    return "asyncio"
