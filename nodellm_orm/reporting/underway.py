"""Whether transactions are under way that may yet bring rows to hours that are about to be added up.

A row has the time of the statement that wrote it, but is seen only once its transaction has ended, and that may be long
after: the host's own may be open for hours, and a machine may sleep between a statement and its commit. So no clock
decides. On PostgreSQL a transaction that has written to the ledger holds a lock of the table until it ends, which is
told to everybody (``pg_locks``): those that hold one when a refresh begins have to end first. On MySQL the rows that it
has written are locked, and are run into. On SQLite nobody else writes while somebody does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Text, bindparam, func, select, text
from sqlalchemy.exc import DBAPIError

from nodellm_orm.store.failures import code_of
from nodellm_orm.store.guard import CACHED

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Select, Table

_MYSQL: Final = ("mysql", "mariadb")
_LOCKED: Final = frozenset({1205, 3572})
"""MariaDB's and MySQL's codes for a row that somebody else has locked."""
_PREPARED: Final = "-1/"
"""How the name of a transaction begins that was prepared: it has lost the name it had."""
_WRITERS: Final = text("""
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = to_regclass(:name) AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    AND pid IS DISTINCT FROM pg_backend_pid()
""").bindparams(bindparam("name", type_=Text()))


class UnderWayError(Exception):
    """Somebody's transaction has locked rows of an hour."""


def writers(connection: Connection, requests: Table) -> frozenset[str]:
    """The transactions that may have written to the ledger and have not ended; where they cannot be told, none.

    Args:
        connection: where.
        requests: the ledger.
    """
    if connection.dialect.name != "postgresql":
        return frozenset()
    name = connection.dialect.identifier_preparer.format_table(requests)
    return frozenset(connection.scalars(_WRITERS, {"name": name}))


def remaining(connection: Connection, requests: Table, before: frozenset[str]) -> frozenset[str]:
    """Those of some transactions that have not ended yet.

    Args:
        connection: where.
        requests: the ledger.
        before: what `writers` gave.
    """
    return frozenset(name for name in writers(connection, requests) if name in before or name.startswith(_PREPARED))


def refuse_locked(connection: Connection, requests: Table, since: datetime | None, until: datetime) -> None:
    """On MySQL, see to it that nobody has rows of a time under way, until this transaction ends.

    Args:
        connection: in a transaction.
        requests: the ledger.
        since: the first moment; ``None``: from the first row on.
        until: the first moment that is not meant any more.

    Raises:
        UnderWayError: somebody has; nothing is waited for.
    """
    if connection.dialect.name not in _MYSQL:
        return
    limits = {"b_until": until} if since is None else {"b_since": since, "b_until": until}
    try:
        connection.execute(_locking(requests, since=since is not None), limits)
    except DBAPIError as error:
        if code_of(error) in _LOCKED:
            raise UnderWayError from error
        raise


@lru_cache(maxsize=CACHED)
def _locking(requests: Table, *, since: bool) -> Select[Any]:
    created = requests.c.created_at
    when = [created < bindparam("b_until", type_=created.type)]
    if since:
        when.append(created >= bindparam("b_since", type_=created.type))
    found = select(func.count(requests.c.attempt)).where(*when).with_for_update(nowait=True)
    # Reading the whole table instead would lock every row of it.
    for name in (str(index.name) for index in requests.indexes if [*index.columns.keys()] == ["created_at"]):
        for dialect in _MYSQL:
            found = found.with_hint(requests, f"FORCE INDEX ({name})", dialect)
    return found
