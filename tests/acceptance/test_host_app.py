"""The example of a host with its own base, tables and Alembic, run as its users and its operators run it."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm.testing import LoopbackServer, json_answer, openai_chat_body
from tests.acceptance.cli.shell import Shell, lines
from tests.integration.databases import empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.cli.shell import Finished
    from tests.integration.databases import DatabaseKind

HOST: Final = Path(__file__).parents[2] / "examples" / "host_app"


class Helpdesk:
    """The example, in a folder and on a database of its own.

    Args:
        url: the database.
        shell: where it is run.
    """

    def __init__(self, url: str, shell: Shell) -> None:
        """Keep both."""
        self.url = url
        self._shell = shell

    async def migrated(self, *words: str) -> None:
        """Run its Alembic, which must not fail."""
        done = await self._shell.program(sys.executable, "-m", "alembic", "-c", str(HOST / "alembic.ini"), *words)
        assert done.code == 0, done.err

    async def app(self, *words: str, server: LoopbackServer | None = None) -> Finished:
        """Run the helpdesk itself."""
        base_url = {} if server is None else {"OPENAI_COMPATIBLE_BASE_URL": server.url}
        shell = self._shell.with_environment(
            NODELLM_PROVIDER="openai_compatible", NODELLM_MODEL="gpt-5-mini", PYTHONWARNINGS="error", **base_url
        )
        return await shell.program(sys.executable, str(HOST / "app.py"), *words)

    async def rows(self, query: str) -> Sequence[tuple[object, ...]]:
        """Rows as somebody else reads them."""
        async with self._connected() as connection:
            return [tuple(row) for row in await connection.execute(text(query))]

    async def columns(self, table: str) -> set[str]:
        """The columns of a table."""
        async with self._connected() as connection:
            found = await connection.run_sync(lambda reader: inspect(reader).get_columns(table))
        return {column["name"] for column in found}

    async def delete_users(self) -> None:
        """Delete all users by hand, where foreign keys are enforced."""
        async with self._connected() as connection:
            if connection.dialect.name == "sqlite":
                await connection.execute(text("PRAGMA foreign_keys = ON"))
            await connection.execute(text("DELETE FROM users"))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        engine = create_async_engine(self.url)
        try:
            async with engine.connect() as connection:
                yield connection
        finally:
            await engine.dispose()


@pytest.fixture
async def helpdesk(database_kind: DatabaseKind, tmp_path: Path) -> AsyncIterator[Helpdesk]:
    """The example on an empty database."""
    async with empty_database(database_kind, tmp_path) as url:
        yield Helpdesk(url, Shell.at(tmp_path, HOST_DATABASE_URL=url))


def said(answer: str) -> Answer:
    """An answer in words."""
    return json_answer(openai_chat_body(answer, model="gpt-5-mini", usage=(1000, 100)))


def messages_in(request: ReceivedRequest) -> int:
    """How many messages the model was sent."""
    body: Any = request.json()
    return len(body["messages"])


async def test_the_helpdesk_is_used_from_an_empty_database_to_the_last_user(helpdesk: Helpdesk) -> None:
    """Its own Alembic makes everything; no user with chats is deleted by hand, and who leaves is erased."""
    await helpdesk.migrated("upgrade", "head")
    await helpdesk.migrated("check")

    async with LoopbackServer([said("On its way."), said("Tomorrow."), said("Hello.")]) as server:
        asked = [
            await helpdesk.app("ask", "ada", "Where is my order?", server=server),
            await helpdesk.app("ask", "ada", "When?", server=server),
            await helpdesk.app("ask", "bob", "Hello?", server=server),
        ]
    assert [(done.code, done.out, done.err) for done in asked] == [
        (0, "On its way.\n", ""),
        (0, "Tomorrow.\n", ""),
        (0, "Hello.\n", ""),
    ]
    assert messages_in(server.requests[1]) == 3

    report = await helpdesk.app("report")
    assert report.err == ""
    assert [line.rpartition(", ")[0] for line in lines(report.out)[:2]] == [
        "ada: 1 chats, 2 requests",
        "bob: 1 chats, 1 requests",
    ]
    everybody = lines(report.out)[2]
    assert everybody.startswith("everybody, ever: 3 requests")

    with pytest.raises(IntegrityError):
        await helpdesk.delete_users()
    left = await helpdesk.app("leave", "ada")
    assert (left.code, left.err) == (0, "")
    assert "ada has left, and 4 messages with him" in left.out
    after = lines((await helpdesk.app("report")).out)
    assert [line.partition(":")[0] for line in after] == ["bob", "everybody, ever"]
    assert after[-1] == everybody
    assert await helpdesk.rows("SELECT COUNT(*) FROM assistant_chats") == [(1,)]
    assert await helpdesk.rows("SELECT COUNT(*) FROM assistant_requests WHERE owner IS NULL") == [(2,)]


@pytest.mark.fault("D01")
@pytest.mark.fault("D02")
@pytest.mark.fault("D08")
async def test_an_upgrade_of_the_library_is_a_revision_of_the_helpdesk(helpdesk: Helpdesk) -> None:
    """With chats in them its tables go back to the library's earlier revision and forth again, and nothing is lost."""
    await helpdesk.migrated("upgrade", "head")
    async with LoopbackServer([said("On its way."), said("Tomorrow."), said("Hello again.")]) as server:
        await helpdesk.app("ask", "ada", "Where is my order?", server=server)

        await helpdesk.migrated("downgrade", "002")
        assert await helpdesk.rows("SELECT version_num FROM assistant_alembic_version") == [("0002",)]
        assert "approved_sha256" not in await helpdesk.columns("assistant_tool_calls")

        await helpdesk.migrated("upgrade", "head")
        await helpdesk.migrated("check")
        assert await helpdesk.rows("SELECT version_num FROM assistant_alembic_version") == [("0005",)]
        assert (await helpdesk.app("ask", "ada", "When?", server=server)).out == "Tomorrow.\n"
        assert messages_in(server.requests[1]) == 3

        await helpdesk.migrated("downgrade", "001")
        assert await helpdesk.rows("SELECT name FROM users") == [("ada",)]
        await helpdesk.migrated("upgrade", "head")
        await helpdesk.migrated("check")
        assert (await helpdesk.app("ask", "ada", "Hello?", server=server)).out == "Hello again.\n"
        assert messages_in(server.requests[2]) == 1


async def test_a_word_the_helpdesk_does_not_know(tmp_path: Path) -> None:
    """Whoever mistypes a command is told which there are."""
    helpdesk = Helpdesk("", replace(Shell.at(tmp_path), anew=True))
    done = await helpdesk.app("nonsense")
    assert (done.code, done.err) == (1, "usage: app.py ask NAME QUESTION | report | leave NAME\n")
