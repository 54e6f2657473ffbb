"""Leases and times in any year and any time zone: the database counts them in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import event, update
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm.errors import ChatBusyError
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from tests.integration.store.samples import ENDED, LEASE, begin, head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

FAR: Final = 40 * 365 * 86400.0
"""Seconds: beyond 2038, and beyond the daylight saving time of any year between."""
ZONES: Final = {"postgresql": "SET TIME ZONE 'Europe/Berlin'", "mysql": "SET time_zone = '-11:00'"}


@pytest.fixture
async def zoned(tables: AsyncEngine) -> AsyncIterator[SqlJournal]:
    """A worker whose connections live in another time zone, one with daylight saving time where that can be had."""
    engine = create_async_engine(tables.url)

    def choose(connection: Any, _: Any) -> None:
        if statement := ZONES.get(engine.dialect.name):
            cursor = connection.cursor()
            cursor.execute(statement)
            cursor.close()

    event.listen(engine.sync_engine, "connect", choose)
    yield SqlJournal(open_access(engine, RECORDS), RECORDS)
    await engine.dispose()


@pytest.mark.fault("C67")
async def test_a_lease_is_as_long_in_every_time_zone(sql_journal: SqlJournal, zoned: SqlJournal) -> None:
    """Workers in different time zones see the same leases, running and ended."""
    for one, other in ((sql_journal, zoned), (zoned, sql_journal)):
        turn = await begin(one, await one.create(head()), lease=LEASE)
        with pytest.raises(ChatBusyError):
            await begin(other, await other.load(turn.hold.chat_id, "ada"))
        assert await one.turn(turn.hold.chat_id, "ada", turn.turn_id) == await other.turn(
            turn.hold.chat_id, "ada", turn.turn_id
        )
        dead = await begin(one, await one.create(head()), lease=ENDED)
        taken = await other.take_over(dead.hold.chat_id, "ada", dead.turn_id, worker="w2", lease=LEASE)
        assert await one.renew([taken]) == frozenset()


@pytest.mark.fault("C67")
async def test_a_lease_may_end_after_2038(sql_journal: SqlJournal, zoned: SqlJournal) -> None:
    """Seconds since 1970 are not counted in 32 bits anywhere."""
    turn = await begin(sql_journal, await sql_journal.create(head()), lease=FAR)
    with pytest.raises(ChatBusyError) as caught:
        await begin(zoned, await zoned.load(turn.hold.chat_id, "ada"))
    until = caught.value.lease_until
    assert until is not None
    assert until.year > 2060
    assert await zoned.renew([turn.hold]) == frozenset()


@pytest.mark.fault("C67")
@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 3, 29, 1, 30, tzinfo=UTC),  # 02:30 in Berlin, which there was not
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),  # 02:30 in Berlin, for the first time
        datetime(2026, 10, 25, 1, 30, tzinfo=UTC),  # and for the second
        datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
        datetime(2106, 2, 7, 6, 28, 16, 123456, tzinfo=UTC),
    ],
    ids=str,
)
async def test_every_moment_is_read_back_as_it_was(
    tables: AsyncEngine, sql_journal: SqlJournal, zoned: SqlJournal, moment: datetime
) -> None:
    """Hours that do not exist, or exist twice, in a time zone are moments like all others."""
    turn = await begin(sql_journal, await sql_journal.create(head()))
    chats = RECORDS.tables.chats
    async with tables.begin() as connection:
        await connection.execute(update(chats).where(chats.c.id == turn.hold.chat_id).values(lease_until=moment))
    for journal in (sql_journal, zoned):
        assert (await journal.turn(turn.hold.chat_id, "ada", turn.turn_id)).lease_until == moment
