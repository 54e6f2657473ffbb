"""Transactions that are lent to a tool: open from its first statement until the point that records its result."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from sqlalchemy.util import greenlet_spawn

from nodellm_orm.store.failures import Nature, is_database_error, nature
from nodellm_orm.store.transactions import Access, lock_of, pause

if TYPE_CHECKING:
    from sqlalchemy import Connection, Transaction

log = logging.getLogger("nodellm_orm")

_ATTEMPTS: Final = {Nature.TRANSIENT: 12, Nature.LOST: 3}
"""How often a transaction is begun: nothing has happened in it yet."""


_out: WeakKeyDictionary[object, int] = WeakKeyDictionary()


def lending(target: object) -> bool:
    """Whether a transaction on this database is lent to a tool of this process.

    Args:
        target: `Access.target`.
    """
    return _out.get(target, 0) > 0


@dataclass(frozen=True, slots=True)
class Lent:
    """A connection in a transaction."""

    connection: Connection
    transaction: Transaction
    """Savepoints of the tool are inside it."""


class Lender(Access):
    """Access that can lend."""

    @abstractmethod
    def connect(self) -> Connection:
        """A connection for a while; called in a greenlet."""

    @abstractmethod
    def begin(self, connection: Connection) -> Transaction:
        """Begin a transaction on it, as the one that writes where there can be only one; called in a greenlet."""

    @abstractmethod
    def end(self, connection: Connection, transaction: Transaction | None) -> None:
        """Roll back what has not been committed, and give the connection up; called in a greenlet."""

    async def lend(self) -> Lent:
        """Begin a transaction; one that meets a lock, or a connection that was closed long ago, is begun again.

        Raises:
            SQLAlchemyError: the database's own words, for the tool.
        """
        if self._shared:
            await lock_of(self.target).acquire()
        _out[self.target] = _out.get(self.target, 0) + 1
        try:
            return await self._opened()
        except BaseException:
            self._returned()
            raise

    async def _opened(self) -> Lent:
        failures = dict.fromkeys(Nature, 0)
        while True:
            try:
                return await greenlet_spawn(self._open)
            except Exception as error:
                kind = nature(error) if is_database_error(error) else Nature.FINAL
                failures[kind] += 1
                if failures[kind] >= _ATTEMPTS.get(kind, 1):
                    raise
                await asyncio.sleep(pause(failures[kind]))

    def _open(self) -> Lent:
        connection = self.connect()
        try:
            return Lent(connection, self.begin(connection))
        except BaseException:
            self.end(connection, None)
            raise

    async def take_back(self, lent: Lent) -> None:
        """Roll back what has not been committed, and give the connection up.

        Args:
            lent: not used any more by whoever it was lent to, or taken from him.
        """
        try:
            async with asyncio.timeout(self._deadline):
                await greenlet_spawn(self.end, lent.connection, lent.transaction)
        except Exception as error:  # noqa: BLE001 — a boundary: it is over whatever the database says
            log.warning("a tool's transaction could not be rolled back: %s; its connection is closed", error)
        finally:
            self._returned()

    def _returned(self) -> None:
        _out[self.target] -= 1
        if self._shared:
            lock_of(self.target).release()
