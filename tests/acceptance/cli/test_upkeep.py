"""The commands `verify` and `doctor`: what is damaged or badly set up is told, with a remedy and an exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import text

from nodellm_orm import make_engine
from nodellm_orm.testing import LoopbackServer, json_answer, openai_error
from tests.acceptance.cli.shell import lines
from tests.acceptance.healthy import OWNER, healthy
from tests.integration.databases import KINDS, migrated_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.acceptance.cli.shell import Shell
    from tests.acceptance.healthy import Healthy
    from tests.integration.databases import DatabaseKind

KEY: Final = "sk-canary-0123456789abcdef"
MODELS: Final = json_answer({"object": "list", "data": [{"id": "gpt-5-mini", "object": "model"}]})
DAMAGE: Final = "UPDATE llm_messages SET content = 'a secret word' WHERE role = 'tool'"


@pytest.fixture(params=KINDS)
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """URL of a database with our tables, of each kind."""
    kind: DatabaseKind = request.param
    async with migrated_database(kind, tmp_path) as url:
        yield url


async def filled(url: str, *statements: str) -> Healthy:
    """Chats in the database, and further statements."""
    engine = make_engine(url)
    chats = await healthy(engine)
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await engine.dispose()
    return chats


# ── verify ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_sound_chats(shell: Shell, database: str) -> None:
    """Everything that agrees is one line with what was looked at; interrupted turns are a note beside it."""
    chats = await filled(database)
    done = await shell.run("verify", "-d", database)
    assert done.code == 0
    (verdict,) = lines(done.out)
    assert verdict.startswith(f"all agrees: {chats.chats} chats, ")
    assert "interrupted" in done.err
    one = await shell.run("verify", str(chats.full), "--owner", OWNER, "-d", database)
    assert (one.code, one.err) == (0, "")
    assert one.out.startswith("all agrees: 1 chat, 7 messages, 2 turns, 2 calls, 3 requests, 2 files")


async def test_damaged_chats(shell: Shell, database: str) -> None:
    """Damage is a table of chats, rows and rules, without a word of a conversation, and the exit code 1."""
    chats = await filled(database, DAMAGE)
    done = await shell.with_environment(COLUMNS="120").run("verify", "-d", database, "--limit", "2")
    assert done.code == 1
    assert str(chats.full) in done.out
    assert "content is not the text of the parts" in done.out
    assert "secret word" not in done.out
    assert "not shown): " in lines(done.out)[-1]


async def test_findings_for_programs(shell: Shell, database: str) -> None:
    """With --json, the report is one document, whose findings name chat, table, row and rule."""
    chats = await filled(database, DAMAGE)
    done = await shell.run("verify", str(chats.full), "--json", "-d", database)
    assert done.code == 1
    report = json.loads(done.out)
    assert (report["ok"], report["damaged"], report["messages"]) == (False, 2, 7)
    assert {(f["chat_id"], f["table"], f["rule"]) for f in report["findings"]} == {
        (str(chats.full), "llm_messages", "content")
    }


async def test_verify_says_what_is_missing(shell: Shell) -> None:
    """No file, no tables and no such chat are one line each, with a remedy."""
    none = await shell.run("verify")
    (shell.folder / "chats.db").touch()
    empty = await shell.run("verify")
    await shell.run("db", "upgrade")
    unknown = await shell.run("verify", "0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10")
    assert [done.code for done in (none, empty, unknown)] == [1, 1, 1]
    told = [lines(done.err) for done in (none, empty, unknown)]
    assert [len(said) for said in told] == [1, 1, 1]
    assert "no database file" in told[0][0]
    assert "nodellm-orm db upgrade" in told[1][0]
    assert "there is no chat 0199a4d0" in told[2][0]


async def test_a_bar_on_a_terminal(shell: Shell, database: str) -> None:
    """On a terminal that can show one, a bar tells how far it is; on one that cannot, nothing does."""
    await filled(database)
    user = shell.with_environment(COLUMNS="120", TERM="xterm")
    async with user.terminal("verify", "-d", database) as terminal:
        seen = await terminal.until("all agrees")
        assert await terminal.ended() == 0
    assert "8/8" in seen
    async with shell.terminal("verify", "-d", database) as terminal:
        seen = await terminal.until("all agrees")
        assert await terminal.ended() == 0
    assert "8/8" not in seen


# ── doctor ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_machine_that_is_fit(shell: Shell, database: str) -> None:
    """With a key and a database in order, each thing is a line, and the exit code is 0; the key is not shown."""
    user = shell.with_environment(OPENAI_API_KEY=KEY)
    done = await user.run("doctor", "--url", database)
    assert (done.code, lines(done.err)) == (0, ["everything is fine"])
    assert {line.split()[0] for line in lines(done.out)} == {"ok", "skip"}
    assert "provider openai" in done.out
    assert "set up by OPENAI_API_KEY" in done.out
    assert KEY not in done.out + done.err


async def test_warnings_and_errors_have_exit_codes(shell: Shell) -> None:
    """Warnings alone exit with 1, errors with 2, and what to do stands under each."""
    await shell.run("db", "upgrade")
    warned = await shell.run("doctor")
    assert (warned.code, lines(warned.err)) == (1, ["it works, with warnings"])
    assert "→ set a provider's key" in warned.out
    failed = await shell.with_environment(OPENAI_API_KEY=f"Bearer {KEY}", NODELLM_PROVIDER="opnai").run("doctor")
    assert (failed.code, lines(failed.err)) == (2, ["something does not work"])
    assert "OPENAI_API_KEY begins with the word" in failed.out
    assert "NODELLM_PROVIDER names no provider" in failed.out
    assert KEY not in failed.out + failed.err


async def test_a_database_in_bad_order(shell: Shell, database: str) -> None:
    """An old revision is an error with the command that mends it, after which nothing is wrong (D07)."""
    user = shell.with_environment(OPENAI_API_KEY=KEY, NODELLM_DATABASE_URL=database)
    engine = make_engine(database)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE llm_alembic_version SET version_num = '0002'"))
    await engine.dispose()
    before = await user.run("doctor", "--json")
    assert before.code == 2
    report = json.loads(before.out)
    assert report["status"] == "error"
    (found,) = [check for check in report["checks"] if check["status"] == "error"]
    assert (found["name"], "nodellm-orm db upgrade" in found["remedy"]) == ("migrations", True)
    assert (await user.run("db", "upgrade")).code == 0
    assert (await user.run("doctor")).code == 0


@pytest.mark.fault("E25")
@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_a_password_is_never_shown(shell: Shell, scheme: str) -> None:
    """A server that cannot be reached is an error, in which there is no password."""
    for extra in ((), ("--json",)):
        done = await shell.run("doctor", "--url", f"{scheme}://app:secret-word@127.0.0.1:1/app", *extra)
        assert done.code == 2
        assert "secret-word" not in done.out + done.err
        assert "database" in done.out


async def test_providers_are_asked_only_when_told_to(shell: Shell) -> None:
    """With --online each provider is asked for its models with its key; without, nothing is sent."""
    await shell.run("db", "upgrade")
    async with LoopbackServer([MODELS, json_answer(openai_error("no"), status=401)]) as server:
        user = shell.with_environment(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=f"{server.url}/v1")
        offline = await user.run("doctor")
        assert (offline.code, server.requests) == (0, [])
        online = await user.run("doctor", "--online")
        refused = await user.run("doctor", "--online")
    assert online.code == 0
    assert "it answers, and has 1 models" in online.out
    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {KEY}"] * 2
    assert refused.code == 2
    assert "AuthenticationError" in refused.out
    assert KEY not in online.out + refused.out


async def test_encryption_keys_are_looked_at(shell: Shell) -> None:
    """A malformed key of the encryption is an error that does not show it."""
    await shell.run("db", "upgrade")
    done = await shell.with_environment(OPENAI_API_KEY=KEY, NODELLM_ENCRYPTION_KEYS="k1:c2hvcnQ=").run("doctor")
    assert done.code == 2
    assert "encryption" in done.out
    assert "c2hvcnQ" not in done.out
