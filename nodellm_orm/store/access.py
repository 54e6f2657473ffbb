"""How a session names a database: an engine, a session factory or a session, and the connections each stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from sqlalchemy import Connection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, async_sessionmaker

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.store.connections import CallersTransaction, OwnConnections, SingleConnection
from nodellm_orm.store.engine import DEADLINE_OPTION, refuse_deadline
from nodellm_orm.store.sessions import bind_of
from nodellm_orm.store.transactions import DEADLINE, Access

if TYPE_CHECKING:
    from nodellm_orm.store.define import Records
    from nodellm_orm.store.sessions import Bind

__all__ = ["Access", "Transactions", "open_access"]

Transactions: TypeAlias = Literal["own", "caller"]
_WANTED: Final = "pass an AsyncEngine, an async_sessionmaker or an AsyncSession"


def open_access(
    session: object, records: Records, *, transactions: str = "own", deadline: float | None = None
) -> Access:
    """Find out which database is meant, and how it may be used; nothing is connected yet.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker` (or scoped session), or an `AsyncSession`.
        records: whose tables are used.
        transactions: ``"own"``: short transactions of ours on connections of the bind. ``"caller"``: savepoints in
            the transaction of the `AsyncSession`, which its owner commits.
        deadline: seconds that one transaction may take; by default what the engine was made with, or 30.

    Raises:
        ConfigurationError: the session is nothing of these, is not asynchronous, or does not go with the other
            arguments.

    Example:
        >>> from sqlalchemy.ext.asyncio import create_async_engine
        >>> from nodellm_orm.store.records import RECORDS
        >>> open_access(create_async_engine("sqlite+aiosqlite:///chats.db"), RECORDS).concurrent
        True
    """
    if transactions not in get_args(Transactions):
        msg = f"transactions={transactions!r:.100} is unknown; it is 'own' or 'caller'"
        raise ConfigurationError(msg)
    if deadline is not None:
        refuse_deadline("database_timeout", deadline)
    given, bind = _opened(session, records)
    _refuse_synchronous(bind)
    chosen = deadline or _engine_deadline(bind)
    if transactions == "caller":
        if given is None:
            msg = "transactions='caller' needs the AsyncSession whose transaction is meant; pass it as session"
            raise ConfigurationError(msg)
        return CallersTransaction(given, records, bind, deadline=chosen)
    if isinstance(bind, Connection):
        return SingleConnection(bind, deadline=chosen, session=given)
    return OwnConnections(bind, deadline=chosen, session=given)


def _opened(session: object, records: Records) -> tuple[AsyncSession | None, Bind]:
    """The caller's session, if it is one, and what it is bound to."""
    match session:
        case AsyncEngine():
            return None, session.sync_engine
        case async_sessionmaker():
            return None, bind_of(_made(session), records)
        case async_scoped_session():
            current = session()
            return current, bind_of(current, records)
        case AsyncSession():
            return session, bind_of(session, records)
        case _:
            raise ConfigurationError(_advice(session))


def _made(factory: async_sessionmaker[AsyncSession]) -> AsyncSession:
    """A session that only tells its bind: nothing is begun on it."""
    try:
        return factory()
    except ArgumentError as error:
        msg = f"the async_sessionmaker is not made of an asynchronous engine; {_WANTED} made with create_async_engine"
        raise ConfigurationError(msg) from error


def _refuse_synchronous(bind: Bind) -> None:
    if not bind.dialect.is_async:
        driver = bind.dialect.driver
        msg = f"the session is bound to the synchronous driver {driver!r}; {_WANTED} made with create_async_engine"
        raise ConfigurationError(msg)


def _engine_deadline(bind: Bind) -> float:
    chosen: object = bind.engine.get_execution_options().get(DEADLINE_OPTION)
    return float(chosen) if isinstance(chosen, int | float) else DEADLINE


def _advice(session: object) -> str:
    name = type(session).__name__
    if isinstance(session, str):
        return f"a URL is no session; {_WANTED}, for instance make_engine(url)"
    if name in {"Engine", "OptionEngine", "Session", "sessionmaker", "scoped_session", "Connection"}:
        return f"{name} is synchronous; {_WANTED} (create_async_engine, async_sessionmaker)"
    if name == "AsyncConnection":
        return "an AsyncConnection is no session; pass AsyncSession(connection), or its engine"
    return f"{name} is no session; {_WANTED}"
