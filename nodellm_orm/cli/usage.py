"""The command `usage`: what was used and spent, as a table, CSV, JSON, a plot or a page."""

import asyncio
import csv
import io
import json as json_text
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Final

import typer
from rich.table import Table

from nodellm_orm.cli import pages, plots
from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, Database, OwnRecords
from nodellm_orm.cli.moments import moment
from nodellm_orm.cli.plots import Measure
from nodellm_orm.cli.reports import Question, title, word
from nodellm_orm.domain.figures import count, duration, money
from nodellm_orm.domain.printable import one_line, printable
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.reporting.rows import MEASURES, UsageRow
from nodellm_orm.reporting.series import UNITS

_FORMULAS: Final = frozenset("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 — spreadsheets take the wide signs for the others
"""What a spreadsheet takes for the beginning of a formula, or drops to find one behind it."""

EXAMPLES: Final = """
Examples:

  nodellm-orm usage

  nodellm-orm usage --by month,model,metadata.team --since 2026-01-01 --time-zone Europe/Berlin

  nodellm-orm usage --by owner --csv > owners.csv

  nodellm-orm usage --by chat --owner ann --json | jq '.rows[] | .cost'

  nodellm-orm usage --by day,model --plot

  nodellm-orm usage --by week --plot --measure latency

  nodellm-orm usage --by day,metadata.team --since 2026-03-01 --until 2026-04-01 --html march.html
"""


def usage(
    *,
    by: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Any of hour, day, week, month, model, provider, owner, chat, operation, status and metadata.KEY, "
            "with commas between them; '' for one row over all.",
        ),
    ] = "day",
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="From this day on, or this moment: 2026-03-01, 2026-03-01T12:00+01:00."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Before this day or moment; it is not meant itself.")
    ] = None,
    owner: Annotated[
        str | None, typer.Option("--owner", metavar="NAME", help="Only this owner's; everybody's when left out.")
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's, as when --owner is left out.")] = False,
    time_zone: Annotated[
        str, typer.Option("--time-zone", metavar="NAME", help="Whose days: Europe/Berlin, for instance.")
    ] = "UTC",
    as_csv: Annotated[
        bool, typer.Option("--csv", help="CSV for spreadsheets; texts that look like formulas begin with '.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="JSON for programs; costs are text, so that they stay exact.")
    ] = False,
    plot: Annotated[
        bool, typer.Option("--plot", help="A plot: over time where --by names a time, otherwise a bar a group.")
    ] = False,
    measure: Annotated[
        Measure | None, typer.Option("--measure", help="What --plot shows; cost when left out.", show_default=False)
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(
            "--html", metavar="FILE", help="One page with charts; a file that is there is replaced. - for stdout."
        ),
    ] = None,
    rollup: Annotated[
        bool,
        typer.Option(
            "--rollup", help="Take whole hours from where nodellm-orm rollup has added them up; without p50 and p95."
        ),
    ] = False,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Add up requests, tokens, costs and times; what deleted chats have cost is in it.

    Times are those within which 50 and 95 of 100 answers were complete. A cost with a + lacks requests whose price is
    not known.
    """
    _refuse_two({"--csv": as_csv, "--json": json, "--plot": plot, "--html": html is not None})
    if measure is not None and not plot:
        msg = "--measure says what --plot shows; give --plot too"
        raise ConfigurationError(msg)
    if rollup and measure is Measure.LATENCY:
        msg = "--rollup has no times; leave it out to see --measure latency"
        raise ConfigurationError(msg)
    if everybody and owner is not None:
        msg = "--owner and --all exclude each other; give one of them"
        raise ConfigurationError(msg)
    names = [name.strip() for name in by.split(",")] if by.strip() else []
    question = Question(
        database=database,
        names=names,
        since=moment("--since", since),
        until=moment("--until", until),
        owner=owner,
        time_zone=time_zone,
        rollup=rollup,
        records=records,
    )
    if plot:
        asyncio.run(plots.plot(question, measure or Measure.COST))
        return
    if html is not None:
        asyncio.run(pages.write(question, html))
        return
    rows = asyncio.run(question.rows())
    if json:
        results().out(_machine(rows), highlight=False)
    elif as_csv:
        results().out(_sheet(names, rows), highlight=False, end="")
    elif rows and any(row.requests for row in rows):
        results().print(_table(names, rows))
    else:
        remarks().print("There are no such requests.")


def _refuse_two(forms: Mapping[str, bool]) -> None:
    given = [name for name, wanted in forms.items() if wanted]
    if len(given) > 1:
        msg = f"{given[0]} and {given[1]} exclude each other; give one of them"
        raise ConfigurationError(msg)


def _table(names: Sequence[str], rows: Sequence[UsageRow]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), expand=False)
    for name in names:
        table.add_column(title(name), overflow="fold", no_wrap=name in UNITS)
    for measured in ("Requests", "Failed", "Input", "Output", "Cost", "p50", "p95"):
        table.add_column(measured, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            *(one_line(word(row.keys[name])) for name in names),
            *(count(number) for number in (row.requests, row.failures, row.input_tokens, row.output_tokens)),
            money(row.cost, unpriced=row.unpriced),
            *(duration(None if time is None else time / 1000) for time in (row.latency_p50, row.latency_p95)),
        )
    return table


def _sheet(names: Sequence[str], rows: Sequence[UsageRow]) -> str:
    """CSV whose first line has the names."""
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\n")
    writer.writerow([cell(name) for name in (*names, *MEASURES)])
    writer.writerows(map(cell, _values(names, row)) for row in rows)
    return sheet.getvalue()


def _values(names: Sequence[str], row: UsageRow) -> Iterator[object]:
    yield from (row.keys[name] for name in names)
    yield from (getattr(row, name) for name in MEASURES)


def cell(value: object) -> str:
    """A value as a cell of CSV: a number as it is, a text never as a formula.

    Args:
        value: of a report.

    Example:
        >>> cell("=1+1"), cell("-1"), cell(-1), cell(None)
        ("'=1+1", "'-1", '-1', '')
    """
    match value:
        case None:
            return ""
        case bool():
            return json_text.dumps(value)
        case int() | float():
            return str(value)
        case Decimal():
            return f"{value:f}"
        case datetime() | date():
            return value.isoformat()
    text = word(value)
    # What a terminal might obey is shown as an escape, since CSV is not only redirected but looked at.
    return f"'{printable(text)}" if text[:1] in _FORMULAS else printable(text)


def _machine(rows: Sequence[UsageRow]) -> str:
    # ASCII only: nothing in it can reach a terminal as a command, and every program can read it.
    told = [{"keys": dict(row.keys), **{name: getattr(row, name) for name in MEASURES}} for row in rows]
    return json_text.dumps({"rows": told}, indent=2, default=_plain)


def _plain(value: object) -> str:
    match value:
        case Decimal():
            return f"{value:f}"
        case datetime() | date():
            return value.isoformat()
        case _:
            return str(value)
