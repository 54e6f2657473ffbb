"""A server that has no connection left for us: it is asked again, and when it never has one, that is told."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from nodellm_orm.errors import StorageError
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from tests.integration.store.blocking import Refusals
from tests.integration.store.samples import completed, head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.databases import DatabaseKind

PASSWORD: Final = "of-a-test"
SETUP: Final = {
    "postgresql": (
        f"CREATE ROLE {{user}} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 1",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}",
    ),
    "mysql": (
        f"CREATE USER {{user}}@'%' IDENTIFIED BY '{PASSWORD}' WITH MAX_USER_CONNECTIONS 1",
        f"CREATE USER {{user}}@localhost IDENTIFIED BY '{PASSWORD}' WITH MAX_USER_CONNECTIONS 1",
        "GRANT ALL ON {database}.* TO {user}@'%'",
        "GRANT ALL ON {database}.* TO {user}@localhost",
    ),
}
CLEANUP: Final = {
    "postgresql": ("DROP OWNED BY {user}", "DROP ROLE {user}"),
    "mysql": ("DROP USER {user}@'%'", "DROP USER {user}@localhost"),
}
NETWORKED: Final = [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in ("postgresql", "mysql")]


@pytest.fixture(scope="module", params=NETWORKED)
def sql_kind(request: pytest.FixtureRequest) -> DatabaseKind:
    """The databases that count connections."""
    kind: DatabaseKind = request.param
    return kind


@pytest.fixture
async def limited(tables: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine of a user who may have one connection."""
    names = {"user": f"u{secrets.token_hex(6)}", "database": str(tables.url.database)}

    async def run(statements: tuple[str, ...]) -> None:
        async with tables.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement.format(**names)))

    await run(SETUP[tables.dialect.name])
    engine = create_async_engine(tables.url.set(username=names["user"], password=PASSWORD), poolclass=NullPool)
    yield engine
    await engine.dispose()
    await run(CLEANUP[tables.dialect.name])


@pytest.mark.fault("B14")
async def test_a_connection_that_others_have_is_waited_for(limited: AsyncEngine, sql_journal: SqlJournal) -> None:
    """Refused for too many connections, a point is tried again until there is one, and done once."""
    journal = SqlJournal(open_access(limited, RECORDS), RECORDS)
    snapshot = await sql_journal.create(head())
    refusals = Refusals(limited)
    async with limited.connect() as taken:
        await taken.execute(text("SELECT 1"))
        turn = asyncio.create_task(completed(journal, snapshot))
        await refusals.first.wait()
    assert (await turn).next_position == 2
    assert set(refusals.codes) == {{"postgresql": "53300", "mysql": 1226}[limited.dialect.name]}


@pytest.mark.fault("B14")
async def test_a_connection_that_never_comes_is_told(limited: AsyncEngine, sql_journal: SqlJournal) -> None:
    """When the others keep them, it is a storage error within the deadline, and nothing is written."""
    journal = SqlJournal(open_access(limited, RECORDS, deadline=0.3), RECORDS)
    snapshot = await sql_journal.create(head())
    async with limited.connect() as taken:
        await taken.execute(text("SELECT 1"))
        with pytest.raises(StorageError, match=r"within 0\.3 seconds"):
            await completed(journal, snapshot)
    assert await sql_journal.load(snapshot.head.id, "ada") == snapshot


DEMOTED: Final = {
    "postgresql": "SET default_transaction_read_only = on",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
}


@pytest.mark.fault("B05")
async def test_a_connection_to_a_server_that_was_demoted_is_given_up(
    tables: AsyncEngine, sql_kind: DatabaseKind
) -> None:
    """Behind a failover the pool still leads to the old primary: each connection is met once, and made anew."""
    engine = create_async_engine(tables.url, pool_size=1, max_overflow=0)
    journal = SqlJournal(open_access(engine, RECORDS), RECORDS)
    async with engine.connect() as connection:
        await connection.execute(text(DEMOTED[sql_kind]))
        await connection.commit()
    with pytest.raises(StorageError, match="read-only; connect to the primary"):
        await journal.create(head())
    snapshot = await journal.create(head())
    assert (await journal.load(snapshot.head.id, snapshot.head.owner)).head == snapshot.head
    await engine.dispose()
