"""Which database a command works on, and how it is told without its password."""

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from nodellm_orm.config import ENCRYPTION_KEYS, Environment
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.store.encryption import Encryption
from nodellm_orm.store.engine import make_engine
from nodellm_orm.store.records import RECORDS, Records

VARIABLE: Final = "NODELLM_DATABASE_URL"
DEFAULT: Final = "sqlite:///chats.db"
_IN_MEMORY: Final = ":memory:"

Database: TypeAlias = Annotated[
    str,
    typer.Option(
        "--database",
        "-d",
        envvar=VARIABLE,
        metavar="URL",
        help="The database: sqlite:///chats.db, postgresql://user@host/name or mysql://user@host/name.",
    ),
]
"""The option that names the database."""
Owner: TypeAlias = Annotated[
    str | None, typer.Option("--owner", metavar="NAME", help="Only chats of this owner; everybody's when left out.")
]
"""The option that names an owner."""


def stored_records() -> Records:
    """The records, encrypted with the keys that the environment names; as they are when it names none.

    Raises:
        ConfigurationError: the variable is malformed.
    """
    given = Environment.of(os.environ).word(ENCRYPTION_KEYS) is not None
    return RECORDS.encrypted(Encryption.from_environment()) if given else RECORDS


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
            kept = "a database in memory has no chats"
            if (name := engine.url.database) and name != _IN_MEMORY:
                kept = f"there is no database file {name}"
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
    name = url.database
    return not name or name == _IN_MEMORY or (not name.startswith("file:") and not Path(name).is_file())


def shown(url: URL) -> str:
    """The URL as it may be printed: without password, options and driver.

    Args:
        url: of any database.
    """
    plain = URL.create(
        url.get_backend_name(), username=url.username, host=url.host, port=url.port, database=url.database
    )
    return plain.render_as_string()


def option_for(text: str, url: URL) -> str:
    """What a further command needs to work on the same database, with a space before it.

    Args:
        text: the URL as it was given.
        url: the same, parsed.
    """
    if text == (os.environ.get(VARIABLE) or DEFAULT):
        return ""
    if url.password is not None or url.query:
        return " -d (the same URL)"
    return f" -d {shlex.quote(shown(url))}"
