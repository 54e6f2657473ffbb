"""Which database and which records a command works on, and how they are told without a password.

A command that opens a database takes ``database: Database = DEFAULT`` and ``records: OwnRecords = None``, and works
within ``async with opened(database, records) as (engine, stored)``: tables that fit, and the records to read them by.
"""

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from nodellm_orm.cli.own import stored_records
from nodellm_orm.errors import ConfigurationError, SchemaVersionError
from nodellm_orm.store.engine import make_engine
from nodellm_orm.store.records import Records
from nodellm_orm.store.schema import check

__all__ = [
    "DEFAULT",
    "VARIABLE",
    "Database",
    "OwnRecords",
    "Owner",
    "existing",
    "missing",
    "named",
    "opened",
    "option_for",
    "refuse_unfit",
    "shown",
    "stored_records",
]

VARIABLE: Final = "NODELLM_DATABASE_URL"
RECORDS_VARIABLE: Final = "NODELLM_RECORDS"
DEFAULT: Final = "sqlite:///chats.db"
PANEL: Final = "Database"
"""What the options of this module stand under in a command's help."""
_IN_MEMORY: Final = ":memory:"

Database: TypeAlias = Annotated[
    str,
    typer.Option(
        "--database",
        "-d",
        envvar=VARIABLE,
        metavar="URL",
        help="sqlite:///chats.db, postgresql://user@host/name or mysql://user@host/name.",
        rich_help_panel=PANEL,
    ),
]
"""The option that names the database."""
OwnRecords: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--records",
        envvar=RECORDS_VARIABLE,
        metavar="MODULE:NAME",
        help="Your own tables: what define_records() gave, such as app.models:RECORDS.",
        rich_help_panel=PANEL,
    ),
]
"""The option that names an application's own records."""
Owner: TypeAlias = Annotated[
    str | None, typer.Option("--owner", metavar="NAME", help="Only chats of this owner; everybody's when left out.")
]
"""The option that names an owner."""


@asynccontextmanager
async def opened(url: str, records: str | None = None) -> AsyncIterator[tuple[AsyncEngine, Records]]:
    """An engine on a database that is there already, with the tables of this release, and the records in it.

    Args:
        url: the database's URL.
        records: ``package.module:NAME`` of an application's own.

    Raises:
        ConfigurationError: the URL is malformed, or names a file that does not exist; or there are no such records.
        SchemaVersionError: the tables are missing, older or newer; says the command that makes them.
    """
    stored = stored_records(records)
    async with existing(url) as engine:
        await refuse_unfit(engine, stored, option_for(url, engine.url, records))
        yield engine, stored


async def refuse_unfit(engine: AsyncEngine, records: Records, same: str) -> None:
    """Refuse tables that are not those of this release.

    Args:
        engine: of the database.
        records: whose tables.
        same: what a further command needs to work on the same database, see `option_for`.

    Raises:
        SchemaVersionError: the tables are missing, older or newer; says the command that makes them.
    """
    try:
        await check(engine, records=records)
    except SchemaVersionError as error:
        upgrade = "nodellm-orm db upgrade"
        raise SchemaVersionError(str(error).replace(upgrade, upgrade + same)) from error


@asynccontextmanager
async def existing(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on a database that is there already.

    Args:
        url: the database's URL.

    Raises:
        ConfigurationError: the URL is malformed, or names a file that does not exist.
    """
    engine = make_engine(url)
    try:
        if missing(engine.url):
            name = named(engine.url)
            kept = f"there is no database file {name}" if name else "a database in memory has no chats"
            msg = (
                f"{kept}; name the one with your chats by --database or {VARIABLE}, or begin it with: nodellm-orm chat"
            )
            raise ConfigurationError(msg)
        yield engine
    finally:
        await engine.dispose()


def missing(url: URL) -> bool:
    """Whether a SQLite database is not there yet (a database in memory never is).

    Args:
        url: of any database.
    """
    if url.get_backend_name() != "sqlite":
        return False
    name = named(url)
    return name is None or (not name.startswith("file:") and not Path(name).is_file())


def named(url: URL) -> str | None:
    """The name of a database's file; ``None`` when it is in memory.

    Args:
        url: of a SQLite database.
    """
    return url.database if url.database and url.database != _IN_MEMORY else None


def shown(url: URL) -> str:
    """The URL as it may be printed: without password, options and driver.

    Args:
        url: of any database.
    """
    plain = URL.create(
        url.get_backend_name(), username=url.username, host=url.host, port=url.port, database=url.database
    )
    return plain.render_as_string()


def option_for(text: str, url: URL, records: str | None = None) -> str:
    """What a further command needs to work on the same database, with a space before it.

    Args:
        text: the URL as it was given.
        url: the same, parsed.
        records: the records as they were given.
    """
    options: list[str] = []
    if text != (os.environ.get(VARIABLE) or DEFAULT):
        secret = url.password is not None or url.query
        options.append("-d (the same URL)" if secret else f"-d {shlex.quote(shown(url))}")
    if records is not None and records != os.environ.get(RECORDS_VARIABLE):
        options.append(f"--records {shlex.quote(records)}")
    return "".join(f" {option}" for option in options)
