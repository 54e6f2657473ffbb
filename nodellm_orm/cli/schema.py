"""The commands `db …`: make and upgrade the tables, and tell whether they fit."""

import asyncio
from typing import Annotated, Final

import typer

from nodellm_orm.cli.commands import Command, command_line
from nodellm_orm.cli.consoles import results
from nodellm_orm.cli.database import DEFAULT, Database, OwnRecords, existing, named, opened, shown, stored_records
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.search.keeping import create_search_index, drop_search_index
from nodellm_orm.store import schema
from nodellm_orm.store.engine import make_engine

_EXAMPLES: Final = """
Examples:

  nodellm-orm db upgrade -d postgresql://app@localhost/app

  nodellm-orm db upgrade --sql -d mysql:// > upgrade.sql
"""
_CHECK_EXAMPLES: Final = """
Example:

  nodellm-orm db check || nodellm-orm db upgrade
"""
_CURRENT_EXAMPLES: Final = """
Example:

  nodellm-orm db current -d sqlite:///chats.db
"""
_INDEX_EXAMPLES: Final = """
Examples:

  nodellm-orm db search-index

  nodellm-orm db search-index --drop
"""

db: Final = command_line(name="db", help="Make and upgrade the tables.", no_args_is_help=True)


@db.command(cls=Command, epilog=_EXAMPLES)
def upgrade(
    *,
    sql: Annotated[
        bool, typer.Option("--sql", help="Write the SQL to stdout and change nothing; no connection is made.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="REVISION", help="With --sql: where the database is now, if not empty."),
    ] = None,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Make the tables, or upgrade them; do nothing when they fit already."""
    if sql:
        results().out(schema.sql(database, from_revision=since, records=stored_records(records)), highlight=False)
        return
    if since is not None:
        msg = "--from goes with --sql; without it, the database itself tells where it is"
        raise ConfigurationError(msg)
    asyncio.run(_upgrade(database, records))


async def _upgrade(database: str, records: str | None) -> None:
    stored = stored_records(records)
    engine = make_engine(database)
    if engine.url.get_backend_name() == "sqlite" and not named(engine.url):
        msg = f"a database in memory is gone when this command ends; name a file, such as {DEFAULT}"
        raise ConfigurationError(msg)
    try:
        before = await schema.current(engine, records=stored)
        await schema.migrate(engine, records=stored)
        after = await schema.current(engine, records=stored)
    finally:
        await engine.dispose()
    way = "was there already" if before == after else f"from {before}" if before else "tables made"
    results().print(f"{shown(engine.url)} is at revision {after} ({way}).", soft_wrap=True)


@db.command(cls=Command, epilog=_CURRENT_EXAMPLES)
def current(*, database: Database = DEFAULT, records: OwnRecords = None) -> None:
    """Tell the revision the tables are at; "none" when there are no tables."""
    asyncio.run(_current(database, records))


async def _current(database: str, records: str | None) -> None:
    stored = stored_records(records)
    async with existing(database) as engine:
        revision = await schema.current(engine, records=stored)
    results().print(revision or "none")


@db.command(cls=Command, epilog=_CHECK_EXAMPLES)
def check(*, database: Database = DEFAULT, records: OwnRecords = None) -> None:
    """Make sure that the tables fit this release; exit with 1 when they do not."""
    asyncio.run(_check(database, records))


async def _check(database: str, records: str | None) -> None:
    async with opened(database, records) as (engine, stored):
        revision = await schema.current(engine, records=stored)
    results().print(f"{shown(engine.url)} fits: revision {revision}.", soft_wrap=True)


@db.command("search-index", cls=Command, epilog=_INDEX_EXAMPLES)
def search_index(
    *,
    drop: Annotated[bool, typer.Option("--drop", help="Remove it, and every word in it.")] = False,
    database: Database = DEFAULT,
    records: OwnRecords = None,
) -> None:
    """Make an index of the words in messages, so that searches are quick.

    Chats are written a little more slowly from then on. PostgreSQL builds it while chats are in use; MySQL and SQLite
    let whoever writes wait until it is there. Without it, searches find the same.
    """
    asyncio.run(_search_index(database, records, drop=drop))


async def _search_index(database: str, records: str | None, *, drop: bool) -> None:
    async with opened(database, records) as (engine, stored):
        if drop:
            was_there = await drop_search_index(engine, records=stored)
            told = "has no index of words any more" if was_there else "has no index of words"
        else:
            await create_search_index(engine, records=stored)
            told = "has an index of words"
    results().print(f"{shown(engine.url)} {told}.", soft_wrap=True)
