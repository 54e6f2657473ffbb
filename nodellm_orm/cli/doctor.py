"""The command `doctor`: whether this machine, its settings and the database are fit for chats."""

import asyncio
import json as json_text
import os
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.text import Text

from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, PANEL, VARIABLE, OwnRecords
from nodellm_orm.cli.own import own_records
from nodellm_orm.cli.surroundings import check_environment, check_machine, check_online
from nodellm_orm.config import Environment
from nodellm_orm.domain.printable import one_line
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.upkeep.doctor.checks import Check, severity, told_of
from nodellm_orm.upkeep.doctor.database import check_database

_SIGNS: Final = {
    "ok": ("ok", "green"),
    "skipped": ("skip", "dim"),
    "warning": ("warn", "yellow"),
    "error": ("FAIL", "bold red"),
}
_VERDICTS: Final = ("everything is fine", "it works, with warnings", "something does not work")

EXAMPLES: Final = """
Examples:

  nodellm-orm doctor

  nodellm-orm doctor --url postgresql://app@localhost/app --online

  nodellm-orm doctor --json | jq '.checks[] | select(.status != "ok")'
"""


def doctor(
    *,
    url: Annotated[
        str,
        typer.Option(
            "--url",
            "--database",
            "-d",
            envvar=VARIABLE,
            metavar="URL",
            help="The database, as for other commands.",
            rich_help_panel=PANEL,
        ),
    ] = DEFAULT,
    records: OwnRecords = None,
    online: Annotated[
        bool, typer.Option("--online", help="Also ask each provider that is set up for its models; costs nothing.")
    ] = False,
    concurrency: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Turns that will run at once in one process.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
) -> None:
    """Look at Python, keys, providers and the database, and say what to do about what is not right.

    No row is changed, and no key or password is shown. Exits with 0 when all is fine, 1 with warnings, 2 with errors.
    """
    checks = asyncio.run(_doctor(url, records, online=online, concurrency=concurrency))
    worst = severity(checks)
    if json:
        told = {"status": ("ok", "warning", "error")[worst], "checks": [asdict(check) for check in checks]}
        results().out(json_text.dumps(told, indent=2), highlight=False)
    else:
        _show(checks)
        remarks().print(_VERDICTS[worst])
    raise typer.Exit(worst)


async def _doctor(url: str, records: str | None, *, online: bool, concurrency: int | None) -> list[Check]:
    environment = Environment.of(os.environ)
    return [
        *check_machine(),
        *check_environment(environment),
        *await check_online(environment, online=online),
        *await _database(url, records, concurrency=concurrency),
    ]


async def _database(url: str, records: str | None, *, concurrency: int | None) -> list[Check]:
    try:
        own = own_records(records.strip()) if records is not None and records.strip() else None
    except ConfigurationError as failure:
        return [told_of("records", failure)]
    return await check_database(url, records=own, concurrency=concurrency)


def _show(checks: list[Check]) -> None:
    console = results()
    width = max(len(check.name) for check in checks)
    for check in checks:
        sign, style = _SIGNS[check.status]
        line = Text(f"{sign:<5}", style=style).append(f"{check.name:<{width}}  ", style="not bold default")
        console.print(line.append(one_line(check.message), style="not bold default"), soft_wrap=True)
        if check.remedy is not None:
            console.print(Text(f"{'':<{width + 7}}→ {one_line(check.remedy)}"), soft_wrap=True)
