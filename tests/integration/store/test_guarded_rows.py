"""The lines of defence one by one: each guard of a write holds although all the others are satisfied."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from nodellm_orm.errors import StaleChatError
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.records import RECORDS
from tests.integration.store.samples import begin, head

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.ports.ownership import Hold
    from nodellm_orm.store.journal import SqlJournal

CHATS = RECORDS.tables.chats
TURNS = RECORDS.tables.turns


async def another(engine: AsyncEngine, chat_id: UUID, **values: object) -> None:
    """Somebody else has the chat now."""
    async with engine.begin() as connection:
        await connection.execute(update(CHATS).where(CHATS.c.id == chat_id).values(**values))


@pytest.mark.parametrize("changed", ["fence", "lease_owner", "active_turn_id", "step"])
async def test_a_hold_is_good_in_every_respect_or_not_at_all(
    sql_journal: SqlJournal, tables: AsyncEngine, changed: str
) -> None:
    """A chat whose fence, worker, turn or step is another one cannot be written to, whatever else is the same."""
    snapshot = await sql_journal.create(head())
    begun = await begin(sql_journal, snapshot)
    hold: Hold = begun.hold
    values = {"fence": hold.fence + 1, "lease_owner": "another", "active_turn_id": new_id(), "step": hold.step + 1}
    await another(tables, hold.chat_id, **{changed: values[changed]})
    with pytest.raises(StaleChatError):
        await sql_journal.record(hold, ())
    async with tables.connect() as connection:
        row = (await connection.execute(select(CHATS).where(CHATS.c.id == hold.chat_id))).one()
    assert row.step == (hold.step + 1 if changed == "step" else hold.step)


async def test_a_hold_of_another_owner_is_none(sql_journal: SqlJournal) -> None:
    """The owner is part of every guarded write."""
    begun = await begin(sql_journal, await sql_journal.create(head()))
    with pytest.raises(StaleChatError):
        await sql_journal.record(replace(begun.hold, owner="eve"), ())


@pytest.mark.parametrize("same", ["active_slot", "idempotency_key"])
async def test_the_database_itself_refuses_a_second_one(
    sql_journal: SqlJournal, tables: AsyncEngine, same: str
) -> None:
    """Two active turns of a chat, or two with one idempotency key, cannot be stored, whoever tries."""
    snapshot = await sql_journal.create(head())
    row = {"chat_id": snapshot.head.id, "status": "running", "settings": "{}", "started_at": snapshot.head.created_at}
    unique = {"active_slot": 1} if same == "active_slot" else {"idempotency_key": "k"}
    async with tables.begin() as connection:
        await connection.execute(insert(TURNS).values(id=new_id(), position=0, **row, **unique))
    with pytest.raises(IntegrityError):
        async with tables.begin() as connection:
            await connection.execute(insert(TURNS).values(id=new_id(), position=1, **row, **unique))
