"""What a host adds to the records, looked at before anything is mapped: a mixin for each table, and its base.

SQLAlchemy lets the first class in line win. A mixin with a column ``owner`` would silently take the place of ours, and
a base that gives every table an ``id`` would change keys: both are refused, with what to do instead.
"""

from __future__ import annotations

from inspect import getattr_static
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from sqlalchemy import Column, MetaData, Table
from sqlalchemy.orm import DeclarativeBase, MappedAsDataclass, MappedColumn, MapperProperty, declared_attr, registry
from sqlalchemy.util import get_annotations

from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nodellm_orm.store.naming import TableArguments

_PLAIN_BASE: Final = (
    "give define_records a base that shares the tables but nothing else: "
    "`class ChatBase(DeclarativeBase): registry = Base.registry`"
)


def check_base(base: object, ours: Iterable[type]) -> None:
    """Refuse a base that the records cannot stand on.

    Args:
        base: what the host gave.
        ours: our columns, a class a table.

    Raises:
        ConfigurationError: it is no declarative base, makes dataclasses, or has columns under names of ours.
    """
    if not _is_base(base):
        msg = (
            f"{_named(base)} is no declarative base; pass the class that your own tables are derived from "
            "(`class Base(DeclarativeBase)`)"
        )
        raise ConfigurationError(msg)
    if issubclass(base, MappedAsDataclass):
        msg = f"{_named(base)} makes its classes dataclasses, which the records are not; {_PLAIN_BASE}"
        raise ConfigurationError(msg)
    names = {
        name
        for columns in ours
        for attribute, column in _members(columns, mapped_only=True)
        for name in (attribute, column)
    }
    clashing = sorted(
        {name for name, column in _members(base, mapped_only=True) if {name, column} & names or _is_key(base, name)}
    )
    if clashing:
        msg = (
            f"{_named(base)} has columns of its own ({', '.join(clashing)}) that are in the way of the records' "
            f"columns; {_PLAIN_BASE}"
        )
        raise ConfigurationError(msg)


def check_mixin(option: str, mixin: object, columns: type) -> None:
    """Refuse a mixin that would change columns of ours.

    Args:
        option: the option it was given as.
        mixin: what the host gave.
        columns: our columns of that table.

    Raises:
        ConfigurationError: it is no plain class, has names that are ours, or a primary key.
    """
    if not isinstance(mixin, type):
        msg = f"{option}= is a class with further columns, not {type(mixin).__name__}"
        raise ConfigurationError(msg)
    if hasattr(mixin, "__mapper__") or _is_base(mixin):
        msg = f"{option}={mixin.__name__} is mapped itself; give a plain class whose attributes are the further columns"
        raise ConfigurationError(msg)
    ours = {name for attribute, column in _members(columns, mapped_only=True) for name in (attribute, column)} | {
        "metadata",
        "registry",
    }
    taken = sorted({column if column in ours else name for name, column in _members(mixin) if {name, column} & ours})
    if taken:
        msg = (
            f"{option}={mixin.__name__} defines {', '.join(taken)}, which the records have already and rely on; give "
            "your columns other names"
        )
        raise ConfigurationError(msg)
    if keys := sorted(name for name, _ in _members(mixin) if _is_key(mixin, name)):
        msg = f"{option}={mixin.__name__} makes {', '.join(keys)} part of the primary key, which is fixed"
        raise ConfigurationError(msg)


def check_filled(option: str, table: Table, ours: Iterable[str]) -> None:
    """Refuse a column that no row could ever be written with.

    Args:
        option: the option that the columns were given as.
        table: the mapped table.
        ours: names of our columns.

    Raises:
        ConfigurationError: a column is ``NOT NULL`` and has no default.
    """
    known = set(ours)
    if empty := sorted(column.name for column in table.c if column.name not in known and needs_value(column)):
        msg = (
            f"{option}= adds {', '.join(empty)} to {table.name}, NOT NULL and without a default, and nothing could "
            "fill it; let it be NULL (`Mapped[… | None]`), or give it a default (only for chats there is values=)"
        )
        raise ConfigurationError(msg)


def needs_value(column: Column[Any]) -> bool:
    """Whether a row cannot be written without a value for this column."""
    made = (column.default, column.server_default, column.computed, column.identity)
    return not column.nullable and all(each is None for each in made)


def table_arguments(mixin: type) -> TableArguments:
    """The ``__table_args__`` of a mixin, whichever way it gives them."""
    given: Any = getattr(mixin, "__table_args__", ())
    return (given,) if isinstance(given, dict) else tuple(given)


def _is_base(candidate: object) -> TypeGuard[type[Any]]:
    """Whether it is a declarative base, however it was made."""
    if not isinstance(candidate, type) or candidate is DeclarativeBase or hasattr(candidate, "__mapper__"):
        return False
    return isinstance(getattr(candidate, "registry", None), registry) and isinstance(
        getattr(candidate, "metadata", None), MetaData
    )


def _is_key(owner: object, name: str) -> bool:
    # Asking the class itself would run what it declares.
    given = getattr_static(owner, name, None)
    column = given.column if isinstance(given, MappedColumn) else given
    return isinstance(column, Column) and column.primary_key


def _members(owner: object, *, mapped_only: bool = False) -> Iterator[tuple[str, str]]:
    """The attributes that a class and those above it give, each with the name of its column."""
    for cls in getattr(owner, "__mro__", ()):
        if cls is object or cls.__module__.startswith("sqlalchemy."):
            continue
        given = {name: value for name, value in vars(cls).items() if not name.startswith("__")}
        annotated = {name for name, kind in get_annotations(cls).items() if "Mapped[" in str(kind)}
        for name in annotated | {each for each, value in given.items() if not mapped_only or _is_mapped(value)}:
            value = given.get(name)
            column = value.column if isinstance(value, MappedColumn) else value
            yield name, (isinstance(column, Column) and column.name) or name


def _is_mapped(value: object) -> bool:
    return isinstance(value, Column | MappedColumn | declared_attr | MapperProperty)


def _named(thing: object) -> str:
    return thing.__name__ if isinstance(thing, type) else f"base={type(thing).__name__}"
