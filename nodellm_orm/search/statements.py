"""The statements of a search: chats in order, the messages of some of them, and what an index gives.

Each of them says whose chats are meant, and leaves out those whose deletion has begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, or_, select

from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.guard import CACHED, there

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import CTE, ColumnElement, Select, Table

    from nodellm_orm.domain.words import WordQuery
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.search.indexes import WordIndex
    from nodellm_orm.store.define import Tables


_MARGIN: Final = timedelta(days=1)
_FIRST: Final = datetime(1, 1, 3, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which messages are looked for; ``None`` is no limit."""

    query: WordQuery
    owner: Owner
    limit: int
    chat_id: UUID | None = None
    roles: tuple[str, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A message in the order of what is found: newest chat first, and the newest message of each first."""

    created_at: datetime
    """When its chat was created."""
    chat_id: UUID
    position: int


class Statements:
    """The statements for one search.

    Args:
        tables: the records' tables.
        wanted: which messages.
    """

    def __init__(self, tables: Tables, wanted: Wanted) -> None:
        """Note which conditions there are, and their parameters."""
        self._tables = tables
        owner = wanted.owner
        self._kind = _Kind(
            whose="any" if owner is ANY_OWNER else "nobody" if owner is None else "one",
            chat=wanted.chat_id is not None,
            roles=wanted.roles is not None,
            since=wanted.since is not None,
            until=wanted.until is not None,
            superseded=wanted.superseded,
        )
        given = {
            "b_owner": owner if isinstance(owner, str) else None,
            "b_chat": wanted.chat_id,
            "b_roles": wanted.roles,
            "b_since": wanted.since,
            "b_used": None if wanted.since is None else _before(wanted.since),
            "b_until": wanted.until,
        }
        self._parameters: dict[str, Any] = {name: value for name, value in given.items() if value is not None}

    def chats(self, place: Place | None, size: int) -> tuple[Select[Any], dict[str, Any]]:
        """Chats in order, beginning with that of a place; their lengths are those of now."""
        statement = _chats(self._tables.chats, self._kind, placed=place is not None)
        return statement, {**self._of_chats(), **_placed(place), "b_limit": size}

    def messages(self, chat_ids: list[UUID], low: int, high: int) -> tuple[Select[Any], dict[str, Any]]:
        """The messages of chats between two positions."""
        statement = _messages(self._tables.chats, self._tables.messages, self._kind)
        return statement, {**self._parameters, "b_chats": chat_ids, "b_low": low, "b_high": high}

    def candidates(
        self, index: WordIndex, question: str, place: Place, size: int
    ) -> tuple[Select[Any], dict[str, Any]]:
        """The messages behind a place that an index gives, in order."""
        statement = _candidates(self._tables.chats, self._tables.messages, index, self._kind)
        return statement, {**self._parameters, **_placed(place), "b_words": question, "b_limit": size}

    def _of_chats(self) -> dict[str, Any]:
        of_messages = {"b_roles", "b_since", "b_until"}
        return {name: value for name, value in self._parameters.items() if name not in of_messages}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """Which conditions a statement has."""

    whose: str
    chat: bool
    roles: bool
    since: bool
    until: bool
    superseded: bool

    def of_chats(self, chats: Table) -> list[ColumnElement[bool]]:
        c = chats.c
        conditions = [there(chats)]
        if self.whose == "nobody":
            conditions.append(c.owner.is_(None))
        elif self.whose == "one":
            conditions.append(c.owner == bindparam("b_owner", type_=c.owner.type))
        if self.chat:
            conditions.append(c.id == bindparam("b_chat", type_=c.id.type))
        if self.since:
            # What was last used before then has no message since then.
            conditions.append(c.updated_at >= bindparam("b_used", type_=c.updated_at.type))
        return conditions

    def of_messages(self, messages: Table) -> list[ColumnElement[bool]]:
        m = messages.c
        conditions: list[ColumnElement[bool]] = []
        if self.roles:
            conditions.append(m.role.in_(bindparam("b_roles", expanding=True, type_=m.role.type)))
        if self.since:
            conditions.append(m.created_at >= bindparam("b_since", type_=m.created_at.type))
        if self.until:
            conditions.append(m.created_at < bindparam("b_until", type_=m.created_at.type))
        if not self.superseded:
            conditions.append(m.superseded_at.is_(None))
        return conditions


def _before(since: datetime) -> datetime:
    """A day earlier: messages are stored a moment after their chat is marked as used, and clocks are set back."""
    return max(since.astimezone(UTC), _FIRST) - _MARGIN


def _placed(place: Place | None) -> dict[str, Any]:
    if place is None:
        return {}
    return {"b_created": place.created_at, "b_id": place.chat_id, "b_position": place.position}


def _read(chats: Table, messages: Table) -> list[ColumnElement[Any]]:
    m = messages.c
    return [
        *(m[name] for name in ("chat_id", "position", "id", "role", "content", "created_at", "superseded_at")),
        chats.c.owner,
        chats.c.title,
        chats.c.created_at.label("chat_created_at"),
    ]


@lru_cache(maxsize=CACHED)
def _chats(chats: Table, kind: _Kind, *, placed: bool) -> Select[Any]:
    c = chats.c
    conditions = kind.of_chats(chats)
    if placed:
        created = bindparam("b_created", type_=c.created_at.type)
        here = and_(c.created_at == created, c.id <= bindparam("b_id", type_=c.id.type))
        conditions.append(or_(c.created_at < created, here))
    return (
        select(c.id, c.created_at, c.next_position)
        .where(*conditions)
        .order_by(c.created_at.desc(), c.id.desc())
        .limit(bindparam("b_limit"))
    )


@lru_cache(maxsize=CACHED)
def _messages(chats: Table, messages: Table, kind: _Kind) -> Select[Any]:
    m = messages.c
    within = (
        m.chat_id.in_(bindparam("b_chats", expanding=True, type_=m.chat_id.type)),
        m.position >= bindparam("b_low", type_=m.position.type),
        m.position < bindparam("b_high", type_=m.position.type),
    )
    return (
        select(*_read(chats, messages))
        .select_from(messages)
        .join(chats, chats.c.id == m.chat_id)
        .where(*within, *kind.of_chats(chats), *kind.of_messages(messages))
    )


def _candidates(chats: Table, messages: Table, index: WordIndex, kind: _Kind) -> Select[Any]:
    # Made once: a database that reckons with many hits might otherwise compute the words of every message.
    hits: CTE = index.hits().cte("hits").prefix_with("MATERIALIZED", dialect="postgresql")
    c, m = chats.c, messages.c
    created = bindparam("b_created", type_=c.created_at.type)
    chat_id = bindparam("b_id", type_=c.id.type)
    behind = or_(
        c.created_at < created,
        and_(c.created_at == created, c.id < chat_id),
        and_(c.created_at == created, c.id == chat_id, m.position < bindparam("b_position", type_=m.position.type)),
    )
    # Keys first: texts need not be carried through the sorting.
    keys = (
        select(m.chat_id, m.position)
        .select_from(hits)
        .join(messages, and_(m.chat_id == hits.c.chat_id, m.position == hits.c.position))
        .join(chats, c.id == m.chat_id)
        .where(behind, *kind.of_chats(chats), *kind.of_messages(messages))
        .order_by(c.created_at.desc(), c.id.desc(), m.position.desc())
        .limit(bindparam("b_limit"))
        .subquery("keys_")
    )
    return (
        select(*_read(chats, messages))
        .select_from(keys)
        .join(messages, and_(m.chat_id == keys.c.chat_id, m.position == keys.c.position))
        .join(chats, c.id == m.chat_id)
        .where(*kind.of_chats(chats))
        .order_by(c.created_at.desc(), c.id.desc(), m.position.desc())
    )
