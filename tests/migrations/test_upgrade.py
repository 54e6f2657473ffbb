"""Tables are made, upgraded and taken back on every database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Integer, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.util import await_only

from nodellm_orm.errors import ConfigurationError, SchemaVersionError, StorageError
from nodellm_orm.models import Base, ChatRecord, define_records
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.store import revisions
from nodellm_orm.store.naming import Naming
from nodellm_orm.store.schema import check, current, downgrade, migrate
from nodellm_orm.store.schema_lock import exclusive
from tests.migrations.definitions import VIEWS, definitions, tables_of

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

OURS = {table.name for table in Base.metadata.sorted_tables} | {"llm_alembic_version"} | VIEWS


class TeamColumns:
    """A host's own column."""

    team_id: Mapped[int | None] = mapped_column(Integer)


def chat() -> ChatRecord:
    """A chat with the columns that have no default."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    return ChatRecord(id=new_id(), title="Grüße 🌍", created_at=moment, updated_at=moment)


async def test_an_empty_database_gets_all_tables_and_the_view(engine: AsyncEngine) -> None:
    """One call at start-up is enough."""
    await migrate(engine)

    assert await tables_of(engine) == OURS
    assert await current(engine) == revisions.known()[-1]


async def test_a_second_call_changes_nothing(engine: AsyncEngine) -> None:
    """Every process may call it at every start."""
    await migrate(engine)
    before = await definitions(engine)

    await migrate(engine)

    assert await definitions(engine) == before


async def test_the_tables_take_a_row(engine: AsyncEngine) -> None:
    """What was made is what the records write to."""
    await migrate(engine)
    async with AsyncSession(engine) as session, session.begin():
        session.add(chat())

    async with AsyncSession(engine) as session:
        row = (await session.scalars(select(ChatRecord))).one()

    assert (row.title, row.fence, row.created_at.microsecond) == ("Grüße 🌍", 0, 678901)


@pytest.mark.fault("D01")
@pytest.mark.parametrize("start", revisions.known()[:-1])
async def test_data_of_every_earlier_revision_survives_the_upgrade(engine: AsyncEngine, start: str) -> None:
    """Rows that were written at an earlier revision are there afterwards, unchanged."""
    await migrate(engine, revision=start)
    async with AsyncSession(engine) as session, session.begin():
        session.add(chat())

    await migrate(engine)

    async with AsyncSession(engine) as session:
        assert (await session.scalars(select(ChatRecord.title))).all() == ["Grüße 🌍"]
    await check(engine)


@pytest.mark.fault("D02")
async def test_each_revision_can_be_taken_back_and_made_again(engine: AsyncEngine) -> None:
    """One step down and up again gives the same schema, without loss of what the lower one has a place for."""
    await migrate(engine)
    before = await definitions(engine)
    async with AsyncSession(engine) as session, session.begin():
        session.add(chat())

    await downgrade(engine, revision=revisions.known()[-2])
    assert await current(engine) == revisions.known()[-2]
    await migrate(engine)

    assert await definitions(engine) == before
    async with AsyncSession(engine) as session:
        assert await session.scalar(select(func.count()).select_from(ChatRecord)) == 1


async def test_the_base_has_no_tables_of_ours(engine: AsyncEngine) -> None:
    """Down to the base and up again: only the empty version table stays in between."""
    await migrate(engine)
    before = await definitions(engine)

    await downgrade(engine, revision="base")
    assert await tables_of(engine) == {"llm_alembic_version"}
    assert await current(engine) is None
    await migrate(engine)

    assert await definitions(engine) == before


async def test_an_upgrade_never_goes_back(engine: AsyncEngine) -> None:
    """A process that asks for an older revision leaves newer tables alone."""
    await migrate(engine)

    await migrate(engine, revision="0001")

    assert await current(engine) == revisions.known()[-1]


async def test_tables_made_by_create_all_are_taken_over(engine: AsyncEngine) -> None:
    """A program that began with ``create_all`` can begin to migrate, and keeps its rows."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session, session.begin():
        session.add(chat())

    await migrate(engine)

    await check(engine)
    async with AsyncSession(engine) as session:
        assert await session.scalar(select(func.count()).select_from(ChatRecord)) == 1


async def test_a_foreign_table_under_our_name_is_not_touched(engine: AsyncEngine) -> None:
    """A table that only shares the name is refused, with what it lacks and what to do."""
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE llm_turns (id INTEGER)"))

    with pytest.raises(SchemaVersionError, match=r"llm_turns .*active_slot.*choose another prefix"):
        await migrate(engine)

    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT * FROM llm_turns"))).keys() == ["id"]


@pytest.mark.fault("D08")
async def test_another_prefix_has_tables_and_a_version_of_its_own(engine: AsyncEngine) -> None:
    """Two sets of tables in one database go their own ways."""
    await migrate(engine)
    records = define_records(prefix="Assistant_")

    await migrate(engine, records=records, revision="0001")

    assert await current(engine, prefix="Assistant_") == "0001"
    assert await current(engine) == revisions.known()[-1]
    made = {name for name in await tables_of(engine) if name.startswith("Assistant_")}
    first = {table.name for table in records.tables if "_usage" not in table.name}
    assert made == first | {"Assistant_alembic_version"}


@pytest.mark.postgresql
@pytest.mark.fault("D08")
@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_schema_is_made_and_used(engine: AsyncEngine) -> None:
    """Tables, indexes, view and version can live in a schema of their own, whose name needs quotes."""
    await migrate(engine, schema="Chat Store")

    assert await tables_of(engine, schema="Chat Store") == OURS
    assert await tables_of(engine) == set()
    await check(engine, schema="Chat Store")


async def test_a_session_and_a_session_factory_name_their_database(engine: AsyncEngine) -> None:
    """What a framework injects is good enough; the session itself is left alone."""
    factory = async_sessionmaker(engine)
    await migrate(factory)
    async with factory() as session:
        await check(session)
        assert not session.in_transaction()


async def test_a_connection_outside_a_transaction_is_committed(engine: AsyncEngine) -> None:
    """What was made on a bare connection is there for others."""
    async with engine.connect() as connection:
        await migrate(connection)
        assert not connection.in_transaction()

    await check(engine)


@pytest.mark.parametrize("database_kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def test_a_connection_in_a_transaction_decides_itself(engine: AsyncEngine) -> None:
    """In a transaction of the caller's nothing is committed, where the database can do that."""
    async with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # The driver begins a transaction before changes of rows only, not before changes of tables.
            await connection.exec_driver_sql("BEGIN")
        else:
            await connection.begin()
        await migrate(connection)
        await connection.rollback()

    assert await current(engine) is None
    assert await tables_of(engine) == set()


@pytest.mark.fault("D09")
async def test_settings_of_a_pooled_connection_are_as_before(engine: AsyncEngine) -> None:
    """The host's engine is not changed by what a migration needs for a while."""
    settings = {
        "sqlite": ("PRAGMA foreign_keys", "PRAGMA busy_timeout"),
        "postgresql": ("SHOW lock_timeout", "SHOW transaction_isolation"),
        "mysql": ("SHOW VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation', 'autocommit')",),
    }[engine.dialect.name]

    async def read() -> list[object]:
        async with engine.connect() as connection:
            return [(await connection.exec_driver_sql(setting)).all() for setting in settings]

    before = await read()

    await migrate(engine)

    assert await read() == before


async def test_records_with_further_columns_belong_to_the_host_s_alembic(engine: AsyncEngine) -> None:
    """Tables without the host's columns would fail later: the call says at once who makes them."""
    records = define_records(prefix="team_", chat=TeamColumns)

    with pytest.raises(ConfigurationError, match=r"team_id.*upgrade_operations"):
        await migrate(engine, records=records)

    assert await tables_of(engine) == set()


async def test_records_and_a_prefix_contradict_each_other(engine: AsyncEngine) -> None:
    """Of two answers to one question neither is taken."""
    with pytest.raises(ConfigurationError, match="leave prefix= and schema= out"):
        await migrate(engine, records=define_records(), prefix="other_")


async def test_something_without_a_database_is_refused() -> None:
    """A session that is bound to nothing cannot be migrated."""
    with pytest.raises(ConfigurationError, match="AsyncSession names no database"):
        await migrate(AsyncSession())


@pytest.mark.postgresql
@pytest.mark.fault("D10")
@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_a_missing_privilege_names_the_way_around_it(engine: AsyncEngine) -> None:
    """A user who may not create tables is told how somebody else can."""
    async with engine.connect() as connection:
        await connection.execute(text("CREATE ROLE nodellm_reader"))
        try:
            await connection.execute(text("SET LOCAL ROLE nodellm_reader"))
            with pytest.raises(StorageError, match="db upgrade --sql"):
                await migrate(connection)
        finally:
            await connection.rollback()


async def test_a_lock_that_is_held_is_waited_for_only_so_long(engine: AsyncEngine) -> None:
    """Another process that hangs in a migration is an error here, not a hang; when it is gone, all is well."""
    held, release = asyncio.Event(), asyncio.Event()

    def hold(connection: Connection) -> None:
        with exclusive(connection, Naming(), wait=10):
            held.set()
            await_only(release.wait())

    async with engine.connect() as other, asyncio.TaskGroup() as group:
        group.create_task(other.run_sync(hold))
        await held.wait()
        with pytest.raises(StorageError, match="another process is changing the schema"):
            await migrate(engine, wait=0.05)
        release.set()

    await migrate(engine)
