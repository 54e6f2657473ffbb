"""Files of messages: a row for each, and their bytes once an owner, however often they are given."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid5

from sqlalchemy import bindparam, select

from nodellm_orm.domain.parts import MediaPart
from nodellm_orm.store.guard import CACHED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Select, Table

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.store.define import Tables
    from nodellm_orm.store.mapping import Row
    from nodellm_orm.store.sealing import Sealer

_BATCH: Final = 500
"""Digests a query, far below every database's limit."""


def files_in(message: Message) -> list[tuple[int, MediaPart]]:
    """The files of a message with their places among its parts."""
    return [(place, part) for place, part in enumerate(message.parts) if isinstance(part, MediaPart)]


def attachment_rows(chat_id: UUID, message_id: UUID, message: Message) -> list[Row]:
    """One row for each file of a message; ids follow from the message, so that writing again is the same.

    Args:
        chat_id: the chat.
        message_id: id of the message's row.
        message: the message.
    """
    return [
        {
            "chat_id": chat_id,
            "id": uuid5(message_id, f"attachment:{place}"),
            "message_id": message_id,
            "position": place,
            "kind": part.media,
            "media_type": part.media_type,
            "name": part.name,
            "size": None if part.data is None else len(part.data),
            "sha256": part.sha256,
            "url": part.url,
        }
        for place, part in files_in(message)
    ]


def blob_rows(owner: str | None, messages: Iterable[Message], sealer: Sealer) -> list[Row]:
    """The contents of messages' files, each once.

    Sorted by digest: two transactions that write the same contents wait for each other in one order.

    Args:
        owner: whose chat it is.
        messages: the messages.
        sealer: encrypts them, where they are to be encrypted.
    """
    contents = {
        part.sha256: part.data
        for message in messages
        for _, part in files_in(message)
        if part.sha256 is not None and part.data is not None
    }
    rows: list[Row] = [
        {"owner": owner, "sha256": sha256, "size": len(data), "data": data} for sha256, data in sorted(contents.items())
    ]
    return sealer.sealed_rows("blobs", rows, owner=owner, key="sha256")


def with_contents(
    connection: Connection, tables: Tables, owner: str | None, messages: Sequence[Message]
) -> tuple[Message, ...]:
    """Messages as they were, with the bytes of their files: one query, and none when no file is named.

    A content that is not stored any more stays away: it is missed when it is to be sent.

    Args:
        connection: where.
        tables: the records' tables.
        owner: whose chat it is.
        messages: as read from their rows.
    """
    digests = sorted({part.sha256 for message in messages for _, part in files_in(message) if part.sha256 is not None})
    contents: dict[str, bytes] = {}
    for start in range(0, len(digests), _BATCH):
        wanted = {"b_owner": owner, "b_digests": digests[start : start + _BATCH]}
        for row in connection.execute(_contents(tables.blobs), wanted):
            data = tables.sealer.opened_value("blobs", "data", row.data, owner=owner, key=row.sha256)
            contents[row.sha256] = bytes(data)
    return tuple(_filled(message, contents) for message in messages) if contents else tuple(messages)


def _filled(message: Message, contents: dict[str, bytes]) -> Message:
    if not files_in(message):
        return message
    return replace(
        message,
        parts=tuple(
            replace(part, data=contents.get(part.sha256)) if isinstance(part, MediaPart) and part.sha256 else part
            for part in message.parts
        ),
    )


@lru_cache(maxsize=CACHED)
def _contents(blobs: Table) -> Select[Any]:
    return select(blobs.c.sha256, blobs.c.data).where(
        blobs.c.owner == bindparam("b_owner", type_=blobs.c.owner.type),
        blobs.c.sha256.in_(bindparam("b_digests", expanding=True, type_=blobs.c.sha256.type)),
    )
