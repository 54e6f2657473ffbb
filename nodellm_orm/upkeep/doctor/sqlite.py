"""What is SQLite's own."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import DBAPIError

from nodellm_orm.store.failures import code_of
from nodellm_orm.upkeep.doctor.checks import error, ok, skipped, warning
from nodellm_orm.upkeep.doctor.files import file_of
from nodellm_orm.upkeep.doctor.versions import check_version

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from nodellm_orm.store.define import Records
    from nodellm_orm.upkeep.doctor.checks import Check

_LEAST: Final = (3, 24)
"""The first with INSERT … ON CONFLICT."""
_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_READ_AT_ONCE: Final = 2 * 1024**3
"""Bytes of a file that is read through in a reasonable time."""
_PATIENCE: Final = 1000
"""Milliseconds of waiting for a lock that are little."""
_MAKE: Final = "make the engine with make_engine(url)"


def _server(connection: Connection, records: Records) -> Check:
    del records
    version = str(connection.exec_driver_sql("SELECT sqlite_version()").scalar())
    return check_version("SQLite", tuple(int(part) for part in version.split(".")), _LEAST)


def _journal(connection: Connection, records: Records) -> Check:
    del records
    mode = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())
    if mode in {"wal", "memory"}:
        return ok("journal mode", mode)
    told = f"{mode}: a reader and a writer lock each other out"
    return warning("journal mode", told, f"{_MAKE}, which turns the write-ahead log on")


def _waiting(connection: Connection, records: Records) -> Check:
    del records
    patience = int(connection.exec_driver_sql("PRAGMA busy_timeout").scalar() or 0)
    if patience < _PATIENCE:
        return warning("lock timeout", f"a connection waits {patience} ms for a lock", f"{_MAKE}, which waits longer")
    return ok("lock timeout", f"a connection waits {patience} ms for a lock")


def _foreign_keys(connection: Connection, records: Records) -> Check:
    del records
    on = bool(connection.exec_driver_sql("PRAGMA foreign_keys").scalar())
    told = "enforced" if on else "not enforced; this package deletes what belongs to a chat by statements of its own"
    return ok("foreign keys", told)


def _whole(connection: Connection, records: Records) -> Check:
    del records
    path = file_of(connection.engine.url)
    size = path.stat().st_size if path is not None and path.is_file() else 0
    if size > _READ_AT_ONCE:
        return skipped("integrity", "the file is large; look with: sqlite3 FILE 'PRAGMA quick_check'")
    try:
        found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA quick_check(3)")]
    except DBAPIError as failure:
        if code_of(failure) not in _BROKEN:
            raise
        found = [str(failure.orig)]
    if found == ["ok"]:
        return ok("integrity", "PRAGMA quick_check finds nothing")
    return error("integrity", f"the file is damaged: {', '.join(found):.300}", "restore a backup")


SQLITE_CHECKS: Final = (
    ("server", _server),
    ("journal mode", _journal),
    ("lock timeout", _waiting),
    ("foreign keys", _foreign_keys),
    ("integrity", _whole),
)
"""The looks, by what they are called; the first needs no table."""
