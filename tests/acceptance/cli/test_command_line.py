"""The command line as a whole: its help, what is typed wrong, exit codes, and readers that leave."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import pytest

from nodellm_orm.cli.commands import COMMANDS
from nodellm_orm.cli.words import worded
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.testing import LoopbackServer, Stall, openai_chat_stream, sse_answer
from tests.acceptance.cli.shell import COMMAND, lines
from tests.acceptance.refusing import SECRET

if TYPE_CHECKING:
    from tests.acceptance.cli.shell import Shell

RUN: Final = " ".join(COMMAND)
WITHOUT_TYPER: Final = """
import sys
sys.modules["typer"] = None
from nodellm_orm.__main__ import main
sys.exit(main())
"""


def said(text: str) -> str:
    """What rendered help says, without frames and line ends."""
    return " ".join(text.replace("│", " ").split())


# ── help ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_help_names_every_command_under_what_it_is_for(shell: Shell) -> None:
    """Without arguments the commands are listed in groups with their purpose; -h does the same, and means success."""
    bare, asked = await shell.run(), await shell.run("-h")
    assert (bare.code, asked.code, bare.err, asked.err) == (2, 0, "", "")
    assert bare.out.split() == asked.out.split()
    order = [bare.out.index(f"─ {panel} ─") for panel in ("Talk", "Look", "Reports", "Files", "Upkeep")]
    assert order == sorted(order)
    for name, entry in COMMANDS.items():
        assert f"│ {name} " in bare.out
        assert entry.about in said(bare.out)
    assert max(map(len, lines(bare.out))) <= 80


@pytest.mark.parametrize("name", COMMANDS)
async def test_help_of_a_command_teaches_it(shell: Shell, name: str) -> None:
    """It begins with the purpose that the list tells, fits a terminal, and has an example of that command."""
    done = await shell.run(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert COMMANDS[name].about.rstrip(".") in said(done.out)
    assert max(map(len, lines(done.out))) <= 80
    assert "<bool>" not in done.out
    if name != "db":
        assert f" nodellm-orm {name}" in done.out[done.out.index(" Example") :]
        assert "--records" in done.out
        assert "[env var: NODELLM_DATABASE_URL]" in said(done.out)


async def test_help_never_shows_what_the_environment_holds(shell: Shell) -> None:
    """The URL of the variable is no default that help prints."""
    user = shell.with_environment(NODELLM_DATABASE_URL=f"postgresql://me:{SECRET}@host/x", NODELLM_RECORDS="a.b:C")
    for name in COMMANDS:
        done = await user.run(name, "--help")
        assert (done.code, SECRET in done.out, "a.b:C" in done.out) == (0, False, False)


async def test_the_version_is_told(shell: Shell) -> None:
    """One line with the name and the version."""
    done = await shell.run("--version")
    assert (done.code, done.err, done.out.split()[0], len(done.out.split())) == (0, "", "nodellm-orm", 2)


async def test_without_the_extra_one_line_says_what_to_install(shell: Shell) -> None:
    """Where typer is missing, the command names the extra."""
    done = await shell.program(sys.executable, "-c", WITHOUT_TYPER)
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: the command line needs typer: pip install 'nodellm_orm[cli]'\n"


# ── what is typed wrong ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_commands_that_are_not_understood_are_one_line(shell: Shell) -> None:
    """Unknown commands and options, missing and malformed values: one line with a remedy, exit code 2, no secret."""
    url = f"postgresql://me:{SECRET}@host/x?password={SECRET}"
    for typed, says in (
        (["chta"], "No such command 'chta'. Did you mean 'chat', 'chats'?; see: nodellm-orm --help"),
        (["show", str(new_id()), "--ownr", "x"], "No such option: --ownr (Possible options: --json, --owner); see: "),
        (["show"], "Missing argument 'ID'; see: nodellm-orm show --help"),
        (["show", "01a2"], "'01a2' is no id, which is a whole UUID such as "),
        (["chat", "--id", "01a2"], "nodellm-orm chats lists them; see: nodellm-orm chat --help"),
        (["chats", "-d"], "Option '-d' requires an argument"),
        (["chats", "--limit", "many"], "Invalid value for '--limit'"),
        (["chats", "a\x1b[2Jb"], "a\\x1b[2Jb"),
        (["chats", url], "(postgresql://me:***@host/x"),
        (["db", "downgrade"], "No such command 'downgrade'. Did you mean 'upgrade'?; see: nodellm-orm db --help"),
    ):
        done = await shell.run(*typed)
        assert (done.code, done.out) == (2, "")
        (line,) = lines(done.err)
        assert line.startswith("error: ")
        assert says in line
        assert SECRET not in line


def test_errors_are_in_the_words_of_the_command_line() -> None:
    """Arguments of functions are told as options, and a URL without its password, wherever it stands."""
    for error, told in (
        ("since=2026 is not before until=2025", "--since 2026 is not before --until 2025"),
        ('on_conflict="skip" leaves it', "--on-conflict skip leaves it"),
        ("after= is not a page's cursor; x", "--after is not a page's cursor; x"),
        ("run `nodellm-orm db upgrade`, or `await migrate(engine)` at start-up; y", "run `nodellm-orm db upgrade`; y"),
        (f"no a://u:{SECRET}@h/x", "no a://u:***@h/x"),
        (f"no a://u:p@{SECRET}/@h/x", "no a://u:***@h/x"),
        (f"no a://h/x?a=1&password={SECRET}&b=2", "no a://h/x?a=1&password=***&b=2"),
        ('x; pass values={"a": …}', 'x; begin it in your program, with values={"a": …}'),
        ("name=value is left", "name=value is left"),
    ):
        assert worded(error) == told


async def test_missing_tables_are_told_with_the_whole_command_that_makes_them(shell: Shell) -> None:
    """The remedy names the database that was named, so that it can be typed as it stands."""
    (shell.folder / "my chats.db").touch()
    for command in (("chats",), ("verify",), ("export", "x.jsonl"), ("show", str(new_id())), ("db", "check")):
        done = await shell.run(*command, "-d", "sqlite:///my chats.db")
        assert (done.code, done.out) == (1, "")
        assert "run `nodellm-orm db upgrade -d 'sqlite:///my chats.db'`;" in done.err
    memory = await shell.run("db", "upgrade", "-d", "sqlite://")
    assert (memory.code, memory.out) == (1, "")
    assert "name a file, such as sqlite:///chats.db" in memory.err


async def test_an_export_replaces_nothing_but_an_export(shell: Shell) -> None:
    """The database itself, other files and folders stay as they are; an older export is replaced."""
    await shell.run("db", "upgrade")
    (shell.folder / "notes.txt").write_text("mine")
    before = (shell.folder / "chats.db").read_bytes()
    for file in ("chats.db", "notes.txt", "."):
        done = await shell.run("export", file)
        assert (done.code, done.out, len(lines(done.err))) == (1, "", 1)
    assert (shell.folder / "chats.db").read_bytes() == before
    assert (shell.folder / "notes.txt").read_text() == "mine"
    assert [(await shell.run("export", "x.jsonl")).code for _ in range(2)] == [0, 0]


# ── readers and Ctrl-C ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_reader_that_leaves_is_no_error(shell: Shell) -> None:
    """`| true` ends each command silently, with the exit code of a broken pipe; a full disk is one line."""
    await shell.run("db", "upgrade")
    for command in ("chats --json", "export -", "--help"):
        done = await shell.program("bash", "-c", f"{RUN} {command} | true; exit ${{PIPESTATUS[0]}}")
        assert (command, done.code, done.out, done.err) == (command, 141, "", "")
    done = await shell.program("bash", "-c", f"{RUN} chats --json > /dev/full")
    assert done.code == 1
    assert lines(done.err) == ["error: the output cannot be written (No space left on device); write it elsewhere"]


async def test_ctrl_c_ends_a_command_with_130_and_no_word_of_python(shell: Shell) -> None:
    """In a replay and at a question: the command ends at once, and the stored chat is as it was."""
    answers = [sse_answer(openai_chat_stream("Hello")), sse_answer([Stall()])]
    async with LoopbackServer(answers) as server:
        user = shell.with_environment(
            NODELLM_PROVIDER="openai_compatible",
            NODELLM_MODEL="gpt-5-mini",
            OPENAI_COMPATIBLE_BASE_URL=server.url,
            OPENAI_COMPATIBLE_API_KEY="sk-test",
        )
        begun = await user.run("chat", stdin="Hello?\n")
        known = begun.err.split("--id ")[1].strip()
        async with user.terminal("replay", known) as terminal:
            await server.until_received(2)
            terminal.interrupt()
            assert await terminal.ended() == 130
            assert "Traceback" not in terminal.seen
    async with shell.terminal("delete", known) as terminal:
        await terminal.until("[y/N]: ")
        await terminal.interrupt_until("nothing was done")
        assert (await terminal.ended(), "error" in terminal.seen) == (130, False)
    async with shell.terminal("delete", known) as terminal:
        await terminal.until("[y/N]: ")
        terminal.type("n\n")
        await terminal.until("nothing was done")
        assert (await terminal.ended(), "error" in terminal.seen) == (1, False)
    assert (await shell.run("verify", known)).code == 0
