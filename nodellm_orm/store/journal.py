"""The journal in SQL: each method is one short transaction of the store's points, in one hop to the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy.exc import IntegrityError

from nodellm_orm.domain.windows import EVERYTHING
from nodellm_orm.ports.branches import branch_of
from nodellm_orm.ports.ownership import Exhausted
from nodellm_orm.ports.workspace import NoWorkspace
from nodellm_orm.store import heads, interrupt, listing, reading, record
from nodellm_orm.store.begin import Begin
from nodellm_orm.store.closing import account
from nodellm_orm.store.decisions import Decide
from nodellm_orm.store.deletion import remove
from nodellm_orm.store.fork import Fork
from nodellm_orm.store.heads import Append
from nodellm_orm.store.interrupt import Cancel, TakeOver
from nodellm_orm.store.lending import Lender, lending
from nodellm_orm.store.record import Record
from nodellm_orm.store.texts import Texts
from nodellm_orm.store.workspaces import SqlWorkspace

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy import Connection

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.pages import ChatSummary, InterruptedTurn, Page
    from nodellm_orm.domain.windows import Window
    from nodellm_orm.ports.approvals import Decision
    from nodellm_orm.ports.branches import Cut
    from nodellm_orm.ports.entries import AttemptClosed, Entry, TurnOpened
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.ownership import Hold, Take
    from nodellm_orm.ports.states import CallState, ChatHead, ChatTotals, Snapshot, TurnState
    from nodellm_orm.ports.workspace import Workspace
    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Records

T = TypeVar("T")

_CALLERS: Final = (
    "context.session is not available with transactions='caller': everything is in the transaction of the session that "
    "the chat was given; let the tool write through that, and it is committed or rolled back with the chat"
)


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
                return await self.load(head.id, head.owner, window=None)
            cause: Any = taken.__cause__
            raise heads.refused(tables.chats, cause) from cause

    async def load(self, chat_id: UUID, owner: Owner, *, window: Window | None = EVERYTHING) -> Snapshot:
        """See `Journal.load`."""
        tables = self._tables
        return await self._access.read(lambda connection: reading.load(connection, tables, chat_id, owner, window))

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
        turn = self._tables.keeping.turn(turn)
        texts = Texts(self._access, self._tables, take.owner, turn.texts)
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

    def workspace(self, floor: asyncio.Lock) -> Workspace:
        """See `Journal.workspace`."""
        if not isinstance(self._access, Lender):
            return NoWorkspace(_CALLERS)
        return SqlWorkspace(self._access, self._tables, floor)

    async def take_over(
        self,
        chat_id: UUID,
        owner: str | None,
        turn_id: UUID,
        *,
        worker: str,
        lease: float,
        limit: int | None = None,
        interrupted: bool = False,
        again: bool = False,
    ) -> Hold:
        """See `Journal.take_over`."""
        point = TakeOver(
            tables=self._tables,
            chat_id=chat_id,
            owner=owner,
            turn_id=turn_id,
            worker=worker,
            lease=lease,
            limit=limit,
            interrupted=interrupted,
        )
        taken = await self._access.run(point, confirm=point.confirm, again=again)
        if isinstance(taken, Exhausted):
            raise taken
        return taken

    async def cancel(self, chat_id: UUID, owner: Owner) -> bool:
        """See `Journal.cancel`."""
        point = Cancel(tables=self._tables, chat_id=chat_id, owner=owner)
        return await self._access.run(point, confirm=point.confirm)

    async def account(self, hold: Hold, closed: Sequence[AttemptClosed]) -> None:
        """See `Journal.account`."""
        tables, entries = self._tables, tuple(closed)
        await self._access.run(lambda connection: account(connection, tables, hold, entries))

    async def delete(self, chat_id: UUID, owner: Owner) -> bool:
        """See `Journal.delete`."""
        return (await remove(self._access, self._tables, chat_id, owner)).chats > 0

    async def decide(self, chat_id: UUID, owner: Owner, decision: Decision) -> CallState:
        """See `Journal.decide`."""
        point = Decide(tables=self._tables, chat_id=chat_id, owner=owner, decision=decision)
        return await self._access.run(point, confirm=point.confirm)

    async def renew(self, holds: Sequence[Hold]) -> frozenset[UUID]:
        """See `Journal.renew`."""
        if not holds:
            return frozenset()
        tables, held = self._tables, tuple(holds)
        beside = lending(self._access.target)
        return await self._access.run(lambda connection: record.renew(connection, tables, held, beside=beside))

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

    async def turn_by_key(self, chat_id: UUID, owner: Owner, key: str) -> TurnState | None:
        """See `Journal.turn_by_key`."""
        tables = self._tables
        return await self._access.read(lambda connection: reading.turn_by_key(connection, tables, chat_id, owner, key))

    async def fork(self, head: ChatHead, cut: Cut, closing: Sequence[Entry] = ()) -> Snapshot:
        """See `Journal.fork`."""
        tables = self._tables
        point = Fork(tables=tables, head=head, cut=cut, closing=tuple(closing))

        def work(connection: Connection) -> Snapshot:
            try:
                return point(connection)
            except IntegrityError as error:
                raise _TakenError from error

        try:
            return await self._access.run(work, confirm=point.confirm)
        except _TakenError as taken:
            if await self._access.read(lambda connection: heads.exists(connection, tables, head.id)):
                return branch_of(await self.load(head.id, head.owner, window=None), cut.chat_id)
            cause: Any = taken.__cause__
            raise heads.refused(tables.chats, cause) from cause

    async def totals(self, chat_id: UUID, owner: Owner) -> ChatTotals:
        """See `Journal.totals`."""
        tables = self._tables
        return await self._access.read(lambda connection: listing.totals(connection, tables, chat_id, owner))
