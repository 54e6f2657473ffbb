"""The views that BI tools read."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from nodellm_orm.models import RequestRecord
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import RowMapping
    from sqlalchemy.ext.asyncio import AsyncEngine


def attempt(
    cost: str | None, *, minute: int = 0, hour: int = 9, owner: str | None = "ann", status: str = "ok"
) -> RequestRecord:
    """A line of the ledger; a failed one names no model that answered."""
    price = None if cost is None else Decimal(cost)
    return RequestRecord(
        id=new_id(),
        owner=owner,
        operation="chat",
        provider="openai",
        model="m-1" if status == "ok" else None,
        requested_model="m-1",
        status=status,
        attempt=1,
        input_tokens=3_000_000_000,
        output_tokens=7,
        cost=price,
        input_cost=price,
        created_at=datetime(2026, 3, 29, hour, minute, 59, 999_999, tzinfo=UTC),
    )


async def read(
    engine: AsyncEngine, *rows: RequestRecord, view: str = "llm_usage", order: str = "hour, owner"
) -> Sequence[RowMapping]:
    """What a view shows of these rows."""
    await migrate(engine)
    async with AsyncSession(engine) as session, session.begin():
        session.add_all(rows)
    async with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            # Half an hour off: hours are UTC's all the same.
            await connection.execute(text("SET LOCAL TIME ZONE 'Asia/Kolkata'"))
        result = await connection.execute(text(f"SELECT * FROM {view} ORDER BY {order}"))  # noqa: S608 — names of ours
        return result.mappings().all()


async def test_the_sums_are_those_of_the_rows(engine: AsyncEngine) -> None:
    """Ten dimes are a dollar, counts pass 32 bits, failures and unknown prices are counted, not priced."""
    dimes = [attempt("0.1", minute=minute) for minute in range(10)]

    (row,) = await read(engine, *dimes, attempt("0.000000000001"), attempt(None, status="failed"))

    assert (row["owner"], row["provider"], row["model"], row["operation"]) == ("ann", "openai", "m-1", "chat")
    assert (row["requests"], row["failures"], row["unpriced"]) == (12, 1, 1)
    assert (row["input_tokens"], row["output_tokens"], row["cached_tokens"]) == (36_000_000_000, 84, None)
    if engine.dialect.name == "sqlite":
        assert row["cost_pico"] == 1_000_000_000_001
        assert row["cost"] == pytest.approx(1.0)
    else:
        assert row["cost"] == row["input_cost"] == Decimal("1.000000000001")
    assert row["output_cost"] is None


async def test_hours_and_owners_are_told_apart(engine: AsyncEngine) -> None:
    """Each hour by UTC's clock and each owner, also nobody, has a row of its own."""
    rows = await read(
        engine, attempt("1", minute=0), attempt("2", minute=59), attempt("4", hour=10), attempt("8", owner=None)
    )

    found = {(str(row["hour"])[:19], row["owner"]): int(row["cost"]) for row in rows}

    assert found == {
        ("2026-03-29 09:00:00", "ann"): 3,
        ("2026-03-29 10:00:00", "ann"): 4,
        ("2026-03-29 09:00:00", None): 8,
    }


async def test_an_empty_ledger_shows_nothing(engine: AsyncEngine) -> None:
    """No rows, no hours."""
    assert await read(engine) == []


def dollars(row: RowMapping) -> Decimal | None:
    """The exact cost."""
    if "cost_pico" not in row:
        cost: Decimal | None = row["cost"]
        return cost
    return None if row["cost_pico"] is None else Decimal(row["cost_pico"]).scaleb(-12)


async def test_days_are_those_of_utc(engine: AsyncEngine) -> None:
    """A day has one row for each owner, provider, model and operation, whatever zone the session is in."""
    late = attempt("0.1", hour=23, minute=59)
    next_day = attempt("0.2", hour=0)
    next_day.created_at = datetime(2026, 3, 30, tzinfo=UTC)

    rows = await read(
        engine, attempt("0.000000000001", hour=0), late, next_day, view="llm_usage_daily", order="day, owner"
    )

    assert [(str(row["day"]), row["requests"], dollars(row)) for row in rows] == [
        ("2026-03-29", 2, Decimal("0.100000000001")),
        ("2026-03-30", 1, Decimal("0.2")),
    ]
    assert [int(row["input_tokens"]) for row in rows] == [6_000_000_000, 3_000_000_000]


async def test_a_chat_has_its_costs(engine: AsyncEngine) -> None:
    """One row for each chat, deleted ones too; what belongs to no chat is left out."""
    one, other = new_id(), new_id()
    attempts = [attempt("0.1"), attempt("0.2", hour=10), attempt(None, status="failed"), attempt("1"), attempt("5")]
    for record, chat in zip(attempts, (one, one, one, other, None), strict=True):
        record.chat_id = chat

    rows = await read(engine, *attempts, view="llm_chat_costs", order="cost")

    assert [(row["requests"], row["failures"], row["unpriced"], dollars(row)) for row in rows] == [
        (3, 1, 1, Decimal("0.3")),
        (1, 0, 0, Decimal(1)),
    ]
    assert str(rows[0]["last_request_at"])[:13] == "2026-03-29 10"


async def test_failures_are_counted_by_their_kind(engine: AsyncEngine) -> None:
    """By error class and status; what was cancelled or went well is left out."""
    failed = [attempt(None, status="failed") for _ in range(3)]
    for record in failed:
        record.error_type, record.http_status = "OverloadedError", 529
    failed[2].error_type, failed[2].http_status = "ProviderConnectionError", None

    rows = await read(
        engine, *failed, attempt("1"), attempt(None, status="cancelled"), view="llm_failures", order="failures"
    )

    assert [(row["error_type"], row["http_status"], row["failures"], row["model"]) for row in rows] == [
        ("ProviderConnectionError", None, 1, "m-1"),
        ("OverloadedError", 529, 2, "m-1"),
    ]
