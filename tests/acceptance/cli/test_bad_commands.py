"""Commands that cannot be meant: one line that says what to do, an exit code, no traceback, no password, no row."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Final

import pytest

from nodellm_orm import ANY_OWNER, Encryption, NodeLLMError, create_chat, list_chats, make_engine
from nodellm_orm.store.schema import downgrade
from nodellm_orm.testing import LoopbackServer
from tests.acceptance.cli.shell import lines
from tests.acceptance.refusing import LONG, SECRET, faults_of, rows
from tests.acceptance.speakers import Says, Speaker
from tests.integration.databases import migrated_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.cli.shell import Finished, Shell

SPEAKER: Final = Speaker("openai_chat")
MISSING: Final = "01890000-0000-7000-8000-000000000000"
KEY: Final = Encryption.generate_key()
BARE: Final = base64.urlsafe_b64encode(SECRET.encode().ljust(32, b"x")).decode().rstrip("=")
ERROR, USAGE = 1, 2

MEANT_OTHERWISE: list[tuple[Sequence[str], int, str]] = [
    (["verify", "nope"], USAGE, "UUID"),
    (["verify", MISSING], ERROR, "there is no chat .*; check the id"),
    (["verify", "--limit", "0"], USAGE, "greater than or equal to 1"),
    (["verify", "--owner", LONG], ERROR, "use at most 255"),
    (["verify", MISSING, MISSING], USAGE, "unexpected extra argument"),
    (["delete"], USAGE, "Missing argument"),
    (["delete", "", "--yes"], USAGE, "UUID"),
    (["delete", MISSING, "--yes"], ERROR, "there is no chat .*; check the id"),
    (["delete", MISSING, "--owner", LONG, "--yes"], ERROR, "use at most 255"),
    (["purge"], ERROR, "say what is to go"),
    (["purge", "--yes", "--limit", "5"], ERROR, "say what is to go"),
    (["purge", "--older-than"], USAGE, "requires an argument"),
    (["purge", "--older-than", "90", "--yes"], ERROR, "write a number and its unit"),
    (["purge", "--older-than", "-1d", "--yes"], ERROR, "write a number and its unit"),
    (["purge", "--older-than", "", "--yes"], ERROR, "write a number and its unit"),
    (["purge", "--older-than", LONG, "--yes"], ERROR, "write a number and its unit"),
    (["purge", "--owner", LONG, "--yes"], ERROR, "use at most 255"),
    (["purge", "--owner", "ann", "--limit", "0"], USAGE, "greater than or equal to 1"),
    (["purge", "--owner", "ann"], ERROR, "add --yes"),
    (["rotate-keys"], ERROR, "NODELLM_ENCRYPTION_KEYS is not set; put"),
    (["rotate-keys", "--batch", "0"], USAGE, "greater than or equal to 1"),
    (["doctor", "--concurrency", "0"], USAGE, "greater than or equal"),
    (["doctor", "extra"], USAGE, "unexpected extra argument"),
]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A SQLite file with a chat in it."""

    async def answer(_: ReceivedRequest) -> Answer:
        return SPEAKER.answer(Says(text="Hello"), stream=False)

    await migrated_file(tmp_path / "chats.db")
    engine = make_engine(f"sqlite:///{tmp_path / 'chats.db'}")
    async with LoopbackServer(answer) as server, SPEAKER.llm(server) as llm:
        await (await create_chat(engine, llm, owner="ann")).ask("go")
    yield engine
    await engine.dispose()


async def run(shell: Shell, commands: Sequence[Sequence[str]]) -> list[Finished]:
    """Run commands, two at a time."""
    turnstile = asyncio.Semaphore(2)

    async def one(arguments: Sequence[str]) -> Finished:
        async with turnstile:
            return await shell.run(*arguments)

    return list(await asyncio.gather(*map(one, commands)))


def check_complaint(done: Finished, code: int, says: str) -> None:
    """An error as a shell should show it."""
    assert (done.code, done.out) == (code, "")
    assert "Traceback" not in done.err
    assert SECRET not in done.err
    if code == ERROR:
        (line,) = lines(done.err)
        assert line.startswith("error: ")
        assert faults_of(NodeLLMError(line), says) == []
    else:
        assert says in " ".join(done.err.replace("│", " ").split())


async def test_commands_that_cannot_be_meant(shell: Shell, engine: AsyncEngine) -> None:
    """Ids, owners, ages and numbers that are none: refused in one line, and every row stays."""
    before = await rows(engine)
    finished = await run(shell, [arguments for arguments, _, _ in MEANT_OTHERWISE])
    for done, (_, code, says) in zip(finished, MEANT_OTHERWISE, strict=True):
        check_complaint(done, code, says)
    assert await rows(engine) == before


async def test_ages_beyond_the_calendar_are_ages(shell: Shell, engine: AsyncEngine) -> None:
    """A million weeks are longer than there have been chats: none is that old."""
    (done,) = await run(shell, [["purge", "--older-than", "999999w", "--yes"]])
    assert (done.code, done.err) == (0, "")
    assert len(await list_chats(engine, owner=ANY_OWNER)) == 1


async def test_a_dry_run_can_be_read_by_programs(shell: Shell, engine: AsyncEngine) -> None:
    """``--dry-run --json`` is JSON, and deletes nothing."""
    (done,) = await run(shell, [["purge", "--owner", "ann", "--dry-run", "--json"]])
    assert (done.code, done.out.split()) == (0, ["{", '"chats":', "1,", '"dry_run":', "true", "}"])
    assert len(await list_chats(engine, owner=ANY_OWNER)) == 1


@pytest.mark.usefixtures("engine")
async def test_malformed_keys_are_never_shown(shell: Shell) -> None:
    """Keys that are none, or stand in the place of their names, are refused by every command that reads them."""
    commands = (["rotate-keys"], ["verify"], ["delete", MISSING, "--yes"], ["purge", "--owner", "ann", "--yes"])
    for given in (SECRET, f"a:{SECRET}", f"{BARE}:a", f"a:{KEY},a:{KEY}"):
        set_up = shell.with_environment(NODELLM_ENCRYPTION_KEYS=given)
        for done in await run(set_up, commands):
            check_complaint(done, ERROR, "makes one|name:base64|before the key")
            assert BARE not in done.err
            assert KEY not in done.err
    blank = shell.with_environment(NODELLM_ENCRYPTION_KEYS=" ")
    for done in await run(blank, [["verify"], ["purge", "--owner", "x", "--yes"]]):
        assert done.code == 0  # a blank variable names no keys


@pytest.mark.usefixtures("engine")
async def test_databases_that_are_none(shell: Shell, tmp_path: Path) -> None:
    """URLs that are none, hosts that do not answer, files that are none: no password, no driver, and what to check."""
    (tmp_path / "notes.txt").write_text("no database, but longer than the head of one" * 10)
    urls = {
        "nonsense": "write it like",
        "": "write it like",
        f"oracle://me:{SECRET}@host/x": "use a URL like",
        f"postgresql://me:{SECRET}@[::1/x": "write it like",
        f"postgresql://me:{SECRET}@127.0.0.1:1/x": "check that it runs",
        f"mysql://me:{SECRET}@127.0.0.1:1/x": "check that it runs",
        "sqlite:///nowhere.db": "name the one with your chats",
        "sqlite://": "a database in memory has no chats; name the one",
        "sqlite:///notes.txt": "restore a backup",
    }
    set_up = shell.with_environment(NODELLM_ENCRYPTION_KEYS=f"a:{KEY}")
    commands = (["verify"], ["purge", "--owner", "x", "--yes"], ["delete", MISSING, "--yes"], ["rotate-keys"])
    pairs = [(commands[number % len(commands)], url) for number, url in enumerate(urls)]
    pairs += [(command, f"postgresql://me:{SECRET}@127.0.0.1:1/x") for command in commands]
    finished = await run(set_up, [[*command, "-d", url] for command, url in pairs])
    for done, (_, url) in zip(finished, pairs, strict=True):
        check_complaint(done, ERROR, urls[url])
    for done in await run(set_up, [["doctor", "--url", url] for url in urls if url != "nonsense"]):
        assert (done.code, SECRET in done.out + done.err, "Traceback" in done.err) == (2, False, False)
        assert "→" in done.out


async def test_tables_of_another_revision(shell: Shell, engine: AsyncEngine) -> None:
    """Older tables are refused by every command that would write to them, with the command that upgrades them."""
    await downgrade(engine, revision="0002")
    set_up = shell.with_environment(NODELLM_ENCRYPTION_KEYS=f"a:{KEY}")
    commands = (["verify"], ["purge", "--owner", "x", "--yes"], ["delete", MISSING, "--yes"], ["rotate-keys"])
    for done in await run(set_up, commands):
        check_complaint(done, ERROR, "older than this package.*nodellm-orm db upgrade")
