"""One process at a time changes the schema; the others wait for it and then find nothing left to do.

PostgreSQL and MySQL have advisory locks for this, which end with their connection; SQLite's write lock is enough.
"""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from nodellm_orm.errors import StorageError
from nodellm_orm.store.failures import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from nodellm_orm.store.naming import Naming

_LOCK_NOT_AVAILABLE = "55P03"


@contextmanager
def exclusive(connection: Connection, naming: Naming, *, wait: float) -> Iterator[None]:
    """Hold the lock for one set of tables, in a transaction that is committed in the end.

    A connection that is in a transaction already stays in it: its caller commits. (On MySQL each DDL statement
    commits it all the same.)

    Args:
        connection: the connection that will change the schema.
        naming: which tables.
        wait: seconds to wait for another process.

    Raises:
        StorageError: another process did not finish in time.
    """
    match connection.dialect.name:
        case "postgresql":
            locked = _postgresql(connection, naming, wait)
        case "mysql" | "mariadb":
            locked = _mysql(connection, naming, wait)
        case _:
            locked = _sqlite(connection, naming, wait)
    with locked:
        yield


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    """A transaction of ours, or the one the caller began."""
    if connection.in_transaction():
        yield
    else:
        with connection.begin():
            yield


@contextmanager
def _postgresql(connection: Connection, naming: Naming, wait: float) -> Iterator[None]:
    key = int.from_bytes(_digest(naming)[:8], signed=True)
    limit = text("SELECT set_config('lock_timeout', :limit, true)")
    with _transaction(connection):
        before = connection.scalar(text("SELECT current_setting('lock_timeout')"))
        connection.execute(limit, {"limit": f"{max(1, int(wait * 1000))}ms"})
        try:
            # Of the transaction, not of the session: behind a pooler a session is not ours.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})
        except DBAPIError as error:
            if code_of(error) == _LOCK_NOT_AVAILABLE:
                raise _busy(wait) from error
            raise
        connection.execute(limit, {"limit": before})
        yield


@contextmanager
def _mysql(connection: Connection, naming: Naming, wait: float) -> Iterator[None]:
    with _transaction(connection):
        # Its locks belong to the server, not to the database.
        database = connection.scalar(text("SELECT DATABASE()"))
        name = f"nodellm_{_digest(naming, str(database)).hex()[:48]}"
        got = connection.scalar(text("SELECT GET_LOCK(:name, :wait)"), {"name": name, "wait": max(1, round(wait))})
    if got != 1:
        raise _busy(wait)
    try:
        with _transaction(connection):
            yield
            # The version must be visible before the next process looks, also where the caller would commit later.
            connection.exec_driver_sql("COMMIT")
    finally:
        try:
            with _transaction(connection):
                connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
        except SQLAlchemyError:
            # The server releases what a closed connection held.
            connection.invalidate()


@contextmanager
def _sqlite(connection: Connection, naming: Naming, wait: float) -> Iterator[None]:
    if connection.in_transaction():
        # The first statement that writes takes the lock; whoever began this transaction chose how long that waits.
        yield
        return
    with _pragmas(connection, busy_timeout=int(wait * 1000), foreign_keys=0), connection.begin():
        _end_driver_transaction(connection)
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except DBAPIError as error:
            if code_of(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                raise _busy(wait) from error
            raise
        broken = _violations(connection, naming)
        yield
        if fresh := _violations(connection, naming) - broken:
            tables = ", ".join(sorted({str(row[0]) for row in fresh}))
            msg = f"the revision would leave rows in {tables} without what they refer to; nothing was changed"
            raise StorageError(msg)


@contextmanager
def _pragmas(connection: Connection, **wanted: int) -> Iterator[None]:
    """Settings of the connection for the while; foreign keys can be switched outside a transaction only.

    They are off because SQLite changes a table by making it anew: dropping the old one would count as deleting rows.
    """
    before: dict[str, Any] = {}
    with connection.begin():
        _end_driver_transaction(connection)
        for name, value in wanted.items():
            before[name] = connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            connection.exec_driver_sql(f"PRAGMA {name} = {value}")
    try:
        yield
    finally:
        with connection.begin():
            _end_driver_transaction(connection)
            for name, value in before.items():
                connection.exec_driver_sql(f"PRAGMA {name} = {value}")


def _end_driver_transaction(connection: Connection) -> None:
    """Some hosts let every transaction begin with a plain BEGIN, which is not what is needed here."""
    driver: Any = connection.connection.driver_connection
    if driver.in_transaction:
        connection.exec_driver_sql("COMMIT")


def _violations(connection: Connection, naming: Naming) -> set[tuple[Any, ...]]:
    """The rows of our tables that refer to nothing; a host without foreign keys may have had some before."""
    names = connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
    ours = [name for name in names.all() if name.startswith(naming.prefix)]
    quoted = [connection.dialect.identifier_preparer.quote(name) for name in ours]
    return {tuple(row) for name in quoted for row in connection.exec_driver_sql(f"PRAGMA foreign_key_check({name})")}


def _digest(naming: Naming, *more: str) -> bytes:
    return hashlib.sha256("\0".join(("nodellm_orm", naming.schema or "", naming.prefix, *more)).encode()).digest()


def _busy(wait: float) -> StorageError:
    msg = f"another process is changing the schema and did not finish within {wait:g} seconds; try again"
    return StorageError(msg)
