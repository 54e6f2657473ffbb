"""Journals to test: one in memory, and one on each database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm.runtime.clock import SystemClock
from nodellm_orm.runtime.memory.journal import MemoryJournal
from nodellm_orm.store.access import open_access
from nodellm_orm.store.encryption import Encryption
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from tests.integration.databases import KINDS, empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.ports.journal import Journal
    from tests.integration.databases import DatabaseKind


ENCRYPTION: Final = Encryption(keys={"2026-11": bytes(range(32))}, allow_plaintext=False)
"""What is read with it must have been written with it."""


@pytest.fixture(scope="module", params=KINDS)
def sql_kind(request: pytest.FixtureRequest) -> DatabaseKind:
    """Each database in turn; one for all tests of a module."""
    kind: DatabaseKind = request.param
    return kind


@pytest.fixture(scope="module")
async def tables(sql_kind: DatabaseKind, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AsyncEngine]:
    """An ordinary engine on a database that has the tables as the records say, shared by the tests of a module."""
    async with empty_database(sql_kind, tmp_path_factory.mktemp("database")) as url:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(RECORDS.metadata.create_all)
        yield engine
        await engine.dispose()


@pytest.fixture
def sql_journal(tables: AsyncEngine) -> SqlJournal:
    """A journal on each database in turn."""
    return SqlJournal(open_access(tables, RECORDS), RECORDS)


@pytest.fixture(scope="module", params=("memory", *KINDS, "encrypted"))
async def any_engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[AsyncEngine | None]:
    """An engine on each database in turn, and none; once more on one whose content is encrypted."""
    if request.param == "memory":
        yield None
        return
    encrypted = request.param == "encrypted"
    kind: DatabaseKind = "sqlite" if encrypted else request.param
    async with empty_database(kind, tmp_path_factory.mktemp("database")) as url:
        engine = create_async_engine(url, execution_options={"encrypted": encrypted})
        async with engine.begin() as connection:
            await connection.run_sync(RECORDS.metadata.create_all)
        yield engine
        await engine.dispose()


@pytest.fixture
def journal(any_engine: AsyncEngine | None) -> Journal:
    """The journal in memory, one on each database in turn, and one that encrypts."""
    if any_engine is None:
        return MemoryJournal(SystemClock())
    encrypted = any_engine.get_execution_options()["encrypted"]
    records = RECORDS.encrypted(ENCRYPTION) if encrypted else RECORDS
    return SqlJournal(open_access(any_engine, records), records)
