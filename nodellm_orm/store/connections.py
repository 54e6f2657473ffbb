"""The connections that chats are written through: an engine's own, a single one, or the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from nodellm_orm.errors import SessionStateError
from nodellm_orm.store.failures import demoted
from nodellm_orm.store.forks import own_pool
from nodellm_orm.store.lending import Lender
from nodellm_orm.store.sessions import Bind, bind_arguments, settle
from nodellm_orm.store.transactions import Access, lock_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from sqlalchemy import Connection, Engine, Transaction
    from sqlalchemy.engine.interfaces import IsolationLevel
    from sqlalchemy.ext.asyncio import AsyncSession

    from nodellm_orm.store.define import Records

    class _SqliteDriver(Protocol):
        """What is asked of a SQLite connection."""

        isolation_level: str | None
        in_transaction: bool


T = TypeVar("T")

_MYSQL: Final = frozenset({"mysql", "mariadb"})
_READ_COMMITTED: Final[IsolationLevel] = "READ COMMITTED"
_ISOLATION: Final = "nodellm_orm.read_committed"


class OwnConnections(Lender):
    """Short transactions on connections of an engine; none is checked out in between.

    Args:
        engine: the engine; it is not changed.
        deadline: seconds that one transaction may take.
        session: a caller's session on the same engine, to be settled before a turn.
    """

    def __init__(self, engine: Engine, *, deadline: float, session: AsyncSession | None = None) -> None:
        """Keep the engine; an engine with a single connection is used by one task at a time."""
        super().__init__(engine, deadline=deadline, shared=isinstance(engine.pool, StaticPool))
        self._engine = engine
        self._session = session
        own_pool(engine)

    @property
    def engine(self) -> Engine:
        """The engine itself."""
        return self._engine

    async def settle(self) -> None:
        """Commit what the session's owner has pending."""
        if self._session is not None:
            async with lock_of(self._session):  # a session takes no two tasks at once
                await settle(self._session)

    def write(self, work: Callable[[Connection], T]) -> T:
        """One transaction on a connection of the pool."""
        own_pool(self._engine)
        with self._engine.connect() as connection:
            if self._shared and _in_transaction(connection):
                return self._beside(connection, lambda: _in_savepoint(connection, work))
            _read_committed(connection)
            try:
                with connection.begin():
                    _begin(connection)
                    return work(connection)
            except DBAPIError as error:
                if demoted(error):
                    connection.invalidate()  # the next one is made anew, where the primary is by then
                raise

    def look(self, work: Callable[[Connection], T]) -> T:
        """Read on a connection of the pool."""
        own_pool(self._engine)
        with self._engine.connect() as connection:
            if self._shared and _in_transaction(connection):
                return self._beside(connection, lambda: work(connection))
            _read_committed(connection)
            return work(connection)

    def connect(self) -> Connection:
        """A connection of the pool."""
        own_pool(self._engine)
        connection = self._engine.connect()
        if self._shared and _in_transaction(connection):
            self._beside(connection, lambda: None)
            msg = (
                "the database has a single connection, and somebody's transaction is open on it; end that before "
                "context.session is used, or use a file instead of a database in memory"
            )
            raise SessionStateError(msg)
        return connection

    def begin(self, connection: Connection) -> Transaction:
        """A transaction of the tool's own; on SQLite it holds the write lock from now on."""
        _read_committed(connection)
        transaction = connection.begin()
        if connection.dialect.name == "sqlite":
            _begin_immediately(connection)
        else:
            connection.exec_driver_sql("SELECT 1")  # a connection that was closed while it was idle is noticed here
        return transaction

    def end(self, connection: Connection, transaction: Transaction | None) -> None:
        """Back to the pool, which closes a connection that cannot be rolled back."""
        del transaction  # it is the connection's
        connection.close()

    def _beside(self, connection: Connection, work: Callable[[], T]) -> T:
        """Use the pool's only connection while somebody's transaction is open on it, and leave that open."""
        try:
            return work()
        finally:
            # Returning the connection in the ordinary way would roll that transaction back.
            connection.connection._close_special(transaction_reset=True)  # noqa: SLF001 — there is no public way


class SingleConnection(Lender):
    """Savepoints on one connection that belongs to the caller, as in the rollback fixture of a test suite.

    Args:
        connection: the connection.
        deadline: seconds that one point may take.
        session: a caller's session bound to it, to be settled before a turn.
    """

    durable = False

    def __init__(self, connection: Connection, *, deadline: float, session: AsyncSession | None = None) -> None:
        """Keep the connection."""
        super().__init__(connection, deadline=deadline, shared=True)
        self._connection = connection
        self._session = session

    @property
    def engine(self) -> Engine:
        """The connection's engine."""
        return self._connection.engine

    async def settle(self) -> None:
        """Commit what the session's owner has pending, to his savepoint."""
        self._refuse_closed()
        if self._session is not None:
            async with lock_of(self._session):  # a session takes no two tasks at once
                await settle(self._session)

    def _refuse_closed(self) -> None:
        if self._connection.closed:
            msg = "the connection that the session is bound to is closed; use a session on an open one, or an engine"
            raise SessionStateError(msg)

    def write(self, work: Callable[[Connection], T]) -> T:
        """A savepoint in the transaction that is open, or a transaction when none is."""
        self._refuse_closed()
        connection = self._connection
        if connection.in_transaction():
            return _in_savepoint(connection, work)
        with connection.begin():
            _begin(connection)
            return work(connection)

    def look(self, work: Callable[[Connection], T]) -> T:
        """Read in the transaction that is open."""
        self._refuse_closed()
        connection = self._connection
        was_open = connection.in_transaction()
        try:
            return work(connection)
        finally:
            if not was_open and connection.in_transaction():
                connection.rollback()

    def connect(self) -> Connection:
        """The caller's."""
        self._refuse_closed()
        return self._connection

    def begin(self, connection: Connection) -> Transaction:
        """A savepoint in the transaction that is open, or a transaction when none is."""
        if not connection.in_transaction():
            transaction: Transaction = connection.begin()
            _begin_immediately(connection)
            return transaction
        _begin_immediately(connection)
        return connection.begin_nested()

    def end(self, connection: Connection, transaction: Transaction | None) -> None:
        """Undo the savepoint; the connection stays the caller's."""
        if transaction is not None and transaction.is_active and not connection.closed:
            transaction.rollback()


class CallersTransaction(Access):
    """Flushes and savepoints in the transaction of the caller's session, who commits or rolls back himself.

    Args:
        session: the session.
        records: whose tables are used, for a session with several binds.
        bind: what the session is bound to.
        deadline: seconds that one point may take.
    """

    durable = False

    def __init__(self, session: AsyncSession, records: Records, bind: Bind, *, deadline: float) -> None:
        """Keep the session."""
        super().__init__(session.sync_session, deadline=deadline, shared=True)
        self._session = session.sync_session
        self._arguments = bind_arguments(records)
        self._bind = bind

    @property
    def engine(self) -> Engine:
        """The engine the session is bound to."""
        return self._bind.engine

    def write(self, work: Callable[[Connection], T]) -> T:
        """Flush what is pending, then a savepoint."""
        self._session.flush()
        return _in_savepoint(self._session.connection(bind_arguments=self._arguments), work)

    def look(self, work: Callable[[Connection], T]) -> T:
        """Read in the caller's transaction."""
        return work(self._session.connection(bind_arguments=self._arguments))


def _driver(connection: Connection) -> _SqliteDriver:
    driver: Any = connection.connection.driver_connection
    result: _SqliteDriver = driver
    return result


def _in_transaction(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite" and _driver(connection).in_transaction


def _in_savepoint(connection: Connection, work: Callable[[Connection], T]) -> T:
    _begin_immediately(connection)  # a savepoint outside a transaction would be committed when it is released
    with connection.begin_nested():
        return work(connection)


def _begin_immediately(connection: Connection) -> None:
    """On SQLite, take the write lock, unless a transaction is open: its driver would begin one with the first write."""
    if connection.dialect.name == "sqlite" and not _driver(connection).in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin(connection: Connection) -> None:
    """Begin where the host has told its SQLite driver not to."""
    if connection.dialect.name != "sqlite":
        return
    driver = _driver(connection)
    if driver.isolation_level is None and not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _read_committed(connection: Connection) -> None:
    """Let this connection run at READ COMMITTED until it is returned to the pool.

    On PostgreSQL that costs nothing. On MySQL it costs statements before and after each transaction, so that a
    connection that runs so already is recognised.
    """
    if connection.dialect.name == "postgresql":
        connection.execution_options(isolation_level=_READ_COMMITTED)
    elif connection.dialect.name in _MYSQL and (level := _level_to_set(connection)) is not None:
        connection.execution_options(isolation_level=level)


def _level_to_set(connection: Connection) -> IsolationLevel | None:
    chosen = connection.get_execution_options().get("isolation_level")
    if chosen is not None:
        return None if chosen == _READ_COMMITTED else _READ_COMMITTED
    if _ISOLATION not in connection.info:
        connection.info[_ISOLATION] = _asked_level_to_set(connection)
    level: IsolationLevel | None = connection.info[_ISOLATION]
    return level


def _asked_level_to_set(connection: Connection) -> IsolationLevel | None:
    raw: Any = connection.connection.dbapi_connection
    level = connection.get_isolation_level()
    if connection.dialect.detect_autocommit_setting(raw):
        # When it goes back to committing by itself, its level is not set back: keep the one that it has.
        return level
    return None if level == _READ_COMMITTED else _READ_COMMITTED
