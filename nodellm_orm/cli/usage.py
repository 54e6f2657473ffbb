"""The command `usage`: what was used and spent, as a table, as CSV or as JSON."""

import asyncio
import csv
import io
import json as json_text
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Final

import typer
from rich.table import Table

from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, Database, existing
from nodellm_orm.domain.figures import NONE, count, duration, money
from nodellm_orm.domain.printable import one_line, printable
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.reporting.report import usage_report
from nodellm_orm.reporting.rows import MEASURES, UsageRow
from nodellm_orm.store.schema import check

_FORMULAS: Final = frozenset("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 — spreadsheets take the wide signs for the others
"""What a spreadsheet takes for the beginning of a formula, or drops to find one behind it."""

_TIMES: Final = ("hour", "day", "week", "month")

EXAMPLES: Final = """
Examples:

  nodellm-orm usage

  nodellm-orm usage --by month,model,metadata.team --since 2026-01-01 --time-zone Europe/Berlin

  nodellm-orm usage --by owner --csv > owners.csv

  nodellm-orm usage --by chat --owner ann --json | jq '.rows[] | .cost'
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
    database: Database = DEFAULT,
) -> None:
    """Add up requests, tokens, costs and times; what deleted chats have cost is in it.

    Times are those within which 50 and 95 of 100 answers were complete. A cost with a + lacks requests whose price is
    not known.
    """
    if as_csv and json:
        msg = "--csv and --json exclude each other; give one of them"
        raise ConfigurationError(msg)
    if everybody and owner is not None:
        msg = "--owner and --all exclude each other; give one of them"
        raise ConfigurationError(msg)
    names = [name.strip() for name in by.split(",")] if by.strip() else []
    limits = (_time("--since", since), _time("--until", until))
    rows = asyncio.run(_rows(database, names, limits, owner=owner, time_zone=time_zone))
    if json:
        results().out(_machine(rows), highlight=False)
    elif as_csv:
        results().out(_sheet(names, rows), highlight=False, end="")
    elif rows and any(row.requests for row in rows):
        results().print(_table(names, rows))
    else:
        remarks().print("There are no such requests.")


async def _rows(
    database: str,
    names: Sequence[str],
    limits: tuple[datetime | date | None, datetime | date | None],
    *,
    owner: str | None,
    time_zone: str,
) -> list[UsageRow]:
    since, until = limits
    async with existing(database) as engine:
        await check(engine)
        return await usage_report(
            engine,
            group_by=names,
            since=since,
            until=until,
            # An owner who is the empty text is not everybody.
            owner=ANY_OWNER if owner is None else owner,
            time_zone=time_zone,
        )


def _time(option: str, text: str | None) -> datetime | date | None:
    """A day, or a moment with its offset."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None:
        msg = (
            f"{option} {text[:40]!r} is neither a day nor a moment with its offset; write 2026-03-01, "
            "2026-03-01T12:00Z or 2026-03-01T12:00+01:00"
        )
        raise ConfigurationError(msg)
    return moment


def _table(names: Sequence[str], rows: Sequence[UsageRow]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), expand=False)
    for name in names:
        table.add_column(one_line(name.removeprefix("metadata.")), overflow="fold", no_wrap=name in _TIMES)
    for title in ("Requests", "Failed", "Input", "Output", "Cost", "p50", "p95"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            *(one_line(_word(row.keys[name])) for name in names),
            *(count(number) for number in (row.requests, row.failures, row.input_tokens, row.output_tokens)),
            money(row.cost, unpriced=row.unpriced),
            *(duration(None if time is None else time / 1000) for time in (row.latency_p50, row.latency_p95)),
        )
    return table


def _word(value: object) -> str:
    """What a group is named by, for people."""
    match value:
        case None:
            return NONE
        case str():
            return value
        case datetime():
            return f"{value:%Y-%m-%d %H:%M %z}"
        case bool() | int() | float() | list() | dict():
            return json_text.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


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
    text = _word(value)
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
