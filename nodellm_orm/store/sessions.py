"""What a caller's session tells: which database it is on, and whether its pending work can be committed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import Connection, Engine, inspect, update
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import SessionTransactionOrigin

from nodellm_orm.errors import ConfigurationError, SessionStateError
from nodellm_orm.store.failures import is_database_error, translate

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session

    from nodellm_orm.store.define import Records

Bind: TypeAlias = Engine | Connection


def bind_arguments(records: Records) -> dict[str, Any]:
    """What tells a session with several binds which one is meant: a write to the chats.

    Args:
        records: whose tables are used.
    """
    return {"mapper": inspect(records.chat), "clause": update(records.tables.chats)}


def bind_of(session: AsyncSession, records: Records) -> Bind:
    """The engine or connection that a session uses for chats.

    Args:
        session: the session; nothing is begun on it.
        records: whose tables are used.

    Raises:
        ConfigurationError: the session is bound to nothing.
    """
    try:
        return session.sync_session.get_bind(**bind_arguments(records))
    except UnboundExecutionError as error:
        msg = "the session is not bound to a database; make it with async_sessionmaker(engine) or AsyncSession(engine)"
        raise ConfigurationError(msg) from error


async def settle(session: AsyncSession) -> None:
    """Commit a caller's pending work, alone and once, without expiring his objects.

    Args:
        session: the session; not touched any more afterwards.

    Raises:
        SessionStateError: it is closed for good, inside an explicit block, needs a rollback, or its own rows are
            refused.
    """
    own = session.sync_session
    _refuse_unclear(own)
    if not (own.in_transaction() or own.new or own.dirty or own.deleted):
        return
    expire, own.expire_on_commit = own.expire_on_commit, False
    try:
        await session.commit()
    except Exception as error:
        if not is_database_error(error):
            raise
        translate(error)
        msg = (
            f"the session's own pending work could not be committed before the turn ({type(error).__name__}); "
            "roll it back, mend or remove these rows, and ask again; nothing of the turn was written"
        )
        raise SessionStateError(msg) from error
    finally:
        own.expire_on_commit = expire


def _refuse_unclear(session: Session) -> None:
    """Refuse a session whose state leaves open what a commit would mean."""
    if _closed(session):
        msg = "the session is closed; pass one that is open, or the engine or async_sessionmaker instead"
        raise SessionStateError(msg)
    if session.in_nested_transaction():
        msg = "the session is inside begin_nested(); ask after that block, or pass the engine or async_sessionmaker"
        raise SessionStateError(msg)
    transaction = session.get_transaction()
    if transaction is None:
        return
    if transaction.origin is not SessionTransactionOrigin.AUTOBEGIN:
        msg = (
            "the session is inside a begin() block, and what happens here is committed in transactions of its own; "
            "leave the block first, pass the engine or async_sessionmaker, or load the chat with transactions='caller'"
        )
        raise SessionStateError(msg)
    if not transaction.is_active:
        msg = "the session's transaction has failed; call rollback() on it first"
        raise SessionStateError(msg)


def _closed(session: Session) -> bool:
    """Whether the session refuses every further transaction (``close_resets_only=False``)."""
    if session.in_transaction():
        return False
    state: object = getattr(session, "_close_state", None)
    return getattr(state, "name", None) == "CLOSED"
