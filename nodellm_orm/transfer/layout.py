"""Which columns each table has in a file, and rows as lines of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, get_args

from nodellm_orm.domain.messages import MessageStatus, Role
from nodellm_orm.errors import StorageError
from nodellm_orm.ports.statuses import AttemptStatus, CallStatus, TurnStatus
from nodellm_orm.store.guard import CACHED
from nodellm_orm.store.mixins import needs_value
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.sealed import Sealed
from nodellm_orm.store.types import OwnerScope
from nodellm_orm.transfer.values import BadValueError, value_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Column, Table

    from nodellm_orm.store.define import Tables
    from nodellm_orm.transfer.values import Value

    Fields = dict[str, Any]
    """A row's values by column."""

TABLES: Final = (
    *("chats", "turns", "messages", "tool_calls", "thinking", "attachments", "requests"),
    *("texts", "blobs"),
)
"""Tables by their names without prefix, in the order in which a file has the rows of one chat."""
CONTENTS: Final = ("texts", "blobs")
"""Tables whose rows are named by their digests, and may belong to several chats of their owner."""
KEYS: Final[Mapping[str, str]] = {
    **dict.fromkeys(TABLES, "id"),
    "messages": "position",
    **dict.fromkeys(CONTENTS, "sha256"),
}
"""What the rows of a table are ordered by within their chat."""
_LOCAL: Final[Mapping[str, frozenset[str]]] = {
    "chats": frozenset({"lease_owner", "lease_until"}),
    "texts": frozenset({"created_at"}),
    "blobs": frozenset({"data"}),
}
"""Not in a row's line: who works on a chat just now, when a text was last brought; bytes have lines of their own."""
_WORDS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("turns", "status"): frozenset(get_args(TurnStatus)),
    ("messages", "role"): frozenset(get_args(Role)),
    ("messages", "status"): frozenset(get_args(MessageStatus)),
    ("tool_calls", "status"): frozenset(get_args(CallStatus)),
    ("requests", "status"): frozenset(get_args(AttemptStatus)),
}


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Field:
    """A column in a file."""

    name: str
    value: Value
    required: bool
    words: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TableLayout:
    """The columns of one table in a file, in their order.

    Args:
        suffix: the table's name without its prefix.
        table: the table.
        fields: its columns.
    """

    suffix: str
    table: Table
    fields: tuple[Field, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(field.name for field in self.fields)

    @cached_property
    def _by_name(self) -> Mapping[str, Field]:
        return {field.name: field for field in self.fields}

    def line(self, row: Mapping[Any, Any]) -> bytes:
        """A row as it stands in a file; columns that are ``NULL`` are left out.

        Args:
            row: values by column, decrypted.
        """
        written = {
            field.name: field.value.write(value) for field in self.fields if (value := row[field.name]) is not None
        }
        return encoded({self.suffix: written})

    def row(self, written: object) -> Fields:
        """A row from a file, with ``None`` for what is not there.

        Args:
            written: the object that stands for it.

        Raises:
            BadValueError: it is no row of this table.
        """
        if not isinstance(written, dict):
            msg = f"{self.suffix} is not followed by an object"
            raise BadValueError(msg)
        row: Fields = dict.fromkeys(self.names)
        for name, value in written.items():
            field = self._by_name.get(name)
            if field is None:
                msg = f"column {name[:60]!r} of {self.suffix} is not among those that the first line names"
                raise BadValueError(msg)
            try:
                row[name] = field.value.read(value)
            except BadValueError as error:
                msg = f"{name} of {self.suffix} {error}"
                raise BadValueError(msg) from None
            if field.words and row[name] not in field.words:
                msg = f"{name} of {self.suffix} is none of {', '.join(sorted(field.words))}"
                raise BadValueError(msg)
        if missing := [field.name for field in self.fields if field.required and row[field.name] is None]:
            msg = f"{', '.join(missing)} of {self.suffix} is missing"
            raise BadValueError(msg)
        return row


Layout = dict[str, TableLayout]
"""The layout of each table by its name without prefix."""


def layout_of(tables: Tables) -> Layout:
    """All columns of all tables: what is exported.

    Args:
        tables: the records' tables.

    Raises:
        ConfigurationError: a host's column cannot be written exactly.
    """
    return {suffix: _table_layout(suffix, getattr(tables, suffix), _exported(suffix, tables)) for suffix in TABLES}


def layout_for(tables: Tables, columns: object) -> Layout:
    """The columns that a file names, in tables that are to take them.

    Args:
        tables: the records' tables.
        columns: what the file's first line says.

    Raises:
        BadValueError: the file has a table or column that the tables do not have, or lacks one that they need.
    """
    if not isinstance(columns, dict) or list(columns) != list(TABLES):
        unknown = sorted(set(columns) - set(TABLES)) if isinstance(columns, dict) else []
        named = f"; unknown are {', '.join(unknown)[:200]}" if unknown else ""
        msg = f"it does not name the columns of {', '.join(TABLES)}{named}"
        raise BadValueError(msg)
    layout: Layout = {}
    for suffix, names in columns.items():
        table: Table = getattr(tables, suffix)
        _check_columns(suffix, table, names, _exported(suffix, tables))
        layout[suffix] = _table_layout(suffix, table, tuple(names))
    return layout


def _check_columns(suffix: str, table: Table, names: object, ours: Sequence[str]) -> None:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        msg = f"the columns of {suffix} are not a list of names"
        raise BadValueError(msg)
    if unknown := [name for name in names if name not in ours]:
        msg = (
            f"the file has columns of {suffix} that {table.name} does not have: {', '.join(unknown)[:200]}; add "
            "them to your records (define_records with a mixin) and pass these as records=, or upgrade nodellm_orm"
        )
        raise BadValueError(msg)
    if names != [name for name in ours if name in names]:
        msg = f"the columns of {suffix} are not in the order in which this package writes them"
        raise BadValueError(msg)
    absent = [table.c[name] for name in ours if name not in names]
    if needed := [column.name for column in absent if needs_value(column)]:
        told = ", ".join(needed)
        msg = f"the file lacks columns that {table.name} needs: {told}; give them a default, or let them be NULL"
        raise BadValueError(msg)


@lru_cache(maxsize=CACHED)
def _table_layout(suffix: str, table: Table, names: tuple[str, ...]) -> TableLayout:
    fields = tuple(
        Field(name, value_of(table.c[name]), _required(table.c[name]), _WORDS.get((suffix, name), frozenset()))
        for name in names
    )
    return TableLayout(suffix, table, fields)


def _required(column: Column[Any]) -> bool:
    return not column.nullable and not isinstance(column.type, OwnerScope)


def _exported(suffix: str, tables: Tables) -> tuple[str, ...]:
    """Our columns in our order, then a host's by name; what the database makes itself is left out."""
    table: Table = getattr(tables, suffix)
    ours = [column.name for column in getattr(RECORDS.tables, suffix).c]
    given = {column.name for column in table.c if column.computed is None and column.identity is None}
    hosts = sorted(given - set(ours))
    return tuple(name for name in (*ours, *hosts) if name not in _LOCAL.get(suffix, ()))


def encoded(value: Mapping[str, object]) -> bytes:
    """A line's object as compact JSON in UTF-8.

    Args:
        value: strings, numbers, booleans, lists and objects of these.
    """
    return _ENCODER.encode(value).encode("utf-8")


def line_of(layout: TableLayout, row: Mapping[Any, Any]) -> bytes:
    """A row as a line.

    Args:
        layout: its table.
        row: values by column, decrypted.

    Raises:
        StorageError: a value is not one of its column; who stored it did it past this package.
    """
    try:
        return layout.line(row)
    except (ValueError, TypeError, AttributeError) as error:
        key = next((row[name] for name in ("id", "sha256") if name in row), None)
        sealed = any(isinstance(value, Sealed) for value in row.values())
        told = "is encrypted in a column that is not" if sealed else "has a value that its column cannot hold"
        msg = f"row {key} of {layout.table.name} {told}; verify() tells more; correct it, and export again"
        raise StorageError(msg, details={"table": layout.table.name, "id": str(key)}) from error
