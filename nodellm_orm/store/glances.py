"""What a list of chats shows of each beyond its own row, read for people."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, func, select

from nodellm_orm.errors import EncryptionError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.access import open_access
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.details import REFUSED
from nodellm_orm.store.guard import there
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.types import LongText

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal
    from uuid import UUID

    from sqlalchemy import Connection

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Records, Tables

_OPENING_CHARS = 200
"""Characters of a chat's first question that a list of chats is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What a list shows of a chat beyond its own row."""

    opening: str = ""
    """The beginning of its first question."""
    cost: Decimal | None = None
    """The sum of the known costs; ``None`` only when none is known."""
    unpriced: int = 0
    """Requests that may have cost something that is not known."""
    sealed: bool = False
    """Whether its first question is encrypted and cannot be opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Glances:
    """What a list shows of several chats."""

    by_chat: Mapping[UUID, Glance]
    read_at: datetime
    """When this was read, by the database's clock."""


async def read_glances(
    session: object,
    chat_ids: Sequence[UUID],
    *,
    owner: Owner = None,
    blind: bool = False,
    records: Records = RECORDS,
) -> Glances:
    """What a list shows of chats beyond their own rows, in three queries.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        chat_ids: the chats; those of other owners are left out.
        owner: must equal the stored one; ``None`` means chats without owner, `ANY_OWNER` means anybody's.
        blind: whether what is encrypted with keys that are not given is left out, in place of an error.
        records: own records.

    Raises:
        EncryptionError: a question cannot be opened.
    """
    tables = records.tables

    def work(connection: Connection) -> Glances:
        return _glances(connection, tables, chat_ids, owner, blind=blind)

    return await open_access(session, records).read(work)


def _glances(connection: Connection, tables: Tables, chat_ids: Sequence[UUID], owner: Owner, *, blind: bool) -> Glances:
    read_at = connection.execute(select(DatabaseNow())).scalar_one()
    chats, messages, requests = tables.chats, tables.messages, tables.requests
    visible = select(chats.c.id).where(chats.c.id.in_(chat_ids), there(chats))
    if owner is not ANY_OWNER:
        visible = visible.where(chats.c.owner.is_not_distinct_from(owner))
    asked = messages.alias()
    # Looked up chat by chat in the primary key, so that a long chat costs no more than a short one.
    opening_place = (
        select(asked.c.position)
        .where(asked.c.chat_id == chats.c.id, asked.c.role == "user", asked.c.superseded_at.is_(None))
        .order_by(asked.c.position)
        .limit(1)
        .correlate(chats)
        .scalar_subquery()
    )
    first = and_(messages.c.chat_id == chats.c.id, messages.c.position == opening_place)
    # What is encrypted opens as a whole only.
    cut = func.substr(messages.c.content, 1, _OPENING_CHARS, type_=LongText())
    beginning = messages.c.content if tables.sealer.encrypts else cut.label("content")
    openings = (
        select(messages.c.chat_id, messages.c.id, beginning, chats.c.owner)
        .select_from(chats)
        .join(messages, first)
        .where(chats.c.id.in_(visible))
    )
    unpriced = and_(requests.c.cost.is_(None), func.coalesce(requests.c.http_status, 0) < REFUSED)
    spent = (
        select(requests.c.chat_id, func.sum(requests.c.cost), func.sum(case((unpriced, 1), else_=0)))
        .where(requests.c.chat_id.in_(visible))
        .group_by(requests.c.chat_id)
    )
    opening: dict[UUID, str] = {}
    sealed = set[Any]()
    for row in connection.execute(openings).mappings():
        try:
            opened = tables.sealer.opened("messages", row, owner=row["owner"], key=row["id"])
        except EncryptionError:
            if not blind:
                raise
            sealed.add(row["chat_id"])
        else:
            opening[row["chat_id"]] = opened["content"][:_OPENING_CHARS]
    money: dict[UUID, tuple[Decimal | None, int]] = {row[0]: (row[1], row[2]) for row in connection.execute(spent)}
    by_chat: dict[UUID, Glance] = {}
    for chat_id in chat_ids:
        cost, uncounted = money.get(chat_id, (None, 0))
        by_chat[chat_id] = Glance(
            opening=opening.get(chat_id, ""), cost=cost, unpriced=int(uncounted), sealed=chat_id in sealed
        )
    return Glances(by_chat=MappingProxyType(by_chat), read_at=read_at)
