"""Deciding on a call that waits for a person: one short transaction, without a lease and beside no turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, case, literal, or_, select, update

from nodellm_orm.domain.codec import decode_parts
from nodellm_orm.domain.parts import ToolCallPart
from nodellm_orm.errors import ChatError
from nodellm_orm.ports.approvals import approval_digest, decided_so, no_such_call, to_decide
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.refused import chat_busy
from nodellm_orm.store.clock import DatabaseNow
from nodellm_orm.store.guard import CACHED, chat_parameters, executed, found, of_chat, state_of, touch
from nodellm_orm.store.mapping import CALL_COLUMNS, call_of
from nodellm_orm.store.sizes import check_sizes

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Connection, Select, Table, Update

    from nodellm_orm.ports.approvals import Decision
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.states import CallState
    from nodellm_orm.store.define import Tables
    from nodellm_orm.store.mapping import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """A decision about to be made."""

    tables: Tables
    chat_id: UUID
    owner: Owner
    decision: Decision

    def __call__(self, connection: Connection) -> CallState:
        """Decide, unless it was decided so before.

        Raises:
            ChatNotFoundError, ChatError, ChatBusyError: see `Journal.decide`; nothing is written.
        """
        chats = self.tables.chats
        lock = _lock_idle(chats, any_owner=self.owner is ANY_OWNER)
        idle = executed(connection, lock, chat_parameters(self.chat_id, self.owner))
        state = found(state_of(connection, chats, self.chat_id, self.owner), self.chat_id)
        call = self._call(connection, state.owner)
        if not to_decide(call, self.decision):
            return call
        if not idle:
            raise chat_busy(self.chat_id, state.active_turn_id, state.lease_until)
        self._write(connection, call, state.owner)
        return self._call(connection, state.owner)

    def confirm(self, connection: Connection) -> CallState | None:
        """The call, if it has been decided on so after all."""
        state = found(state_of(connection, self.tables.chats, self.chat_id, self.owner), self.chat_id)
        call = self._call(connection, state.owner)
        return call if decided_so(call, self.decision) else None

    def _call(self, connection: Connection, owner: str | None) -> CallState:
        tables, sealer = self.tables, self.tables.sealer
        key = {"b_chat": self.chat_id, "b_call": self.decision.call_id}
        row = connection.execute(_one_call(tables.tool_calls, tables.messages), key).mappings().first()
        if row is None:
            waiting = connection.execute(_waiting(tables.tool_calls), {"b_chat": self.chat_id})
            raise no_such_call(self.chat_id, self.decision.call_id, [(r.call_id, r.name) for r in waiting])
        opened = sealer.opened("tool_calls", row, owner=owner, key=row["id"])
        opened = sealer.opened("messages", opened, owner=owner, key=row["message_id"])
        parts = [part for part in decode_parts(opened["parts"]) if isinstance(part, ToolCallPart)]
        return call_of(opened, {part.call_id: part for part in parts})

    def _write(self, connection: Connection, call: CallState, owner: str | None) -> None:
        calls, decision = self.tables.tool_calls, self.decision
        values: Row = {"b_chat": self.chat_id, "b_id": call.id, "b_by": decision.by}
        if decision.approved:
            values["b_approved"] = approval_digest(call.call.name, call.call.arguments)
        else:
            values["b_result"] = self.tables.keeping.denial(decision.denial)
        sealed = self.tables.sealer.sealed("tool_calls", values, owner=owner, key=call.id, prefix="b_")
        check_sizes(connection, [sealed])
        if not executed(connection, _decide(calls, approved=decision.approved), sealed):
            msg = f"call {decision.call_id} was changed while it was decided on; load the chat again, and decide then"
            raise ChatError(msg)


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=CACHED)
def _lock_idle(chats: Table, *, any_owner: bool) -> Update:
    """Lock a chat that no turn holds, or one whose worker is gone.

    Copies of an idle chat are outdated with that. A worker that only seems to be gone keeps what it holds: it knows
    nothing of calls that wait but that they do.
    """
    held = chats.c.active_turn_id.is_not(None)
    gone = and_(held, chats.c.lease_until < DatabaseNow())
    return (
        touch(chats)
        .where(*of_chat(chats, ANY_OWNER if any_owner else None), or_(chats.c.active_turn_id.is_(None), gone))
        .values(
            fence=case((held, chats.c.fence), else_=chats.c.fence + 1),
            step=case((held, chats.c.step), else_=literal(0)),
        )
    )


@lru_cache(maxsize=CACHED)
def _one_call(calls: Table, messages: Table) -> Select[Any]:
    joined = calls.join(messages, and_(messages.c.chat_id == calls.c.chat_id, messages.c.id == calls.c.message_id))
    call_id = bindparam("b_call", type_=calls.c.call_id.type)
    return (
        select(*(calls.c[name] for name in CALL_COLUMNS), messages.c.parts)
        .select_from(joined)
        .where(calls.c.chat_id == bindparam("b_chat"), calls.c.call_id == call_id)
    )


@lru_cache(maxsize=CACHED)
def _waiting(calls: Table) -> Select[Any]:
    waits = select(calls.c.call_id, calls.c.name).where(
        calls.c.chat_id == bindparam("b_chat"), calls.c.status == "awaiting_approval"
    )
    return waits.order_by(calls.c.message_id, calls.c.position)


@lru_cache(maxsize=CACHED)
def _decide(calls: Table, *, approved: bool) -> Update:
    values: dict[str, Any] = {
        "status": "pending" if approved else "denied",
        "decided_by": bindparam("b_by", type_=calls.c.decided_by.type),
        "decided_at": DatabaseNow(),
    }
    if approved:
        values["approved_sha256"] = bindparam("b_approved", type_=calls.c.approved_sha256.type)
    else:
        values |= {"result": bindparam("b_result", type_=calls.c.result.type), "finished_at": DatabaseNow()}
    return (
        update(calls)
        .where(
            calls.c.chat_id == bindparam("b_chat"),
            calls.c.id == bindparam("b_id"),
            calls.c.status == "awaiting_approval",
        )
        .values(values)
    )
