"""The command `rollup`, and `usage` from what it has added up."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import insert, update

from nodellm_orm.models import RECORDS
from nodellm_orm.runtime.clock import new_id
from tests.acceptance.cli.shell import lines

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.acceptance.cli.shell import Shell
    from tests.integration.databases import DatabaseKind

NINE = datetime(2026, 3, 14, 9, tzinfo=UTC)


@pytest.fixture
def database_kind() -> DatabaseKind:
    """SQLite: what the database does is seen elsewhere."""
    return "sqlite"


@pytest.fixture
async def shell(shell: Shell, database: str, engine: AsyncEngine) -> Shell:
    """A shell in which a database is named that has three hours with two requests each."""
    asked: dict[str, Any] = {"operation": "chat", "provider": "openai", "requested_model": "m", "status": "ok"}
    rows = [
        {
            **asked,
            "id": new_id(),
            "attempt": 1,
            "cost": Decimal("0.1"),
            "created_at": NINE + n // 2 * timedelta(hours=1),
        }
        for n in range(6)
    ]
    async with engine.begin() as connection:
        await connection.execute(insert(RECORDS.tables.requests), rows)
    return shell.with_environment(NODELLM_DATABASE_URL=database, COLUMNS="120")


async def test_hours_are_added_up_and_reported(shell: Shell, engine: AsyncEngine) -> None:
    """`rollup` tells what it has done, and `usage --rollup` is `usage` without the times."""
    first = await shell.run("rollup")
    again = await shell.run("rollup", "--json")
    assert (first.code, again.code) == (0, 0)
    assert first.out.startswith("added up: 3 hours, and 0 again; everything is in until 20")
    assert json.loads(again.out) | {"until": None} == {"added": 0, "corrected": 0, "until": None, "left": 0}

    plain, rolled = [await shell.run("usage", "--by", "hour,model", *more, "--json") for more in ([], ["--rollup"])]
    assert json.loads(rolled.out) == json.loads(plain.out)
    assert len(json.loads(rolled.out)["rows"]) == 3

    async with engine.begin() as connection:
        await connection.execute(update(RECORDS.tables.requests).values(cost=Decimal("0.2")))
    assert lines((await shell.run("usage", "--rollup", "--by", "")).out)[-1].split()[4:5] == ["$0.60"]
    assert (await shell.run("rollup", "--again")).out.startswith("added up: 0 hours, and 3 again")
    assert lines((await shell.run("usage", "--rollup", "--by", "")).out)[-1].split()[4:5] == ["$1.20"]


async def test_what_the_roll_up_does_not_know_is_one_line(shell: Shell) -> None:
    """The error says what is in the way and what to do."""
    done = await shell.run("usage", "--rollup", "--by", "chat")
    assert done.code == 1
    assert "does not know group_by 'chat'; leave that out, or leave rollup=True out" in done.err
    assert len(lines(done.err)) == 1
