"""The first durable point of a turn: take the chat, close what the last turn left open, write the new one.

A plain turn is one UPDATE and three INSERTs (turn, message, attempt). Everything else is asked only when the UPDATE
has not found the chat free and as the caller believes it to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, insert, literal, null, select, update

from nodellm_orm.errors import StaleChatError
from nodellm_orm.ports.entries import CallFinished, first_position
from nodellm_orm.ports.ownership import Hold, Outdated, Repeated
from nodellm_orm.ports.refused import WORKER_STOPPED, chat_busy
from nodellm_orm.ports.statuses import OPEN_CALLS
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.entries import Scope, apply, send
from nodellm_orm.store.guard import (
    CACHED,
    chat_parameters,
    executed,
    found,
    leased,
    of_chat,
    state_of,
    touch,
)
from nodellm_orm.store.interrupt import leave_unknown, said_of
from nodellm_orm.store.mapping import head_row
from nodellm_orm.store.reading import turn_by_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Connection, Insert, Row, Select, Table, Update

    from nodellm_orm.ports.entries import Entry, TurnOpened
    from nodellm_orm.ports.ownership import Take
    from nodellm_orm.store.define import Tables
    from nodellm_orm.store.texts import Texts

_FIRST_STEP = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """A turn about to begin: run it as a transaction, confirm it when its outcome is unknown."""

    tables: Tables
    take: Take
    turn: TurnOpened
    entries: Sequence[Entry]
    closing: Sequence[Entry]
    texts: Texts

    def __call__(self, connection: Connection) -> Hold:
        """Take the chat and write.

        Raises:
            ChatNotFoundError, Repeated, ChatBusyError, Outdated: see `Journal.begin`; nothing is written.
        """
        taken = self._take(connection, None)
        if self.turn.idempotency_key is not None:
            self._refuse_repeated(connection, self.turn.idempotency_key)
        last = None if taken else self._take_interrupted(connection)
        if last is None and self.closing:
            last = self._last_turn(connection)
        if last is not None and self.closing:
            self._close(connection, last)
        send(connection, _insert_turn(self.tables.turns), [self._turn_row()])
        self.texts.write(connection)
        apply(connection, self.tables, self._scope(self.turn.id), self.entries)
        return self._hold()

    def confirm(self, connection: Connection) -> Hold | None:
        """The hold, if the turn has been begun after all; ``None``: it has not.

        Raises:
            StaleChatError: it was, and another worker has taken it over since.
        """
        if connection.execute(_turn_exists(self.tables.turns), self._turn_key()).first() is None:
            return None
        state = found(state_of(connection, self.tables.chats, self.take.chat_id, self.take.owner), self.take.chat_id)
        held = (state.active_turn_id, state.lease_owner, state.fence)
        if held != (self.turn.id, self.take.worker, self.take.fence + 1):
            msg = f"turn {self.turn.id} was begun and then lost to another worker; load the chat again"
            raise StaleChatError(msg)
        return self._hold()

    def _hold(self) -> Hold:
        take = self.take
        return Hold(
            chat_id=take.chat_id,
            owner=take.owner,
            turn_id=self.turn.id,
            worker=take.worker,
            fence=take.fence + 1,
            step=_FIRST_STEP,
            lease=take.lease,
            labels=take.labels,
        )

    def _scope(self, turn_id: UUID) -> Scope:
        take = self.take
        return Scope(chat_id=take.chat_id, turn_id=turn_id, owner=take.owner, labels=take.labels)

    def _turn_key(self) -> dict[str, Any]:
        return {"b_chat": self.take.chat_id, "b_turn": self.turn.id}

    def _turn_row(self) -> dict[str, Any]:
        row = {
            "chat_id": self.take.chat_id,
            "b_chat": self.take.chat_id,
            "id": self.turn.id,
            "status": "running",
            "active_slot": 1,
            "idempotency_key": self.turn.idempotency_key,
            "request_hash": self.turn.request_hash,
            "settings": self.turn.settings,
        }
        return self.tables.sealer.sealed("turns", row, owner=self.take.owner, key=self.turn.id)

    def _take(self, connection: Connection, interrupted: UUID | None) -> bool:
        """Take the chat if it is as the caller believes: free, or held by a turn whose lease has ended."""
        take = self.take
        position, count = first_position([*self.closing, *self.entries])
        parameters = {
            **chat_parameters(take.chat_id, take.owner),
            "b_turn": self.turn.id,
            "b_worker": take.worker,
            "b_lease": take.lease,
            "b_fence": take.fence,
            "b_step": take.step,
            "b_version": take.version,
            "b_count": count,
        }
        if position is not None:
            parameters["b_position"] = position
        if interrupted is not None:
            parameters["b_interrupted"] = interrupted
        if take.head is not None:
            row = head_row(self.tables.keeping.head(take.head))
            saved = self.tables.sealer.sealed("chats", row, owner=take.owner, key=take.chat_id)
            parameters |= {f"b_head_{name}": value for name, value in saved.items()}
        statement = _take_chat(
            self.tables.chats,
            positioned=position is not None,
            interrupted=interrupted is not None,
            head=take.head is not None,
        )
        return executed(connection, statement, parameters)

    def _refuse_repeated(self, connection: Connection, key: str) -> None:
        before = turn_by_key(connection, self.tables, self.take.chat_id, self.take.owner, key)
        if before is not None:
            raise Repeated(before)

    def _take_interrupted(self, connection: Connection) -> UUID:
        """The chat was not free: take it from a turn whose lease has ended, which thereby has failed."""
        take = self.take
        state: Row[Any] = found(state_of(connection, self.tables.chats, take.chat_id, take.owner), take.chat_id)
        last: UUID | None = state.active_turn_id
        if last is None:
            raise Outdated
        if not state.lease_expired:
            raise chat_busy(take.chat_id, last, state.lease_until)
        if not self._take(connection, last):
            raise Outdated
        key = {"b_chat": take.chat_id, "b_turn": last}
        leave_unknown(connection, self.tables, take.chat_id, last)
        said = said_of(self.tables.sealer, WORKER_STOPPED, take.owner, last)
        connection.execute(_fail_turn(self.tables.turns), {**key, **said})
        return last

    def _last_turn(self, connection: Connection) -> UUID:
        last: UUID | None = connection.scalar(_last_turn_id(self.tables.turns), {"b_chat": self.take.chat_id})
        if last is None:
            raise Outdated
        return last

    def _close(self, connection: Connection, last: UUID) -> None:
        """Answer what the last turn left open, unless it has been answered since the caller looked."""
        finished = [entry.id for entry in self.closing if isinstance(entry, CallFinished)]
        if finished:
            parameters = {"b_chat": self.take.chat_id, "b_turn": last, "b_ids": finished}
            still_open = connection.scalar(_open_calls(self.tables.tool_calls), parameters)
            if still_open != len(finished):
                raise Outdated
        apply(connection, self.tables, self._scope(last), self.closing)


@lru_cache(maxsize=CACHED)
def _take_chat(chats: Table, *, positioned: bool, interrupted: bool, head: bool) -> Update:
    conditions = [
        *of_chat(chats, None),
        chats.c.fence == bindparam("b_fence"),
        chats.c.step == bindparam("b_step"),
        chats.c.version == bindparam("b_version"),
    ]
    if interrupted:
        conditions += [
            chats.c.active_turn_id == bindparam("b_interrupted"),
            chats.c.lease_until < DatabaseNow(),
        ]
    else:
        conditions.append(chats.c.active_turn_id.is_(None))
    if positioned:
        conditions.append(chats.c.next_position == bindparam("b_position"))
    values: dict[str, Any] = {
        "active_turn_id": bindparam("b_turn", type_=chats.c.active_turn_id.type),
        "lease_owner": bindparam("b_worker", type_=chats.c.lease_owner.type),
        "lease_until": leased(),
        "fence": chats.c.fence + 1,
        "step": literal(_FIRST_STEP),
        "next_position": chats.c.next_position + bindparam("b_count", type_=chats.c.next_position.type),
    }
    if head:
        values |= head_values(chats)
    return touch(chats).where(*conditions).values(values)


def head_values(chats: Table) -> dict[str, Any]:
    """Values that save a head; the parameters are those of `head_row` with the prefix ``b_head_``."""
    names = (
        *("title", "model", "provider", "api", "instructions", "settings"),
        *("metadata", "parent_chat_id", "fork_position"),
    )
    columns = {name: bindparam(f"b_head_{name}", type_=chats.c[name].type) for name in names}
    return {**columns, "version": chats.c.version + 1}


@lru_cache(maxsize=CACHED)
def _insert_turn(turns: Table) -> Insert:
    others = turns.alias("others")
    following = select(func.coalesce(func.max(others.c.position) + 1, 0).label("following"))
    # MySQL reads from the table it writes to only through a derived table.
    derived = following.where(others.c.chat_id == bindparam("b_chat")).subquery("last")
    position = select(derived.c.following).scalar_subquery()
    return insert(turns).values(position=position, started_at=DatabaseNow())


@lru_cache(maxsize=CACHED)
def _turn_exists(turns: Table) -> Select[Any]:
    return select(turns.c.id).where(turns.c.chat_id == bindparam("b_chat"), turns.c.id == bindparam("b_turn"))


@lru_cache(maxsize=CACHED)
def _last_turn_id(turns: Table) -> Select[Any]:
    of_this = select(turns.c.id).where(turns.c.chat_id == bindparam("b_chat"))
    return of_this.order_by(turns.c.position.desc()).limit(1)


@lru_cache(maxsize=CACHED)
def _fail_turn(turns: Table) -> Update:
    return (
        update(turns)
        .where(turns.c.chat_id == bindparam("b_chat"), turns.c.id == bindparam("b_turn"))
        .values(
            status="failed",
            reason=null(),
            active_slot=null(),
            error_type="Interrupted",
            error_message=bindparam("b_error_message", type_=turns.c.error_message.type),
            finished_at=DatabaseNow(),
        )
    )


@lru_cache(maxsize=CACHED)
def _open_calls(calls: Table) -> Select[Any]:
    return select(func.count()).where(
        calls.c.chat_id == bindparam("b_chat"),
        calls.c.turn_id == bindparam("b_turn"),
        calls.c.id.in_(bindparam("b_ids", expanding=True, type_=calls.c.id.type)),
        calls.c.status.in_(sorted(OPEN_CALLS)),
    )
