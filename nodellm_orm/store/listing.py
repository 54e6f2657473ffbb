"""Pages of chats by owner and metadata, and the sums over a chat's ledger rows."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy import and_, bindparam, case, func, or_, select, true

from nodellm_orm.domain.labels import agrees
from nodellm_orm.domain.pages import ChatSummary, Page
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.refused import check_limit, no_cursor
from nodellm_orm.ports.states import ChatTotals
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.guard import CACHED, chat_parameters, not_found, of_chat, there
from nodellm_orm.store.labels import mentions
from nodellm_orm.store.mapping import PROVIDER_SOURCE, usage_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, RowMapping, Select, Table

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Tables

_SCANNED: Final = 500
"""Chats read at a time where metadata decides which of them belong to the page."""


def encode_cursor(created_at: datetime, chat_id: UUID) -> str:
    """The place of a chat in the list, as text that says nothing to its holder."""
    return base64.urlsafe_b64encode(f"{created_at.isoformat()} {chat_id}".encode()).decode()


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Read what `encode_cursor` wrote.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        created_at, chat_id = base64.urlsafe_b64decode(cursor.encode("ascii")).decode("ascii").split(" ")
        place = datetime.fromisoformat(created_at), UUID(chat_id)
        place[0].astimezone(UTC)  # at the ends of the calendar another zone may lead out of it
    except (ValueError, OverflowError, binascii.Error):
        raise no_cursor() from None
    if place[0].utcoffset() is None:
        msg = "after= is not a page's cursor: it names no time zone; pass the `next` of the page before, unchanged"
        raise ConfigurationError(msg)
    return place


def summaries(
    connection: Connection,
    tables: Tables,
    owner: Owner,
    *,
    metadata: Mapping[str, JsonValue],
    limit: int,
    after: str | None,
) -> Page[ChatSummary]:
    """A page of chats, newest first.

    Raises:
        ConfigurationError: for a cursor that is none, or a limit below 1.
    """
    check_limit(limit)
    place = decode_cursor(after) if after is not None else None
    items: list[ChatSummary] = []
    for row in _scan(connection, tables.chats, owner, metadata, place, limit + 1):
        if agrees(row["metadata"], metadata):
            opened = tables.sealer.opened("chats", row, owner=row["owner"], key=row["id"])
            items.append(ChatSummary(**{**opened, "running": bool(row["running"])}))
        if len(items) > limit:
            break
    page = tuple(items[:limit])
    more = len(items) > limit
    return Page(items=page, next=encode_cursor(page[-1].created_at, page[-1].id) if more else None)


def _scan(
    connection: Connection,
    chats: Table,
    owner: Owner,
    metadata: Mapping[str, JsonValue],
    place: tuple[datetime, UUID] | None,
    wanted: int,
) -> Iterator[RowMapping]:
    """The chats that may belong to the page, newest first."""
    size = max(wanted, _SCANNED) if metadata else wanted
    while True:
        statement = _page(chats, whose=_whose(owner), placed=place is not None)
        parameters: dict[str, Any] = {"b_limit": size}
        if isinstance(owner, str):
            parameters["b_owner"] = owner
        if place is not None:
            parameters |= {"b_created": place[0], "b_id": place[1]}
        condition, fragments = mentions(chats.c.metadata, metadata)
        rows = connection.execute(statement.where(condition), {**parameters, **fragments}).mappings().all()
        yield from rows
        if len(rows) < size:
            return
        place = rows[-1]["created_at"], rows[-1]["id"]


def _whose(owner: Owner) -> str:
    if owner is ANY_OWNER:
        return "any"
    return "nobody" if owner is None else "one"


@lru_cache(maxsize=CACHED)
def _page(chats: Table, *, whose: str, placed: bool) -> Select[Any]:
    created, chat_id = chats.c.created_at, chats.c.id
    conditions = {"any": true(), "nobody": chats.c.owner.is_(None), "one": chats.c.owner == bindparam("b_owner")}
    before = or_(
        created < bindparam("b_created", type_=created.type),
        and_(created == bindparam("b_created", type_=created.type), chat_id < bindparam("b_id", type_=chat_id.type)),
    )
    running = case((and_(chats.c.active_turn_id.is_not(None), chats.c.lease_until >= DatabaseNow()), 1), else_=0)
    return (
        select(
            *(chats.c[name] for name in ("id", "owner", "title", "provider", "model", "metadata")),
            chats.c.next_position.label("message_count"),
            running.label("running"),
            created,
            chats.c.updated_at,
        )
        .where(conditions[whose], before if placed else true(), there(chats))
        .order_by(created.desc(), chat_id.desc())
        .limit(bindparam("b_limit"))
    )


# ── the ledger ────────────────────────────────────────────────────────────────────────────────────────────────────


def totals(connection: Connection, tables: Tables, chat_id: UUID, owner: Owner) -> ChatTotals:
    """Sums over the ledger rows of one chat, exact.

    Raises:
        ChatNotFoundError: no such chat for this owner.
    """
    statement = _totals(tables.chats, tables.requests, any_owner=owner is ANY_OWNER)
    row = connection.execute(statement, chat_parameters(chat_id, owner)).mappings().first()
    if row is None:
        not_found(chat_id)
    others: Counter[str] = Counter()
    if row["others"]:
        for counts in connection.scalars(_others(tables.requests), {"b_chat": chat_id}):
            others.update(counts)
    return ChatTotals(
        requests=int(row["requests"]),
        failures=int(row["failures"]),
        unpriced=int(row["unpriced"]),
        usage=usage_of(row, dict(sorted(others.items())), row["reported_cost"]),
        cost=row["cost"],
    )


@lru_cache(maxsize=CACHED)
def _totals(chats: Table, requests: Table, *, any_owner: bool) -> Select[Any]:
    r = requests.c
    joined = chats.outerjoin(requests, r.chat_id == chats.c.id)

    def counted(condition: Any) -> Any:
        return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

    reported = case((r.price_source == PROVIDER_SOURCE, r.cost))
    tokens = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    return (
        select(
            func.count(r.id).label("requests"),
            counted(r.status == "failed").label("failures"),
            counted(and_(r.id.is_not(None), r.cost.is_(None))).label("unpriced"),
            counted(r.other_tokens != {}).label("others"),
            *(func.sum(r[name], type_=r[name].type).label(name) for name in tokens),
            func.sum(r.cost, type_=r.cost.type).label("cost"),
            func.sum(reported, type_=r.cost.type).label("reported_cost"),
        )
        .select_from(joined)
        .where(*of_chat(chats, ANY_OWNER if any_owner else None))
        .group_by(chats.c.id)
    )


@lru_cache(maxsize=CACHED)
def _others(requests: Table) -> Select[Any]:
    return select(requests.c.other_tokens).where(
        requests.c.chat_id == bindparam("b_chat"), requests.c.other_tokens != {}
    )
