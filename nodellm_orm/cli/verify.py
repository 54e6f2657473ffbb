"""The command `verify`: whether what is stored agrees with itself."""

import asyncio
import json as json_text
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Final
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from nodellm_orm.cli.completion import chat_ids
from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, Database, Owner, OwnRecords, opened
from nodellm_orm.cli.ids import parsed_id
from nodellm_orm.domain.figures import NONE, count, counted
from nodellm_orm.domain.printable import one_line
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.upkeep.findings import Finding, Stage, VerifyProgress, VerifyReport
from nodellm_orm.upkeep.verify import verify as verified

_DAMAGED: Final = 1

EXAMPLES: Final = """
Examples:

  nodellm-orm verify

  nodellm-orm verify 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10

  nodellm-orm verify --json | jq '.findings[] | .rule'
"""


def verify(
    chat_id: Annotated[
        UUID | None,
        typer.Argument(
            metavar="ID",
            help="One chat; all of them when left out.",
            show_default=False,
            parser=parsed_id,
            autocompletion=chat_ids,
        ),
    ] = None,
    *,
    owner: Owner = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Findings to show at most; all are counted.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Check that what is stored of chats agrees with itself; nothing is changed.

    Exits with 1 when something is damaged. Encrypted content is checked when NODELLM_ENCRYPTION_KEYS is set.
    """
    report = asyncio.run(_verify(database, records, chat_id, owner=owner, limit=limit))
    if json:
        results().out(_machine(report), highlight=False)
    else:
        _show(report)
    if not report.ok:
        raise typer.Exit(_DAMAGED)


async def _verify(
    database: str, records: str | None, chat_id: UUID | None, *, owner: str | None, limit: int
) -> VerifyReport:
    async with opened(database, records) as (engine, stored):
        with _bar(shown=chat_id is None) as progress:
            return await verified(
                engine,
                chat_id,
                owner=ANY_OWNER if owner is None else owner,
                records=stored,
                limit=limit,
                progress=progress,
            )


@contextmanager
def _bar(*, shown: bool) -> Iterator[Callable[[VerifyProgress], None]]:
    """A bar for each stage, on a terminal; it is gone in the end."""
    console = remarks()
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not (shown and console.is_terminal and not console.is_dumb_terminal),
    ) as progress:
        tasks: dict[Stage, TaskID] = {}

        def told(news: VerifyProgress) -> None:
            if news.stage not in tasks:
                tasks[news.stage] = progress.add_task(news.stage, total=news.total)
            progress.update(tasks[news.stage], completed=news.done, total=news.total)

        yield told


def _show(report: VerifyReport) -> None:
    console = results()
    if report.findings:
        console.print(_table(report.findings))
        console.print()
    for note in report.notes:
        remarks().out(one_line(f"note: {_where(note)}: {note.message}"), style="dim", highlight=False)
    looked = (
        f"{counted(report.chats, 'chats')}, {counted(report.messages, 'messages')}, {counted(report.turns, 'turns')}, "
        f"{counted(report.calls, 'calls')}, {counted(report.requests, 'requests')}, {counted(report.files, 'files')}"
    )
    verdict = Text("all agrees", style="green")
    if not report.ok:
        more = report.damaged - len(report.findings)
        hidden = f" ({count(more)} not shown)" if more else ""
        verdict = Text(f"{count(report.damaged)} findings{hidden}", style="bold red")
    console.print(verdict.append(f": {looked}", style="not bold default"), soft_wrap=True)


def _table(findings: tuple[Finding, ...]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), expand=False)
    table.add_column("Chat", overflow="fold", min_width=36)
    table.add_column("What", overflow="fold")
    for finding in findings:
        what = Text(one_line(finding.message)).append(f"\n{_row(finding)} · {finding.rule}", style="dim")
        table.add_row(str(finding.chat_id or NONE), what)
    return table


def _row(finding: Finding) -> str:
    return one_line(f"{finding.table} {finding.id}" if finding.id else finding.table)


def _where(finding: Finding) -> str:
    return f"chat {finding.chat_id}" if finding.chat_id else _row(finding)


def _machine(report: VerifyReport) -> str:
    # ASCII only: nothing in it can reach a terminal as a command, and every program can read it.
    return json_text.dumps({"ok": report.ok, **asdict(report)}, indent=2, default=str)
