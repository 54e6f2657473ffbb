"""The commands `db …`: make and upgrade the tables, and tell whether they fit."""

import asyncio
from typing import Annotated, Final

import typer

from nodellm_orm.cli.consoles import results
from nodellm_orm.cli.database import DEFAULT, Database, existing, shown
from nodellm_orm.errors import ConfigurationError
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

db: Final = typer.Typer(help="Make and upgrade the tables.", no_args_is_help=True)


@db.command(epilog=_EXAMPLES)
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
) -> None:
    """Make the tables, or upgrade them; do nothing when they fit already."""
    if sql:
        results().out(schema.sql(database, from_revision=since), highlight=False)
        return
    if since is not None:
        msg = "--from goes with --sql; without it, the database itself tells where it is"
        raise ConfigurationError(msg)
    asyncio.run(_upgrade(database))


async def _upgrade(database: str) -> None:
    engine = make_engine(database)
    try:
        before = await schema.current(engine)
        await schema.migrate(engine)
        after = await schema.current(engine)
    finally:
        await engine.dispose()
    way = "was there already" if before == after else f"from {before}" if before else "tables made"
    results().print(f"{shown(engine.url)} is at revision {after} ({way}).", soft_wrap=True)


@db.command(epilog=_CURRENT_EXAMPLES)
def current(*, database: Database = DEFAULT) -> None:
    """Tell the revision the tables are at; "none" when there are no tables."""
    asyncio.run(_current(database))


async def _current(database: str) -> None:
    async with existing(database) as engine:
        revision = await schema.current(engine)
    results().print(revision or "none")


@db.command(epilog=_CHECK_EXAMPLES)
def check(*, database: Database = DEFAULT) -> None:
    """Make sure that the tables fit this release; exit with 1 when they do not."""
    asyncio.run(_check(database))


async def _check(database: str) -> None:
    async with existing(database) as engine:
        await schema.check(engine)
        revision = await schema.current(engine)
    results().print(f"{shown(engine.url)} fits: revision {revision}.", soft_wrap=True)
