"""A page of found messages: read newest first, by the one rule of `domain.words`, with an index where there is one.

The newest messages are read in any case: what is common is found among them, and an index is asked only for what is
rare, of which it is quick to give everything. Chats are taken in the order of their making, which never changes, and
messages by their positions: so a page never moves, and each step reads a bounded number of rows by keys that there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from nodellm_orm.domain.found import FoundMessage, FoundMessages
from nodellm_orm.search.choosing import has_kind, index_of
from nodellm_orm.search.cursors import encode_place
from nodellm_orm.search.statements import Place, Statements
from nodellm_orm.store.guard import chat_parameters, not_found, of_chat
from nodellm_orm.store.sealed import Sealed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from nodellm_orm.search.indexes import WordIndex
    from nodellm_orm.search.statements import Wanted
    from nodellm_orm.store.define import Records

CHUNK: Final = 500
"""Messages read at a time."""
CHUNKS: Final = 20
"""How often that is done for one page; after that the reader is asked to search on."""
_CHATS: Final = 100
"""Chats looked at for a chunk."""
_CANDIDATES: Final = 200
"""Messages asked of an index at first."""


class Search:
    """Reads until a page is full, everything was read, or enough for one page was.

    Args:
        records: where.
        wanted: which messages.
    """

    def __init__(self, records: Records, wanted: Wanted) -> None:
        """Keep what is looked for."""
        self._records = records
        self._tables = records.tables
        self._wanted = wanted
        self._statements = Statements(records.tables, wanted)

    def __call__(self, connection: Connection, place: Place | None) -> FoundMessages:
        """The page behind a place.

        Args:
            connection: where.
            place: the last message of the page before.

        Raises:
            ChatNotFoundError: there is no such chat for this owner.
        """
        self._check_chat(connection)
        page = _Page(self._wanted.limit)
        for number, (rows, reached) in enumerate(self._chunks(connection, place), 1):
            if self._take(page, rows):
                return page.closed()
            place = reached
            if reached is None or number == CHUNKS:
                break
            if number == 1 and (asked := self._question(connection)) is not None:
                return self._indexed(connection, page, reached, *asked)
        return page.ended(place)

    def _check_chat(self, connection: Connection) -> None:
        wanted, chats = self._wanted, self._tables.chats
        if wanted.chat_id is None:
            return
        statement = select(chats.c.id).where(*of_chat(chats, wanted.owner))
        if connection.execute(statement, chat_parameters(wanted.chat_id, wanted.owner)).first() is None:
            not_found(wanted.chat_id)

    # ── without an index ──────────────────────────────────────────────────────────────────────────────────────────

    def _chunks(
        self, connection: Connection, place: Place | None
    ) -> Iterator[tuple[Sequence[Mapping[Any, Any]], Place | None]]:
        """Messages in order, and the place that was reached with each chunk; ``None``: the end."""
        while True:
            chats = connection.execute(*self._statements.chats(place, _CHATS)).all()
            chosen: list[Any] = []
            low, high, read, reached = 0, 2**62, 0, place
            for chat in chats:
                length = chat.next_position
                if place is not None and chat.id == place.chat_id:
                    length = min(length, place.position)
                if read + length > CHUNK and read:
                    break
                reached = Place(chat.created_at, chat.id, max(0, length - CHUNK))
                if length == 0:
                    continue
                chosen.append(chat)
                read += length
                if length > CHUNK or (place is not None and chat.id == place.chat_id):
                    # A part of a chat is a chunk of its own.
                    low, high = max(0, length - CHUNK), length
                    break
            else:
                if len(chats) < _CHATS:
                    reached = None
            yield self._ordered(connection, chosen, low, high), reached
            if reached is None:
                return
            place = reached

    def _ordered(self, connection: Connection, chats: list[Any], low: int, high: int) -> Sequence[Mapping[Any, Any]]:
        if not chats:
            return []
        statement = self._statements.messages([chat.id for chat in chats], low, high)
        order = {chat.id: number for number, chat in enumerate(chats)}
        rows = connection.execute(*statement).mappings().all()
        return sorted(rows, key=lambda row: (order[row["chat_id"]], -row["position"]))

    # ── with an index ─────────────────────────────────────────────────────────────────────────────────────────────

    def _question(self, connection: Connection) -> tuple[WordIndex, str] | None:
        """The index and what it is asked; ``None``: there is none, or it cannot help."""
        dialect = connection.dialect.name
        if self._tables.sealer.encrypts or not has_kind(dialect):
            return None
        index = index_of(self._records, dialect)
        # Looked for each time: it is one question to the catalogue, and nobody has to be told when an index comes or
        # goes.
        capability = index.present(connection)
        question = None if capability is None else index.question(self._wanted.query, capability)
        return None if question is None else (index, question)

    def _indexed(
        self, connection: Connection, page: _Page, place: Place, index: WordIndex, question: str
    ) -> FoundMessages:
        page.indexed = True
        size = _CANDIDATES
        while page.searched < CHUNK * CHUNKS:
            statement = self._statements.candidates(index, question, place, size)
            rows = connection.execute(*statement).mappings().all()
            if self._take(page, rows):
                return page.closed()
            if len(rows) < size:
                return page.ended(None)
            place = _place_of(rows[-1])
            size *= 4  # each time the index gives all that it has, of which these are the next
        return page.ended(place)

    # ── what is found ─────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, page: _Page, rows: Sequence[Mapping[Any, Any]]) -> bool:
        """Add what is meant of the rows; says whether the page is full, and one more was found."""
        sealer, query = self._tables.sealer, self._wanted.query
        for row in rows:
            content = row["content"]
            if sealer.encrypts:
                content = sealer.opened_value("messages", "content", content, owner=row["owner"], key=row["id"])
            if isinstance(content, Sealed):
                page.encrypted += 1
            elif (excerpt := query.excerpt(content)) is not None:
                if page.full:
                    return True
                page.add(
                    FoundMessage(
                        chat_id=row["chat_id"],
                        owner=row["owner"],
                        title=self._title(row),
                        position=row["position"],
                        role=row["role"],
                        created_at=row["created_at"],
                        superseded=row["superseded_at"] is not None,
                        excerpt=excerpt,
                    ),
                    _place_of(row),
                )
            page.searched += 1
        return False

    def _title(self, row: Mapping[Any, Any]) -> str | None:
        title = row["title"]
        if title is not None and self._tables.sealer.encrypts:
            title = self._tables.sealer.opened_value("chats", "title", title, owner=row["owner"], key=row["chat_id"])
        return None if isinstance(title, Sealed) else title


class _Page:
    """A page that is being filled."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: list[FoundMessage] = []
        self._last: Place | None = None
        self.searched = 0
        self.encrypted = 0
        self.indexed = False

    @property
    def full(self) -> bool:
        return len(self._items) == self._limit

    def add(self, item: FoundMessage, place: Place) -> None:
        self._items.append(item)
        self._last = place

    def closed(self) -> FoundMessages:
        """The page, when more was found than fits."""
        return self.ended(self._last)

    def ended(self, place: Place | None) -> FoundMessages:
        """The page, and where the next one begins."""
        return FoundMessages(
            items=tuple(self._items),
            next=None if place is None else encode_place(place),
            searched=self.searched,
            encrypted=self.encrypted,
            indexed=self.indexed,
        )


def _place_of(row: Mapping[Any, Any]) -> Place:
    return Place(row["chat_created_at"], row["chat_id"], row["position"])
