"""Whether a row fits into one packet of a MySQL server, asked before it is sent.

A row over ``max_allowed_packet`` ends the connection: to a program that looks like an outage, and it would try again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import text

from nodellm_orm.errors import StorageError
from nodellm_orm.store.sealed import Sealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection, Engine

_MYSQL: Final = frozenset({"mysql", "mariadb"})
_UNQUESTIONED: Final = 200_000
"""Characters or bytes: escaped and as UTF-8 these fit into the smallest limit that servers are set up with (1 MB)."""
_OVERHEAD: Final = 16_384
"""Bytes of the statement around the values."""
_DOUBLED: Final = frozenset(b"\\'\"\0\n\r\x1a")
_limits: WeakKeyDictionary[Engine, int] = WeakKeyDictionary()


def check_sizes(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a row that the server would not accept; other databases have no such limit.

    Args:
        connection: where the rows are about to be sent.
        rows: values by column.

    Raises:
        StorageError: a row is too large.
    """
    if connection.dialect.name not in _MYSQL:
        return
    for row in rows:
        stored = (value.raw if isinstance(value, Sealed) else value for value in row.values())
        values = [value for value in stored if isinstance(value, str | bytes)]
        if sum(map(len, values)) <= _UNQUESTIONED:
            continue
        limit = _limit(connection)
        size = sum(map(_size, values)) + _OVERHEAD
        if size > limit:
            msg = (
                f"a row of about {size} bytes is over the server's max_allowed_packet of {limit}; "
                "shorten the message or its files, or raise max_allowed_packet"
            )
            raise StorageError(msg, details={"size": size, "max_allowed_packet": limit})


def _size(value: str | bytes) -> int:
    if isinstance(value, bytes):
        return 2 * len(value)  # sent as digits
    data = value.encode("utf-8", "surrogatepass")
    return len(data) + sum(data.count(byte) for byte in _DOUBLED)


def _limit(connection: Connection) -> int:
    known = _limits.get(connection.engine)
    if known is None:
        known = _limits[connection.engine] = int(connection.scalar(text("SELECT @@max_allowed_packet")) or 0)
    return known
