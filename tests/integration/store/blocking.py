"""Transactions that stand in each other's way: a host's own that holds rows, and what is seen of those that wait."""

from __future__ import annotations

import asyncio
import re
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

_WAITING: Final = (
    "SELECT COUNT(*) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE NOT l.granted AND a.datname = current_database()"
)
_LOCK_WAIT: Final = re.compile(r"^LOCK WAIT .*?thread id (\d+)", re.MULTILINE | re.DOTALL)


async def somebody_waits(engine: AsyncEngine) -> None:
    """Return once a transaction on the database waits for a lock."""
    look = _postgresql_waits if engine.dialect.name == "postgresql" else _mysql_waits
    async with asyncio.timeout(30):
        while True:
            async with engine.connect() as connection:  # a new transaction: one and the same would see no change
                if await look(connection):
                    return
            await asyncio.sleep(0.01)


async def _postgresql_waits(connection: AsyncConnection) -> bool:
    return bool(await connection.scalar(text(_WAITING)))


async def _mysql_waits(connection: AsyncConnection) -> bool:
    # Not innodb_trx: whoever asks it more often than every 0.1 seconds is told the same each time.
    status = str((await connection.execute(text("SHOW ENGINE INNODB STATUS"))).one()[2])
    ours = set(await connection.scalars(text("SELECT id FROM information_schema.processlist WHERE db = DATABASE()")))
    blocks = (_LOCK_WAIT.search(block) for block in status.split("---TRANSACTION")[1:])
    return any(int(block[1]) in ours for block in blocks if block)


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
