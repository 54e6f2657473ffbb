"""Going through the tables that outlive chats, or are shared by them: the ledger, contents of files, texts."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, func, or_, select

from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.errors import EncryptionError, TamperedValueError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.guard import CACHED
from nodellm_orm.store.sealed import Sealed
from nodellm_orm.upkeep.findings import Notebook
from nodellm_orm.upkeep.readable import UNREADABLE, columns_of
from nodellm_orm.upkeep.rules.requests import check_request
from nodellm_orm.upkeep.stored import owned, owner_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, Select, Table

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Tables

    Key = tuple[str | None, str]
    """Owner and digest."""

_REQUEST: Final = (
    *("id", "chat_id", "turn_id", "message_id", "owner", "labels", "operation", "provider", "model"),
    *("requested_model", "status", "http_status", "error_type", "attempt", "request_id", "latency_ms"),
    *("first_token_ms", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"),
    *("other_tokens", "cost", "input_cost", "output_cost", "prices", "price_source", "created_at"),
)
BYTES: Final = 16 * 1024 * 1024
"""Bytes of files that are read at once, unless a single one is larger."""


# ── the ledger ────────────────────────────────────────────────────────────────────────────────────────────────────


def count_rows(connection: Connection, table: Table, owner: Owner) -> int:
    """How many rows of a table are of an owner."""
    counted = select(func.count()).select_from(table).where(*owned(table.c.owner, owner))
    return int(connection.execute(counted, owner_parameters(owner)).scalar_one())


def page_of_requests(
    connection: Connection, tables: Tables, owner: Owner, chat_id: UUID | None, after: UUID | None, limit: int
) -> tuple[list[Notebook], UUID | None]:
    """Check a page of the ledger.

    Args:
        connection: where.
        tables: the records' tables.
        owner: whose.
        chat_id: of this chat only.
        after: the last id of the page before.
        limit: rows at most.

    Returns:
        A notebook for each row, and the last id, or ``None`` when there are no rows.
    """
    statement = _requests(
        tables.requests,
        tables.turns,
        any_owner=owner is ANY_OWNER,
        of_chat=chat_id is not None,
        placed=after is not None,
    )
    parameters = {**owner_parameters(owner), "b_limit": limit}
    parameters |= {name: key for name, key in (("b_chat", chat_id), ("b_after", after)) if key is not None}
    books: list[Notebook] = []
    last: UUID | None = None
    for row in connection.execute(statement, parameters).mappings():
        key = row["id"]
        last = last if key is UNREADABLE else key
        chat = row["chat_id"]
        book = Notebook(chat_id=None if chat is UNREADABLE else chat)
        check_request(book, tables.requests.name, dict(row))
        books.append(book)
    return books, last


# ── contents by digest ────────────────────────────────────────────────────────────────────────────────────────────


def page_of_digests(
    connection: Connection, table: Table, owner: Owner, after: Key | None, limit: int
) -> list[tuple[Key, int]]:
    """Owners and digests of a table in their order, with the sizes that the rows tell, 0 where they tell none.

    Args:
        connection: where.
        table: contents of files, or texts.
        owner: whose.
        after: the last of the page before.
        limit: rows at most.
    """
    statement = _digests(table, any_owner=owner is ANY_OWNER, placed=after is not None)
    place = {} if after is None else {"b_after_owner": after[0], "b_after": after[1]}
    rows = connection.execute(statement, {**owner_parameters(owner), **place, "b_limit": limit}).mappings()
    return [((row["owner"], row["sha256"]), size if isinstance(size := row.get("size", 0), int) else 0) for row in rows]


def parcels(sizes: Sequence[tuple[Key, int]], most: int = BYTES) -> list[list[Key]]:
    """Keys in groups that are not larger than so many bytes, and of one owner each.

    Args:
        sizes: keys with their sizes.
        most: bytes a group, unless a single one is larger.

    Example:
        >>> parcels([(("ada", "a"), 3), (("ada", "b"), 3), (("bob", "c"), 1)], most=5)
        [[('ada', 'a')], [('ada', 'b')], [('bob', 'c')]]
    """
    groups: list[list[Key]] = []
    room = 0
    for key, size in sizes:
        if not groups or size > room or groups[-1][0][0] != key[0]:
            groups.append([])
            room = most
        groups[-1].append(key)
        room -= size
    return groups


def check_files(connection: Connection, tables: Tables, keys: Sequence[Key]) -> Notebook:
    """Contents are what their digests say, and as long as their rows say.

    Args:
        connection: where.
        tables: the records' tables.
        keys: of one owner; those that are gone are left out.
    """
    book, table = Notebook(chat_id=None), tables.blobs.name
    for digest, size, data in _contents(connection, tables, "blobs", "data", keys, book):
        if not isinstance(data, bytes | bytearray | memoryview) or not isinstance(size, int):
            book.damage(table, digest, "unreadable", "size or data cannot be read")
        elif hashlib.sha256(data).hexdigest() != digest:
            book.damage(table, digest, "file-digest", "the content is not the one with this digest")
        elif len(data) != size:
            book.damage(table, digest, "file-size", f"size is {size}, and the content has {len(data)} bytes")
    return book


def check_texts(connection: Connection, tables: Tables, keys: Sequence[Key]) -> Notebook:
    """Texts are what their digests say; arguments as for `check_files`."""
    book, table = Notebook(chat_id=None), tables.texts.name
    for digest, _, words in _contents(connection, tables, "texts", "text", keys, book):
        if not isinstance(words, str):
            book.damage(table, digest, "unreadable", "text cannot be read")
        elif digest_of_text(words) != digest:
            book.damage(table, digest, "text-digest", "the text is not the one with this digest")
    return book


def _contents(
    connection: Connection, tables: Tables, suffix: str, column: str, keys: Sequence[Key], book: Notebook
) -> Iterator[tuple[str, Any, Any]]:
    """Digest, size and content of rows, decrypted where they are encrypted; what cannot be is told."""
    if not keys:
        return
    owner, table = keys[0][0], getattr(tables, suffix)
    parameters = {"b_owner": owner, "b_digests": [digest for _, digest in keys]}
    for row in connection.execute(_rows(table, column), parameters).mappings():
        digest, value = row["sha256"], row[column]
        try:
            opened = tables.sealer.opened_value(suffix, column, value, owner=owner, key=digest)
        except TamperedValueError:
            book.damage(table.name, digest, "tampered", f"{column} was changed or moved since it was encrypted")
        except EncryptionError:
            if not isinstance(value, Sealed):
                book.damage(table.name, digest, "plaintext", f"{column} is not encrypted")
        else:
            yield digest, row.get("size"), opened


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=CACHED)
def _requests(requests: Table, turns: Table, *, any_owner: bool, of_chat: bool, placed: bool) -> Select[Any]:
    made_for = and_(turns.c.chat_id == requests.c.chat_id, turns.c.id == requests.c.turn_id)
    conditions = owned(requests.c.owner, ANY_OWNER if any_owner else None)
    if of_chat:
        conditions.append(requests.c.chat_id == bindparam("b_chat", type_=requests.c.chat_id.type))
    if placed:
        conditions.append(requests.c.id > bindparam("b_after", type_=requests.c.id.type))
    return (
        select(*columns_of(requests, *_REQUEST), turns.c.status.label("turn_status"))
        .select_from(requests.outerjoin(turns, made_for))
        .where(*conditions)
        .order_by(requests.c.id)
        .limit(bindparam("b_limit"))
    )


@lru_cache(maxsize=CACHED)
def _digests(table: Table, *, any_owner: bool, placed: bool) -> Select[Any]:
    owner, digest = table.c.owner, table.c.sha256
    conditions: list[ColumnElement[bool]] = owned(owner, ANY_OWNER if any_owner else None)
    if placed:
        after_owner = bindparam("b_after_owner", type_=owner.type)
        later = digest > bindparam("b_after", type_=digest.type)
        conditions.append(or_(owner > after_owner, and_(owner == after_owner, later)))
    size = columns_of(table, "size") if "size" in table.c else ()
    return select(owner, digest, *size).where(*conditions).order_by(owner, digest).limit(bindparam("b_limit"))


@lru_cache(maxsize=CACHED)
def _rows(table: Table, content: str) -> Select[Any]:
    names = ("sha256", "size", content) if "size" in table.c else ("sha256", content)
    owner, digest = table.c.owner, table.c.sha256
    return select(*columns_of(table, *names)).where(
        owner == bindparam("b_owner", type_=owner.type),
        digest.in_(bindparam("b_digests", expanding=True, type_=digest.type)),
    )
