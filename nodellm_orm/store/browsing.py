"""Chats as people look for them: a page of those that meet filters, however many do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

from nodellm_orm.domain.labels import agrees
from nodellm_orm.domain.pages import ChatSummary
from nodellm_orm.errors import ConfigurationError, EncryptionError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.refused import check_limit
from nodellm_orm.store.access import open_access
from nodellm_orm.store.candidates import ChatState, Kind, candidates, end_of, shown
from nodellm_orm.store.listing import decode_cursor, encode_cursor
from nodellm_orm.store.records import RECORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Connection, RowMapping

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Records, Tables
    from nodellm_orm.store.mapping import Stored

_Place: TypeAlias = "tuple[datetime, UUID]"
"""Where a chat is in the list."""
STATES: Final[tuple[str, ...]] = get_args(ChatState)
WINDOW: Final = 5_000
"""Chats that are looked at for one page where filters decide which of them belong to it; after that the reader is
asked to search on."""
_CHUNKS: Final = (500, 1_500, 3_000)
"""The same, where only we can tell which ones are meant: as many at a time, since the first may fill the page."""


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
    sealed: AbstractSet[UUID]
    """Those whose titles are encrypted and cannot be opened: they have none here, and none that is searched for."""
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
    """A page of the chats that meet filters; at most `WINDOW` chats are looked at for it.

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
    """Finds the chats of a page, newest first; then reads those."""

    def __init__(self, tables: Tables, filters: ChatFilters, limit: int) -> None:
        self._tables = tables
        self._filters = filters
        self._limit = limit
        # What the database cannot compare: texts in any case, which may be encrypted, and values as they are spelled.
        self._ours = bool(filters.title or filters.metadata)
        self._kind = Kind(
            whose="any" if filters.owner is ANY_OWNER else "nobody" if filters.owner is None else "one",
            model=filters.model is not None,
            provider=filters.provider is not None,
            state=filters.state,
            titled=bool(filters.title),
            labelled=bool(filters.metadata),
        )

    def __call__(self, connection: Connection, place: _Place | None) -> FoundChats:
        """The page behind a place."""
        found: list[_Place] = []
        searched = 0
        sizes = _CHUNKS if self._ours else (WINDOW,) if self._filters.limited else (self._limit + 1,)
        for size in sizes:
            rows = self._candidates(connection, place, size, size if self._ours else self._limit + 1)
            for row in rows:
                if not self._meant(row):
                    continue
                if len(found) == self._limit:
                    return self._page(connection, found, encode_cursor(*found[-1]), searched)
                found.append((row["created_at"], row["id"]))
            place, count = self._end(connection, place, size, rows)
            searched += count
            if place is None:
                break
        return self._page(connection, found, None if place is None else encode_cursor(*place), searched)

    def _page(
        self, connection: Connection, found: Sequence[_Place], following: str | None, searched: int
    ) -> FoundChats:
        tables = self._tables
        rows: Sequence[RowMapping] = ()
        if found:
            ids = {"b_ids": [chat_id for _, chat_id in found]}
            rows = connection.execute(shown(tables.chats, tables.turns), ids).mappings().all()
        chats, states, sealed = list[ChatSummary](), dict[Any, ChatState](), set[Any]()
        for row in rows:
            opened: Stored
            try:
                opened = tables.sealer.opened("chats", row, owner=row["owner"], key=row["id"])
            except EncryptionError:
                opened = {**row, "title": None}
                sealed.add(row["id"])
            plain = {name: opened[name] for name in ChatSummary.__dataclass_fields__}
            chats.append(ChatSummary(**{**plain, "running": bool(opened["running"])}))
            if (state := _state(row)) is not None:
                states[row["id"]] = state
        return FoundChats(
            chats=tuple(chats),
            states=MappingProxyType(states),
            sealed=frozenset(sealed),
            next=following,
            searched=searched,
        )

    def _candidates(self, connection: Connection, place: _Place | None, size: int, wanted: int) -> Sequence[RowMapping]:
        """Those of the next chats of which the database does not know that they are not meant."""
        statement = candidates(self._tables.chats, self._tables.turns, self._kind, placed=place is not None)
        parameters = self._parameters(place, size) | {"b_wanted": wanted}
        for name in ("model", "provider"):
            if (value := getattr(self._filters, name)) is not None:
                parameters[f"b_{name}"] = value
        return connection.execute(statement, parameters).mappings().all()

    def _end(
        self, connection: Connection, place: _Place | None, size: int, rows: Sequence[RowMapping]
    ) -> tuple[_Place | None, int]:
        """Where the chats that were looked at end, ``None``: with the last one of all; and how many these are."""
        if self._kind.narrows:
            statement = end_of(self._tables.chats, whose=self._kind.whose, placed=place is not None)
            last = connection.execute(statement, self._parameters(place, size)).mappings().first()
            count = 0 if last is None else int(last["number"])
        else:
            last, count = (rows[-1] if rows else None), len(rows)
        return (None if last is None or count < size else (last["created_at"], last["id"])), count

    def _parameters(self, place: _Place | None, size: int) -> dict[str, Any]:
        found: dict[str, Any] = {"b_window": size}
        if self._kind.whose == "one":
            found["b_owner"] = self._filters.owner
        if place is not None:
            found |= {"b_created": place[0], "b_id": place[1]}
        return found

    def _meant(self, row: RowMapping) -> bool:
        """Whether a chat is meant; a title is decrypted only when nothing else speaks against it."""
        wanted = self._filters
        if wanted.metadata and not _labelled(row["metadata"], wanted.metadata):
            return False
        if not wanted.title:
            return True
        try:
            opened: Stored = self._tables.sealer.opened("chats", row, owner=row["owner"], key=row["id"])
        except EncryptionError:
            return False
        return wanted.title.casefold() in (opened["title"] or "").casefold()


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


def _state(row: RowMapping) -> ChatState | None:
    if row["running"]:
        return "running"
    if row["held"]:
        return "interrupted"
    if row["last_status"] == "suspended" and row["last_reason"] == "approval":
        return "waiting"
    return "failed" if row["last_status"] == "failed" else None
