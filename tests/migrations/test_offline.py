"""SQL that somebody else applies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.store.schema import check, migrate, sql
from tests.integration.databases import empty_database
from tests.migrations.definitions import VIEWS, definitions

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.databases import DatabaseKind

pytestmark = pytest.mark.fault("D10")


async def applied(engine: AsyncEngine, script: str) -> None:
    """Run a script statement by statement, as a database's own shell does."""
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    statements = [statement.strip() for statement in "\n".join(lines).split(";\n")]
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in filter(None, statements):
            await connection.exec_driver_sql(statement)


async def test_the_script_makes_the_same_schema(
    engine: AsyncEngine, database: str, database_kind: DatabaseKind, tmp_path: Path
) -> None:
    """Applied by hand, the script leaves what `migrate` would have made, version included."""
    await applied(engine, sql(database))

    await check(engine)
    async with empty_database(database_kind, tmp_path) as url:
        other = create_async_engine(url)
        await migrate(other)
        expected = await definitions(other)
        await other.dispose()
    made = await definitions(engine)
    if database_kind == "mysql":
        # A view's definition names its database.
        for view in VIEWS:
            assert made.pop(view)
            del expected[view]
    assert made == expected


async def test_a_script_can_begin_in_the_middle(engine: AsyncEngine) -> None:
    """Only what is missing is written."""
    await migrate(engine, revision="0001")

    script = sql(engine.dialect.name, from_revision="0001")
    await applied(engine, script)

    assert "CREATE TABLE llm_chats" not in script
    await check(engine)


def test_prefix_and_schema_are_in_the_script() -> None:
    """Every table of the script is where it was asked for."""
    script = sql("postgresql", prefix="chat_", schema="llm")

    assert "CREATE TABLE llm.chat_messages" in script
    assert "CREATE VIEW llm.chat_usage" in script
    assert "INSERT INTO llm.chat_alembic_version" in script
    assert "llm_" not in script


@pytest.mark.parametrize("database", ["mariadb", "mariadb+aiomysql://root@localhost/x", "mysql://u@localhost/x"])
def test_mariadb_s_script_is_mysql_s(database: str) -> None:
    """Both names stand for the same tables, and for one script that both databases understand."""
    assert sql(database) == sql("mysql")


@pytest.mark.parametrize("database", ["oracle", "oracle://scott:tiger@host/x", "not a url://tiger@", ""])
def test_a_database_that_is_not_supported_is_refused(database: str) -> None:
    """The error lists what is supported, and shows no URL."""
    with pytest.raises(ConfigurationError, match="use sqlite, postgresql, mysql, mariadb") as caught:
        sql(database)

    assert "tiger" not in str(caught.value)
