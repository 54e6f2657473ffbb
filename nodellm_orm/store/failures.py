"""What the databases' errors mean: whether to try again, whether the outcome is known, and what to tell the caller.

Errors are recognised by their codes: SQLSTATE on PostgreSQL, error numbers on MySQL and SQLite. SQLite alone has no
code for a missing table; only there the text decides. Messages never contain values, statements or URLs.
"""

from __future__ import annotations

import re
import sqlite3
from enum import Enum, auto
from typing import Final, TypeAlias

from sqlalchemy import exc

from nodellm_orm.errors import NodeLLMError, SchemaVersionError, StorageError

Code: TypeAlias = str | int | None

_DRIVERS: Final = frozenset({"asyncpg", "aiomysql", "pymysql", "aiosqlite", "sqlite3"})
_SQLITE_PRIMARY: Final = 0xFF
_SQLITE_SCHEMA: Final = re.compile(r"no such (table|column): |table \S+ has no column named ")


class Nature(Enum):
    """What can be said of a failed transaction."""

    TRANSIENT = auto()
    """It was rolled back because of others; the same transaction may succeed when it is tried again."""
    SLOW = auto()
    """The database broke a statement off because it took too long; worth one more attempt."""
    LOST = auto()
    """The connection broke: it may or may not have been committed."""
    FINAL = auto()
    """It was refused; trying again does not help."""


_TRANSIENT: Final[frozenset[Code]] = frozenset(
    {
        *("40001", "40P01", "55P03", "53300"),
        *(1213, 1205, 3572),
        *(1040, 1203, 1226),  # too many connections: of all users, of one, of one with a limit of its own
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
    }
)
_SLOW: Final[frozenset[Code]] = frozenset({"57014", 1969, 3024})
_LOST: Final[frozenset[Code]] = frozenset(
    {
        *("08000", "08001", "08003", "08004", "08006", "08007", "08P01", "57P01", "57P02", "57P03"),
        *(1053, 2006, 2013, 2014, 2045, 2055, 4031),
    }
)
_DEMOTED: Final[frozenset[Code]] = frozenset({"25006", 1290, 1792, 1836})
_SCHEMA: Final[frozenset[Code]] = frozenset({"42P01", "42703", "3F000", 1146, 1054})
_TELLING: Final[dict[Code, str]] = {
    **dict.fromkeys(
        ("53100", 1021, 1114, sqlite3.SQLITE_FULL), "the disk of the database is full; make room and try again"
    ),
    **dict.fromkeys(
        (*_DEMOTED, sqlite3.SQLITE_READONLY),
        "the database is read-only; connect to the primary, or make the file and its folder writable",
    ),
    **dict.fromkeys(
        ("22001", "54000", 1406, 1153, sqlite3.SQLITE_TOOBIG),
        "a value is too long for the database; shorten it, or on MySQL raise max_allowed_packet",
    ),
    **dict.fromkeys(
        ("28P01", "28000", 1045, 1698, 1044, "42501", 1142, sqlite3.SQLITE_AUTH),
        "the database does not let this user in; check the user, the password and the privileges",
    ),
    **dict.fromkeys(
        ("3D000", 1049, sqlite3.SQLITE_CANTOPEN), "there is no such database; create it, or correct the URL"
    ),
    **dict.fromkeys((1366, "22021", "22P05"), "the tables cannot hold every character; give them the charset utf8mb4"),
    **dict.fromkeys(
        (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB), "the file is damaged or no SQLite database; restore a backup"
    ),
    **dict.fromkeys((2003, 2002, 2005), "the database cannot be reached; check that it runs, its host and its port"),
}


def code_of(error: BaseException) -> Code:
    """The database's own code of an error, ``None`` when it has none.

    Args:
        error: SQLAlchemy's or a driver's error.
    """
    original = error.orig if isinstance(error, exc.DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        extended: int | None = getattr(original, "sqlite_errorcode", None)
        return None if extended is None else extended & _SQLITE_PRIMARY
    first: object = original.args[0] if original is not None and original.args else None
    if isinstance(first, int) and not isinstance(original, OSError):
        # MySQL's own numbers say more than the SQLSTATE that its drivers may give as well.
        return first
    state: object = getattr(original, "sqlstate", None)
    return state if isinstance(state, str) else None


def demoted(error: BaseException) -> bool:
    """Whether the server at the other end has become read-only: the primary is another one by now.

    Args:
        error: SQLAlchemy's or a driver's error.
    """
    return code_of(error) in _DEMOTED


def is_database_error(error: BaseException) -> bool:
    """Whether an error comes from SQLAlchemy, a driver or the network, rather than from a program's own code."""
    if isinstance(error, exc.SQLAlchemyError | OSError):
        return True
    return any(cls.__module__.partition(".")[0] in _DRIVERS for cls in type(error).__mro__)


def nature(error: BaseException) -> Nature:
    """Whether a transaction that failed with this error may be tried again.

    Args:
        error: SQLAlchemy's or a driver's error.
    """
    if isinstance(error, exc.TimeoutError):
        return Nature.FINAL
    code = code_of(error)
    if code in _TRANSIENT:
        return Nature.TRANSIENT
    if code in _SLOW:
        return Nature.SLOW
    if code in _LOST or isinstance(error, OSError) or _class_08(code):
        return Nature.LOST
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return Nature.LOST
    return Nature.FINAL


def _class_08(code: Code) -> bool:
    return isinstance(code, str) and code.startswith("08")


def translate(error: BaseException) -> NodeLLMError:
    """The error to raise instead; the cause is chained by the caller and shows no values either.

    Args:
        error: SQLAlchemy's or a driver's error.
    """
    if isinstance(error, NodeLLMError):
        return error
    if isinstance(error, exc.StatementError):
        error.hide_parameters = True
    code = code_of(error)
    details = {"error": _name(error), "code": code}
    if code in _SCHEMA or _lacks_schema(error):
        msg = (
            "the tables of nodellm_orm are missing or of another version; run `await migrate(engine)` "
            "or `nodellm-orm db upgrade`; for tables of your own (define_records) pass records=, and upgrade them with "
            "your own Alembic"
        )
        return SchemaVersionError(msg, details=details)
    return StorageError(f"{_sentence(error, code)} ({_label(error, code)})", details=details)


def timed_out(deadline: float) -> StorageError:
    """The error for a database that did not answer in time.

    Args:
        deadline: seconds that were allowed.
    """
    msg = (
        f"the database did not answer within {deadline:g} seconds; check what it is waiting for (locks, network), "
        "or allow more with database_timeout="
    )
    return StorageError(msg, details={"deadline": deadline})


def _sentence(error: BaseException, code: Code) -> str:
    if isinstance(error, exc.TimeoutError):
        return "all connections of the pool are in use; enlarge pool_size, or find what keeps them checked out"
    if code in _TELLING:
        return _TELLING[code]
    match nature(error):
        case Nature.TRANSIENT:
            return "the database was too busy with others, also when tried again; try later, or look for long locks"
        case Nature.SLOW:
            return "the database broke the statement off after its time limit, also when tried again; try later"
        case Nature.LOST:
            return "the connection to the database was lost or refused; check that it runs, then load the chat again"
        case Nature.FINAL:
            return "the database refused the statement; the chained error shows which one"


def _lacks_schema(error: BaseException) -> bool:
    original = error.orig if isinstance(error, exc.DBAPIError) else error
    return isinstance(original, sqlite3.OperationalError) and _SQLITE_SCHEMA.match(str(original)) is not None


def _name(error: BaseException) -> str:
    original = error.orig if isinstance(error, exc.DBAPIError) else error
    if isinstance(original, exc.EmulatedDBAPIException) and original.orig is not None:
        original = original.orig
    return type(original).__name__


def _label(error: BaseException, code: Code) -> str:
    return _name(error) if code is None else f"{_name(error)}, code {code}"
