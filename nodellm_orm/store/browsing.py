"""Chats as people look for them: a page of those that meet filters, however many do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from sqlalchemy import and_, bindparam, case, exists, or_, select, true

from nodellm_orm.domain.labels import agrees
from nodellm_orm.domain.pages import ChatSummary
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.refused import check_limit
from nodellm_orm.store.access import open_access
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.guard import CACHED, there
from nodellm_orm.store.listing import decode_cursor, encode_cursor
from nodellm_orm.store.records import RECORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Records, Tables
    from nodellm_orm.store.mapping import Stored

ChatState: TypeAlias = Literal["failed", "running", "interrupted", "waiting"]
"""``failed``: a turn of it did; ``running``: a turn holds it; ``interrupted``: that turn's worker is gone;
``waiting``: its turn waits for somebody's approval."""
STATES: Final[tuple[str, ...]] = get_args(ChatState)
CHUNK: Final = 500
"""Chats read at a time where filters decide which of them belong to the page."""
CHUNKS: Final = 10
"""How often that is done for one page; after that the reader is asked to search on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFilters:
    """Which chats are meant; ``None`` is no limit."""

    owner: Owner = ANY_OWNER
    model: str | None = None
    provider: str | None = None
    title: str | None = None
    """Text in the title, in any case."""
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    """Members, exactly; a text also stands for the number, the bool or the null that it spells."""
    state: ChatState | None = None

    @property
    def limited(self) -> bool:
        """Whether anything but the owner limits them."""
        return bool(self.model or self.provider or self.title or self.metadata or self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundChats:
    """One page of chats, newest first."""

    chats: tuple[ChatSummary, ...]
    states: Mapping[UUID, ChatState]
    """How those stand that are not simply idle; ``failed`` tells of the last turn here."""
    next: str | None
    """Where the next page begins; ``None``: this is the last one."""
    searched: int
    """How many chats were looked at."""


async def find_chats(
    session: object,
    filters: ChatFilters,
    *,
    limit: int = 50,
    after: str | None = None,
    records: Records = RECORDS,
) -> FoundChats:
    """A page of the chats that meet filters; at most `CHUNK` times `CHUNKS` chats are looked at for it.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        filters: which chats.
        limit: chats at most.
        after: the `next` of the page before.
        records: own records.

    Raises:
        ConfigurationError: for a cursor that is none, a state that is none, or a limit below 1.
    """
    check_limit(limit)
    if filters.state is not None and filters.state not in STATES:
        msg = f"state={filters.state!r:.80} is unknown; it is one of {', '.join(STATES)}"
        raise ConfigurationError(msg)
    place = None if after is None else decode_cursor(after)
    search = _Search(records.tables, filters, limit)
    return await open_access(session, records).read(lambda connection: search(connection, place))


class _Search:
    """Reads chats, newest first, until a page is full."""

    def __init__(self, tables: Tables, filters: ChatFilters, limit: int) -> None:
        self._tables = tables
        self._filters = filters
        self._limit = limit

    def __call__(self, connection: Connection, place: tuple[datetime, UUID] | None) -> FoundChats:
        """The page behind a place."""
        size = max(CHUNK, self._limit + 1) if self._filters.limited else self._limit + 1
        found: list[tuple[ChatSummary, ChatState | None]] = []
        searched = 0
        more = False
        for _ in range(CHUNKS):
            rows = self._chunk(connection, place, size)
            for row in rows:
                chat = self._match(row)
                if chat is not None and len(found) == self._limit:
                    return self._page(found, encode_cursor(found[-1][0].created_at, found[-1][0].id), searched)
                searched += 1
                if chat is not None:
                    found.append((chat, _state(row)))
            more = len(rows) == size
            if not more:
                break
            place = rows[-1]["created_at"], rows[-1]["id"]
        return self._page(found, encode_cursor(*place) if more and place is not None else None, searched)

    @staticmethod
    def _page(found: list[tuple[ChatSummary, ChatState | None]], following: str | None, searched: int) -> FoundChats:
        states = {chat.id: state for chat, state in found if state is not None}
        return FoundChats(
            chats=tuple(chat for chat, _ in found),
            states=MappingProxyType(states),
            next=following,
            searched=searched,
        )

    def _chunk(self, connection: Connection, place: tuple[datetime, UUID] | None, size: int) -> Sequence[RowMapping]:
        owner = self._filters.owner
        statement = _statement(
            self._tables.chats,
            self._tables.turns,
            whose="any" if owner is ANY_OWNER else "nobody" if owner is None else "one",
            placed=place is not None,
        )
        parameters: dict[str, Any] = {"b_limit": size}
        if isinstance(owner, str):
            parameters["b_owner"] = owner
        if place is not None:
            parameters |= {"b_created": place[0], "b_id": place[1]}
        return connection.execute(statement, parameters).mappings().all()

    def _match(self, row: RowMapping) -> ChatSummary | None:
        """The chat of a row, if it is meant; a title is decrypted only when nothing else speaks against it."""
        wanted = self._filters
        exact = ((wanted.model, row["model"]), (wanted.provider, row["provider"]))
        if any(value is not None and value != stored for value, stored in exact):
            return None
        if wanted.state is not None and not _stands(row, wanted.state):
            return None
        if not _labelled(row["metadata"], wanted.metadata):
            return None
        opened: Stored = self._tables.sealer.opened("chats", row, owner=row["owner"], key=row["id"])
        if wanted.title and wanted.title.casefold() not in (opened["title"] or "").casefold():
            return None
        plain = {name: opened[name] for name in ChatSummary.__dataclass_fields__}
        return ChatSummary(**{**plain, "running": bool(opened["running"])})


def _labelled(metadata: Mapping[str, JsonValue], wanted: Mapping[str, JsonValue]) -> bool:
    return agrees(metadata, wanted) or all(
        name in metadata and _spelled(metadata[name]) == _spelled(value) for name, value in wanted.items()
    )


def _spelled(value: JsonValue) -> str:
    """A value as it is typed into a form."""
    match value:
        case bool():
            return str(value).lower()
        case None:
            return "null"
        case _:
            return str(value)


def _stands(row: RowMapping, state: ChatState) -> bool:
    return bool(row["ever_failed"]) if state == "failed" else _state(row) == state


def _state(row: RowMapping) -> ChatState | None:
    if row["running"]:
        return "running"
    if row["held"]:
        return "interrupted"
    if row["last_status"] == "suspended" and row["last_reason"] == "approval":
        return "waiting"
    return "failed" if row["last_status"] == "failed" else None


@lru_cache(maxsize=CACHED)
def _statement(chats: Table, turns: Table, *, whose: str, placed: bool) -> Select[Any]:
    c = chats.c
    created, chat_id = c.created_at, c.id
    owners = {"any": true(), "nobody": c.owner.is_(None), "one": c.owner == bindparam("b_owner", type_=c.owner.type)}
    before = or_(
        created < bindparam("b_created", type_=created.type),
        and_(created == bindparam("b_created", type_=created.type), chat_id < bindparam("b_id", type_=chat_id.type)),
    )
    held = c.active_turn_id.is_not(None)
    failed = exists().where(turns.c.chat_id == chat_id, turns.c.status == "failed")
    return (
        select(
            *(c[name] for name in ("id", "owner", "title", "provider", "model", "metadata")),
            c.next_position.label("message_count"),
            _flag(and_(held, c.lease_until >= DatabaseNow())).label("running"),
            _flag(held).label("held"),
            _flag(failed).label("ever_failed"),
            _of_last_turn(chats, turns, "status").label("last_status"),
            _of_last_turn(chats, turns, "reason").label("last_reason"),
            created,
            c.updated_at,
        )
        .where(owners[whose], before if placed else true(), there(chats))
        .order_by(created.desc(), chat_id.desc())
        .limit(bindparam("b_limit"))
    )


def _flag(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


def _of_last_turn(chats: Table, turns: Table, name: str) -> ColumnElement[Any]:
    of_chat = select(turns.c[name]).where(turns.c.chat_id == chats.c.id)
    return of_chat.order_by(turns.c.position.desc()).limit(1).correlate(chats).scalar_subquery()
