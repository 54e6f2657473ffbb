"""What the ``alembic`` command line, and hosts that call Alembic with our configuration, run our revisions with.

The library itself does not come through here: ``nodellm_orm.store.revisions`` runs the scripts directly.

The database is that of ``NODELLM_DATABASE_URL``, or ``sqlalchemy.url`` of the ini file, or a connection given as
``config.attributes["connection"]``; ``-x prefix=… -x schema=…`` choose other tables.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from alembic import context
from sqlalchemy import make_url

from nodellm_orm.store.define import define_records
from nodellm_orm.store.engine import make_engine
from nodellm_orm.store.naming import Naming, usable
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.revisions import version_options
from nodellm_orm.store.schema_lock import exclusive
from nodellm_orm.store.steps import Steps
from nodellm_orm.store.wordtables import COLUMN, index_name

if TYPE_CHECKING:
    from sqlalchemy import Connection

_WAIT = 60.0
"""Seconds to wait for another process that migrates."""


def _naming() -> Naming:
    given = context.get_x_argument(as_dictionary=True)
    return usable(Naming(given.get("prefix", "llm_"), given.get("schema")))


def _options(naming: Naming) -> dict[str, Any]:
    records = RECORDS if naming == RECORDS.naming else define_records(prefix=naming.prefix, schema=naming.schema)
    ours = {table.name for table in records.tables}

    def include_name(name: str | None, type_: str, parents: object) -> bool:
        del parents
        match type_:
            case "table":
                return name in ours
            case "index" | "column":
                return name not in {index_name(naming), COLUMN}  # the optional index of words
            case _:
                return True

    return {
        **version_options(naming),
        "target_metadata": records.metadata,
        "include_name": include_name,
        "compare_type": True,
        "compare_server_default": True,
    }


def _url() -> str:
    url = os.environ.get("NODELLM_DATABASE_URL") or context.config.get_main_option("sqlalchemy.url")
    if not url:
        msg = "no database is named; set NODELLM_DATABASE_URL, or sqlalchemy.url in alembic.ini"
        raise SystemExit(msg)
    return url


def _run(connection: Connection) -> None:
    naming = _naming()
    with exclusive(connection, naming, wait=_WAIT):
        sqlite = connection.dialect.name == "sqlite"
        context.configure(connection=connection, render_as_batch=sqlite, **_options(naming))
        context.run_migrations(steps=Steps(context, naming))


def _write() -> None:
    naming = _naming()
    dialect = make_url(_url()).get_backend_name()
    context.configure(
        dialect_name=dialect,
        dialect_opts={"paramstyle": "named"},
        transactional_ddl=dialect in {"sqlite", "postgresql"},
        **_options(naming),
    )
    with context.begin_transaction():
        context.run_migrations(steps=Steps(context, naming))


async def _connect() -> None:
    engine = make_engine(_url())
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


if context.is_offline_mode():
    _write()
elif (given := context.config.attributes.get("connection")) is not None:
    _run(given)
else:
    asyncio.run(_connect())
