"""Turns whose worker is gone or is told to stop: taking over, cancelling, listing; what was in flight is unknown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, case, func, literal, null, or_, select, update

from nodellm_orm.domain.pages import InterruptedTurn
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.ownership import Exhausted, Hold, Outdated
from nodellm_orm.ports.refused import WORKERS_DIED, chat_busy, check_limit
from nodellm_orm.ports.statuses import EXHAUSTED, RELEASED
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.closing import lose_attempts
from nodellm_orm.store.guard import (
    CACHED,
    chat_parameters,
    executed,
    found,
    freed,
    leased,
    of_chat,
    state_of,
    touch,
)

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, Select, Table, Update

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.define import Tables
    from nodellm_orm.store.sealing import Sealer

_FIRST_STEP = 1


def leave_unknown(connection: Connection, tables: Tables, chat_id: UUID, turn_id: UUID) -> None:
    """Open attempts and running calls of a turn have an unknown outcome.

    Args:
        connection: in a transaction that has locked the chat.
        tables: the records' tables.
        chat_id: the chat.
        turn_id: the turn.
    """
    key = {"b_chat": chat_id, "b_turn": turn_id}
    lose_attempts(connection, tables, chat_id, turn_id)
    connection.execute(_lose_calls(tables.tool_calls), key)


def said_of(sealer: Sealer, message: str, owner: str | None, turn_id: UUID) -> dict[str, Any]:
    """The parameter for a turn's error message.

    Args:
        sealer: encrypts it, where it is to be encrypted.
        message: what went wrong.
        owner: whose chat it is.
        turn_id: the turn.
    """
    return sealer.sealed("turns", {"b_error_message": message}, owner=owner, key=turn_id, prefix="b_")


@dataclass(slots=True, kw_only=True)
class TakeOver:
    """A turn about to be carried on by this worker."""

    tables: Tables
    chat_id: UUID
    owner: Owner
    turn_id: UUID
    worker: str
    lease: float
    limit: int | None
    interrupted: bool
    _exhausted: bool = False
    """Whether an earlier attempt has ended the turn instead, if it was committed."""

    def __call__(self, connection: Connection) -> Hold | Exhausted:
        """Take the turn, or end it when it was taken over too often.

        Raises:
            ChatBusyError, ChatNotFoundError, Outdated: see `Journal.take_over`; nothing is written.
        """
        chats, turns = self.tables.chats, self.tables.turns
        key = chat_parameters(self.chat_id, self.owner)
        taking = {"b_turn": self.turn_id, "b_worker": self.worker, "b_lease": self.lease}
        statement = _take_turn(chats, any_owner=self.owner is ANY_OWNER, interrupted=self.interrupted)
        taken = executed(connection, statement, {**key, **taking})
        state = found(state_of(connection, chats, self.chat_id, self.owner), self.chat_id)
        if not taken and not state.lease_expired and state.active_turn_id is not None:
            raise chat_busy(self.chat_id, state.active_turn_id, state.lease_until)
        if not taken:
            raise Outdated
        turn = {"b_chat": self.chat_id, "b_turn": self.turn_id}
        if self.limit is not None and executed(connection, _exhaust_turn(turns), {**turn, "b_limit": self.limit}):
            self._exhausted = True
            said = said_of(self.tables.sealer, WORKERS_DIED, state.owner, self.turn_id)
            connection.execute(_explain(turns), {**turn, **said})
            leave_unknown(connection, self.tables, self.chat_id, self.turn_id)
            connection.execute(_free_chat(chats, any_owner=self.owner is ANY_OWNER), key)
            return Exhausted(self.limit)
        if not executed(connection, _reopen_turn(turns), turn):
            raise Outdated
        leave_unknown(connection, self.tables, self.chat_id, self.turn_id)
        return self._hold(state)

    def confirm(self, connection: Connection) -> Hold | Exhausted | None:
        """The hold, if the turn has been taken after all; likewise if it was ended."""
        state = state_of(connection, self.tables.chats, self.chat_id, self.owner)
        if state is not None and self._exhausted and self.limit is not None:
            turn = {"b_chat": self.chat_id, "b_turn": self.turn_id}
            ended = connection.scalar(status_of_turn(self.tables.turns), turn) == "failed"
            return Exhausted(self.limit) if ended else None
        if state is None or state.lease_expired:
            return None
        held = (state.active_turn_id, state.lease_owner, state.step)
        return self._hold(state) if held == (self.turn_id, self.worker, _FIRST_STEP) else None

    def _hold(self, state: Any) -> Hold:
        return Hold(
            chat_id=self.chat_id,
            owner=state.owner,
            turn_id=self.turn_id,
            worker=self.worker,
            fence=state.fence,
            step=_FIRST_STEP,
            lease=self.lease,
            labels=state.metadata,
        )


@dataclass(slots=True, kw_only=True)
class Cancel:
    """The end of whatever turn runs in a chat."""

    tables: Tables
    chat_id: UUID
    owner: Owner
    _turn_id: UUID | None = None
    """The turn that an earlier attempt has ended, if it was committed."""

    def __call__(self, connection: Connection) -> bool:
        """End the turn; its worker cannot write any more.

        Returns:
            Whether one was running.

        Raises:
            ChatNotFoundError: no such chat for this owner.
        """
        chats, turns = self.tables.chats, self.tables.turns
        key = chat_parameters(self.chat_id, self.owner)
        running = executed(connection, _free_chat(chats, any_owner=self.owner is ANY_OWNER), key)
        if not running:
            found(state_of(connection, chats, self.chat_id, self.owner), self.chat_id)
            return False
        self._turn_id = turn_id = connection.scalar(_active_turn(turns), {"b_chat": self.chat_id})
        if turn_id is not None:
            leave_unknown(connection, self.tables, self.chat_id, turn_id)
            connection.execute(_cancel_turn(turns), {"b_chat": self.chat_id, "b_turn": turn_id})
        return True

    def confirm(self, connection: Connection) -> bool | None:
        """Whether an earlier attempt has been committed after all."""
        if self._turn_id is None:
            return None
        key = {"b_chat": self.chat_id, "b_turn": self._turn_id}
        return True if connection.scalar(status_of_turn(self.tables.turns), key) == "cancelled" else None


def interrupted(connection: Connection, tables: Tables, limit: int) -> tuple[InterruptedTurn, ...]:
    """Running turns whose lease has ended, oldest first, of all owners."""
    check_limit(limit)
    rows = connection.execute(_interrupted(tables.chats, tables.turns), {"b_limit": limit}).mappings()
    return tuple(InterruptedTurn(**row) for row in rows)


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=CACHED)
def _lose_calls(calls: Table) -> Update:
    """Make calls unknown that are ``running``."""
    return (
        update(calls)
        .where(
            calls.c.chat_id == bindparam("b_chat"),
            calls.c.turn_id == bindparam("b_turn"),
            calls.c.status == "running",
        )
        .values(status="unknown")
    )


@lru_cache(maxsize=CACHED)
def _take_turn(chats: Table, *, any_owner: bool, interrupted: bool) -> Update:
    expired = and_(chats.c.active_turn_id == bindparam("b_turn"), chats.c.lease_until < DatabaseNow())
    open_to_all = expired if interrupted else or_(chats.c.active_turn_id.is_(None), expired)
    return (
        touch(chats)
        .where(*of_chat(chats, ANY_OWNER if any_owner else None), open_to_all)
        .values(
            active_turn_id=bindparam("b_turn", type_=chats.c.active_turn_id.type),
            lease_owner=bindparam("b_worker", type_=chats.c.lease_owner.type),
            lease_until=leased(),
            fence=chats.c.fence + 1,
            step=literal(_FIRST_STEP),
        )
    )


def _deserted(turns: Table) -> ColumnElement[bool]:
    """Whether a turn's worker has gone without a word."""
    return and_(turns.c.status == "running", turns.c.reason.is_distinct_from(RELEASED))


@lru_cache(maxsize=CACHED)
def _exhaust_turn(turns: Table) -> Update:
    return (
        update(turns)
        .where(
            turns.c.chat_id == bindparam("b_chat"),
            turns.c.id == bindparam("b_turn"),
            _deserted(turns),
            turns.c.takeovers >= bindparam("b_limit", type_=turns.c.takeovers.type),
        )
        .values(
            status="failed",
            reason=null(),
            active_slot=null(),
            error_type=EXHAUSTED,
            finished_at=DatabaseNow(),
        )
    )


@lru_cache(maxsize=CACHED)
def _explain(turns: Table) -> Update:
    """Why a turn has failed; apart from what decides that it has, for the words are bound to the turn's owner."""
    return (
        update(turns)
        .where(turns.c.chat_id == bindparam("b_chat"), turns.c.id == bindparam("b_turn"))
        .values(error_message=bindparam("b_error_message", type_=turns.c.error_message.type))
    )


@lru_cache(maxsize=CACHED)
def _reopen_turn(turns: Table) -> Update:
    others = turns.alias("others")
    newest = select(func.max(others.c.position).label("newest")).where(others.c.chat_id == bindparam("b_chat"))
    # MySQL reads from the table it writes to only through a derived table.
    position = select(newest.subquery("last").c.newest).scalar_subquery()
    return (
        update(turns)
        .where(
            turns.c.chat_id == bindparam("b_chat"),
            turns.c.id == bindparam("b_turn"),
            turns.c.status != "completed",
            turns.c.position == position,
        )
        # In this order, because MySQL reads columns that were set before as they are by then.
        .ordered_values(
            (turns.c.takeovers, turns.c.takeovers + case((_deserted(turns), 1), else_=0)),
            (turns.c.status, "running"),
            (turns.c.active_slot, 1),
            (turns.c.reason, null()),
            (turns.c.error_type, null()),
            (turns.c.error_message, null()),
            (turns.c.finished_at, null()),
        )
    )


@lru_cache(maxsize=CACHED)
def _free_chat(chats: Table, *, any_owner: bool) -> Update:
    held = chats.c.active_turn_id.is_not(None)
    conditions = [*of_chat(chats, ANY_OWNER if any_owner else None), held]
    return touch(chats).where(*conditions).values(**freed(), fence=chats.c.fence + 1, step=literal(0))


@lru_cache(maxsize=CACHED)
def _active_turn(turns: Table) -> Select[Any]:
    return select(turns.c.id).where(turns.c.chat_id == bindparam("b_chat"), turns.c.active_slot == 1)


@lru_cache(maxsize=CACHED)
def status_of_turn(turns: Table) -> Select[Any]:
    """The status of one turn."""
    return select(turns.c.status).where(turns.c.chat_id == bindparam("b_chat"), turns.c.id == bindparam("b_turn"))


@lru_cache(maxsize=CACHED)
def _cancel_turn(turns: Table) -> Update:
    return (
        update(turns)
        .where(turns.c.chat_id == bindparam("b_chat"), turns.c.id == bindparam("b_turn"))
        .values(
            status="cancelled",
            reason="cancelled",
            active_slot=null(),
            error_type="Cancelled",
            finished_at=DatabaseNow(),
        )
    )


@lru_cache(maxsize=CACHED)
def _interrupted(chats: Table, turns: Table) -> Select[Any]:
    joined = chats.join(turns, and_(turns.c.chat_id == chats.c.id, turns.c.id == chats.c.active_turn_id))
    return (
        select(chats.c.id.label("chat_id"), chats.c.owner, turns.c.id.label("turn_id"), turns.c.takeovers)
        .add_columns(chats.c.lease_until)
        .select_from(joined)
        .where(turns.c.active_slot == 1, chats.c.lease_until < DatabaseNow())
        .order_by(chats.c.lease_until, chats.c.id)
        .limit(bindparam("b_limit"))
    )
