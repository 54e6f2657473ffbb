"""The commands `export`, `import` and `replay`: a chat leaves a database, arrives in another, and is asked again."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import pytest

from nodellm_orm import ANY_OWNER, Encryption, create_chat, list_chats, load_chat, make_engine
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.testing import LoopbackServer, json_answer, openai_chat_body, openai_error
from tests.acceptance.cli.shell import lines
from tests.acceptance.speakers import Says, Speaker
from tests.integration.databases import KINDS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.cli.shell import Shell
    from tests.integration.databases import DatabaseKind

SPEAKER: Final = Speaker("openai_chat")
ARCHIVE: Final = "sqlite:///archive.db"


@pytest.fixture
def database_kind() -> DatabaseKind:
    """SQLite, where a test does not say otherwise."""
    return "sqlite"


@pytest.fixture
async def chats(engine: AsyncEngine) -> dict[str, UUID]:
    """A chat of each of two owners, each with a turn."""

    async def answer(_: ReceivedRequest) -> Answer:
        return SPEAKER.answer(Says(text="Hello"), stream=False)

    made: dict[str, UUID] = {}
    async with LoopbackServer(answer) as server, SPEAKER.llm(server) as llm:
        for owner in ("ann", "bob"):
            chat = await create_chat(engine, llm, owner=owner)
            await chat.ask(f"A question of {owner}")
            made[owner] = chat.id
    return made


@pytest.fixture
def shell(shell: Shell, database: str) -> Shell:
    """A shell in which the database is named."""
    return shell.with_environment(NODELLM_DATABASE_URL=database)


async def owners_in_archive(shell: Shell) -> dict[UUID, str | None]:
    """The chats that have arrived, and whose they are."""
    archive = make_engine(f"sqlite:///{shell.folder / 'archive.db'}")
    found = {chat.id: chat.owner for chat in await list_chats(archive, owner=ANY_OWNER)}
    await archive.dispose()
    return found


@pytest.mark.parametrize("database_kind", KINDS[:2])
async def test_chats_move_to_another_database(shell: Shell, chats: dict[str, UUID]) -> None:
    """What is exported is imported with the same ids and owners; a second import changes nothing."""
    done = await shell.run("export", "chats.jsonl")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("exported: 2 chats, 4 messages, 2 requests, 0 files; ")
    assert (await shell.run("db", "upgrade", "-d", ARCHIVE)).code == 0
    moved = await shell.run("import", "chats.jsonl", "-d", ARCHIVE)
    assert (moved.code, moved.err) == (0, "")
    assert moved.out == "imported: 2 chats, 4 messages, 2 requests; 0 chats were there already\n"
    again = await shell.run("import", "chats.jsonl", "-d", ARCHIVE)
    assert again.out == "imported: 0 chats, 0 messages, 0 requests; 2 chats were there already\n"
    assert await owners_in_archive(shell) == {chats["ann"]: "ann", chats["bob"]: "bob"}


async def test_one_owners_chats_go_through_a_pipe(shell: Shell, chats: dict[str, UUID]) -> None:
    """Through stdout and stdin goes the file alone, with what is one owner's; the import may give it to another."""
    await shell.run("db", "upgrade", "-d", ARCHIVE)
    command = f"{sys.executable} -m nodellm_orm"
    done = await shell.program(
        "sh", "-c", f"{command} export - --owner ann | {command} import - --owner carol -d {ARCHIVE}"
    )
    assert done.code == 0
    assert done.out == "imported: 1 chat, 2 messages, 1 request; 0 chats were there already\n"
    assert lines(done.err)[0].startswith("exported: 1 chat,")
    assert await owners_in_archive(shell) == {chats["ann"]: "carol"}


async def test_a_chat_that_differs_is_an_error_or_stays(
    shell: Shell, engine: AsyncEngine, chats: dict[str, UUID]
) -> None:
    """By default the import ends and names the chat; with --on-conflict skip it stays, and is named as well."""
    await shell.run("export", "chats.jsonl")
    async with LoopbackServer([SPEAKER.answer(Says(text="More"), stream=False)]) as server, SPEAKER.llm(server) as llm:
        await (await load_chat(engine, llm, chats["ann"], owner="ann")).ask("And then?")
    refused = await shell.run("import", "chats.jsonl")
    assert (refused.code, refused.out) == (1, "")
    assert len(lines(refused.err)) == 1
    assert str(chats["ann"]) in refused.err
    assert "--on-conflict skip leaves" in refused.err
    kept = await shell.run("import", "chats.jsonl", "--on-conflict", "skip")
    assert (kept.code, kept.out.split(";")[1]) == (0, " 1 chat was there already\n")
    assert str(chats["ann"]) in kept.err
    assert (await shell.run("import", "chats.jsonl", "--on-conflict", "merge")).code == 2


@pytest.mark.usefixtures("chats")
async def test_a_damaged_file_is_told_with_its_line(shell: Shell) -> None:
    """A line that was changed ends the import, and one line says which it is."""
    await shell.run("export", "chats.jsonl")
    file = shell.folder / "chats.jsonl"
    file.write_bytes(file.read_bytes().replace(b"A question of ann", b"A question of eve", 1))
    await shell.run("db", "upgrade", "-d", ARCHIVE)
    refused = await shell.run("import", "chats.jsonl", "-d", ARCHIVE)
    assert (refused.code, refused.out) == (1, "")
    assert len(lines(refused.err)) == 1
    assert "line " in refused.err


async def test_encrypted_chats_are_opened_with_the_keys_of_the_environment(shell: Shell, engine: AsyncEngine) -> None:
    """Without the key nothing is written; with it the file is plain, and an import encrypts again."""
    key = Encryption.generate_key()
    async with LoopbackServer([SPEAKER.answer(Says(text="Hello"), stream=False)]) as server, SPEAKER.llm(server) as llm:
        await (await create_chat(engine, llm, encryption=Encryption(keys={"old": key}))).ask("zebrafinch")
    refused = await shell.run("export", "chats.jsonl")
    assert (refused.code, refused.out, (shell.folder / "chats.jsonl").exists()) == (1, "", False)
    assert "which was not given" in refused.err
    with_key = shell.with_environment(NODELLM_ENCRYPTION_KEYS=f"old:{key}")
    assert (await with_key.run("export", "chats.jsonl")).code == 0
    assert b"zebrafinch" in (shell.folder / "chats.jsonl").read_bytes()
    await with_key.run("db", "upgrade", "-d", ARCHIVE)
    assert (await with_key.run("import", "chats.jsonl", "-d", ARCHIVE)).code == 0
    assert b"zebrafinch" not in (shell.folder / "archive.db").read_bytes()


async def test_what_is_missing_is_told_with_its_remedy(shell: Shell) -> None:
    """No file, no folder, and no database to import into: one line each, and nothing is made."""
    for arguments, says in (
        (("import", "none.jsonl"), "check the path"),
        (("export", "none/chats.jsonl"), "check the path"),
        (("import", "none.jsonl", "-d", ARCHIVE), f"nodellm-orm db upgrade -d {ARCHIVE}"),
    ):
        done = await shell.run(*arguments)
        assert (done.code, done.out) == (1, "")
        assert len(lines(done.err)) == 1
        assert says in done.err
    assert not (shell.folder / "archive.db").exists()


# ── replay ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def answering(shell: Shell, server: LoopbackServer) -> Shell:
    """The shell of somebody who has configured a provider."""
    return shell.with_environment(
        OPENAI_COMPATIBLE_BASE_URL=server.url, OPENAI_COMPATIBLE_API_KEY="sk-test-0123456789abcdef"
    )


@pytest.mark.parametrize("database_kind", KINDS[:2])
async def test_a_chat_is_asked_again(shell: Shell, engine: AsyncEngine, chats: dict[str, UUID]) -> None:
    """Model and instructions are what the options say; the report has both answers, and the new chat names the old."""
    async with LoopbackServer([json_answer(openai_chat_body("Good\x1b[2J day"))]) as server:
        done = await answering(shell, server).run(
            "replay",
            str(chats["ann"]),
            *("--provider", "openai_compatible", "--model", "gpt-5-nano", "--instructions", "Be kind."),
        )
    assert (done.code, done.err) == (0, "")
    assert "1 of 1 questions asked again: 0 the same, 1 not" in done.out
    assert "+Good\\x1b[2J day" in done.out
    assert "\x1b" not in done.out
    body: Any = server.requests[0].json()
    assert body["model"] == "gpt-5-nano"
    assert [message["content"] for message in body["messages"]] == ["Be kind.", "A question of ann"]
    (replayed,) = [chat for chat in await list_chats(engine, owner="ann") if chat.id != chats["ann"]]
    assert replayed.metadata["replay_of"] == str(chats["ann"])


async def test_programs_get_the_comparison(shell: Shell, chats: dict[str, UUID]) -> None:
    """JSON has the whole report; an answer that is the same is said to be equal."""
    async with LoopbackServer([json_answer(openai_chat_body("Hello"))]) as server:
        done = await answering(shell, server).run(
            "replay", str(chats["ann"]), "--provider", "openai_compatible", "--model", "gpt-5-nano", "--json"
        )
    report = json.loads(done.out)
    assert (done.code, report["equal"], report["chat_id"]) == (0, True, str(chats["ann"]))


async def test_a_replay_that_broke_off_is_carried_on(shell: Shell, engine: AsyncEngine, chats: dict[str, UUID]) -> None:
    """The error is one line, another one says how to go on, and with that id the same new chat is completed."""
    options = ("--provider", "openai_compatible", "--model", "gpt-5-nano")
    refused = json_answer(openai_error("no such key"), status=401)
    async with LoopbackServer([refused, json_answer(openai_chat_body("Hello"))]) as server:
        configured = answering(shell, server)
        broken = await configured.run("replay", str(chats["ann"]), *options)
        assert (broken.code, broken.out) == (1, "")
        advice, error = lines(broken.err)
        assert error.startswith("error: ")
        assert "sk-test" not in broken.err
        replay_id = advice.split("--id ")[1].split()[0]
        done = await configured.run("replay", str(chats["ann"]), "--id", replay_id, *options)
    assert (done.code, done.err) == (0, "")
    assert f"replayed as {replay_id}" in done.out
    assert {chat.id for chat in await list_chats(engine, owner="ann")} == {chats["ann"], UUID(replay_id)}


async def test_the_stored_provider_is_asked(shell: Shell, chats: dict[str, UUID]) -> None:
    """Without options it is the chat's own provider, and what that lacks is told; another owner's chat is not there."""
    lacking = await shell.run("replay", str(chats["ann"]))
    assert (lacking.code, lacking.out) == (1, "")
    assert "OPENAI" in lacking.err
    wrong = await shell.run("replay", str(chats["ann"]), "--owner", "bob")
    never = await shell.run("replay", str(missing := new_id()), "--owner", "bob")
    assert (wrong.code, never.code) == (1, 1)
    assert wrong.err.replace(str(chats["ann"]), "") == never.err.replace(str(missing), "")
