"""Transactions that stand in each other's way: a host's own that holds rows, and what is seen of those that wait."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event, text
from sqlalchemy.util import await_only

from nodellm_orm.store.failures import code_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Connection
    from sqlalchemy.engine import ExceptionContext
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_WAITING: Final = {
    "postgresql": "SELECT COUNT(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE NOT l.granted AND a.datname = current_database()",
    "mysql": "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p "
    "ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE()",
}


async def somebody_waits(engine: AsyncEngine) -> None:
    """Return once a transaction on the database waits for a lock."""
    async with asyncio.timeout(30):
        while True:
            async with engine.connect() as connection:  # a new transaction: one and the same would see no change
                if await connection.scalar(text(_WAITING[engine.dialect.name])):
                    return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def holding(engine: AsyncEngine, statement: str, **parameters: object) -> AsyncIterator[AsyncConnection]:
    """A transaction of somebody else's that has run a statement, and is rolled back in the end.

    Args:
        engine: somebody else's.
        statement: takes the locks.
        parameters: what is bound to it.
    """
    async with engine.connect() as connection:
        await connection.execute(text(statement), parameters)
        yield connection
        await connection.rollback()


class Refusals:
    """The database's errors that an engine has met, by code, in order.

    Args:
        engine: whose errors.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.codes: list[object] = []
        self.first = asyncio.Event()
        event.listen(engine.sync_engine, "handle_error", self._note)

    def _note(self, context: ExceptionContext) -> None:
        if context.sqlalchemy_exception is not None:
            self.codes.append(code_of(context.sqlalchemy_exception))
            self.first.set()


class Pause:
    """Lets a transaction stop before a statement of a kind until it is told to go on; later ones run through.

    Args:
        engine: whose transactions.
        beginning: how the statement begins.
        after: how many such statements run through before.
    """

    def __init__(self, engine: AsyncEngine, beginning: str, *, after: int = 0) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self._beginning, self._left = beginning, after
        event.listen(engine.sync_engine, "before_cursor_execute", self._wait)

    def _wait(self, _connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(self._beginning):
            self._left -= 1
            if self._left == -1:
                self.reached.set()
                await_only(self.go.wait())
