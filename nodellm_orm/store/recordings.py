"""Reading a chat as what was asked and answered in it: everything that a replay is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, select

from nodellm_orm.store.access import open_access
from nodellm_orm.store.attachments import with_contents
from nodellm_orm.store.details import details_of
from nodellm_orm.store.guard import CACHED
from nodellm_orm.store.records import RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet
    from uuid import UUID

    from sqlalchemy import Connection, Select, Table

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Records, Tables
    from nodellm_orm.store.details import ChatDetails

_BATCH: Final = 500
"""Digests a query, far below every database's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One chat in full, with what its turns name by digests."""

    details: ChatDetails
    """Files of its messages have their contents."""
    texts: Mapping[str, str]
    """Instructions and tools by their digests; one that was purged is missing."""


async def read_recording(
    session: object,
    chat_id: UUID,
    *,
    named: Callable[[object], AbstractSet[str]],
    owner: Owner = None,
    records: Records = RECORDS,
) -> Recording:
    """One chat with everything that a replay needs, in seven queries and one more for each 500 files or texts.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        chat_id: the chat.
        named: finds the digests in the settings of a turn.
        owner: must equal the stored one; ``None`` means a chat without owner, `ANY_OWNER` means anybody's.
        records: own records, with the keys of what is encrypted.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
    """
    tables = records.tables

    def work(connection: Connection) -> Recording:
        details = details_of(connection, tables, chat_id, owner)
        whose = details.head.owner
        filled = with_contents(connection, tables, whose, [message.message for message in details.messages])
        messages = [replace(message, message=whole) for message, whole in zip(details.messages, filled, strict=True)]
        digests = frozenset(digest for turn in details.turns for digest in named(turn.settings))
        return Recording(
            details=replace(details, messages=tuple(messages)), texts=_texts(connection, tables, whose, digests)
        )

    return await open_access(session, records).read(work)


def _texts(connection: Connection, tables: Tables, owner: str | None, digests: AbstractSet[str]) -> dict[str, str]:
    wanted, found = sorted(digests), dict[str, str]()
    for start in range(0, len(wanted), _BATCH):
        some = {"b_owner": owner, "b_digests": wanted[start : start + _BATCH]}
        for row in connection.execute(_named(tables.texts), some):
            found[row.sha256] = tables.sealer.opened_value("texts", "text", row.text, owner=owner, key=row.sha256)
    return found


@lru_cache(maxsize=CACHED)
def _named(texts: Table) -> Select[Any]:
    return select(texts.c.sha256, texts.c.text).where(
        texts.c.owner == bindparam("b_owner", type_=texts.c.owner.type),
        texts.c.sha256.in_(bindparam("b_digests", expanding=True, type_=texts.c.sha256.type)),
    )
