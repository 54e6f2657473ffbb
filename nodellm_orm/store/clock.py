"""The database's own clock, as SQL: leases are measured and rows are dated by it, never by a worker's clock."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Double, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from nodellm_orm.store.types import UtcDateTime

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, ColumnElement
    from sqlalchemy.sql.compiler import SQLCompiler


class DatabaseNow(FunctionElement[datetime]):
    """This very moment, not the beginning of the transaction, as `UtcDateTime` keeps it."""

    type = UtcDateTime()
    inherit_cache = True


class DatabaseLater(FunctionElement[datetime]):
    """A number of seconds from now."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: ColumnElement[float]) -> None:
        """Keep the number, an SQL expression."""
        super().__init__(seconds)


def seconds(name: str) -> BindParameter[float]:
    """A parameter for a number of seconds.

    Args:
        name: the parameter's name.
    """
    return bindparam(name, type_=Double())


@compiles(DatabaseNow, "sqlite")
def _sqlite_now(element: DatabaseNow, compiler: SQLCompiler, **_: Any) -> str:
    del element, compiler
    # SQLAlchemy keeps six digits; SQLite's clock gives three.
    return "(strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"


@compiles(DatabaseNow, "postgresql")
def _postgresql_now(element: DatabaseNow, compiler: SQLCompiler, **_: Any) -> str:
    del element, compiler
    return "clock_timestamp()"


@compiles(DatabaseNow, "mysql")
@compiles(DatabaseNow, "mariadb")
def _mysql_now(element: DatabaseNow, compiler: SQLCompiler, **_: Any) -> str:
    del element, compiler
    return "UTC_TIMESTAMP(6)"


@compiles(DatabaseLater, "sqlite")
def _sqlite_later(element: DatabaseLater, compiler: SQLCompiler, **options: Any) -> str:
    number = compiler.process(element.clauses, **options)
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', printf('%.3f seconds', {number})) || '000')"


@compiles(DatabaseLater, "postgresql")
def _postgresql_later(element: DatabaseLater, compiler: SQLCompiler, **options: Any) -> str:
    number = compiler.process(element.clauses, **options)
    return f"(clock_timestamp() + {number} * interval '1 second')"


@compiles(DatabaseLater, "mysql")
@compiles(DatabaseLater, "mariadb")
def _mysql_later(element: DatabaseLater, compiler: SQLCompiler, **options: Any) -> str:
    number = compiler.process(element.clauses, **options)
    return f"TIMESTAMPADD(MICROSECOND, ROUND({number} * 1000000), UTC_TIMESTAMP(6))"
