"""Databases to test on: a SQLite file, or a database of its own, with a random name, on a server of the machine.

A server that cannot be reached means that the test is skipped; where ``CI=true`` it is a failure.
"""

from __future__ import annotations

import os
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

DatabaseKind: TypeAlias = Literal["sqlite", "postgresql", "mysql"]

_SERVERS: Final = {
    "postgresql": ("NODELLM_TEST_POSTGRES_URL", "postgresql+asyncpg://postgres@127.0.0.1:5432/"),
    "mysql": ("NODELLM_TEST_MYSQL_URL", "mysql+aiomysql://root@127.0.0.1:3306/"),
}
_UNREACHABLE: Final[dict[DatabaseKind, str]] = {}

KINDS: Final = tuple(
    kind if kind == "sqlite" else pytest.param(kind, marks=getattr(pytest.mark, kind))
    for kind in get_args(DatabaseKind)
)
"""Parameters for a fixture that stands for each database in turn."""


def server_url(kind: DatabaseKind) -> URL:
    """The URL of a server, without a database."""
    variable, default = _SERVERS[kind]
    return make_url(os.environ.get(variable) or default)


def _administrator(kind: DatabaseKind) -> AsyncEngine:
    database = "postgres" if kind == "postgresql" else None
    return create_async_engine(
        server_url(kind).set(database=database), isolation_level="AUTOCOMMIT", poolclass=NullPool
    )


async def _execute(kind: DatabaseKind, statement: str) -> None:
    engine = _administrator(kind)
    try:
        async with engine.connect() as connection:
            await connection.execute(text(statement))
    finally:
        await engine.dispose()


async def _create(kind: DatabaseKind, name: str) -> None:
    if kind not in _UNREACHABLE:
        try:
            await _execute(kind, f"CREATE DATABASE {name}")
        except (OSError, DBAPIError) as error:
            _UNREACHABLE[kind] = f"{server_url(kind)!r} cannot be used: {error}"
    if kind in _UNREACHABLE:
        if os.environ.get("CI") == "true":
            pytest.fail(_UNREACHABLE[kind])
        pytest.skip(_UNREACHABLE[kind])


@asynccontextmanager
async def empty_database(kind: DatabaseKind, folder: Path) -> AsyncIterator[str]:
    """The URL of a new, empty database, which is dropped in the end.

    Args:
        kind: which database.
        folder: where a SQLite file may be.
    """
    name = f"nodellm_{secrets.token_hex(8)}"
    if kind == "sqlite":
        yield f"sqlite+aiosqlite:///{folder / name}.db"
        return
    await _create(kind, name)
    try:
        yield server_url(kind).set(database=name).render_as_string(hide_password=False)
    finally:
        await _execute(kind, f"DROP DATABASE {name}" + (" WITH (FORCE)" if kind == "postgresql" else ""))
