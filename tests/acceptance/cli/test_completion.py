"""What Tab offers, asked for as the shells do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from nodellm_orm import create_chat, make_engine
from nodellm_orm.cli.commands import COMMANDS
from nodellm_orm.providers.registry import Registry
from nodellm_orm.testing import LoopbackServer
from tests.acceptance.cli.shell import COMMAND
from tests.acceptance.refusing import SECRET
from tests.acceptance.speakers import Speaker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.acceptance.cli.shell import Finished, Shell

SPEAKER: Final = Speaker("openai_chat")
HOSTILE: Final = "Trip \\$(touch pwned) `touch pwned` \"'; touch pwned: [red]x[/red]\x1b[2J\nnext"
BASH: Final = """
source completion.bash
COMP_WORDS=(WORDS)
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_nodellm_orm_completion nodellm-orm
printf '%s\\n' "${COMPREPLY[@]}"
"""


ARGUMENTS: Final = """
_arguments() {  # as that of zsh treats ((word:description ...))
    action="${1#*((}"
    eval "words=( ${action%))} )"
    printf '%s\\n' "${words[@]%%:*}"
}
"""


@pytest.fixture
def shell(shell: Shell) -> Shell:
    """A shell whose path leads to the command."""
    program = shell.folder / "bin" / "nodellm-orm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    return shell.with_environment(PATH=f"{program.parent}:{shell.environment['PATH']}")


async def begun(url: str, *titles: str | None, owner: str | None = None) -> list[str]:
    """Chats with these titles; gives their ids."""
    engine = make_engine(url)
    async with LoopbackServer() as server, SPEAKER.llm(server) as llm:
        made = [await create_chat(engine, llm, title=title, owner=owner) for title in titles]
    await engine.dispose()
    return [str(chat.id) for chat in made]


async def tab(shell: Shell, *words: str) -> list[str]:
    """What bash offers for the last of the words, through the script that it is given; nothing else may be said."""
    quoted = " ".join(json.dumps(word) for word in ("nodellm-orm", *words))
    done = await shell.program("bash", "--norc", "-c", BASH.replace("(WORDS)", f"({quoted})"))
    assert (done.code, done.err) == (0, "")
    return done.out.split()


async def asked(shell: Shell, name: str, *words: str) -> Finished:
    """What a shell that shows descriptions is told."""
    return await shell.with_environment(
        _NODELLM_ORM_COMPLETE=f"complete_{name}",
        _TYPER_COMPLETE_ARGS=" ".join(("nodellm-orm", *words)) + " ",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    ).run()


async def test_bash_asks_with_the_script_that_the_command_prints(shell: Shell, file: str) -> None:
    """`--show-completion` prints the script of the shell it is called in, and with it Tab completes an id."""
    first, second = await begun(file, "One", HOSTILE)
    done = await shell.program("bash", "--norc", "-c", "nodellm-orm --show-completion > completion.bash; true")
    assert (done.code, done.err) == (0, "")
    assert await tab(shell.with_environment(NODELLM_DATABASE_URL=file), "show", "") == [second, first]


async def test_tab_offers_commands_ids_and_words(shell: Shell, file: str) -> None:
    """Commands, the newest chats first, providers, models of stored chats, and words; files where a file is meant."""
    first, second = await begun(file, "One", HOSTILE)
    (other,) = await begun(file, None, owner="ann")
    user = shell.with_environment(NODELLM_DATABASE_URL=file)
    cases: tuple[tuple[Sequence[str], Sequence[str]], ...] = (
        ((), tuple(COMMANDS)),
        (("show",), (other, second, first)),
        (("show", "--owner", "ann"), (other,)),
        (("replay", first), (other, second, first)),
        (("chat", "--id"), (other, second, first)),
        (("chat", "--provider"), Registry().names),  # those of a process that has registered none
        (("chat", "--thinking"), ("none", "minimal", "low", "medium", "high", "xhigh", "max")),
        (("chat", "--model"), (SPEAKER.model,)),
        (("chat", "--provider", "anthropic", "--model"), ()),
        (("import", "--on-conflict"), ("error", "skip")),
        (("export",), ()),
    )
    for words, offered in cases:
        done = await asked(user, "fish", *words)
        assert (done.code, done.err) == (0, "")
        assert (words, [line.split("\t")[0] for line in done.out.splitlines() if line]) == (words, list(offered))


async def test_chats_are_offered_from_every_database(shell: Shell, database: str) -> None:
    """Ids with titles of which nothing is left that a shell might obey."""
    (known,) = await begun(database, HOSTILE)
    for name in ("fish", "zsh"):
        done = await asked(shell, name, "show", "-d", database)
        assert (done.code, done.err) == (0, "")
        assert known in done.out
        assert "Trip touch pwned touch pwned touch" in done.out
        assert not set("$`\\;\x1b") & set(done.out.replace(r"\:", ""))


async def test_a_shell_that_evaluates_what_it_is_told_runs_no_title(shell: Shell, file: str) -> None:
    """What zsh is given is evaluated, and the words in it once more, without any effect."""
    await begun(file, HOSTILE, "$(touch pwned)", "'`touch pwned`'", '"; touch pwned; "')
    told = await asked(shell, "zsh", "show", "-d", file)
    (shell.folder / "told").write_text(ARGUMENTS + told.out)
    done = await shell.program("bash", "told")
    assert (done.code, done.err, len(done.out.split())) == (0, "", 4)
    assert not (shell.folder / "pwned").exists()


async def test_tab_is_silent_and_leaves_no_trace(shell: Shell, file: str) -> None:
    """Missing, foreign and unreachable databases, and broken records: nothing is offered, said, made or changed."""
    (shell.folder / "notes.db").write_text("no database, but longer than the head of one" * 10)
    (shell.folder / "loud.py").write_text("import sys\nprint('loud')\nsys.stderr.write('loud')\nraise SystemExit(3)")
    (shell.folder / "bare.db").touch()
    before = {path.name: path.read_bytes() for path in shell.folder.iterdir() if path.is_file()}
    for words in (
        ("-d", "sqlite:///typo.db"),
        ("-d", "sqlite:///notes.db"),
        ("-d", "sqlite:///bare.db"),
        ("-d", f"postgresql://me:{SECRET}@127.0.0.1:1/x"),
        ("-d", f"oracle://me:{SECRET}@x/y"),
        ("-d", file, "--records", "loud:X"),
    ):
        done = await asked(shell, "fish", "show", *words)
        assert (words, done.code, done.out.strip(), done.err) == (words, 0, "", "")
    assert {path.name: path.read_bytes() for path in shell.folder.iterdir() if path.is_file()} == before
