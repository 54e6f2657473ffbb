"""What reports need of SQL, in the words of each database: time cut to units, members of the metadata, exact sums."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from sqlalchemy import Numeric, Text, bindparam, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType, TypeDecorator

from nodellm_orm.store.escaping import escape

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.types import TypeEngine

Unit: TypeAlias = Literal["hour", "day", "week", "month"]


class Cut(FunctionElement[object]):
    """A moment by a wall clock, cut to the hour, the day, the week's Monday or the first of the month.

    Args:
        unit: what it is cut to.
        moment: a column of timestamps.
        offset: seconds that the wall clock is ahead of UTC.
    """

    type: TypeEngine[object] = NullType()  # type: ignore[assignment]  # what the drivers give
    inherit_cache = True

    def __init__(self, unit: Unit, moment: ColumnElement[datetime], offset: ColumnElement[int]) -> None:
        """Keep all three."""
        super().__init__(literal_column(f"'{unit}'"), moment, offset)


def _cut(element: Cut, compiler: SQLCompiler, options: dict[str, Any]) -> tuple[str, str, str]:
    unit, moment, offset = (compiler.process(clause, **options) for clause in element.clauses)
    return unit.strip("'"), moment, offset


@compiles(Cut, "postgresql")
def _postgresql_cut(element: Cut, compiler: SQLCompiler, **options: Any) -> str:
    unit, moment, offset = _cut(element, compiler, options)
    return f"date_trunc('{unit}', ({moment} AT TIME ZONE 'UTC') + ({offset}) * interval '1 second')"


@compiles(Cut, "mysql")
@compiles(Cut, "mariadb")
def _mysql_cut(element: Cut, compiler: SQLCompiler, **options: Any) -> str:
    unit, moment, offset = _cut(element, compiler, options)
    wall = f"TIMESTAMPADD(SECOND, {offset}, {moment})"
    # Without any percent sign: some drivers want it twice, others do not.
    return {
        "hour": f"TIMESTAMP(DATE({wall}), MAKETIME(HOUR({wall}), 0, 0))",
        "day": f"DATE({wall})",
        "week": f"DATE(TIMESTAMPADD(DAY, -WEEKDAY({wall}), {wall}))",
        "month": f"DATE(TIMESTAMPADD(DAY, 1 - DAYOFMONTH({wall}), {wall}))",
    }[unit]


@compiles(Cut, "sqlite")
def _sqlite_cut(element: Cut, compiler: SQLCompiler, **options: Any) -> str:
    unit, moment, offset = _cut(element, compiler, options)
    # Only whole seconds: SQLite would round 59.999999 up, into the next day if need be.
    wall = f"substr({moment}, 1, 19), ({offset}) || ' seconds'"
    return {
        "hour": f"strftime('%Y-%m-%d %H:00:00', {wall})",
        "day": f"date({wall})",
        "week": f"date({wall}, 'weekday 0', '-6 days')",
        "month": f"date({wall}, 'start of month')",
    }[unit]


class MemberJson(FunctionElement[str]):
    """A member of a JSON object as the JSON text that it was written with; ``NULL`` where it is missing or null.

    So ``1``, ``1.0``, ``true`` and ``"1"`` differ, and so do texts with and without a blank at the end.

    Args:
        document: a `Labels` column.
        name: the member's name; bound, never part of the statement.
    """

    type: TypeEngine[str] = Text()
    inherit_cache = True

    def __init__(self, document: ColumnElement[Any], name: str) -> None:
        """Keep both."""
        super().__init__(document, bindparam(None, escape(name), type_=Text(), unique=True))


def _member(element: MemberJson, compiler: SQLCompiler, options: dict[str, Any]) -> tuple[str, str]:
    document, name = (compiler.process(clause, **options) for clause in element.clauses)
    return document, name


@compiles(MemberJson, "postgresql")
def _postgresql_member(element: MemberJson, compiler: SQLCompiler, **options: Any) -> str:
    document, name = _member(element, compiler, options)
    return f"NULLIF((({document})::json -> {name})::text, 'null')"


@compiles(MemberJson, "mysql")
@compiles(MemberJson, "mariadb")
def _mysql_member(element: MemberJson, compiler: SQLCompiler, **options: Any) -> str:
    document, name = _member(element, compiler, options)
    value = f"JSON_EXTRACT({document}, CONCAT('$.', JSON_QUOTE({name})))"
    return f"NULLIF(CONVERT({value} USING utf8mb4) COLLATE utf8mb4_bin, 'null')"


@compiles(MemberJson, "sqlite")
def _sqlite_member(element: MemberJson, compiler: SQLCompiler, **options: Any) -> str:
    document, name = _member(element, compiler, options)
    # Asked for the same member twice, SQLite gives a JSON list, in which numbers keep their digits. A name with a
    # quotation mark in it is the one that it does not find by its own path.
    twice = f"json_extract({document}, j.fullkey, j.fullkey)"
    found = f"SELECT j.type, j.value, CASE WHEN instr(j.key, '\"') = 0 THEN {twice} END AS twice"
    text = (
        "CASE WHEN m.twice IS NOT NULL THEN substr(m.twice, 2, (length(m.twice) - 3) / 2) WHEN m.type = 'true' THEN "
        "'true' WHEN m.type = 'false' THEN 'false' WHEN m.type = 'real' THEN printf('%!.17g', m.value) "
        "WHEN m.type IN ('object', 'array') THEN m.value ELSE json_quote(m.value) END"
    )
    return (
        f"(SELECT NULLIF({text}, 'null') "  # noqa: S608 — the compiler's SQL
        f"FROM ({found} FROM json_each({document}) AS j WHERE j.key = {name}) AS m)"
    )


_HALF: Final = 32
"""Bits that SQLite adds up at a time: its own sums end at 64."""
_EXACT: Final = Context(prec=100)


class _TotalType(TypeDecorator[Any]):
    """A sum beyond 64 bits; on SQLite two halves of it as text."""

    impl = Numeric
    cache_ok = True
    scale = 0

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite."""
        return Text() if dialect.name == "sqlite" else Numeric(asdecimal=True)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Put the halves together."""
        if value is None:
            return None
        if dialect.name != "sqlite":
            return self.given(Decimal(value))
        high, low = (int(half) for half in value.split(" "))
        return self.given(Decimal((high << _HALF) + low).scaleb(-self.scale, context=_EXACT))

    def given(self, total: Decimal) -> Any:
        """The sum in the type that is read."""
        return total


class MoneyTotalType(_TotalType):
    """A sum of money, to the last digit."""

    cache_ok = True
    scale = 12


class CountTotalType(_TotalType):
    """A sum of whole numbers."""

    cache_ok = True

    def given(self, total: Decimal) -> int:
        """A whole number."""
        return int(total)


class Total(FunctionElement[Any]):
    """The exact sum of a column, ``NULL`` when all of it is.

    Args:
        column: counts or money.
        money: which of the two.
    """

    inherit_cache = True

    def __init__(self, column: ColumnElement[Any], *, money: bool = False) -> None:
        """Keep the column."""
        super().__init__(column)
        self.type = MoneyTotalType() if money else CountTotalType()


@compiles(Total)
def _sum(element: Total, compiler: SQLCompiler, **options: Any) -> str:
    return f"sum({compiler.process(element.clauses, **options)})"


@compiles(Total, "sqlite")
def _halves(element: Total, compiler: SQLCompiler, **options: Any) -> str:
    column = compiler.process(element.clauses, **options)
    return f"(sum({column} >> {_HALF}) || ' ' || sum({column} & {2**_HALF - 1}))"
