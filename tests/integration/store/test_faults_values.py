"""Values on which databases differ or fail: each is kept as it is on all of them, or refused before it is sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import func, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from nodellm_orm.domain.jsontext import loads
from nodellm_orm.domain.money import Cost
from nodellm_orm.domain.parts import OpaquePart
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import StorageError
from nodellm_orm.ports.entries import TurnOpened
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.types import JsonDocument, Labels, LongBlob, LongText
from tests.integration.store.samples import (
    answer,
    attempt,
    begin,
    begun,
    call,
    closed,
    head,
    opened_call,
    question,
    take,
)
from tests.integration.store.test_counts import watched

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.store.journal import SqlJournal

REQUESTS: Final = RECORDS.tables.requests
MOMENT: Final = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LONGEST: Final = "\U0001f600" * 255
"""As many characters as a key may have, of four bytes each."""


async def stored(tables: AsyncEngine, **values: Any) -> Any:
    """A row of the ledger as it is read back: values by column, and what stands in the database itself."""
    fixed = {
        "id": (key := new_id()),
        "operation": "chat",
        "provider": "openai",
        "requested_model": "m",
        "status": "ok",
        "attempt": 1,
        "created_at": MOMENT,
    }
    async with tables.begin() as connection:
        await connection.execute(insert(REQUESTS), {**fixed, **values})
    async with tables.connect() as connection:
        return (await connection.execute(select(REQUESTS).where(REQUESTS.c.id == key))).mappings().one()


def indexed(connection: Connection) -> set[tuple[str, str]]:
    """Tables and columns that the database has in keys, constraints and indexes."""
    look = inspect(connection)
    found: set[tuple[str, str]] = set()
    for table in RECORDS.tables:
        name = table.name
        groups: list[list[str]] = [
            look.get_pk_constraint(name)["constrained_columns"],
            *([str(column) for column in index["column_names"]] for index in look.get_indexes(name)),
            *(unique["column_names"] for unique in look.get_unique_constraints(name)),
        ]
        found |= {(name, column) for group in groups for column in group}
    return found


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B23")
async def test_no_body_is_in_an_index(tables: AsyncEngine) -> None:
    """Neither in the records nor in the database does an index, a key or a constraint hold text of any length."""
    endless = {
        (table.name, column.name)
        for table in RECORDS.tables
        for column in table.c
        if isinstance(column.type, LongText | JsonDocument | Labels | LongBlob)
    }
    assert ("llm_messages", "parts") in endless
    async with tables.connect() as connection:
        found = await connection.run_sync(indexed)
    assert ("llm_messages", "position") in found
    assert not found & endless


@pytest.mark.fault("B23")
async def test_the_longest_keys_fit_into_their_indexes(sql_journal: SqlJournal) -> None:
    """Owner, idempotency key and call id of 255 characters of four bytes are kept, and found by."""
    made = await sql_journal.create(head(LONGEST))
    turn = TurnOpened(id=new_id(), settings="{}", idempotency_key=LONGEST, request_hash="x")
    hold = await sql_journal.begin(take(made), turn, (question(0), opened := attempt()))
    said = answer(1, asked := replace(call(), call_id=LONGEST))
    await sql_journal.record(hold, (closed(opened), said, opened_call(said, asked)))
    found = await sql_journal.turn_by_key(made.head.id, LONGEST, LONGEST)
    assert found is not None
    assert found.id == turn.id
    assert [chat.id for chat in await sql_journal.summaries(LONGEST)] == [made.head.id]
    assert [state.call for state in found.calls] == [asked]


@pytest.mark.fault("B23")
async def test_ten_megabytes_are_a_message(sql_journal: SqlJournal) -> None:
    """A body that no index could hold is an ordinary message, as long as a packet of the server's can."""
    turn = await begun(sql_journal)
    said = answer(1, text="0123456789" * 500_000)
    await sql_journal.record(turn.hold, (said,))
    assert (await sql_journal.load(turn.hold.chat_id, "ada")).messages[1] == said.message


@pytest.mark.fault("B31")
async def test_names_that_look_alike_are_told_apart(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """Owners, tool names, models and keys that differ in case, accents, composition or a space stay different rows."""
    names = ["k", "K", "k ", "é", "e\u0301", "e", "ß", "ss", "\u212a"]
    prefix = new_id().hex
    for name in names:
        made = await sql_journal.create(head(f"{prefix}{name}", metadata={"name": name}))
        for other in names:
            await begin(sql_journal, await sql_journal.load(made.head.id, f"{prefix}{name}"), key=other)
            await sql_journal.cancel(made.head.id, f"{prefix}{name}")
    for name in names:
        assert [c.metadata["name"] for c in await sql_journal.summaries(f"{prefix}{name}")] == [name]
    owners = (
        select(REQUESTS.c.owner, func.count()).where(REQUESTS.c.owner.startswith(prefix)).group_by(REQUESTS.c.owner)
    )
    async with tables.connect() as connection:
        counted = {row[0]: row[1] for row in await connection.execute(owners)}
    assert counted == {f"{prefix}{name}": len(names) for name in names}


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B26")
@pytest.mark.fault("B27")
async def test_counts_go_up_to_64_bits(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """Every count of the ledger holds 2^63-1, sums go beyond, and one more is refused before anything is sent."""
    names = [c.name for c in REQUESTS.c if c.name.endswith(("tokens", "_ms")) and c.name != "other_tokens"]
    assert len(names) == 7
    row = await stored(tables, **dict.fromkeys(names, 2**63 - 1), labels={}, other_tokens={})
    assert {row[name] for name in names} == {2**63 - 1}
    with pytest.raises(StorageError, match="64 bits"):
        await stored(tables, input_tokens=2**63, labels={}, other_tokens={})
    turn = await begun(sql_journal)
    hold = turn.hold
    for number in range(1, 4):
        opened = attempt(number)
        hold = await sql_journal.record(hold, (opened,))
        hold = await sql_journal.record(hold, (closed(opened, usage=Usage(input_tokens=2**31, output_tokens=2**33)),))
    usage = (await sql_journal.totals(hold.chat_id, "ada")).usage
    assert (usage.input_tokens, usage.output_tokens) == (3 * 2**31, 3 * 2**33)


@pytest.mark.fault("B27")
async def test_a_count_that_cannot_be_kept_leaves_nothing(sql_journal: SqlJournal) -> None:
    """A point with a number beyond 64 bits is refused as a whole, in our words, and the hold is still good."""
    turn = await begun(sql_journal)
    with pytest.raises(StorageError, match="64 bits"):
        await sql_journal.record(turn.hold, (answer(1), closed(turn.opened, usage=Usage(input_tokens=2**63))))
    assert (await sql_journal.load(turn.hold.chat_id, "ada")).next_position == 1
    await sql_journal.record(turn.hold, (closed(turn.opened), answer(1)))


@pytest.mark.fault("B28")
@pytest.mark.fault("B29")
async def test_money_is_exact_and_rounded_in_one_way(sql_journal: SqlJournal) -> None:
    """Sums lose no digit on any database, and digits that no column has are rounded half to even before they go out."""
    turn = await begun(sql_journal)
    hold, half = turn.hold, Decimal("0.0000000000005")
    amounts = [Decimal("0.1")] * 10 + [Decimal("1234567.123456789012"), half, half * 3, half * 5]
    for number, amount in enumerate(amounts, start=2):
        opened = attempt(number)
        hold = await sql_journal.record(hold, (opened,))
        hold = await sql_journal.record(hold, (closed(opened, cost=Cost(total=amount, source="user")),))
    state = await sql_journal.turn(hold.chat_id, "ada", turn.turn_id)
    kept = [attempt.cost for attempt in state.attempts[1:]]
    whole = Decimal("0.000000000001")
    assert kept == [*amounts[:11], Decimal(0), whole * 2, whole * 2]
    assert (await sql_journal.totals(hold.chat_id, "ada")).cost == Decimal("1234568.123456789016")


@pytest.mark.fault("B24")
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
async def test_what_is_no_number_reaches_no_database(
    sql_journal: SqlJournal, tables: AsyncEngine, number: float
) -> None:
    """NaN and Infinity in metadata and in costs are refused in our words, in full, before a statement is sent."""
    with pytest.raises(StorageError, match="cannot be stored"):
        await sql_journal.create(head(metadata={"deep": [{"n": number}]}))
    with watched(tables) as seen, pytest.raises(StorageError, match="finite number"):
        await stored(tables, cost=number, labels={}, other_tokens={})
    assert seen.statements == []


@pytest.mark.fault("B25")
async def test_integers_keep_their_digits_in_json(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """2^53+1, 2^64+1 and 2^80 are the digits that were given, also in what a person reads with SQL."""
    numbers = [2**53 + 1, 2**64 + 1, -(2**80)]
    made = await sql_journal.create(head(metadata={"numbers": numbers}))
    assert (await sql_journal.load(made.head.id, "ada")).head.metadata == {"numbers": numbers}
    key = made.head.id if tables.dialect.name == "postgresql" else made.head.id.hex
    async with tables.connect() as connection:
        raw = await connection.scalar(text("SELECT metadata FROM llm_chats WHERE id = :id"), {"id": key})
    assert all(str(number) in str(raw) for number in numbers)


# ── times ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B30")
async def test_times_are_utc_with_microseconds(tables: AsyncEngine) -> None:
    """A moment of any zone is kept as UTC with its microseconds, before 1970 and after 2038, and compared so."""
    zone = timezone(timedelta(hours=5, minutes=45))
    for year in (1969, 2026, 2039, 9998):
        given = datetime(year, 1, 1, 2, 30, 0, 123456, tzinfo=zone)
        row = await stored(tables, created_at=given, labels={}, other_tokens={})
        assert (row["created_at"], row["created_at"].utcoffset()) == (given, timedelta(0))
        key = row["id"] if tables.dialect.name == "postgresql" else row["id"].hex
        async with tables.connect() as connection:
            if tables.dialect.name == "postgresql":
                await connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))
            raw = await connection.scalar(text("SELECT created_at FROM llm_requests WHERE id = :id"), {"id": key})
            same = select(func.count()).where(REQUESTS.c.id == row["id"], REQUESTS.c.created_at == given)
            later = select(func.count()).where(
                REQUESTS.c.id == row["id"], REQUESTS.c.created_at > given - timedelta(microseconds=1)
            )
            assert (await connection.scalar(same), await connection.scalar(later)) == (1, 1)
        assert str(raw).startswith(given.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"))


@pytest.mark.fault("B30")
async def test_a_time_without_a_zone_is_refused(tables: AsyncEngine) -> None:
    """Nobody guesses what a naive time means."""
    with pytest.raises(StorageError, match="without a time zone"):
        await stored(tables, created_at=datetime(2026, 1, 1), labels={}, other_tokens={})  # noqa: DTZ001 — the fault


# ── JSON and SQL ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B32")
async def test_json_that_is_replayed_is_kept_byte_for_byte(sql_journal: SqlJournal) -> None:
    """Key order, repeated members, blanks and the spelling of numbers and characters come back as they came."""
    document = '{"z": 1.50, "a" : 1E2,"z":{"b":"\\u00e9","a":[ ]}, "\\u0000": -0}'
    turn = await begun(sql_journal)
    asked = replace(call(), arguments=document)
    said = answer(1, asked)
    said = replace(said, message=replace(said.message, parts=(*said.message.parts, OpaquePart(payload=document))))
    await sql_journal.record(turn.hold, (closed(turn.opened), said, opened_call(said, asked)))
    seen = (await sql_journal.load(turn.hold.chat_id, "ada")).messages[1]
    opaque = [part.payload for part in seen.parts if isinstance(part, OpaquePart)]
    (state,) = (await sql_journal.turn(turn.hold.chat_id, "ada", turn.turn_id)).calls
    assert ([*opaque, seen.tool_calls[0].arguments], state.call.arguments) == ([document] * 2, document)
    assert loads(document) is not None


@pytest.mark.fault("B35")
async def test_the_active_slot_stands_in_for_a_partial_index(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """A chat has any number of turns that ended, and one that runs: the database refuses a second, on its own."""
    made = await sql_journal.create(head())
    for _ in range(3):
        await begin(sql_journal, await sql_journal.load(made.head.id, "ada"))
        await sql_journal.cancel(made.head.id, "ada")
    await begin(sql_journal, await sql_journal.load(made.head.id, "ada"))
    turns = RECORDS.tables.turns
    row = {
        "chat_id": made.head.id,
        "id": new_id(),
        "position": 9,
        "status": "running",
        "active_slot": 1,
        "settings": "{}",
        "started_at": MOMENT,
    }
    async with tables.connect() as connection:
        with pytest.raises(IntegrityError):
            await connection.execute(insert(turns), row)
        await connection.rollback()
        await connection.execute(insert(turns), {**row, "status": "failed", "active_slot": None})
        await connection.rollback()
