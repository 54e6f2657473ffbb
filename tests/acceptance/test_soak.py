"""The soak in small: a few seconds of what ``make soak`` does for a minute."""

from __future__ import annotations

import os

import pytest

from tests.integration.databases import KINDS, DatabaseKind
from tests.soak.run import Plan, soak, told
from tests.soak.servers import missing


@pytest.mark.fault("C62")
@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_is_stuck_lost_doubled_or_mixed_up(kind: DatabaseKind) -> None:
    """Chats that many processes work on, which are killed while connections and servers break, are all in order."""
    if (program := missing(kind)) is not None:
        assert os.environ.get("CI") != "true", f"{program} is not installed"
        pytest.skip(f"{program} is not installed")
    plan = Plan(kind=kind, chats=12, workers=3, seconds=5.0, seed=7)
    findings = await soak(plan)
    assert findings.violations == [], told(plan, findings)
    assert findings.counts["completed turns"] > plan.chats
    assert findings.counts["kills"] > 0
    assert findings.counts["servers restarted"] == (0 if kind == "sqlite" else 2)
