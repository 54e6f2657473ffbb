"""A tool's own transaction: its rows and the durable point that holds its result are committed together, or not at all.

The connection is taken and the transaction begun when the session sends its first statement. The tool's own commits and
rollbacks end savepoints inside; the commit is made here, behind the point.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only, greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from nodellm_orm.errors import SessionStateError
from nodellm_orm.ports.workspace import Withdrawn
from nodellm_orm.store.failures import is_database_error, timed_out
from nodellm_orm.store.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Engine

    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.ownership import Hold
    from nodellm_orm.store.define import Tables
    from nodellm_orm.store.lending import Lender, Lent


class _LentSession(Session):
    """A session whose connection is lent to it when it first needs one."""

    def __init__(self, *, lend: Callable[[], Connection], engine: Engine, **options: Any) -> None:
        super().__init__(join_transaction_mode="create_savepoint", expire_on_commit=False, **options)
        self._lend = lend
        self._engine = engine

    def get_bind(self, *_: Any, **__: Any) -> Engine | Connection:
        """The lent connection; whoever only wants to know where he is, outside of any statement, is told the engine."""
        return self._lend() if in_greenlet() else self._engine


class _ToolSession(AsyncSession):
    """What a tool is given: leaving its block keeps what was written, as the tool's own return does."""

    async def __aexit__(self, type_: object, value: object, traceback: object) -> None:
        """Commit to the savepoint, unless the block failed."""
        try:
            if type_ is None:
                await self.commit()
        finally:
            await super().__aexit__(type_, value, traceback)


class SqlWorkspace:
    """See `Workspace` for every method's contract.

    Args:
        lender: lends the transaction.
        tables: the records' tables.
        floor: taken with the first statement, given back at the end.
    """

    def __init__(self, lender: Lender, tables: Tables, floor: asyncio.Lock) -> None:
        """Prepare; nothing is connected yet."""
        self._lender = lender
        self._tables = tables
        self._floor = floor
        self._session: AsyncSession | None = None
        self._lent: Lent | None = None
        self._used = False
        self._connecting = False
        self._over = False
        """Nothing more may be sent through the session."""
        self._committing = False

    @property
    def session(self) -> AsyncSession:
        """See `Workspace.session`."""
        self._refuse_late()
        if self._session is None:
            self._session = _ToolSession(sync_session_class=_LentSession, lend=self._lend, engine=self._lender.engine)
        return self._session

    @property
    def used(self) -> bool:
        """See `Workspace.used`."""
        return self._used

    def _refuse_late(self) -> None:
        if self._over:
            msg = "the call that this session belongs to is over; use context.session only until the tool returns"
            raise SessionStateError(msg)

    def _lend(self) -> Connection:
        """The connection for a statement; called in a greenlet of the tool's."""
        self._refuse_late()
        if self._connecting:
            msg = "context.session is used by two tasks at once; a session takes one statement after the other"
            raise SessionStateError(msg)
        if self._lent is None:
            self._connecting = True
            try:
                self._lent = await_only(self._connect())
            finally:
                self._connecting = False
        return self._lent.connection

    async def _connect(self) -> Lent:
        if not self._used:
            await self._floor.acquire()
            self._used = True
        lent = None
        try:
            self._refuse_late()  # it may have been waited for too long
            lent = await self._lender.lend()
            self._refuse_late()
        except SessionStateError:
            if lent is not None:
                await self._lender.take_back(lent)
            if self._over:
                self._leave()
            raise
        return lent

    def _leave(self) -> None:
        if self._used:
            self._used = False
            self._floor.release()

    async def complete(self) -> None:
        """See `Workspace.complete`."""
        session = self._session
        if session is not None and (session.in_transaction() or session.new or session.dirty or session.deleted):
            await session.commit()
        self._over = True

    async def record(self, hold: Hold, entries: Sequence[Entry], *, again: bool = False) -> Hold:
        """See `Workspace.record`."""
        point = Record(tables=self._tables, hold=hold, entries=tuple(entries))
        del again  # a try that was broken off has closed the workspace, and knows how far it had come
        if self._lent is None:
            return await self._looked_up(point, None)
        try:
            async with asyncio.timeout(self._lender.deadline):
                renewed = await greenlet_spawn(self._commit, self._lent, point)
        except TimeoutError as error:
            await self.discard()
            if not self._committing:
                raise timed_out(self._lender.deadline) from error
            return await self._looked_up(point, error)
        except GeneratorExit:
            raise  # the loop is gone: nothing can be awaited any more
        except BaseException as error:
            await self.discard()
            if not is_database_error(error):
                raise
            return await self._looked_up(point, error)
        await self.discard()
        return renewed

    def _commit(self, lent: Lent, point: Record) -> Hold:
        renewed = point(lent.connection)
        self._committing = True
        lent.transaction.commit()
        return renewed

    async def _looked_up(self, point: Record, error: BaseException | None) -> Hold:
        """What came of a commit that failed, or whose end nobody has heard."""
        if self._committing and self._lender.durable:
            found = await self._lender.run(point.settled)
            if found is not None:
                return found
        raise Withdrawn from error

    async def discard(self) -> None:
        """See `Workspace.discard`."""
        self._over = True
        lent, self._lent = self._lent, None
        try:
            if lent is not None:
                await self._lender.take_back(lent)
        finally:
            self._leave()
