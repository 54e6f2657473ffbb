"""What is PostgreSQL's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.upkeep.doctor.checks import error, ok, skipped, warning
from nodellm_orm.upkeep.doctor.versions import check_version

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from nodellm_orm.store.define import Records
    from nodellm_orm.upkeep.doctor.checks import Check

_LEAST: Final = (12,)
_BRIEF: Final = 5000
"""Milliseconds of a time limit that an ordinary transaction may meet."""
_UNITS: Final = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"(\d+)(ms|s|min|h|d)?")


def _server(connection: Connection, records: Records) -> Check:
    del records
    number = int(connection.exec_driver_sql("SHOW server_version_num").scalar() or 0)
    return check_version("PostgreSQL", (number // 10_000, number % 10_000), _LEAST)


def _encoding(connection: Connection, records: Records) -> Check:
    del records
    encoding = str(connection.exec_driver_sql("SHOW server_encoding").scalar())
    if encoding == "UTF8":
        return ok("encoding", "UTF8")
    remedy = "make a database WITH ENCODING 'UTF8' TEMPLATE template0, and move the tables there"
    return error("encoding", f"the database's encoding is {encoding}, which does not hold every character", remedy)


def _writable(connection: Connection, records: Records) -> Check:
    del records
    if connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "off":
        return ok("read-only", "no")
    replica = bool(connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar())
    told = "this is a read replica" if replica else "transactions are read-only"
    return error("read-only", told, "connect to the primary, with default_transaction_read_only off")


def _limits(connection: Connection, records: Records) -> Check:
    del records
    names = ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout")
    limits = {name: str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in names}
    told = ", ".join(f"{name} {limit}" for name, limit in limits.items() if limit != "0") or "none"
    short = [name for name, limit in limits.items() if 0 < milliseconds(limit) < _BRIEF]
    if short:
        remedy = f"allow {' and '.join(short)} at least {_BRIEF // 1000} s for this user (ALTER ROLE … SET …)"
        return warning("time limits", told, remedy)
    return ok("time limits", told)


def milliseconds(limit: str) -> int:
    """A time limit as ``SHOW`` gives it; 0: none.

    Example:
        >>> milliseconds("5s"), milliseconds("0"), milliseconds("250ms")
        (5000, 0, 250)
    """
    match = _DURATION.fullmatch(limit)
    return int(match[1]) * _UNITS[match[2] or "ms"] if match else 0


def _pooler(connection: Connection, records: Records) -> Check:
    """A pooler between the two shows in the process id: it answers with one of its own."""
    del records
    driver: Any = connection.connection.driver_connection
    told_id = getattr(driver, "get_server_pid", None)
    if told_id is None:
        return skipped("pooler", "this driver does not tell")
    server_id = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
    adapted: Any = connection.connection.dbapi_connection
    prepared = getattr(adapted, "_prepared_statement_cache", None) is not None
    return told_of_pooler(pooled=told_id() != server_id, prepared=prepared)


def told_of_pooler(*, pooled: bool, prepared: bool) -> Check:
    """Whether prepared statements may meet a connection on which they were not prepared.

    Args:
        pooled: something between this machine and the server hands connections out.
        prepared: statements are prepared and kept.
    """
    if not pooled:
        return ok("pooler", "none between this machine and the server")
    if not prepared:
        return ok("pooler", "there is one, and no prepared statements are kept")
    remedy = (
        "in transaction mode, add ?prepared_statement_cache_size=0 to the URL and "
        'connect_args={"statement_cache_size": 0}, unless the pooler knows prepared statements (PgBouncer 1.21)'
    )
    return warning("pooler", "there is one between this machine and the server, and statements are prepared", remedy)


POSTGRESQL_CHECKS: Final = (
    ("server", _server),
    ("encoding", _encoding),
    ("read-only", _writable),
    ("time limits", _limits),
    ("pooler", _pooler),
)
"""The looks, by what they are called; the first needs no table."""
