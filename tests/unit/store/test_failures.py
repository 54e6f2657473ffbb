"""Which database errors are tried again, which leave the outcome open, and what each is called."""

from __future__ import annotations

import sqlite3

import pytest
from pymysql import err as mysql_errors  # type: ignore[import-untyped]  # the driver has no types
from sqlalchemy import exc
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi

from nodellm_orm.errors import ChatBusyError, SchemaVersionError, StorageError
from nodellm_orm.store.failures import Nature, code_of, is_database_error, nature, translate


class PostgresError(Exception):
    """As asyncpg's: it knows its SQLSTATE."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("a message with a value")
        self.sqlstate = sqlstate


def postgres(code: str) -> exc.DBAPIError:
    adapted: type[Exception] = AsyncAdapt_asyncpg_dbapi.Error
    original = adapted("a message with a value", PostgresError(code))
    return exc.DBAPIError("SELECT 1", {"x": "secret"}, original)


def mysql(code: int) -> exc.DBAPIError:
    return exc.DBAPIError("SELECT 1", {"x": "secret"}, mysql_errors.OperationalError(code, "a message with a value"))


def sqlite(code: int, message: str = "a message with a value") -> exc.DBAPIError:
    original = sqlite3.OperationalError(message)
    original.sqlite_errorcode = code
    return exc.DBAPIError("SELECT 1", {"x": "secret"}, original)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        *((postgres(code), Nature.TRANSIENT) for code in ("40001", "40P01", "55P03", "53300")),
        *((mysql(code), Nature.TRANSIENT) for code in (1213, 1205, 1040, 1203, 1226)),
        (sqlite(sqlite3.SQLITE_BUSY), Nature.TRANSIENT),
        (sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT), Nature.TRANSIENT),
        (sqlite(sqlite3.SQLITE_LOCKED), Nature.TRANSIENT),
        (postgres("57014"), Nature.SLOW),
        (mysql(1969), Nature.SLOW),
        (mysql(3024), Nature.SLOW),
        *((postgres(code), Nature.LOST) for code in ("08003", "08006", "57P01", "57P02", "57P03")),
        *((mysql(code), Nature.LOST) for code in (2006, 2013, 2055)),
        (ConnectionResetError(104, "reset"), Nature.LOST),
        (exc.DBAPIError("x", {}, Exception("gone"), connection_invalidated=True), Nature.LOST),
        (postgres("23505"), Nature.FINAL),
        (mysql(1062), Nature.FINAL),
        (sqlite(sqlite3.SQLITE_CONSTRAINT), Nature.FINAL),
        (exc.TimeoutError("pool"), Nature.FINAL),
        (exc.InvalidRequestError("misuse"), Nature.FINAL),
    ],
)
def test_codes_tell_what_may_be_tried_again(error: Exception, expected: Nature) -> None:
    """Deadlocks and locks are tried again, lost connections looked up, refusals final."""
    assert nature(error) is expected
    assert is_database_error(error)


@pytest.mark.parametrize(
    "error",
    [
        postgres("42P01"),
        postgres("42703"),
        mysql(1146),
        mysql(1054),
        sqlite(sqlite3.SQLITE_ERROR, "no such table: llm_chats"),
        sqlite(sqlite3.SQLITE_ERROR, "no such column: step"),
        sqlite(sqlite3.SQLITE_ERROR, "table llm_chats has no column named step"),
    ],
)
def test_missing_tables_and_columns_ask_for_a_migration(error: Exception) -> None:
    """They are a schema of another version."""
    told = translate(error)
    assert isinstance(told, SchemaVersionError)
    assert "db upgrade" in str(told)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (postgres("53100"), "disk"),
        (sqlite(sqlite3.SQLITE_FULL), "disk"),
        (mysql(1114), "disk"),
        (postgres("25006"), "read-only"),
        (mysql(1290), "read-only"),
        (sqlite(sqlite3.SQLITE_READONLY), "read-only"),
        (mysql(1406), "too long"),
        (postgres("28P01"), "does not let this user in"),
        (mysql(1045), "does not let this user in"),
        (postgres("3D000"), "no such database"),
        (mysql(2003), "cannot be reached"),
        (exc.TimeoutError("pool"), "pool"),
        (ConnectionRefusedError(111, "refused"), "lost or refused"),
        (postgres("40001"), "busy"),
        (postgres("57014"), "time limit"),
        (postgres("23505"), "refused"),
    ],
)
def test_messages_say_what_to_do_and_show_no_values(error: Exception, words: str) -> None:
    """Neither values nor statements are in a message, nor values in its cause."""
    told = translate(error)
    assert isinstance(told, StorageError)
    assert words in str(told)
    assert "value" not in str(told).replace("a value is too long", "")
    assert "SELECT" not in str(told)
    assert "secret" not in f"{told.details} {error}"
    assert told.details["code"] == code_of(error)


def test_a_drivers_number_goes_before_its_sqlstate() -> None:
    """MySQL's drivers may give both; the number tells more."""
    error = mysql_errors.ProgrammingError(1146, "no table")
    error.sqlstate = "42S02"
    assert code_of(exc.ProgrammingError("x", {}, error)) == 1146


def test_errors_of_ours_and_of_programs_are_left_alone() -> None:
    """What already says what to do passes; a mistake in a program is not the database's."""
    error = ChatBusyError("busy")
    assert translate(error) is error
    assert not is_database_error(error)
    assert not is_database_error(ValueError("x"))
