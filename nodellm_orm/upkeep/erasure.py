"""What an erased owner leaves behind: ledger rows that lead to him no more, and contents without an attachment."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, null, or_, select, update

from nodellm_orm.store.stale import hold, mark
from nodellm_orm.store.unreferenced import release_blobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, Table

    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Tables


async def anonymise(
    access: Access, tables: Tables, owner: str | None, batch: int, *, keep_labels: bool
) -> AsyncIterator[int]:
    """Take from an owner's ledger rows whatever leads to him; what they cost stays. Gives the rows of each transaction.

    Args:
        access: the database.
        tables: the records' tables.
        owner: whose; of nobody's rows only those are meant that belong to a chat.
        batch: rows a transaction.
        keep_labels: leave them their labels.
    """
    requests = tables.requests
    after: tuple[datetime, UUID] | None = None
    while True:
        rows = await access.read(partial(_page, requests=requests, owner=owner, after=after, limit=batch))
        if not rows:
            return
        yield await access.run(partial(_forget, tables=tables, owner=owner, rows=rows, keep_labels=keep_labels))
        after = rows[-1].created_at, rows[-1].id


def _theirs(requests: Table, owner: str | None) -> list[ColumnElement[bool]]:
    whose: list[ColumnElement[bool]] = [requests.c.owner.is_not_distinct_from(owner)]
    return [*whose, requests.c.chat_id.is_not(None)] if owner is None else whose


def _page(
    connection: Connection, requests: Table, owner: str | None, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[Any]:
    created, key = requests.c.created_at, requests.c.id
    found = select(key, created).where(*_theirs(requests, owner))
    if after is not None:
        found = found.where(or_(created > after[0], and_(created == after[0], key > after[1])))
    return connection.execute(found.order_by(created, key).limit(limit)).all()


def _forget(
    connection: Connection, tables: Tables, owner: str | None, rows: Sequence[Any], *, keep_labels: bool
) -> int:
    requests = tables.requests
    values: dict[str, Any] = dict.fromkeys(("chat_id", "turn_id", "message_id", "owner", "request_id"), null())
    if not keep_labels:
        values["labels"] = {}
    theirs = update(requests).where(requests.c.id.in_([row.id for row in rows]), *_theirs(requests, owner))
    if owner is not None:  # of nobody's rows, the sums stay what they are
        mark(connection, tables, [row.created_at for row in rows])
    return connection.execute(theirs.values({requests.c[name]: value for name, value in values.items()})).rowcount


async def forget_sums(access: Access, tables: Tables, owner: str | None, batch: int) -> None:
    """Delete an owner's rows of the roll-up: the ledger's do not lead to him any more, and are added up again.

    Args:
        access: the database.
        tables: the records' tables.
        owner: whose.
        batch: rows a transaction.
    """
    if owner is not None:
        while await access.run(partial(_forget_sums, tables=tables, owner=owner, limit=batch)):
            pass


def _forget_sums(connection: Connection, tables: Tables, owner: str, limit: int) -> int:
    # Whoever adds up has committed before, or reads the ledger after this, in which the name is gone.
    hold(connection, tables)
    sums = tables.usage_hours
    found = select(sums.c.hour, sums.c.digest).where(sums.c.owner == owner).order_by(sums.c.hour).limit(limit)
    rows = connection.execute(found).all()
    if rows:
        hours, digests = sorted({row.hour for row in rows}), [row.digest for row in rows]
        theirs = (sums.c.owner == owner, sums.c.hour.between(hours[0], hours[-1]), sums.c.digest.in_(digests))
        connection.execute(delete(sums).where(*theirs))
        mark(connection, tables, hours)
    return len(rows)


async def remaining_blobs(access: Access, tables: Tables, owner: str | None, batch: int) -> AsyncIterator[int]:
    """Delete an owner's contents that no attachment names: there are some only where rows were deleted by hand.

    Args:
        access: the database.
        tables: the records' tables.
        owner: whose.
        batch: contents a transaction.
    """
    after = ""
    while True:
        page = await access.read(partial(_digests, blobs=tables.blobs, owner=owner, after=after, limit=batch))
        if not page:
            return
        yield await access.run(partial(release_blobs, tables=tables, owner=owner, digests=page))
        after = page[-1]


def _digests(connection: Connection, blobs: Table, owner: str | None, after: str, limit: int) -> Sequence[str]:
    theirs = select(blobs.c.sha256).where(blobs.c.owner == owner, blobs.c.sha256 > after)
    return connection.scalars(theirs.order_by(blobs.c.sha256).limit(limit)).all()
