"""Which index of words a database has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.search.mysql import MySQLIndex
from nodellm_orm.search.postgresql import PostgresIndex
from nodellm_orm.search.sqlite import SqliteIndex

if TYPE_CHECKING:
    from nodellm_orm.search.indexes import WordIndex
    from nodellm_orm.store.define import Records

_KINDS: Final[dict[str, type[WordIndex]]] = {
    "postgresql": PostgresIndex,
    "mysql": MySQLIndex,
    "mariadb": MySQLIndex,
    "sqlite": SqliteIndex,
}


def has_kind(dialect: str) -> bool:
    """Whether there can be an index in a database.

    Args:
        dialect: the database's name.
    """
    return dialect in _KINDS


def index_of(records: Records, dialect: str) -> WordIndex:
    """The index of a database.

    Args:
        records: on which tables.
        dialect: the database's name.

    Raises:
        UnsupportedFeatureError: there is none for it.
    """
    if dialect not in _KINDS:
        msg = f"there is no index of words for {dialect}; searches work without one"
        raise UnsupportedFeatureError(msg)
    return _KINDS[dialect](records)
