"""Commands on an application's own records: its base, its prefix, its columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest
from sqlalchemy import text

from nodellm_orm import make_engine, migrate
from nodellm_orm.cli.commands import COMMANDS
from nodellm_orm.testing import LoopbackServer, json_answer, openai_chat_body, openai_chat_stream, sse_answer
from tests.acceptance.cli.shell import lines
from tests.integration.databases import KINDS, empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.cli.shell import Shell
    from tests.integration.databases import DatabaseKind

MODULE: Final = """
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from nodellm_orm import define_records

print("imported")

class Base(DeclarativeBase):
    pass

class Priced:
    tier: Mapped[str | None] = mapped_column(String(20), default="basic")

RECORDS = define_records(Base, prefix="assistant_", chat=Priced)
PLAIN = define_records(prefix="plain_")
"""
OWN: Final = "application.tables:RECORDS"
KEY: Final = "sk-secret-0123456789"


@pytest.fixture(params=KINDS)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """URL of a database with the application's own tables."""
    kind: DatabaseKind = request.param
    async with empty_database(kind, tmp_path) as url:
        engine = make_engine(url)
        await migrate(engine, prefix="assistant_")
        async with engine.begin() as connection:
            await connection.execute(text("ALTER TABLE assistant_chats ADD COLUMN tier VARCHAR(20)"))
        await engine.dispose()
        yield url


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell in the application's folder; Python starts anew, since it imports what is there."""
    folder = shell.folder / "application"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "tables.py").write_text(MODULE)
    return shell


async def answer(request: ReceivedRequest) -> Answer:
    """Hello, in one piece or as a stream."""
    if request.json().get("stream"):
        return sse_answer(openai_chat_stream("Hello!"))
    return json_answer(openai_chat_body("Hello!"))


async def test_every_command_works_on_own_records(shell: Shell, url: str) -> None:
    """Chats are begun, read, moved, checked and deleted in the tables that --records or its variable name."""
    async with LoopbackServer(answer) as server:
        user = shell.with_environment(
            NODELLM_DATABASE_URL=url,
            NODELLM_RECORDS=OWN,
            NODELLM_PROVIDER="openai_compatible",
            NODELLM_MODEL="gpt-5-mini",
            OPENAI_COMPATIBLE_BASE_URL=server.url,
            OPENAI_COMPATIBLE_API_KEY=KEY,
        )
        begun = await user.run("chat", "--owner", "ann", stdin="A question\n")
        known = begun.err.split("--id ")[1].split()[0]
        assert (begun.code, begun.out) == (0, "Hello!\n")
        again = await user.run("chat", "--id", known, stdin="Another\n")
        assert (again.code, again.out) == (0, "Hello!\n")
        listed = json.loads((await user.run("chats", "--json")).out)["chats"]
        assert [(chat["id"], chat["messages"]) for chat in listed] == [(known, 4)]
        for command, says in (
            (("show", known), "A question"),
            (("verify",), "all agrees: 1 chat, 4 messages"),
            (("export", "x.jsonl"), "exported: 1 chat"),
            (("import", "x.jsonl"), "1 chat was there already"),
            (("replay", known), "asked again"),
            (("usage", "--by", "owner"), "ann"),
            (("db", "check"), "fits"),
            (("db", "current"), "0"),
            (("purge", "--older-than", "1d", "--yes"), "deleted: 0 chats"),
            (("delete", known, "--yes"), "deleted: chat"),
        ):
            done = await user.run(*command)
            assert (command, done.code) == (command, 0)
            assert says in done.out
            assert lines(done.err) == ["imported"]
        looked = await user.run("doctor", "--json")
        told = {check["name"]: check["status"] for check in json.loads(looked.out)["checks"]}
        assert told["migrations"] == "ok"
        assert (shell.folder / "x.jsonl").read_text().count('"tier"') > 0


async def test_the_option_wins_and_is_part_of_what_to_type_next(shell: Shell) -> None:
    """Plain tables under another prefix are made by `db upgrade --records`, and the way on names them again."""
    async with LoopbackServer(answer) as server:
        user = shell.with_environment(
            NODELLM_RECORDS=OWN, OPENAI_COMPATIBLE_BASE_URL=server.url, OPENAI_COMPATIBLE_API_KEY=KEY
        )
        plain = ("--records", "application.tables:PLAIN")
        (shell.folder / "chats.db").touch()
        refused = await user.run("chats", *plain)
        assert refused.code == 1
        assert "run `nodellm-orm db upgrade --records application.tables:PLAIN`;" in refused.err
        assert (await user.run("db", "upgrade", *plain)).code == 0
        options = ("--provider", "openai_compatible", "--model", "gpt-5-mini")
        begun = await user.run("chat", *options, *plain, stdin="Hello\n")
        assert begun.err.rstrip().endswith(" --records application.tables:PLAIN")
        assert "CREATE TABLE plain_chats" in (await user.run("db", "upgrade", "--sql", *plain)).out
    own = await user.run("db", "upgrade")
    assert own.code == 1
    assert "assistant_chats has columns of your own (tier)" in own.err


async def test_records_that_are_none(shell: Shell) -> None:
    """A name, a module or an object that is none is one line that says what there is, and quotes no setting."""
    (shell.folder / "broken.py").write_text(f"raise RuntimeError('bad key {KEY}')")
    (shell.folder / "lacking.py").write_text("import flaskk")
    (shell.folder / "garbled.py").write_text("def x(:")
    (shell.folder / "leaving.py").write_text("raise SystemExit(3)")
    for name, says in (
        ("nope", "write package.module:NAME, such as app.models:RECORDS"),
        ("a b:c", "write package.module:NAME"),
        ("nowhere:X", "there is no module nowhere here or among what is installed"),
        ("application.nope:X", "there is no module application.nope"),
        ("application.tables:X", "there are: application.tables:RECORDS, application.tables:PLAIN"),
        ("application.tables:Base", "is no records of define_records(); there are: application.tables:RECORDS"),
        ("json:dumps", "none are there; name what define_records() gave"),
        ("broken:X", "RuntimeError in broken.py, line 1; python -c 'import broken' shows all of it"),
        ("lacking:X", "ModuleNotFoundError for flaskk in lacking.py, line 1"),
        ("garbled:X", "SyntaxError in garbled.py, line 1"),
        ("leaving:X", "SystemExit in leaving.py, line 1"),
    ):
        done = await shell.run("chats", "--records", name)
        assert (name, done.code, done.out) == (name, 1, "")
        line = lines(done.err)[-1]
        assert line.startswith("error: --records")
        assert says in line
        assert KEY not in done.err
    looked = await shell.run("doctor", "--records", "broken:X")
    assert (looked.code, "FAIL records" in looked.out, KEY in looked.out) == (2, True, False)


async def test_no_command_leaves_the_option_out(shell: Shell) -> None:
    """Whatever opens a database can be told whose tables are meant."""
    names = [name for name in COMMANDS if name != "db"]
    commands = [(name,) for name in names] + [("db", name) for name in ("upgrade", "current", "check", "search-index")]
    for command in commands:
        assert (command, "--records" in (await shell.run(*command, "--help")).out) == (command, True)
