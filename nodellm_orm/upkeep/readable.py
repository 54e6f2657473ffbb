"""Rows as they are, also damaged ones: a value that its column's type cannot read is a value, not an exception."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import type_coerce
from sqlalchemy.types import UserDefinedType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a value that is not what its column holds; what it was is not kept."""


UNREADABLE = Unreadable()


class Readable(UserDefinedType[Any]):
    """Reads as another type does, and gives `UNREADABLE` where that one fails.

    Args:
        inner: the column's own type.
    """

    cache_ok = True

    def __init__(self, inner: TypeEngine[Any]) -> None:
        """Keep the type."""
        self.inner = inner

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """What the column's type does, unless it fails."""
        process = self.inner.dialect_impl(dialect).result_processor(dialect, coltype)

        def read(value: Any) -> Any:
            try:
                return value if process is None else process(value)
            except Exception:  # noqa: BLE001 — whatever a damaged value makes a type do
                return UNREADABLE

        return read


def columns_of(table: Table, *names: str) -> tuple[ColumnElement[Any], ...]:
    """Columns of a table that can always be read.

    Args:
        table: the table.
        names: of its columns.
    """
    return tuple(type_coerce(table.c[name], Readable(table.c[name].type)).label(name) for name in names)


def unreadable(row: Mapping[str, Any]) -> list[str]:
    """Names of the columns whose values are not what the columns hold.

    Args:
        row: values by column.
    """
    return [name for name, value in row.items() if value is UNREADABLE]
