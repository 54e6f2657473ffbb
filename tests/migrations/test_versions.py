"""Whether the tables fit this release."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from nodellm_orm.errors import SchemaVersionError, StorageError
from nodellm_orm.store import revisions
from nodellm_orm.store.engine import make_engine
from nodellm_orm.store.schema import check, current, downgrade, migrate
from tests.migrations.definitions import definitions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

NEWEST = revisions.known()[-1]


@pytest.fixture
async def newer(engine: AsyncEngine) -> AsyncEngine:
    """A database that a later release has upgraded."""
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE llm_alembic_version SET version_num = '9999'"))
    return engine


async def test_missing_tables_name_the_remedy(engine: AsyncEngine) -> None:
    """On an empty database the error says how to make the tables."""
    with pytest.raises(SchemaVersionError, match=r"missing.*nodellm-orm db upgrade.*await migrate\(engine\)"):
        await check(engine)


@pytest.mark.fault("D07")
async def test_older_tables_name_the_remedy(engine: AsyncEngine) -> None:
    """New code on an old schema says so before it fails somewhere else."""
    await migrate(engine, revision="0001")

    with pytest.raises(SchemaVersionError, match=rf"at revision 0001, older than this package's {NEWEST}.*db upgrade"):
        await check(engine)


@pytest.mark.fault("D12")
async def test_newer_tables_are_refused(newer: AsyncEngine) -> None:
    """A revision this package does not know stops it, with what to install."""
    with pytest.raises(SchemaVersionError, match=r"9999, which is newer than this package .*install the release"):
        await check(newer)


@pytest.mark.fault("D12")
async def test_newer_tables_are_not_touched(newer: AsyncEngine) -> None:
    """An old release neither upgrades nor takes back what it does not know."""
    before = await definitions(newer)

    with pytest.raises(SchemaVersionError, match="newer than this package"):
        await migrate(newer)
    with pytest.raises(SchemaVersionError, match="newer than this package"):
        await downgrade(newer, revision="base")

    assert await definitions(newer) == before
    assert await current(newer) == "9999"


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_version_table_with_two_rows_is_refused(engine: AsyncEngine) -> None:
    """No release writes two rows: somebody has to look."""
    await migrate(engine)
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO llm_alembic_version (version_num) VALUES ('0001')"))

    with pytest.raises(SchemaVersionError, match=rf"several revisions \(0001, {NEWEST}\)"):
        await check(engine)


async def test_a_database_that_cannot_be_reached_is_our_error() -> None:
    """Drivers' own errors do not reach the caller, and no password is shown."""
    engine = make_engine("postgresql://user:geheim@127.0.0.1:1/none")

    with pytest.raises(StorageError) as caught:
        await check(engine)

    await engine.dispose()
    assert "geheim" not in str(caught.value)
    assert not isinstance(caught.value, SchemaVersionError)
