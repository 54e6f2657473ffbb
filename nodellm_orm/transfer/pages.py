"""Rows of several chats together: a page has those of many small chats, or a piece of a long one."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, select, tuple_

from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.guard import CACHED, there
from nodellm_orm.transfer.layout import KEYS
from nodellm_orm.transfer.rows import PAGE, STATE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Select, Table

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Tables
    from nodellm_orm.transfer.layout import TableLayout

    Fields = dict[str, Any]
    """A row's values by column."""

CONTENTS_AT_ONCE: Final = 100
"""Files and texts that are read at once."""


def chat_rows(
    connection: Connection, layout: TableLayout, tables: Tables, ids: Sequence[UUID], owner: Owner
) -> dict[UUID, Fields]:
    """Chats' own rows, decrypted, in their order; those that are not there, or are being deleted, are left out.

    Args:
        connection: where.
        layout: the columns.
        tables: the records' tables.
        ids: the chats, a page of them at most.
        owner: whose.
    """
    names = tuple(dict.fromkeys((*layout.names, *STATE)))
    statement = _chats(tables.chats, names, any_owner=owner is ANY_OWNER)
    owned = {} if owner is ANY_OWNER else {"b_owner": owner}
    rows = connection.execute(statement, {"b_ids": list(ids), **owned}).mappings()
    return {row["id"]: dict(tables.sealer.opened("chats", row, owner=row["owner"], key=row["id"])) for row in rows}


class Pages:
    """The rows of chats in one table by the page: chat after chat, each in the order of its key.

    Args:
        layout: the table and its columns.
        tables: the records' tables.
        owners: whose the chats are, in the order of their ids.
    """

    def __init__(self, layout: TableLayout, tables: Tables, owners: Mapping[UUID, str | None]) -> None:
        """Begin before the first row."""
        self._layout, self._tables, self._owners = layout, tables, owners
        self._rest = list(owners)
        self._within: tuple[UUID, Any] | None = None
        """The chat that the last page has broken off, and its last key there."""

    @property
    def ended(self) -> bool:
        """Whether all pages were read."""
        return not self._rest and self._within is None

    def read(self, connection: Connection) -> list[Mapping[Any, Any]]:
        """The next page, decrypted; it stays the next one until `advance`.

        Args:
            connection: where.
        """
        table, names, key = self._layout.table, self._layout.names, KEYS[self._layout.suffix]
        if self._within is None and len(self._rest) > 1:
            rows = connection.execute(_of_chats(table, names, key), {"b_ids": self._rest, "b_limit": PAGE})
        else:
            chat_id, after = self._within or (self._rest[0], None)
            place = {} if after is None else {"b_after": after}
            statement = _of_chat(table, names, key, placed=after is not None)
            rows = connection.execute(statement, {"b_chat": chat_id, **place, "b_limit": PAGE})
        return [self._opened(row) for row in rows.mappings()]

    def advance(self, page: Sequence[Mapping[Any, Any]]) -> None:
        """Go on behind a page.

        Args:
            page: what `read` gave.
        """
        if self._within is None and len(page) == PAGE:
            del self._rest[: bisect_right(self._rest, page[-1]["chat_id"])]
        elif self._within is None:
            self._rest.clear()
        full = len(page) == PAGE
        self._within = (page[-1]["chat_id"], page[-1][KEYS[self._layout.suffix]]) if full else None

    def _opened(self, row: Mapping[Any, Any]) -> Mapping[Any, Any]:
        suffix = self._layout.suffix
        if suffix == "requests":
            return row
        return self._tables.sealer.opened(suffix, row, owner=self._owners[row["chat_id"]], key=row["id"])


class Cursor:
    """The same, given out chat by chat; it holds one page.

    Args:
        connection: where.
        pages: the rows.
    """

    def __init__(self, connection: Connection, pages: Pages) -> None:
        """Begin before the first row."""
        self._connection, self._pages = connection, pages
        self.ahead: deque[Mapping[Any, Any]] = deque()
        """Rows that were read and not given out yet."""

    def of(self, chat_id: UUID) -> Iterator[Mapping[Any, Any]]:
        """The rows of a chat.

        Args:
            chat_id: the chat; those before it were gone through.
        """
        while True:
            while self.ahead and self.ahead[0]["chat_id"] == chat_id:
                yield self.ahead.popleft()
            if self.ahead or self._pages.ended:
                return
            page = self._pages.read(self._connection)
            self._pages.advance(page)
            self.ahead.extend(page)


def contents(
    connection: Connection, layout: TableLayout, tables: Tables, named: Sequence[tuple[str | None, str]]
) -> dict[tuple[str | None, str], Fields]:
    """Files with their bytes, or texts, by owner and digest; those that are not stored are left out.

    Args:
        connection: where.
        layout: the table and its columns.
        tables: the records' tables.
        named: owners and digests, `CONTENTS_AT_ONCE` at most.
    """
    suffix = layout.suffix
    names = tuple(dict.fromkeys((*layout.names, "data" if suffix == "blobs" else "text")))
    given = {
        "b_owners": list({owner for owner, _ in named}),
        "b_digests": list({digest for _, digest in named}),
        "b_named": list(named),
    }
    found: dict[tuple[str | None, str], Fields] = {}
    for row in connection.execute(_contents(layout.table, names), given).mappings():
        owner, digest = row["owner"], row["sha256"]
        found[owner, digest] = dict(tables.sealer.opened(suffix, row, owner=owner, key=digest))
    return found


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=CACHED)
def _chats(chats: Table, names: tuple[str, ...], *, any_owner: bool) -> Select[Any]:
    conditions = [chats.c.id.in_(bindparam("b_ids", expanding=True, type_=chats.c.id.type)), there(chats)]
    if not any_owner:
        conditions.append(chats.c.owner.is_not_distinct_from(bindparam("b_owner", type_=chats.c.owner.type)))
    return select(*(chats.c[name] for name in names)).where(*conditions).order_by(chats.c.id)


@lru_cache(maxsize=CACHED)
def _of_chats(table: Table, names: tuple[str, ...], key: str) -> Select[Any]:
    among = table.c.chat_id.in_(bindparam("b_ids", expanding=True, type_=table.c.chat_id.type))
    rows = select(*(table.c[name] for name in names)).where(among)
    return rows.order_by(table.c.chat_id, table.c[key]).limit(bindparam("b_limit"))


@lru_cache(maxsize=CACHED)
def _of_chat(table: Table, names: tuple[str, ...], key: str, *, placed: bool) -> Select[Any]:
    conditions = [table.c.chat_id == bindparam("b_chat", type_=table.c.chat_id.type)]
    if placed:
        conditions.append(table.c[key] > bindparam("b_after", type_=table.c[key].type))
    columns = [table.c[name] for name in names]
    return select(*columns).where(*conditions).order_by(table.c[key]).limit(bindparam("b_limit"))


@lru_cache(maxsize=CACHED)
def _contents(table: Table, names: tuple[str, ...]) -> Select[Any]:
    owner, digest = table.c.owner, table.c.sha256
    return select(*(table.c[name] for name in names)).where(
        # The pairs say which are meant; not every database uses an index for pairs.
        owner.in_(bindparam("b_owners", expanding=True, type_=owner.type)),
        digest.in_(bindparam("b_digests", expanding=True, type_=digest.type)),
        tuple_(owner, digest).in_(bindparam("b_named", expanding=True)),
    )
