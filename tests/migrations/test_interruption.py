"""Migrations that meet each other, or are broken off."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm.errors import SchemaVersionError
from nodellm_orm.store import revisions
from nodellm_orm.store.schema import check, current, migrate
from tests.acceptance.forks import piped
from tests.integration.databases import empty_database
from tests.migrations.definitions import VIEWS, definitions, tables_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.acceptance.forks import Forked
    from tests.integration.databases import DatabaseKind

PROGRAM = Path(__file__).parent / "migrating.py"


@asynccontextmanager
async def migrating(database: str, *, statements: int = -1) -> AsyncIterator[Forked]:
    """A process of its own that is ready to migrate when it is told to.

    Args:
        database: the URL.
        statements: after so many changes of the schema it kills itself.
    """
    command = (sys.executable, str(PROGRAM), database, str(statements))
    process = await piped(command, PROGRAM.parent, os.environ)
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def tell(process: Forked) -> None:
    """Let it begin."""
    assert process.stdin is not None
    process.stdin.write(b"go\n")


async def expected(kind: DatabaseKind, folder: Path) -> dict[str, list[str]]:
    """The definitions of a database that was migrated in peace."""
    async with empty_database(kind, folder) as url:
        other = create_async_engine(url)
        await migrate(other)
        found = await definitions(other)
        await other.dispose()
    return {name: lines for name, lines in found.items() if name not in VIEWS}


async def own(engine: AsyncEngine) -> dict[str, list[str]]:
    """The definitions without the views, whose text names their database on MySQL."""
    return {name: lines for name, lines in (await definitions(engine)).items() if name not in VIEWS}


@pytest.mark.fault("D04")
async def test_processes_that_start_at_once_all_find_the_tables(
    engine: AsyncEngine, database: str, database_kind: DatabaseKind, tmp_path: Path
) -> None:
    """Of several processes one works; none fails, and the schema is as if there had been only one."""
    async with migrating(database) as first, migrating(database) as second, migrating(database) as third:
        processes = [first, second, third]
        for process in processes:
            tell(process)
        assert [await process.wait() for process in processes] == [0, 0, 0]

    await check(engine)
    assert await own(engine) == await expected(database_kind, tmp_path)


@pytest.mark.fault("D05")
@pytest.mark.parametrize("statements", [2, 20])
async def test_a_process_that_is_killed_can_be_replaced(
    engine: AsyncEngine, database: str, database_kind: DatabaseKind, tmp_path: Path, statements: int
) -> None:
    """SIGKILL between two statements leaves no lock behind, and the next process carries on."""
    async with migrating(database, statements=statements) as process:
        tell(process)
        assert await process.wait() == -signal.SIGKILL
    assert await current(engine) is None
    with pytest.raises(SchemaVersionError, match="missing, or only partly made"):
        await check(engine)

    await migrate(engine)

    await check(engine)
    assert await own(engine) == await expected(database_kind, tmp_path)


class BrokenOffError(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.fault("D05")
@pytest.mark.parametrize("database_kind", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
async def test_every_point_can_be_carried_on_from(
    engine: AsyncEngine, database_kind: DatabaseKind, tmp_path: Path
) -> None:
    """Broken off after each statement in turn, the schema becomes whole all the same.

    Where a statement that was done stays (MySQL), the next attempt is broken off one statement later; where all is
    rolled back, each attempt is let go one statement further.
    """
    left = 0

    @event.listens_for(engine.sync_engine, "before_cursor_execute")
    def break_off(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        nonlocal left
        if statement.lstrip().startswith(("CREATE", "ALTER", "DROP", "INSERT", "UPDATE")):
            if left == 0:
                raise BrokenOffError
            left -= 1

    attempts, further, there = 0, 1, await own(engine)
    while await current(engine) != revisions.known()[-1]:
        attempts, left = attempts + 1, further
        with suppress(BrokenOffError):
            await migrate(engine)
        before, there = there, await own(engine)
        further = 1 if there != before else further + 1

    assert attempts > 20
    await check(engine)
    assert there == await expected(database_kind, tmp_path)


async def test_a_cancelled_migration_leaves_nothing_locked(engine: AsyncEngine) -> None:
    """A start that is called off in the middle does not stop the next one."""
    begun = asyncio.Event()

    @event.listens_for(engine.sync_engine, "after_cursor_execute")
    def notice(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if "CREATE TABLE llm_messages" in statement:
            begun.set()

    task = asyncio.create_task(migrate(engine))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await migrate(engine, wait=5)

    await check(engine)
    async with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            assert await connection.scalar(text("PRAGMA busy_timeout")) == 5000


async def test_two_databases_can_be_migrated_by_one_process_at_once(
    engine: AsyncEngine, database_kind: DatabaseKind, tmp_path: Path
) -> None:
    """Nothing global is shared: two tasks migrate two databases side by side."""
    async with empty_database(database_kind, tmp_path) as url:
        other = create_async_engine(url)
        await asyncio.gather(migrate(engine), migrate(other, prefix="other_"))

        await check(engine)
        await check(other, prefix="other_")
        assert {name.partition("_")[0] for name in await tables_of(other)} == {"other"}
        await other.dispose()


@pytest.mark.fault("D09")
@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_revision_that_would_break_references_is_rolled_back(engine: AsyncEngine) -> None:
    """SQLite's foreign keys are off while a revision runs, so what they would have refused is looked for after it."""
    await migrate(engine, revision="0001")

    @event.listens_for(engine.sync_engine, "after_cursor_execute")
    def orphan(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("CREATE VIEW llm_usage AS"):
            connection.exec_driver_sql(
                "INSERT INTO llm_thinking (chat_id, id, message_id, position, text, redacted) "
                "VALUES ('none', '1', '1', 0, '', 0)"
            )

    with pytest.raises(Exception, match="llm_thinking without what they refer to; nothing was changed"):
        await migrate(engine)

    assert await current(engine) == "0001"
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT COUNT(*) FROM llm_thinking")) == 0
