"""The journal in SQL: each method is one short transaction of the store's points, in one hop to the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import IntegrityError

from nodellm_orm.store import heads, interrupt, listing, reading, record
from nodellm_orm.store.begin import Begin
from nodellm_orm.store.failures import translate
from nodellm_orm.store.heads import Append
from nodellm_orm.store.interrupt import Cancel, TakeOver
from nodellm_orm.store.record import Record
from nodellm_orm.store.texts import Texts

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import Connection

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.pages import ChatSummary, InterruptedTurn, Page
    from nodellm_orm.ports.journal import (
        ChatHead,
        ChatTotals,
        Entry,
        Hold,
        Owner,
        Snapshot,
        Take,
        TurnOpened,
        TurnState,
    )
    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Records

T = TypeVar("T")


class _TakenError(Exception):
    """An id was taken while a chat was created."""


class SqlJournal:
    """Chats in a SQL database; see `Journal` for every method's contract.

    Args:
        access: how the database is reached, from `open_access`.
        records: the tables.
    """

    def __init__(self, access: Access, records: Records) -> None:
        """Keep both; nothing is connected yet."""
        self._access = access
        self._tables = records.tables

    @property
    def concurrent(self) -> bool:
        """See `Journal.concurrent`."""
        return self._access.concurrent

    @property
    def database(self) -> Hashable:
        """See `Journal.database`."""
        return self._access.target, self._tables.chats

    async def settle(self) -> None:
        """See `Journal.settle`."""
        await self._access.settle()

    async def create(
        self,
        head: ChatHead,
        messages: Sequence[tuple[UUID, Message]] = (),
        *,
        values: Mapping[str, object] | None = None,
    ) -> Snapshot:
        """See `Journal.create`."""
        tables, further = self._tables, heads.further_values(self._tables.chats, values or {})

        def work(connection: Connection) -> Snapshot:
            try:
                return heads.create(connection, tables, head, messages, further)
            except IntegrityError as error:
                raise _TakenError from error

        try:
            return await self._access.run(work)
        except _TakenError as taken:
            if await self._access.read(lambda connection: heads.exists(connection, tables, head.id)):
                return await self.load(head.id, head.owner)
            cause: Any = taken.__cause__
            raise translate(cause) from cause

    async def load(self, chat_id: UUID, owner: Owner) -> Snapshot:
        """See `Journal.load`."""
        tables = self._tables
        return await self._access.read(lambda connection: reading.load(connection, tables, chat_id, owner))

    async def begin(
        self,
        take: Take,
        turn: TurnOpened,
        entries: Sequence[Entry],
        *,
        closing: Sequence[Entry] = (),
        again: bool = False,
    ) -> Hold:
        """See `Journal.begin`."""
        texts = Texts(self._access, self._tables.texts, take.owner, turn.texts)
        point = Begin(
            tables=self._tables, take=take, turn=turn, entries=tuple(entries), closing=tuple(closing), texts=texts
        )
        hold = await self._access.run(point, confirm=point.confirm, again=again)
        texts.remember()
        return hold

    async def record(self, hold: Hold, entries: Sequence[Entry], *, again: bool = False) -> Hold:
        """See `Journal.record`."""
        point = Record(tables=self._tables, hold=hold, entries=tuple(entries))
        return await self._access.run(point, confirm=point.confirm, again=again)

    async def take_over(
        self, chat_id: UUID, owner: str | None, turn_id: UUID, *, worker: str, lease: float, again: bool = False
    ) -> Hold:
        """See `Journal.take_over`."""
        point = TakeOver(tables=self._tables, chat_id=chat_id, owner=owner, turn_id=turn_id, worker=worker, lease=lease)
        return await self._access.run(point, confirm=point.confirm, again=again)

    async def cancel(self, chat_id: UUID, owner: Owner) -> bool:
        """See `Journal.cancel`."""
        point = Cancel(tables=self._tables, chat_id=chat_id, owner=owner)
        return await self._access.run(point, confirm=point.confirm)

    async def renew(self, holds: Sequence[Hold]) -> frozenset[UUID]:
        """See `Journal.renew`."""
        if not holds:
            return frozenset()
        tables, held = self._tables, tuple(holds)
        return await self._access.run(lambda connection: record.renew(connection, tables, held))

    async def update(self, head: ChatHead) -> ChatHead:
        """See `Journal.update`."""
        tables = self._tables
        return await self._access.run(
            lambda connection: heads.save(connection, tables, head),
            confirm=lambda connection: heads.saved(connection, tables, head),
        )

    async def append(self, head: ChatHead, fence: int, messages: Sequence[tuple[UUID, Message]]) -> Snapshot:
        """See `Journal.append`."""
        point = Append(tables=self._tables, head=head, fence=fence, messages=tuple(messages))
        return await self._access.run(point, confirm=point.confirm)

    async def history(
        self, chat_id: UUID, owner: Owner, *, limit: int, before: int | None = None, after: int | None = None
    ) -> tuple[Message, ...]:
        """See `Journal.history`."""
        tables = self._tables

        def work(connection: Connection) -> tuple[Message, ...]:
            return reading.history(connection, tables, chat_id, owner, limit=limit, before=before, after=after)

        return await self._access.read(work)

    async def summaries(
        self,
        owner: Owner,
        *,
        metadata: Mapping[str, JsonValue] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[ChatSummary]:
        """See `Journal.summaries`."""
        tables, wanted = self._tables, dict(metadata or {})

        def work(connection: Connection) -> Page[ChatSummary]:
            return listing.summaries(connection, tables, owner, metadata=wanted, limit=limit, after=after)

        return await self._access.read(work)

    async def interrupted(self, *, limit: int) -> tuple[InterruptedTurn, ...]:
        """See `Journal.interrupted`."""
        tables = self._tables
        return await self._access.read(lambda connection: interrupt.interrupted(connection, tables, limit))

    async def turn(self, chat_id: UUID, owner: Owner, turn_id: UUID) -> TurnState:
        """See `Journal.turn`."""
        tables = self._tables
        return await self._access.read(lambda connection: reading.turn(connection, tables, chat_id, owner, turn_id))

    async def totals(self, chat_id: UUID, owner: Owner) -> ChatTotals:
        """See `Journal.totals`."""
        tables = self._tables
        return await self._access.read(lambda connection: listing.totals(connection, tables, chat_id, owner))
