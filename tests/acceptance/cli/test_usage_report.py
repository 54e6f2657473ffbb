"""The command `usage`: the same sums as a table, as CSV that stays text, and as JSON."""

from __future__ import annotations

import csv
import io
import json
import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import pytest
from typer.testing import CliRunner

from nodellm_orm import ANY_OWNER, create_chat, usage_report
from nodellm_orm.cli.app import app
from nodellm_orm.cli.usage import cell
from nodellm_orm.testing import LoopbackServer
from tests.acceptance.cli.shell import lines
from tests.acceptance.speakers import Says, Speaker
from tests.integration.databases import KINDS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.cli.shell import Shell
    from tests.integration.databases import DatabaseKind

SPEAKER: Final = Speaker("openai_chat")
FORMULA: Final = '=HYPERLINK("http://evil.example/";"prices")'


@pytest.fixture
def database_kind() -> DatabaseKind:
    """SQLite, where a test does not say otherwise."""
    return "sqlite"


@pytest.fixture
async def asked(engine: AsyncEngine) -> None:
    """A question of each of two owners and one of nobody's, whose chats are labelled by strangers."""

    async def answer(_: ReceivedRequest) -> Answer:
        return SPEAKER.answer(Says(text="Hello"), stream=False)

    labels: dict[str | None, Any] = {"ann": FORMULA, "bob": -5, None: "\x1b[2Jgone"}
    async with LoopbackServer(answer) as server, SPEAKER.llm(server) as llm:
        for owner, label in labels.items():
            chat = await create_chat(engine, llm, owner=owner, metadata={"team": label})
            await chat.ask("A question")


@pytest.fixture
def shell(shell: Shell, database: str) -> Shell:
    """A shell in which the database is named."""
    return shell.with_environment(NODELLM_DATABASE_URL=database, COLUMNS="120")


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("database_kind", KINDS[:2])
async def test_programs_get_every_digit(shell: Shell, engine: AsyncEngine) -> None:
    """JSON has each group with what `usage_report` says of it, costs as text."""
    done = await shell.run("usage", "--by", "owner, model", "--json")
    assert (done.code, done.err) == (0, "")
    rows = json.loads(done.out)["rows"]
    expected = await usage_report(engine, group_by=["owner", "model"], owner=ANY_OWNER)
    assert [row["keys"] for row in rows] == [dict(row.keys) for row in expected]
    assert [row["requests"] for row in rows] == [1, 1, 1]
    assert [None if row["cost"] is None else Decimal(row["cost"]) for row in rows] == [row.cost for row in expected]
    assert [row["input_tokens"] for row in rows] == [11, 11, 11]
    assert [row["latency_p95"] for row in rows] == [row.latency_p95 for row in expected]


@pytest.mark.usefixtures("asked")
async def test_people_get_a_table(shell: Shell) -> None:
    """By default each day is a line, of everybody's requests; nothing in a label reaches the terminal as a command."""
    by_day = await shell.run("usage")
    assert by_day.code == 0
    head, *rows = lines(by_day.out)
    assert head.split() == ["day", "Requests", "Failed", "Input", "Output", "Cost", "p50", "p95"]
    assert len(rows) == 1
    assert rows[0].split()[1:5] == ["3", "0", "33", "21"]
    by_team = await shell.run("usage", "--by", "metadata.team", "--all")
    assert "\\x1b[2Jgone" in by_team.out
    assert "\x1b" not in by_team.out
    assert len(lines((await shell.run("usage", "--by", "")).out)) == 2


@pytest.mark.fault("E14")
@pytest.mark.usefixtures("asked")
async def test_formulas_in_csv_stay_text(shell: Shell) -> None:
    """A text of a stranger that a spreadsheet would compute begins with an apostrophe; a negative number is itself."""
    done = await shell.run("usage", "--by", "owner,metadata.team", "--csv")
    assert (done.code, done.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    teams = {row["owner"]: row["metadata.team"] for row in rows}
    assert teams == {"": "\\x1b[2Jgone", "ann": f"'{FORMULA}", "bob": "-5"}
    assert {row["requests"] for row in rows} == {"1"}
    assert [name for row in rows for name, value in row.items() if value.startswith(("=", "+", "@", "\t"))] == []


@pytest.mark.fault("E14")
@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1+1"])
def test_each_beginning_of_a_formula_is_guarded(text: str) -> None:
    """Whatever a spreadsheet may take for a formula begins with an apostrophe, and what it may not is left alone."""
    assert cell(text).startswith("'")
    assert cell([text]).startswith("[")
    assert cell(f"a{text}").startswith("a")


def test_numbers_are_no_formulas() -> None:
    """Numbers of any kind, truth values and nothing are written as they are."""
    told = [cell(value) for value in (-1, -1.5, Decimal("-0.000000000001"), True, None)]
    assert told == ["-1", "-1.5", "-0.000000000001", "true", ""]


@pytest.mark.usefixtures("asked")
async def test_requests_are_chosen_by_owner_and_time(shell: Shell) -> None:
    """An owner sees his own, the empty one nothing; days are those of the time zone, moments have an offset."""
    long_ago, one_day = "2000-01-01T00:00+02:00", "2999-01-01"

    async def requests(*arguments: str) -> int:
        done = await shell.run("usage", "--by", "chat", "--json", *arguments)
        assert done.code == 0
        return len(json.loads(done.out)["rows"])

    assert await requests("--owner", "ann") == 1
    assert await requests("--owner", "") == 0
    assert await requests("--since", long_ago, "--until", one_day, "--time-zone", "Asia/Tokyo") == 3
    assert await requests("--until", long_ago) == 0
    nothing = await shell.run("usage", "--since", one_day)
    assert (nothing.code, nothing.out, lines(nothing.err)) == (0, "", ["There are no such requests."])
    sheet = await shell.run("usage", "--since", one_day, "--csv")
    assert sheet.out.startswith("day,requests,")
    assert len(lines(sheet.out)) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--by", "dya"], "day"),
        (["--by", "metadata.a.b"], "path"),
        (["--since", "yesterday"], "write 2026-03-01"),
        (["--since", "2026-03-01T12:00"], "with its offset"),
        (["--since", "2026-03-02", "--until", "2026-03-01"], "exchange them"),
        (["--time-zone", "Mars/Olympus"], "Europe/Berlin"),
        (["--owner", "ann", "--all"], "exclude each other"),
        (["--csv", "--json"], "exclude each other"),
    ],
)
async def test_what_cannot_be_meant_is_refused_in_one_line(shell: Shell, arguments: list[str], says: str) -> None:
    """Each has its remedy, on stderr."""
    done = await shell.run("usage", *arguments)
    assert (done.code, done.out) == (1, "")
    assert len(lines(done.err)) == 1
    assert says in done.err


async def test_no_password_is_printed(shell: Shell) -> None:
    """A server that cannot be reached is told without its password."""
    done = await shell.run("usage", "-d", "postgresql://app:canary-secret@127.0.0.1:1/app")
    assert done.code == 1
    assert len(lines(done.err)) == 1
    assert "canary-secret" not in done.out + done.err


@pytest.mark.parametrize("command", ["usage", "export", "import", "replay"])
def test_help_teaches_with_an_example(command: str) -> None:
    """Every command's help shows how it is called, and how the database is named."""
    done = CliRunner(env={**os.environ, "COLUMNS": "80"}).invoke(app, [command, "--help"])
    assert done.exit_code == 0
    _, examples = done.output.split("Example", 1)
    assert f"nodellm-orm {command}" in examples
    assert "NODELLM_DATABASE_URL" in done.output
