"""The commands `db …`: the tables are made, upgraded and checked from a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.acceptance.cli.shell import lines
from tests.integration.databases import empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.acceptance.cli.shell import Shell
    from tests.integration.databases import DatabaseKind


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """URL of an empty database, on a file and on a server."""
    kind: DatabaseKind = request.param
    async with empty_database(kind, tmp_path) as url:
        yield url


async def test_the_tables_are_made_once_and_then_fit(shell: Shell, empty: str) -> None:
    """Upgrade makes the tables, does nothing the second time, and check and current agree with it."""
    user = shell.with_environment(NODELLM_DATABASE_URL=empty)
    made, again = await user.run("db", "upgrade"), await user.run("db", "upgrade")
    assert (made.code, again.code, made.err, again.err) == (0, 0, "", "")
    assert "tables made" in made.out
    assert "was there already" in again.out
    revision = (await user.run("db", "current")).out.strip()
    assert revision in made.out
    checked = await user.run("db", "check")
    assert (checked.code, checked.err) == (0, "")
    assert f"fits: revision {revision}" in checked.out


async def test_missing_tables_fail_the_check_with_the_remedy(shell: Shell) -> None:
    """Without tables, check exits with 1 and one line that names the command; current says that there are none."""
    (shell.folder / "chats.db").touch()
    checked = await shell.run("db", "check")
    assert (checked.code, checked.out) == (1, "")
    (told,) = lines(checked.err)
    assert told.startswith("error: ")
    assert "nodellm-orm db upgrade" in told
    current = await shell.run("db", "current")
    assert (current.code, current.out) == (0, "none\n")


@pytest.mark.fault("E25")
async def test_upgrade_can_write_the_sql_instead(shell: Shell) -> None:
    """With --sql the statements go to stdout, for the database that is named, without a connection to it."""
    done = await shell.run("db", "upgrade", "--sql", "-d", "postgresql://app:secret@127.0.0.1:1/app")
    assert (done.code, done.err) == (0, "")
    assert "CREATE TABLE llm_chats" in done.out
    assert "secret" not in done.out
    refused = await shell.run("db", "upgrade", "--from", "0001")
    assert refused.code == 1
    assert "--sql" in refused.err


@pytest.mark.fault("E25")
@pytest.mark.parametrize("command", [("db", "upgrade"), ("chats",)])
async def test_a_password_is_never_printed(shell: Shell, command: tuple[str, ...]) -> None:
    """A server that cannot be reached is told in one line, in which there is no password."""
    url = "postgresql://app:secret-word@127.0.0.1:1/app?password=other-word"
    done = await shell.run(*command, "-d", url)
    assert done.code == 1
    assert len(lines(done.err)) == 1
    assert "secret-word" not in done.out + done.err
    assert "other-word" not in done.out + done.err
