"""The commands `delete` and `purge`: what they ask, what they delete, and what they leave."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from nodellm_orm import ANY_OWNER, create_chat, list_chats
from nodellm_orm.cli.deletion import duration
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.testing import LoopbackServer
from tests.acceptance.speakers import Says, Speaker

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.cli.shell import Shell

SPEAKER = Speaker("openai_chat")


@pytest.fixture
async def chats(engine: AsyncEngine) -> dict[str, UUID]:
    """A chat of each of two owners, and one that is nobody's, each with a turn; by the beginning of their names."""

    async def answer(_: ReceivedRequest) -> Answer:
        return SPEAKER.answer(Says(text="Hello"), stream=False)

    made: dict[str, UUID] = {}
    async with LoopbackServer(answer) as server, SPEAKER.llm(server) as llm:
        for owner in ("ann", "bob", None):
            chat = await create_chat(engine, llm, owner=owner)
            await chat.ask(f"A question of {owner}")
            made[owner or "nobody"] = chat.id
    return made


@pytest.fixture
def shell(shell: Shell, database: str) -> Shell:
    """A shell in which the database is named."""
    return shell.with_environment(NODELLM_DATABASE_URL=database)


async def left(engine: AsyncEngine) -> set[UUID]:
    """The chats that are there."""
    return {chat.id for chat in await list_chats(engine, owner=ANY_OWNER)}


async def owners_in_ledger(engine: AsyncEngine) -> list[str | None]:
    """Whose the ledger's rows are, in order."""
    async with engine.connect() as connection:
        return list(await connection.scalars(text("SELECT owner FROM llm_requests ORDER BY id")))


async def test_a_chat_is_deleted(shell: Shell, engine: AsyncEngine, chats: dict[str, UUID]) -> None:
    """With a yes it goes, and what it has cost stays; a second time there is no such chat."""
    done = await shell.run("delete", str(chats["ann"]), "--yes")
    assert (done.code, done.out) == (0, f"deleted: chat {chats['ann']} with 2 messages\n")
    assert await left(engine) == {chats["bob"], chats["nobody"]}
    assert await owners_in_ledger(engine) == ["ann", "bob", None]

    again = await shell.run("delete", str(chats["ann"]), "--yes")
    assert (again.code, again.out) == (1, "")
    assert "there is no chat" in again.err


@pytest.mark.fault("E10")
@pytest.mark.parametrize("owner", ["bob", "", "Ann"])
async def test_another_owners_chat_is_not_found(
    shell: Shell, engine: AsyncEngine, chats: dict[str, UUID], owner: str
) -> None:
    """A wrong owner, the empty one included, is told what is told of a chat that never was."""
    wrong = await shell.run("delete", str(chats["ann"]), "--owner", owner, "--yes")
    never = await shell.run("delete", str(missing := new_id()), "--owner", owner, "--yes")
    assert (wrong.code, never.code) == (1, 1)
    assert wrong.err.replace(str(chats["ann"]), "") == never.err.replace(str(missing), "")
    assert await left(engine) == set(chats.values())


async def test_nothing_goes_without_a_yes(shell: Shell, engine: AsyncEngine, chats: dict[str, UUID]) -> None:
    """Where nobody can be asked, and where the answer is no, everything stays; the question says what would go."""
    for arguments in (["delete", str(chats["ann"])], ["purge", "--owner", "ann"], ["purge", "--older-than", "0s"]):
        silent = await shell.run(*arguments, stdin="y\n")
        assert silent.code == 1
        assert "--yes" in silent.err
    async with shell.terminal("delete", str(chats["ann"])) as terminal:
        assert "A question of ann" in await terminal.until("for good? [y/N]: ")
        terminal.type("n\n")
        assert await terminal.ended() == 1
    assert await left(engine) == set(chats.values())
    async with shell.terminal("purge", "--owner", "ann") as terminal:
        assert "Erase 1 chat of owner 'ann'" in await terminal.until("for good? [y/N]: ")
        terminal.type("y\n")
        assert await terminal.ended() == 0
    assert await left(engine) == {chats["bob"], chats["nobody"]}


async def test_an_owner_is_erased(shell: Shell, engine: AsyncEngine, chats: dict[str, UUID]) -> None:
    """Without an age everything of an owner goes, and his name from the ledger; programs are told in JSON."""
    done = await shell.run("purge", "--owner", "ann", "--yes", "--json")
    assert done.code == 0
    report: dict[str, Any] = json.loads(done.out)
    assert (report["chats"], report["messages"], report["requests"], report["complete"]) == (1, 2, 1, True)
    assert await left(engine) == {chats["bob"], chats["nobody"]}
    assert await owners_in_ledger(engine) == [None, "bob", None]


async def test_old_chats_go(shell: Shell, engine: AsyncEngine, chats: dict[str, UUID]) -> None:
    """By age alone everybody's chats are meant; a dry run only counts them, and the young stay."""
    dry = await shell.run("purge", "--older-than", "0s", "--dry-run")
    assert (dry.code, dry.out.split(" ")[0]) == (0, "3")
    young = await shell.run("purge", "--older-than", "1d", "--yes")
    assert (young.code, young.out) == (0, "deleted: 0 chats, 0 messages, 0 files, 0 texts\n")
    assert await left(engine) == set(chats.values())

    some = await shell.run("purge", "--older-than", "0s", "--limit", "1", "--yes")
    assert "more are left" in some.err
    rest = await shell.run("purge", "--older-than", "0s", "--yes")
    assert rest.out.startswith("deleted: 2 chats, 4 messages")
    assert await left(engine) == set()
    assert await owners_in_ledger(engine) == ["ann", "bob", None]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say what is to go"),
        (["--older-than", "90"], "is no duration"),
        (["--older-than", "90 days"], "is no duration"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    shell: Shell, engine: AsyncEngine, chats: dict[str, UUID], arguments: list[str], says: str
) -> None:
    """A purge of nothing in particular, and a duration without a unit, delete nothing."""
    done = await shell.run("purge", *arguments, "--yes")
    assert (done.code, done.out) == (1, "")
    assert says in done.err
    assert await left(engine) == set(chats.values())


def test_durations_are_read() -> None:
    """Each unit means what it says, and nothing else is one."""
    read = [duration(text) for text in ("2w", "90d", "12h", "30m", "0s")]
    assert read == [timedelta(weeks=2), timedelta(days=90), timedelta(hours=12), timedelta(minutes=30), timedelta(0)]
    for text_ in ("", "d", "-1d", "1.5d", "1y", "9999999d"):
        with pytest.raises(ConfigurationError):
            duration(text_)
