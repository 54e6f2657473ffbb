"""How the command line speaks: help with examples, exit codes, and what is missing said in one line."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from nodellm_orm.cli.app import app
from tests.acceptance.cli.shell import lines

if TYPE_CHECKING:
    from tests.acceptance.cli.shell import Shell


@pytest.mark.parametrize("command", ["chat", "chats", "show", "db upgrade", "db current", "db check"])
def test_help_teaches_with_an_example(command: str) -> None:
    """Every command's help shows how it is called, and how the database is named."""
    done = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*command.split(), "--help"])
    assert done.exit_code == 0
    _, examples = done.output.split("Example", 1)
    assert f"nodellm-orm {command}" in examples
    assert "NODELLM_DATABASE_URL" in done.output
    assert "sqlite:///chats.db" in done.output


@pytest.mark.parametrize("arguments", [("show", "no-id"), ("show",), ("chats", "--limit", "0"), ("chat", "--nope")])
def test_a_command_that_cannot_be_understood_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    """A missing or malformed argument and an unknown option are told apart from failures."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "--help" in done.output


async def test_an_unknown_command_exits_with_2(shell: Shell) -> None:
    """Usage errors have their own exit code, and point to the help."""
    done = await replace(shell, anew=True).run("nonsense")
    assert (done.code, done.out) == (2, "")
    assert "--help" in done.err


async def test_the_version_is_told(shell: Shell) -> None:
    """--version prints name and version."""
    done = await replace(shell, anew=True).run("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("nodellm-orm ")


@pytest.mark.parametrize("package", ["typer", "rich"])
async def test_a_missing_extra_is_told_with_its_remedy(shell: Shell, package: str) -> None:
    """Where the extra is not installed, one line says what to install."""
    program = "import sys; sys.modules[sys.argv[1]] = None; from nodellm_orm.__main__ import main; sys.exit(main())"
    done = await shell.program(sys.executable, "-c", program, package)
    assert (done.code, done.out) == (1, "")
    assert lines(done.err) == [f"error: the command line needs {package}: pip install 'nodellm_orm[cli]'"]


async def test_a_reader_that_leaves_early_causes_no_noise(shell: Shell) -> None:
    """A pipe into a program that stops reading ends without a traceback."""
    python = f"{sys.executable} -m nodellm_orm"
    done = await shell.program("sh", "-c", f"{python} db upgrade --sql | head -n 1")
    assert done.code == 0
    assert "Traceback" not in done.err
