"""Ledgers for the tests of `usage`, and the command run within the test's own process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from typer.testing import CliRunner

from nodellm_orm.cli.app import app
from tests.integration.reporting.ledger import row

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.integration.reporting.ledger import Row

BEGIN: Final = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""A Monday."""


def asked(day: float, cost: str | None, **columns: Any) -> Row:
    """A request.

    Args:
        day: how many days after the first.
        cost: US dollars, exactly; ``None``: unknown.
        columns: what else matters of it.
    """
    model = columns.get("model", "m")
    return row(
        created_at=BEGIN + timedelta(days=day),
        cost=None if cost is None else Decimal(cost),
        requested_model=model,
        **columns,
    )


async def usage(database: str, *arguments: str, columns: int = 80) -> Result:
    """Run `nodellm-orm usage` to its end, its streams being pipes."""
    runner = CliRunner(env={"COLUMNS": str(columns), "NODELLM_DATABASE_URL": database})
    # In a thread of its own: the command begins an event loop.
    return await asyncio.to_thread(runner.invoke, app, ["usage", *arguments])
