"""A durable point under a hold, and the renewal of many holds at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, null, select, tuple_, update

from nodellm_orm.ports.entries import TurnEnded, TurnReleased, first_position
from nodellm_orm.ports.refused import chat_deleted, chat_lost
from nodellm_orm.store.entries import Scope, apply
from nodellm_orm.store.guard import (
    CACHED,
    chat_parameters,
    executed,
    freed,
    hold_conditions,
    leased,
    of_chat,
    state_of,
    touch,
)
from nodellm_orm.store.interrupt import status_of_turn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Select, Table, Update

    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.ownership import Hold
    from nodellm_orm.store.define import Tables

_BATCH: Final = 200
"""Holds a statement: five parameters each, far below every database's limit."""
_OVER: Final = -1.0
"""Seconds that a lease has left which is let go of: less than none, as clocks of databases have steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One durable point: run it as a transaction, confirm it when its outcome is unknown."""

    tables: Tables
    hold: Hold
    entries: Sequence[Entry]

    def __call__(self, connection: Connection) -> Hold:
        """Extend the lease and write.

        Raises:
            StaleChatError: the hold is no longer valid; nothing is written.
            ValueError: a message's position is not the next one; a mistake of the caller.
        """
        hold = self.hold
        position, count = first_position(self.entries)
        parameters = {
            **chat_parameters(hold.chat_id, hold.owner),
            "b_turn": hold.turn_id,
            "b_worker": hold.worker,
            "b_fence": hold.fence,
            "b_step": hold.step,
            "b_count": count,
        }
        ends = self._ending is not None
        releases = any(isinstance(entry, TurnReleased) for entry in self.entries)
        if not ends:
            parameters["b_lease"] = _OVER if releases else hold.lease
        if position is not None:
            parameters["b_position"] = position
        statement = _advance(self.tables.chats, positioned=position is not None, ends=ends, releases=releases)
        if not executed(connection, statement, parameters):
            self._refuse(connection, position)
        scope = Scope(chat_id=hold.chat_id, turn_id=hold.turn_id, owner=hold.owner, labels=hold.labels)
        apply(connection, self.tables, scope, self.entries)
        return self._next

    @property
    def _next(self) -> Hold:
        return replace(self.hold, step=self.hold.step + 1)

    @property
    def _ending(self) -> TurnEnded | None:
        return next((entry for entry in self.entries if isinstance(entry, TurnEnded)), None)

    def _refuse(self, connection: Connection, position: int | None) -> None:
        hold = self.hold
        state = state_of(connection, self.tables.chats, hold.chat_id, hold.owner)
        if state is not None:
            held = (state.active_turn_id, state.lease_owner, state.fence, state.step)
            if held == (hold.turn_id, hold.worker, hold.fence, hold.step):
                msg = f"position {position} is not the next one, {state.next_position}"
                raise ValueError(msg)
        else:
            raise chat_deleted(hold.chat_id)
        raise chat_lost(hold.chat_id)

    def confirm(self, connection: Connection) -> Hold | None:
        """The next hold, if the point has been written after all; ``None``: it has not.

        The fence and the step tell; only when another turn has begun since, the turn's own end does.
        """
        hold = self.hold
        state = state_of(connection, self.tables.chats, hold.chat_id, hold.owner)
        if state is None:
            return None
        if state.fence == hold.fence:
            return self._next if state.step == hold.step + 1 else None
        ending = self._ending
        if ending is None:
            return None
        key = {"b_chat": hold.chat_id, "b_turn": hold.turn_id}
        return self._next if connection.scalar(status_of_turn(self.tables.turns), key) == ending.status else None

    def settled(self, connection: Connection) -> Hold | None:
        """As `confirm`, but certain: whoever may still be committing the point has ended by then.

        He has the chat's row locked, and so has this, before it reads.
        """
        renew(connection, self.tables, (self.hold,))
        return self.confirm(connection)


def renew(connection: Connection, tables: Tables, holds: Sequence[Hold], *, beside: bool = False) -> frozenset[UUID]:
    """Extend leases, in one statement for all that are equally long.

    Args:
        connection: in a transaction.
        tables: the records' tables.
        holds: whose leases.
        beside: transactions of tools are open. On MySQL a row of the host that refers to a chat locks the chat's row,
            and then the chat's lease is left as it is: waiting for it would end in a deadlock with the tool's result.

    Returns:
        The turns that are no longer held.
    """
    lost: set[UUID] = set()
    for lease in {hold.lease for hold in holds}:
        equal = [hold for hold in holds if hold.lease == lease]
        for start in range(0, len(equal), _BATCH):
            lost |= _renew(connection, tables.chats, equal[start : start + _BATCH], lease, beside=beside)
    return frozenset(lost)


def _renew(connection: Connection, chats: Table, holds: Sequence[Hold], lease: float, *, beside: bool) -> set[UUID]:
    ids = sorted({hold.chat_id for hold in holds})
    keys = {(hold.chat_id, hold.turn_id, hold.worker, hold.fence): hold.turn_id for hold in holds}
    free = ids
    if beside and connection.dialect.name in {"mysql", "mariadb"}:
        free = sorted(connection.scalars(_unlocked(chats), {"b_ids": ids}))
    parameters = {"b_ids": free, "b_holds": list(keys), "b_lease": lease}
    if free and connection.execute(_extend(chats), parameters).rowcount == len(keys):
        return set()
    held = {tuple(row) for row in connection.execute(_held(chats), {"b_ids": ids})}
    return {turn_id for key, turn_id in keys.items() if key not in held}


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=CACHED)
def _advance(chats: Table, *, positioned: bool, ends: bool, releases: bool) -> Update:
    conditions = [*of_chat(chats, None), *hold_conditions(chats), chats.c.step == bindparam("b_step")]
    if positioned:
        conditions.append(chats.c.next_position == bindparam("b_position"))
    lease: dict[str, Any] = freed() if ends else {"lease_until": leased()}
    if releases:
        lease["lease_owner"] = null()  # nobody's hold is good any more
    return (
        touch(chats)
        .where(*conditions)
        .values(
            step=chats.c.step + 1,
            next_position=chats.c.next_position + bindparam("b_count", type_=chats.c.next_position.type),
            **lease,
        )
    )


def _key(chats: Table) -> tuple[Any, ...]:
    return chats.c.id, chats.c.active_turn_id, chats.c.lease_owner, chats.c.fence


@lru_cache(maxsize=CACHED)
def _extend(chats: Table) -> Update:
    # The ids alone find the rows by their key; the rest says whether they are still held.
    return (
        update(chats)
        .where(
            chats.c.id.in_(bindparam("b_ids", expanding=True, type_=chats.c.id.type)),
            tuple_(*_key(chats)).in_(bindparam("b_holds", expanding=True)),
        )
        .values(lease_until=leased())
    )


@lru_cache(maxsize=CACHED)
def _unlocked(chats: Table) -> Select[Any]:
    found = chats.c.id.in_(bindparam("b_ids", expanding=True, type_=chats.c.id.type))
    return select(chats.c.id).where(found).with_for_update(skip_locked=True)


@lru_cache(maxsize=CACHED)
def _held(chats: Table) -> Select[Any]:
    return select(*_key(chats)).where(chats.c.id.in_(bindparam("b_ids", expanding=True, type_=chats.c.id.type)))
