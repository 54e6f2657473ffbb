"""The command `rollup`: hours of the ledger that are over are added up, so that reports need not read them again."""

import asyncio
import json as json_text
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, Database, OwnRecords, opened
from nodellm_orm.domain.figures import count
from nodellm_orm.reporting.rollup import RollupReport, refresh_rollup

EXAMPLES: Final = """
Examples:

  nodellm-orm rollup

  nodellm-orm rollup --again -d postgresql://app@localhost/app
"""


def rollup(
    *,
    again: Annotated[
        bool, typer.Option("--again", help="All hours once more, after rows of the ledger were changed by hand.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Add up the hours that are over, for usage --rollup, and those again that have changed since.

    Run it every hour or every day. It can be broken off at any time, and run by several at once. Exits with 1 when a
    transaction is still open that may have written to the next hour.
    """
    report = asyncio.run(_refresh(database, records, again=again))
    if json:
        results().out(json_text.dumps(asdict(report), indent=2, default=str), highlight=False)
    else:
        _show(report)
    if report.left:
        raise typer.Exit(1)


async def _refresh(database: str, records: str | None, *, again: bool) -> RollupReport:
    async with opened(database, records) as (engine, stored):
        with _bar() as progress:
            return await refresh_rollup(engine, again=again, progress=progress, records=stored)


@contextmanager
def _bar() -> Iterator[Callable[[RollupReport], None]]:
    """A bar on a terminal; it is gone in the end."""
    console = remarks()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("hours", total=None)
        total = 0

        def told(report: RollupReport) -> None:
            nonlocal total
            total = max(total, report.left)
            progress.update(task, completed=total - report.left, total=total)

        yield told


def _show(report: RollupReport) -> None:
    until = "" if report.until is None else f"; everything is in until {report.until:%Y-%m-%d %H:%M} UTC"
    results().print(
        f"added up: {count(report.added)} hours, and {count(report.corrected)} again{until}", soft_wrap=True
    )
    if report.left:
        remarks().print(
            f"{count(report.left)} hours are left: a transaction is open that may have written to them; run it again "
            "when that has ended",
            soft_wrap=True,
        )
