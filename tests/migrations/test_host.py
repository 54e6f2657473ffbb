"""A host that has an Alembic of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from nodellm_orm.alembic import downgrade_operations, include_object, include_others, upgrade_operations
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.models import Base
from nodellm_orm.store.schema import check, current, migrate
from tests.migrations.definitions import definitions, tables_of

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.alembic import IncludeObject

pytestmark = pytest.mark.fault("D08")


def host_metadata() -> sa.MetaData:
    """The host's tables; one of them shares our prefix."""
    metadata = sa.MetaData()
    sa.Table("users", metadata, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table("llm_prompts", metadata, sa.Column("id", sa.Integer, primary_key=True))
    return metadata


def proposed(connection: Connection, metadata: sa.MetaData, include: IncludeObject | None) -> list[tuple[str, str]]:
    """What the host's autogenerate would do, as pairs of operation and table."""
    context = MigrationContext.configure(connection=connection, opts={"include_object": include})
    changes = compare_metadata(context, metadata)
    return sorted((change[0], change[1].name) for change in changes if change[0].endswith("_table"))


async def test_autogenerate_leaves_our_tables_alone(engine: AsyncEngine) -> None:
    """Our tables, indexes and version table are neither dropped nor added; the host's own are seen."""
    await migrate(engine)

    async with engine.connect() as connection:
        changes = await connection.run_sync(proposed, host_metadata(), include_object)
        without = await connection.run_sync(proposed, host_metadata(), None)

    assert changes == [("add_table", "llm_prompts"), ("add_table", "users")]
    assert ("remove_table", "llm_chats") in without


async def test_autogenerate_does_not_add_our_tables(engine: AsyncEngine) -> None:
    """A host whose metadata contains our records does not make the tables a second time."""
    async with engine.connect() as connection:
        assert await connection.run_sync(proposed, Base.metadata, include_object) == []
        assert await connection.run_sync(proposed, Base.metadata, None) != []


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_the_host_s_own_rule_still_counts(engine: AsyncEngine) -> None:
    """Two rules are combined: both have to agree."""

    def own_rule(obj: object, name: str | None, type_: str, reflected: bool, compare_to: object) -> bool:  # noqa: FBT001 — as Alembic calls it
        del obj, type_, reflected, compare_to
        return name != "users"

    await migrate(engine, prefix="chat_")
    combined = include_others(prefix="chat_", also=own_rule)

    async with engine.connect() as connection:
        assert await connection.run_sync(proposed, host_metadata(), combined) == [("add_table", "llm_prompts")]


@pytest.mark.postgresql
@pytest.mark.parametrize("database_kind", ["postgresql"])
async def test_the_same_names_in_another_schema_are_the_host_s(engine: AsyncEngine) -> None:
    """Only the schema that was named is ours."""
    metadata = sa.MetaData()
    sa.Table("llm_chats", metadata, sa.Column("id", sa.Integer, primary_key=True))

    async with engine.connect() as connection:
        include = include_others(schema="llm")
        assert await connection.run_sync(proposed, metadata, include) == [("add_table", "llm_chats")]


async def test_the_host_s_version_table_is_another_one(engine: AsyncEngine) -> None:
    """The host's ``alembic_version`` and ours do not know each other."""

    def stamp(connection: Connection) -> None:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('abc123')"))

    async with engine.begin() as connection:
        await connection.run_sync(stamp)

    await migrate(engine)

    async with engine.connect() as connection:
        assert await connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "abc123"
    await check(engine)


async def test_a_host_s_revision_can_make_our_tables(engine: AsyncEngine) -> None:
    """In two of the host's revisions our tables become what `migrate` makes, and are known to be so."""
    await migrate(engine, prefix="same_")

    def revisions(connection: Connection) -> None:
        op = Operations(MigrationContext.configure(connection=connection))
        upgrade_operations(op, to_revision="0001", prefix="host_")
        op.add_column("host_chats", sa.Column("team_id", sa.Integer()))
        upgrade_operations(op, from_revision="0001", to_revision="0002", prefix="host_")
        op.drop_column("host_chats", "team_id")

    async with engine.begin() as connection:
        await connection.run_sync(revisions)

    await check(engine, prefix="host_")
    made = await definitions(engine)
    for suffix in ("turns", "messages", "requests", "usage"):
        assert [line.replace("host_", "same_") for line in made[f"host_{suffix}"]] == made[f"same_{suffix}"]


async def test_a_host_s_revision_can_take_our_tables_back(engine: AsyncEngine) -> None:
    """Step by step, and in the end nothing is left but the empty version table."""
    await migrate(engine)

    def back(connection: Connection) -> None:
        downgrade_operations(
            Operations(MigrationContext.configure(connection=connection)), from_revision="0002", to_revision="0001"
        )

    def off(connection: Connection) -> None:
        downgrade_operations(Operations(MigrationContext.configure(connection=connection)), from_revision="0001")

    async with engine.begin() as connection:
        await connection.run_sync(back)
    assert await current(engine) == "0001"
    async with engine.begin() as connection:
        await connection.run_sync(off)

    assert await current(engine) is None
    assert await tables_of(engine) == {"llm_alembic_version"}


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_host_s_revision_names_a_revision_of_ours(engine: AsyncEngine) -> None:
    """A typing error is found before anything is changed."""

    def wrong(connection: Connection) -> None:
        upgrade_operations(Operations(MigrationContext.configure(connection=connection)), to_revision="0815")

    async with engine.begin() as connection:
        with pytest.raises(ConfigurationError, match="no revision '0815'"):
            await connection.run_sync(wrong)
    assert await tables_of(engine) == set()
