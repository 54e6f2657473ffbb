"""Databases to test on: a SQLite file, or a database of its own, with a random name, on a server of the machine.

A server that cannot be reached means that the test is skipped; where ``CI=true`` it is a failure.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import secrets
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from nodellm_orm.store.schema import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

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


async def _drop(kind: DatabaseKind, name: str) -> None:
    await _execute(kind, f"DROP DATABASE {name}" + (" WITH (FORCE)" if kind == "postgresql" else ""))


def _url(kind: DatabaseKind, name: str) -> str:
    return server_url(kind).set(database=name).render_as_string(hide_password=False)


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
        yield _url(kind, name)
    finally:
        await _drop(kind, name)


@asynccontextmanager
async def migrated_database(kind: DatabaseKind, folder: Path) -> AsyncIterator[str]:
    """The URL of a new database with the tables in it, which is dropped in the end.

    The tables are copied from a database that was migrated once in this process, which is several times faster.

    Args:
        kind: which database.
        folder: where a SQLite file may be.
    """
    if kind not in _COPIES:
        _COPIES[kind] = await _COPIED[kind](folder)
    async with _COPIES[kind](folder) as url:
        yield url


async def migrated_file(path: Path) -> None:
    """Make a SQLite file with the tables in it.

    Args:
        path: where there is none yet.
    """
    async with migrated_database("sqlite", path.parent) as url:
        _file(url).rename(path)


async def _migrated(url: str) -> None:
    engine = create_async_engine(url)
    await migrate(engine)
    await engine.dispose()


def _file(url: str) -> Path:
    return Path(str(make_url(url).database))


async def _copied_file(folder: Path) -> Copy:
    """Copies of the bytes of a SQLite file."""
    async with empty_database("sqlite", folder) as url:
        await _migrated(url)
        content = _file(url).read_bytes()

    @asynccontextmanager
    async def copy(folder: Path) -> AsyncIterator[str]:
        async with empty_database("sqlite", folder) as url:
            _file(url).write_bytes(content)
            yield url

    return copy


async def _copied_template(_: Path) -> Copy:
    """Copies that PostgreSQL makes of a database; it is dropped when the process ends."""
    template = f"nodellm_{secrets.token_hex(8)}"
    await _create("postgresql", template)
    atexit.register(lambda: asyncio.run(_drop("postgresql", template)))
    await _migrated(_url("postgresql", template))

    @asynccontextmanager
    async def copy(_: Path) -> AsyncIterator[str]:
        name = f"nodellm_{secrets.token_hex(8)}"
        await _execute("postgresql", f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield _url("postgresql", name)
        finally:
            await _drop("postgresql", name)

    return copy


async def _copied_statements(folder: Path) -> Copy:
    """Copies by the statements with which MySQL says that it would make the same tables."""
    async with empty_database("mysql", folder) as url:
        await _migrated(url)
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            names = (await connection.execute(text("SHOW FULL TABLES"))).all()
            statements = [
                (await connection.execute(text(f"SHOW CREATE {'VIEW' if kind == 'VIEW' else 'TABLE'} {name}"))).one()[1]
                for name, kind in sorted(names, key=lambda row: str(row[1]))  # tables before views
            ]
            version = (await connection.execute(text("SELECT version_num FROM llm_alembic_version"))).scalar_one()
        await engine.dispose()
        own = f"`{make_url(url).database}`."
    script = ["SET foreign_key_checks = 0", *(statement.replace(own, "") for statement in statements)]

    @asynccontextmanager
    async def copy(folder: Path) -> AsyncIterator[str]:
        async with empty_database("mysql", folder) as url:
            engine = create_async_engine(url, poolclass=NullPool)
            async with engine.begin() as connection:
                for statement in script:
                    await connection.exec_driver_sql(statement)
                await connection.execute(
                    text("INSERT INTO llm_alembic_version VALUES (:version)"), {"version": version}
                )
            await engine.dispose()
            yield url

    return copy


Copy: TypeAlias = "Callable[[Path], AbstractAsyncContextManager[str]]"

_COPIED: Final[dict[DatabaseKind, Callable[[Path], Awaitable[Copy]]]] = {
    "sqlite": _copied_file,
    "postgresql": _copied_template,
    "mysql": _copied_statements,
}
_COPIES: Final[dict[DatabaseKind, Copy]] = {}
"""How to make another, once one was migrated."""
