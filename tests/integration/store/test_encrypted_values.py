"""With encryption, whatever is in them, values are read back equal from every database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from nodellm_orm.domain.messages import user
from nodellm_orm.errors import StorageError
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from tests.integration.store.conftest import ENCRYPTION
from tests.integration.store.samples import head
from tests.integration.store.test_values import (
    test_a_megabyte_is_read_back_equal,
    test_hostile_text_is_read_back_equal,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["test_a_megabyte_is_read_back_equal", "test_hostile_text_is_read_back_equal"]


@pytest.fixture
def sql_journal(tables: AsyncEngine) -> SqlJournal:
    """A journal on each database in turn that encrypts, and refuses what is not encrypted."""
    records = RECORDS.encrypted(ENCRYPTION)
    return SqlJournal(open_access(tables, records), records)


async def test_the_packet_limit_is_compared_with_what_is_sent(tables: AsyncEngine, sql_journal: SqlJournal) -> None:
    """A message that fits in plain, and is too long for MySQL when it is encrypted, is refused before it is sent."""
    if tables.dialect.name != "mysql":
        pytest.skip("only MySQL has such a limit")
    async with tables.connect() as connection:
        limit = int((await connection.execute(text("SELECT @@max_allowed_packet"))).scalar_one())
    words = "x" * int(limit * 0.45)  # in content and in parts
    plain = SqlJournal(open_access(tables, RECORDS), RECORDS)
    assert len((await plain.create(head(), [(new_id(), user(words))])).messages) == 1
    with pytest.raises(StorageError, match="max_allowed_packet"):
        await sql_journal.create(head(), [(new_id(), user(words))])
