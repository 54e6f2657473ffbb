"""The commands `export` and `import`: chats as a file, and back."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nodellm_orm.cli.consoles import remarks, results
from nodellm_orm.cli.database import DEFAULT, Database, Owner, OwnRecords, missing, named, opened, option_for
from nodellm_orm.domain.figures import count, counted
from nodellm_orm.errors import ConfigurationError, StorageError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.engine import make_engine
from nodellm_orm.transfer.exporting import export_chats
from nodellm_orm.transfer.importing import import_chats
from nodellm_orm.transfer.inserting import AS_IN_FILE
from nodellm_orm.transfer.reports import ExportReport, ImportReport, TransferProgress

_STREAM: Final = "-"
"""The file that is a pipe."""
_BEGINNING: Final = b'{"nodellm_orm":"chats"'
"""What every export begins with."""

EXAMPLES: Final = """
Examples:

  nodellm-orm export chats.jsonl

  nodellm-orm export - --owner ann -d postgresql://app@localhost/app | gzip > ann.jsonl.gz
"""
IMPORT_EXAMPLES: Final = """
Examples:

  nodellm-orm import chats.jsonl -d sqlite:///archive.db

  gunzip -c ann.jsonl.gz | nodellm-orm import - --on-conflict skip
"""


class Conflict(StrEnum):
    """What to do about a chat that is there with something else in it."""

    ERROR = "error"
    SKIP = "skip"


def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; one that is there is replaced. - for stdout.")],
    *,
    owner: Owner = None,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Write chats to a file with everything in them, for nodellm-orm import.

    A file appears when all of it has been written. It is plain text: encrypted chats are written decrypted, with the
    keys of NODELLM_ENCRYPTION_KEYS.
    """
    report = asyncio.run(_export(database, records, file, owner=owner))
    console = remarks() if file == _STREAM else results()
    console.print(
        f"exported: {_counts(report)}, {counted(report.blobs, 'files')}; {count(report.size)} bytes",
        soft_wrap=True,
    )
    if report.missing:
        remarks().print(
            f"{count(report.missing)} files and texts are named and not stored; nodellm-orm verify tells which",
            soft_wrap=True,
        )


def _counts(report: ExportReport | ImportReport) -> str:
    names = ("chats", "messages", "requests")
    return ", ".join(counted(getattr(report, name), name) for name in names)


def _were(chats: int) -> str:
    return f"{counted(chats, 'chats')} {'was' if chats == 1 else 'were'}"


async def _export(database: str, records: str | None, file: str, *, owner: str | None) -> ExportReport:
    _refuse_other_files(file)
    async with opened(database, records) as (engine, stored):
        with _bar() as progress, _reader_may_leave():
            return await export_chats(
                engine,
                sys.stdout.buffer if file == _STREAM else file,
                owner=ANY_OWNER if owner is None else owner,
                records=stored,
                progress=progress,
            )


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """A reader who has seen enough, as `head` does, is no error of the file."""
    try:
        yield
        sys.stdout.flush()
    except StorageError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            raise error.__cause__ from None
        raise


def _refuse_other_files(file: str) -> None:
    """An export that is there may be replaced; anything else is somebody's, the database itself perhaps.

    Raises:
        ConfigurationError: it is a folder, or there is something else in it.
    """
    path = Path(file)
    if file == _STREAM or not path.exists():
        return
    if path.is_dir():
        msg = f"{file!r} is a folder; name a file in it, such as {file.rstrip('/')}/chats.jsonl"
        raise ConfigurationError(msg)
    if path.is_file() and path.stat().st_size:
        with contextlib.suppress(OSError), path.open("rb") as there:
            if there.read(len(_BEGINNING)) == _BEGINNING:
                return
        msg = f"{file!r} is there, and is no export that could be replaced; name another file, or remove it first"
        raise ConfigurationError(msg)


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What nodellm-orm export has written. - for stdin.")],
    *,
    on_conflict: Annotated[
        Conflict,
        typer.Option("--on-conflict", help="About a chat that is there with something else in it: fail, or leave it."),
    ] = Conflict.ERROR,
    owner: Annotated[
        str | None,
        typer.Option("--owner", metavar="NAME", help="Whose the chats become; as the file says when left out."),
    ] = None,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Read chats from a file that nodellm-orm export has written; each is written whole or not at all.

    Chats that are there with the same in them are left alone: an import that was broken off is simply run again. With
    NODELLM_ENCRYPTION_KEYS, what is written is encrypted.
    """
    report = asyncio.run(_import(database, records, file, on_conflict, owner=owner))
    results().print(
        f"imported: {_counts(report)}; {_were(report.unchanged)} there already",
        soft_wrap=True,
    )
    if report.kept:
        ids = "\n".join(map(str, report.kept))
        remarks().print(f"left as they are, with something else in them:\n{ids}", soft_wrap=True)
    if report.kept_requests:
        remarks().print(f"left as they are: {count(report.kept_requests)} rows of the ledger", soft_wrap=True)


async def _import(
    database: str, records: str | None, file: str, on_conflict: Conflict, *, owner: str | None
) -> ImportReport:
    await _refuse_missing(database, records)
    async with opened(database, records) as (engine, stored):
        with _bar() as progress:
            return await import_chats(
                engine,
                sys.stdin.buffer if file == _STREAM else file,
                owner=AS_IN_FILE if owner is None else owner,
                on_conflict="skip" if on_conflict is Conflict.SKIP else "error",
                records=stored,
                progress=progress,
            )


async def _refuse_missing(database: str, records: str | None) -> None:
    """An archive is often a new database: say how it is made.

    Raises:
        ConfigurationError: it is a SQLite file that is not there.
    """
    engine = make_engine(database)
    await engine.dispose()
    if missing(engine.url) and (name := named(engine.url)):
        upgrade = f"nodellm-orm db upgrade{option_for(database, engine.url, records)}"
        msg = f"there is no database file {name} yet; make it by: {upgrade}, or name another by --database"
        raise ConfigurationError(msg)


@contextmanager
def _bar() -> Iterator[Callable[[TransferProgress], None]]:
    """A bar on a terminal; it is gone in the end."""
    console = remarks()
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("chats", total=None)

        def told(news: TransferProgress) -> None:
            # The ledger's rows without a chat are not counted beforehand.
            done, total = (news.chats, news.total) if news.stage == "chats" else (news.requests, None)
            progress.update(task, description=news.stage, completed=done, total=total)

        yield told
