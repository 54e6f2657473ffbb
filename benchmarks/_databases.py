"""Databases for measurements only, on servers that are there anyway. It measures nothing itself."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from nodellm_orm import make_engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

POSTGRES: Final = os.environ.get("NODELLM_TEST_POSTGRES_URL", "postgresql+asyncpg://postgres@127.0.0.1:5432/postgres")
"""The PostgreSQL server that is meant when none is named."""


class NoServerError(Exception):
    """No server answers there."""


async def _connected(engine: AsyncEngine) -> AsyncConnection:
    try:
        return await engine.connect()
    except (OSError, DBAPIError) as error:
        msg = f"no {engine.dialect.name} to measure on: {error}"
        raise NoServerError(msg) from error


@asynccontextmanager
async def own_database(url: str, name: str) -> AsyncIterator[str]:
    """The URL of a new database, which is dropped afterwards.

    Args:
        url: of a database on the server.
        name: of the new one; one that a broken-off measurement has left is dropped.

    Raises:
        NoServerError: no server answers.
    """
    parsed = make_url(url)
    administrator = make_engine(url)
    try:
        connection = await _connected(administrator)
        free = await connection.execution_options(isolation_level="AUTOCOMMIT")
        try:
            await free.execute(text(f"DROP DATABASE IF EXISTS {name}"))
            await free.execute(text(f"CREATE DATABASE {name}"))
            try:
                yield parsed.set(database=name).render_as_string(hide_password=False)
            finally:
                await free.execute(text(f"DROP DATABASE {name}"))
        finally:
            await connection.close()
    finally:
        await administrator.dispose()
