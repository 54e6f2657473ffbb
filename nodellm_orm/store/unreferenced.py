"""Contents that nothing refers to any more: files at once, when the last chat that has them goes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, exists, select

from nodellm_orm.store.guard import CACHED

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

    from sqlalchemy import Connection, Delete, Select, Table

    from nodellm_orm.store.define import Tables


def release_blobs(connection: Connection, tables: Tables, owner: str | None, digests: Collection[str]) -> int:
    """Delete those of an owner's contents that no attachment of his names.

    They are locked before it is looked whether anything refers to them: whoever gives the same file again just now
    waits for that lock, or is waited for (`absent.insert_absent`), so that no content goes that is about to be needed.

    Args:
        connection: in a transaction in which the attachments have been deleted.
        tables: the records' tables.
        owner: whose.
        digests: of the contents.

    Returns:
        How many were deleted.
    """
    if not digests:
        return 0
    key = {"b_owner": owner, "b_digests": sorted(digests)}
    stored = list(connection.scalars(_locked(tables.blobs), key))
    if not stored:
        return 0
    wanted = {"b_owner": owner, "b_whose": owner, "b_digests": stored}
    kept = set(connection.scalars(_referred(tables.blobs, tables.attachments, tables.chats), wanted))
    unwanted = [sha256 for sha256 in stored if sha256 not in kept]
    if unwanted:
        connection.execute(_remove(tables.blobs), {"b_owner": owner, "b_digests": unwanted})
    return len(unwanted)


def hold_blobs(connection: Connection, tables: Tables, owner: str | None, chat_id: UUID) -> None:
    """Keep the contents of a chat's files from being deleted until the end of the transaction that has copied them.

    Args:
        connection: in a transaction.
        tables: the records' tables.
        owner: whose chat it is.
        chat_id: the chat that has just been given attachments of another.
    """
    connection.execute(_held(tables.blobs, tables.attachments), {"b_owner": owner, "b_chat": chat_id}).all()


def _named(table: Table) -> list[Any]:
    return [
        table.c.owner == bindparam("b_owner", type_=table.c.owner.type),
        table.c.sha256.in_(bindparam("b_digests", expanding=True, type_=table.c.sha256.type)),
    ]


@lru_cache(maxsize=CACHED)
def _locked(blobs: Table) -> Select[Any]:
    # In one order, as those are written in: two transactions wait for each other, and never both.
    return select(blobs.c.sha256).where(*_named(blobs)).order_by(blobs.c.sha256).with_for_update()


@lru_cache(maxsize=CACHED)
def _referred(blobs: Table, attachments: Table, chats: Table) -> Select[Any]:
    # Twice the same: what is nobody's has an empty owner among the contents, and none among the chats.
    owned = bindparam("b_whose", type_=chats.c.owner.type)
    named = (
        exists()
        .where(attachments.c.sha256 == blobs.c.sha256, attachments.c.chat_id == chats.c.id)
        .where(chats.c.owner.is_not_distinct_from(owned))
    )
    return select(blobs.c.sha256).where(*_named(blobs), named)


@lru_cache(maxsize=CACHED)
def _held(blobs: Table, attachments: Table) -> Select[Any]:
    digests = select(attachments.c.sha256).where(attachments.c.chat_id == bindparam("b_chat"))
    owned = blobs.c.owner == bindparam("b_owner", type_=blobs.c.owner.type)
    held = select(blobs.c.sha256).where(owned, blobs.c.sha256.in_(digests)).order_by(blobs.c.sha256)
    return held.with_for_update(read=True, of=blobs)


@lru_cache(maxsize=CACHED)
def _remove(blobs: Table) -> Delete:
    return delete(blobs).where(*_named(blobs))
