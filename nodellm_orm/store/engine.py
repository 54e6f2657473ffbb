"""An engine with the settings that chats are best kept with; a host's own engine works too and is never changed."""

from __future__ import annotations

import asyncio
import math
import random
import re
import sqlite3
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event, make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import AdaptedConnection
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

DEADLINE_OPTION: Final = "nodellm_deadline"
"""The engine's execution option that holds its deadline in seconds, for the store to obey."""

_DRIVERS: Final = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mysql": "aiomysql", "mariadb": "aiomysql"}
_MYSQL: Final = frozenset({"mysql", "mariadb"})
_FORMS: Final = "sqlite:///chats.db, postgresql://user@host/name or mysql://user@host/name"
_STRICT: Final = "SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@SESSION.sql_mode, ''), 'STRICT_TRANS_TABLES')"
_WAL_ATTEMPTS: Final = 40
_WAL_PAUSE: Final = 0.025
"""Seconds on average: connections that waited equally long would meet again."""


def make_engine(url: str | URL, *, deadline: float = 30.0, **options: Any) -> AsyncEngine:
    """Make an asynchronous engine with the recommended settings.

    Connections are tested before use, PostgreSQL and MySQL run at READ COMMITTED, MySQL speaks ``utf8mb4`` in strict
    mode, SQLite keeps a write-ahead log, enforces foreign keys and waits for locks, and an in-memory SQLite database
    has a single connection. Errors show no values that were bound to statements.

    Args:
        url: the database's URL; without a driver (``postgresql://``, ``mysql://``, ``mariadb://``, ``sqlite:///``)
            the one this package is tested with is taken.
        deadline: seconds that getting a connection, and each durable point of a turn, may take.
        options: further keyword arguments of `sqlalchemy.ext.asyncio.create_async_engine`; they win over ours.

    Raises:
        ConfigurationError: the URL is malformed, or names a database or driver that is not supported or installed.

    Example:
        >>> make_engine("sqlite:///chats.db").url.drivername
        'sqlite+aiosqlite'
    """
    refuse_deadline("deadline", deadline)
    chosen = _with_driver(_parsed(url))
    engine = _created(chosen, _merged(_settings(chosen, deadline), options))
    if chosen.get_backend_name() == "sqlite":
        _tune_sqlite(engine, chosen, deadline)
    return engine


def _parsed(url: str | URL) -> URL:
    if isinstance(url, str):
        # What several hosting companies hand out.
        url = re.sub(r"^postgres(?=[+:])", "postgresql", url)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The cause would quote parts of the URL, in which there may be a password.
        msg = f"the database URL is malformed (it is not shown here); write it like {_FORMS}"
        raise ConfigurationError(msg) from None
    if parsed.get_backend_name() not in _DRIVERS:
        msg = f"the database {parsed.get_backend_name()!r} is not supported; use a URL like {_FORMS}"
        raise ConfigurationError(msg)
    return parsed


def _with_driver(url: URL) -> URL:
    """Choose the driver where none is named, and translate what its plain form says differently."""
    backend = url.get_backend_name()
    if "+" not in url.drivername:
        url = url.set(drivername=f"{backend}+{_DRIVERS[backend]}")
        if backend == "postgresql" and "sslmode" in url.query:
            sslmode = url.query["sslmode"]
            url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": sslmode})
    if backend in _MYSQL:
        if url.query.get("charset", "utf8mb4") != "utf8mb4":
            msg = f"charset={url.query['charset']} cannot hold every character; leave it out of the database URL"
            raise ConfigurationError(msg)
        url = url.update_query_dict({"charset": "utf8mb4"})
    return url


def refuse_deadline(name: str, seconds: object) -> None:
    """Refuse what is no length of time.

    Args:
        name: of the argument.
        seconds: as given.

    Raises:
        ConfigurationError: it is no number, or none above zero.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        msg = f"{name}={seconds!r:.100} is not a positive number of seconds; leave it out or give one, such as 30.0"
        raise ConfigurationError(msg)


def _settings(url: URL, deadline: float) -> dict[str, Any]:
    """The keyword arguments for `create_async_engine`."""
    settings: dict[str, Any] = {
        "pool_pre_ping": True,
        "hide_parameters": True,
        "execution_options": {DEADLINE_OPTION: deadline},
    }
    driver = url.drivername.partition("+")[2]
    if url.get_backend_name() == "sqlite":
        return {**settings, **({"poolclass": StaticPool} if _in_memory(url) else {"pool_timeout": deadline})}
    settings |= {"isolation_level": "READ COMMITTED", "pool_timeout": deadline}
    match driver:
        case "asyncpg":
            settings["connect_args"] = {"timeout": deadline}
        case "aiomysql" | "asyncmy":
            settings["connect_args"] = {"connect_timeout": deadline, "init_command": _STRICT}
        case _:
            pass
    return settings


def _merged(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Both, theirs winning; where both are dictionaries, member by member."""
    merged = {**ours, **theirs}
    for name in ("connect_args", "execution_options"):
        if name in ours and name in theirs:
            merged[name] = {**ours[name], **theirs[name]}
    if "poolclass" in theirs and "pool_timeout" not in theirs:
        # A pool that the caller chose may not know our timeout.
        merged.pop("pool_timeout", None)
    return merged


def _created(url: URL, settings: dict[str, Any]) -> AsyncEngine:
    backend, _, driver = url.drivername.partition("+")
    ours = _DRIVERS[backend]
    try:
        return create_async_engine(url, **settings)
    except ImportError as error:
        package = "nodellm_orm[mysql]" if driver == "aiomysql" else "nodellm_orm" if driver == ours else driver
        msg = f"the driver {driver!r} for {backend} is not installed; run: pip install '{package}'"
        raise ConfigurationError(msg) from error
    except (NoSuchModuleError, InvalidRequestError):
        msg = f"{driver!r} is not an asynchronous driver for {backend}; write {backend}:// or {backend}+{ours}://"
        raise ConfigurationError(msg) from None
    except (ArgumentError, TypeError) as error:
        msg = f"the engine does not accept these options: {error}; correct what was given to make_engine"
        raise ConfigurationError(msg) from error


def _in_memory(url: URL) -> bool:
    return url.database in {None, "", ":memory:", "file::memory:"} or url.query.get("mode") == "memory"


def _tune_sqlite(engine: AsyncEngine, url: URL, deadline: float) -> None:
    """Set up every new connection, and make savepoints begin the transaction that they belong to."""
    # A third: a transaction that met a lock can be tried again before the deadline.
    patience = max(1, int(deadline * 1000 / 3))
    wal = not _in_memory(url)

    @event.listens_for(engine.sync_engine, "connect")
    def set_up(connection: AdaptedConnection, entry: ConnectionPoolEntry) -> None:
        del entry
        connection.run_async(lambda driver: _set_up(driver, patience, wal=wal))

    @event.listens_for(engine.sync_engine, "savepoint")
    def begin(connection: Connection, name: str | None) -> None:
        # The driver begins a transaction at the first INSERT, UPDATE or DELETE only: a savepoint before that would be
        # a transaction of its own, and its release a commit. IMMEDIATE, because a savepoint is about to write.
        del name
        if not connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
            connection.exec_driver_sql("BEGIN IMMEDIATE")


async def _set_up(driver: Any, patience: int, *, wal: bool) -> None:
    if wal:
        await _write_ahead(driver)
    await _pragma(driver, f"busy_timeout = {patience}")
    await _pragma(driver, "foreign_keys = ON")


async def _write_ahead(driver: Any) -> None:
    """Turn the write-ahead log on: it stays on in the file, so that one connection has to succeed once.

    Where it cannot be had (a read-only file, other connections that stay) the database works without it; a connection
    that is opened later tries again.
    """
    await _pragma(driver, "busy_timeout = 0")
    for _ in range(_WAL_ATTEMPTS):
        try:
            if await _pragma(driver, "journal_mode = WAL") == "wal":
                return
        except sqlite3.OperationalError as error:
            # Without what the extended code says of it: a log that is being recovered is busy, too.
            if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                return
        # Locked, with an error or without one: SQLite may also just answer with the old mode.
        await asyncio.sleep(_WAL_PAUSE * random.uniform(0.2, 1.8))  # noqa: S311 - nothing is kept secret by it


async def _pragma(driver: Any, setting: str) -> object:
    """What the database answers, or None."""
    async with driver.execute(f"PRAGMA {setting}") as cursor:
        row = await cursor.fetchone()
    return None if row is None else row[0]
