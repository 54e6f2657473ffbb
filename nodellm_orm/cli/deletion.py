"""The commands `delete` and `purge`: content goes for good, what it has cost stays in the ledger."""

import asyncio
import json as json_text
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Final
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, Database, Owner, OwnRecords, opened
from nodellm_orm.cli.ids import ChatId
from nodellm_orm.domain.figures import count, counted
from nodellm_orm.domain.printable import one_line
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.access import open_access
from nodellm_orm.store.deletion import is_stored, remove
from nodellm_orm.store.glances import read_glances
from nodellm_orm.store.guard import not_found
from nodellm_orm.upkeep.retention import NOT_GIVEN, PurgeReport, purge, purgeable

_UNITS: Final = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_DURATION: Final = re.compile(r"(\d{1,6})([wdhms])")

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]

EXAMPLES: Final = """
Example:

  nodellm-orm delete 0199a4d0-7c1e-7b3a-9d7e-3f1f0c6f2a10
"""
PURGE_EXAMPLES: Final = """
Examples:

  nodellm-orm purge --older-than 90d --dry-run

  nodellm-orm purge --older-than 90d --owner ann --yes

  nodellm-orm purge --owner ann
"""


def delete(
    chat_id: ChatId,
    *,
    owner: Owner = None,
    yes: Yes = False,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Delete a chat with everything that was said in it; its costs stay in the ledger."""
    asyncio.run(_delete(database, records, chat_id, owner=owner, yes=yes))


async def _delete(database: str, records: str | None, chat_id: UUID, *, owner: str | None, yes: bool) -> None:
    # An owner who is the empty text is not everybody.
    whose = ANY_OWNER if owner is None else owner
    async with opened(database, records) as (engine, stored):
        access, tables = open_access(engine, stored), stored.tables
        if not await access.read(lambda connection: is_stored(connection, tables, chat_id, whose)):
            not_found(chat_id)
        if not yes:
            glance = (await read_glances(engine, [chat_id], owner=whose, records=stored)).by_chat[chat_id]
            _ask(f"Delete chat {chat_id} ({one_line(glance.opening, 40) or 'no question yet'}) for good?")
        removed = await remove(access, tables, chat_id, whose)
    results().print(f"deleted: chat {chat_id} with {count(removed.messages)} messages", soft_wrap=True)


def purge_chats(
    *,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="TIME", help="Chats last used before: 90d, 12h, 4w, 30m or 0s."),
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(
            "--owner",
            metavar="NAME",
            help="Only this owner's; everybody's when left out. Without --older-than he is erased altogether.",
        ),
    ] = None,
    keep_labels: Annotated[
        bool, typer.Option("--keep-labels", help="Leave an erased owner's ledger rows their labels.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Chats at most.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell how many chats it would be.")] = False,
    yes: Yes = False,
    json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Delete the chats that were not used for some time, or everything of one owner; the costs stay in the ledger.

    What is deleted is gone for good, but not from your backups. A purge that was broken off is carried on by the next
    one. Exits with 1 when chats had to be kept because rows of your own tables refer to them.
    """
    if older_than is None and owner is None:
        msg = "say what is to go: --older-than 90d for old chats, --owner NAME for everything of one owner, or both"
        raise ConfigurationError(msg)
    run = _Run(older_than=None if older_than is None else duration(older_than), owner=owner)
    if dry_run:
        due = asyncio.run(run.due(database, records))
        told = {"chats": due, "dry_run": True}
        line = f"{counted(due, 'chats')} {run.which} would be deleted; nothing is."
        results().out(json_text.dumps(told, indent=2) if json else line, highlight=False)
        return
    report = asyncio.run(run(database, records, keep_labels=keep_labels, limit=limit, yes=yes))
    if json:
        results().out(json_text.dumps(asdict(report), indent=2, default=str), highlight=False)
    else:
        _show(report)
    if report.referenced:
        raise typer.Exit(1)


def duration(text: str) -> timedelta:
    """A duration as it is typed.

    Args:
        text: a number and its unit: ``w``, ``d``, ``h``, ``m`` or ``s``.

    Raises:
        ConfigurationError: it is none.

    Example:
        >>> duration("90d"), duration("0s")
        (datetime.timedelta(days=90), datetime.timedelta(0))
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        msg = f"{text[:40]!r} is no duration; write a number and its unit, such as 90d, 12h, 4w, 30m or 0s"
        raise ConfigurationError(msg)
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


class _Run:
    """What is to be purged."""

    def __init__(self, *, older_than: timedelta | None, owner: str | None) -> None:
        self._older_than = older_than
        self._owner = owner
        self._whose = owner if owner is not None else ANY_OWNER if older_than is not None else NOT_GIVEN

    async def due(self, database: str, records: str | None) -> int:
        """How many chats it is."""
        async with opened(database, records) as (engine, stored):
            return await purgeable(engine, older_than=self._older_than, owner=self._whose, records=stored)

    async def __call__(
        self, database: str, records: str | None, *, keep_labels: bool, limit: int | None, yes: bool
    ) -> PurgeReport:
        async with opened(database, records) as (engine, stored):
            due = await purgeable(engine, older_than=self._older_than, owner=self._whose, records=stored)
            if not yes:
                _ask(self._question(due))
            with _bar(due if limit is None else min(due, limit)) as progress:
                return await purge(
                    engine,
                    older_than=self._older_than,
                    owner=self._whose,
                    keep_labels=keep_labels,
                    limit=limit,
                    progress=progress,
                    records=stored,
                )

    @property
    def which(self) -> str:
        """The chats, in words."""
        whose = "of every owner" if self._owner is None else f"of owner {one_line(repr(self._owner), 80)}"
        return whose if self._older_than is None else f"{whose}, not used for {self._older_than},"

    def _question(self, due: int) -> str:
        if self._older_than is not None:
            return f"Delete {counted(due, 'chats')} {self.which} for good?"
        return (
            f"Erase {counted(due, 'chats')} {self.which}, with files and texts, and his name from the ledger, for good?"
        )


def _ask(question: str) -> None:
    """Go on only after a yes.

    Raises:
        ConfigurationError: there is nobody to ask.
    """
    if not sys.stdin.isatty():
        msg = "nobody can be asked here whether to delete; add --yes"
        raise ConfigurationError(msg)
    # An event loop that runs keeps Ctrl-C for its task, which would not hear of it before an answer is typed.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        typer.confirm(question, abort=True, err=True)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[PurgeReport], None]]:
    """A bar on a terminal; it is gone in the end."""
    console = remarks()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("chats", total=total)

        def told(report: PurgeReport) -> None:
            progress.update(task, completed=report.chats, total=max(total, report.chats))

        yield told


def _show(report: PurgeReport) -> None:
    console = results()
    names = ("chats", "messages", "blobs", "texts")
    shown = {"blobs": "files"}
    told = ", ".join(counted(getattr(report, name), shown.get(name, name)) for name in names)
    console.print(f"deleted: {told}", soft_wrap=True)
    if report.requests:
        console.print(f"made anonymous: {counted(report.requests, 'rows')} of the ledger", soft_wrap=True)
    if report.referenced:
        ids = "\n".join(str(chat_id) for chat_id in report.referenced)
        remarks().print(f"kept, because rows of your own tables refer to them:\n{ids}", soft_wrap=True)
    elif not report.complete:
        remarks().print("more are left; purge again", soft_wrap=True)
