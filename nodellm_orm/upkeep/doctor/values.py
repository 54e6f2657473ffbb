"""Whether values come back as they were given, and what the database says of time, rows and transactions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Column, Integer, MetaData, Table, insert, literal, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable, DropTable

from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.types import Key, Labels, LongText
from nodellm_orm.upkeep.doctor.checks import error, ok, skipped

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.types import TypeEngine

    from nodellm_orm.store.define import Records
    from nodellm_orm.upkeep.doctor.checks import Check

HOSTILE: Final = "NUL \x00, half a pair \ud83d, whole \U0001f600, \ufdd0, AbC/abc, trailing space "
"""What has been seen to come back changed, or not at all."""
_SKEW: Final = 5.0
"""Seconds between two clocks that are worth a sentence."""
_TRIAL: Final = Table(
    "nodellm_orm_doctor",
    MetaData(),
    Column("number", Integer),
    prefixes=["TEMPORARY"],
)


def check_text(connection: Connection, records: Records) -> Check:
    """Text with NUL, lone surrogates and emoji comes back as it was given, through each type that holds text.

    Args:
        connection: to the database.
        records: whose tables.
    """
    del records
    given: tuple[tuple[Any, TypeEngine[Any]], ...] = (
        (HOSTILE, LongText()),
        (HOSTILE, Key()),
        ({"k": HOSTILE}, Labels()),
    )
    values = [literal(value, kind).label(f"v{n}") for n, (value, kind) in enumerate(given)]
    try:
        back: list[Any] = list(connection.execute(select(*values)).one())
    except UnicodeError:  # the driver cannot even send it
        back = []
    if back == [value for value, _ in given]:
        return ok("text", "NUL, lone surrogates and emoji come back as they were given")
    remedy = "let the connection speak utf8mb4 (MySQL: ?charset=utf8mb4) or UTF8, as make_engine does"
    return error("text", "a text with NUL, a lone surrogate and an emoji comes back changed", remedy)


def check_rowcount(connection: Connection, records: Records) -> Check:
    """An UPDATE that changes nothing counts the row that it matched: that is how it is seen who holds a chat.

    Args:
        connection: to the database; a temporary table is made and dropped.
        records: whose tables.
    """
    del records
    try:
        with connection.begin_nested():
            connection.execute(CreateTable(_TRIAL))
    except DBAPIError as failure:
        return skipped("row count", f"no temporary table could be made ({type(failure.orig).__name__})")
    try:
        connection.execute(insert(_TRIAL).values(number=1))
        matched = connection.execute(update(_TRIAL).values(number=_TRIAL.c.number)).rowcount
    finally:
        _drop(connection)
    if matched != 1:
        told = f"an UPDATE that changes nothing reports {matched} rows, not 1"
        return error("row count", told, "connect with the flag FOUND_ROWS, as SQLAlchemy does unless it is told not to")
    return ok("row count", "an UPDATE that changes nothing counts the row that it matched")


def _drop(connection: Connection) -> None:
    if connection.dialect.name in {"mysql", "mariadb"}:
        # Without the word it would commit the transaction.
        connection.exec_driver_sql(f"DROP TEMPORARY TABLE {_TRIAL.name}")
    else:
        connection.execute(DropTable(_TRIAL))


def check_isolation(connection: Connection, records: Records) -> Check:
    """Which isolation transactions have; ours choose READ COMMITTED where there is a choice.

    Args:
        connection: to the database.
        records: whose tables.
    """
    del records
    default = connection.default_isolation_level
    if connection.dialect.name == "sqlite":
        return ok("isolation", f"{default}; SQLite has one writer at a time")
    used = connection.get_isolation_level()
    if used == default == "READ COMMITTED":
        return ok("isolation", "READ COMMITTED")
    if used == "AUTOCOMMIT":
        told = "the engine commits each statement by itself, which our transactions switch off"
        return ok("isolation", told)
    return ok("isolation", f"the server's own is {default}; transactions on chats run at READ COMMITTED")


def check_clock(connection: Connection, records: Records) -> Check:
    """How far the database's clock and this machine's are apart; only the database's counts.

    Args:
        connection: to the database.
        records: whose tables.
    """
    del records
    # It is this machine's clock itself that is looked at.
    before = datetime.now(UTC)  # noqa: TID251 — see above
    moment: datetime = connection.execute(select(DatabaseNow())).scalar_one()
    after = datetime.now(UTC)  # noqa: TID251 — see above
    return ok("clock", skew_told((moment - (before + (after - before) / 2)).total_seconds()))


def skew_told(skew: float) -> str:
    """How far two clocks are apart.

    Args:
        skew: seconds that the database's clock is ahead.

    Example:
        >>> skew_told(-3600)
        "the database's clock is 3600 s behind this machine's; leases and dates go by the database's alone"
    """
    if abs(skew) < _SKEW:
        return f"the database's clock and this machine's agree within {_SKEW:g} s"
    side = "ahead of" if skew > 0 else "behind"
    return (
        f"the database's clock is {abs(skew):.0f} s {side} this machine's; leases and dates go by the database's alone"
    )
