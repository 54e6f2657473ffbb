"""Reading one member of the metadata in SQL, as reports do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.labels import label
from nodellm_orm.store.records import RECORDS
from tests.integration.store.samples import begin, head

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.store.journal import SqlJournal

CHATS = RECORDS.tables.chats.c
REQUESTS = RECORDS.tables.requests.c


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("team", "blue", "blue"),
        ("team", '\u00e9\U0001f600 "q" \\ \'', '\u00e9\U0001f600 "q" \\ \''),
        pytest.param("team", "a\x00b\ud800", "a\x00b\ud800", marks=pytest.mark.fault("B18")),
        ("a.b", "dotted", "dotted"),
        ("0", "digit", "digit"),
        ("$", "dollar", "dollar"),
        ("na me", "space", "space"),
        ("\u00e9", "accent", "accent"),
        ("team", 7, "7"),
        ("team", True, "true"),
        ("team", False, "false"),
        ("team", None, None),
        ("team", "", ""),
        ("team", "null", "null"),
    ],
)
async def test_a_member_is_read_in_sql(
    sql_journal: SqlJournal, tables: AsyncEngine, name: str, value: object, expected: str | None
) -> None:
    """As text, whatever the name and the value are; null where it is null or missing."""
    made = (await sql_journal.create(head(metadata={"other": "x", name: value}))).head
    async with tables.connect() as connection:
        read = select(label(CHATS.metadata, name), label(CHATS.metadata, "missing")).where(CHATS.id == made.id)
        assert tuple((await connection.execute(read)).one()) == (expected, None)


async def test_the_ledger_is_grouped_by_a_member(sql_journal: SqlJournal, tables: AsyncEngine) -> None:
    """Rows of the ledger carry a copy of the metadata that reports group by."""
    owner = f"grouped {new_id()}"
    for team in ("blue", "red", "blue", None):
        await begin(sql_journal, await sql_journal.create(head(owner, metadata={"team": team})))
    team_of = label(REQUESTS.labels, "team").label("team")
    counted = select(team_of, func.count()).where(REQUESTS.owner == owner).group_by(team_of)
    async with tables.connect() as connection:
        rows = {tuple(row) for row in await connection.execute(counted)}
    assert rows == {("blue", 2), ("red", 1), (None, 1)}
