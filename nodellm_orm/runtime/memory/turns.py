"""The turns of chats in memory: their durable points, and who may write them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nodellm_orm.ports.approvals import no_such_call, to_decide
from nodellm_orm.ports.entries import CallFinished, first_position
from nodellm_orm.ports.ownership import Exhausted, Hold, Outdated, Repeated
from nodellm_orm.ports.refused import WORKER_STOPPED, WORKERS_DIED, chat_busy, chat_deleted, chat_lost
from nodellm_orm.ports.states import TurnState
from nodellm_orm.ports.statuses import EXHAUSTED, OPEN_CALLS, RELEASED
from nodellm_orm.ports.workspace import OWN_SESSION, NoWorkspace
from nodellm_orm.runtime.memory.reading import MemoryReading
from nodellm_orm.runtime.memory.remembered import RememberedTurn, moment

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.errors import ChatBusyError
    from nodellm_orm.ports.approvals import Decision
    from nodellm_orm.ports.entries import AttemptClosed, Entry, TurnOpened
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.ownership import Take
    from nodellm_orm.ports.states import CallState
    from nodellm_orm.ports.workspace import Workspace
    from nodellm_orm.runtime.memory.remembered import RememberedChat

_NO_DATABASE: Final = (
    "context.session is not available in a chat in memory, which has no database; keep the chat in one with "
    f"create_chat(engine, llm), or {OWN_SESSION}"
)


class MemoryTurns(MemoryReading):
    """How turns change what is kept; nothing is awaited in any of this, so that each point is one transaction."""

    async def begin(
        self,
        take: Take,
        turn: TurnOpened,
        entries: Sequence[Entry],
        *,
        closing: Sequence[Entry] = (),
        again: bool = False,
    ) -> Hold:
        """See `Journal.begin`."""
        del again  # nothing is awaited here: a try that was broken off has not begun
        chat = self._find(take.chat_id, take.owner)
        self._refuse_repeated(chat, turn.idempotency_key)
        if chat.active is not None and not self._expired(chat):
            raise self._busy(chat)
        first, _ = first_position([*closing, *entries])
        known = (take.fence, take.step, take.version)
        if (chat.fence, chat.step, chat.head.version) != known or first not in {None, len(chat.messages)}:
            raise Outdated
        last = chat.last
        if closing:
            _refuse_closed(last, closing)
        if take.head is not None:
            chat.head = replace(take.head, version=take.version + 1, created_at=chat.head.created_at)
        if last is not None:
            if last.state.status == "running":
                last.interrupt()
                last.state = replace(
                    last.state, status="failed", reason=None, error_type="Interrupted", error_message=WORKER_STOPPED
                )
            chat.apply(last, closing)
        fresh = RememberedTurn(
            TurnState(
                id=turn.id,
                position=len(chat.turns),
                status="running",
                settings=turn.settings,
                first_position=len(chat.messages),
                idempotency_key=turn.idempotency_key,
                request_hash=turn.request_hash,
            )
        )
        chat.turns[turn.id] = fresh
        hold = self._hold(chat, turn.id, take.worker, take.lease, take.labels)
        chat.apply(fresh, entries)
        return hold

    def _refuse_repeated(self, chat: RememberedChat, key: str | None) -> None:
        before = None if key is None else self._with_key(chat, key)
        if before is not None:
            raise Repeated(before)

    def _hold(
        self, chat: RememberedChat, turn_id: UUID, worker: str, lease: float, labels: Mapping[str, JsonValue]
    ) -> Hold:
        chat.fence += 1
        chat.step = 1
        chat.active, chat.worker = turn_id, worker
        chat.lease_until = self._clock.monotonic() + lease
        self._touch(chat)
        return Hold(
            chat_id=chat.head.id,
            owner=chat.head.owner,
            turn_id=turn_id,
            worker=worker,
            fence=chat.fence,
            step=chat.step,
            lease=lease,
            labels=labels,
        )

    async def record(self, hold: Hold, entries: Sequence[Entry], *, again: bool = False) -> Hold:
        """See `Journal.record`."""
        del again
        if hold.chat_id not in self._chats:
            raise chat_deleted(hold.chat_id)
        chat = self._held(hold)
        if chat is None or (chat.head.owner, chat.step) != (hold.owner, hold.step):
            raise chat_lost(hold.chat_id)
        first, _ = first_position(entries)
        if first not in {None, len(chat.messages)}:
            msg = f"position {first} is not the next one, {len(chat.messages)}"
            raise ValueError(msg)
        chat.lease_until = self._clock.monotonic() + hold.lease
        chat.step += 1
        self._touch(chat)
        chat.apply(chat.turns[hold.turn_id], entries)
        return replace(hold, step=chat.step)

    def workspace(self, floor: asyncio.Lock) -> Workspace:
        """See `Journal.workspace`; a chat in memory has none."""
        del floor
        return NoWorkspace(_NO_DATABASE)

    def _held(self, hold: Hold) -> RememberedChat | None:
        chat = self._chats.get(hold.chat_id)
        if chat is None or (chat.active, chat.fence, chat.worker) != (hold.turn_id, hold.fence, hold.worker):
            return None
        return chat

    async def take_over(
        self,
        chat_id: UUID,
        owner: str | None,
        turn_id: UUID,
        *,
        worker: str,
        lease: float,
        limit: int | None = None,
        interrupted: bool = False,
        again: bool = False,
    ) -> Hold:
        """See `Journal.take_over`."""
        del again
        chat = self._find(chat_id, owner)
        if chat.active is not None and not self._expired(chat):
            raise self._busy(chat)
        last = chat.last
        if last is None or last.state.id != turn_id or last.state.status == "completed":
            raise Outdated
        if interrupted and last.state.status != "running":
            raise Outdated
        state = last.state
        deserted = state.status == "running" and state.reason != RELEASED
        last.interrupt()
        if deserted and limit is not None and state.takeovers >= limit:
            last.state = replace(state, status="failed", reason=None, error_type=EXHAUSTED, error_message=WORKERS_DIED)
            chat.fence += 1
            chat.release()
            self._touch(chat)
            raise Exhausted(limit)
        last.state = replace(
            state,
            status="running",
            takeovers=state.takeovers + deserted,
            reason=None,
            error_type=None,
            error_message=None,
        )
        return self._hold(chat, turn_id, worker, lease, chat.head.metadata)

    async def cancel(self, chat_id: UUID, owner: Owner) -> bool:
        """See `Journal.cancel`."""
        chat = self._find(chat_id, owner)
        if chat.active is None:
            return False
        turn = chat.turns[chat.active]
        turn.interrupt()
        turn.state = replace(turn.state, status="cancelled", reason="cancelled", error_type="Cancelled")
        chat.fence += 1
        chat.release()
        self._touch(chat)
        return True

    async def account(self, hold: Hold, closed: Sequence[AttemptClosed]) -> None:
        """See `Journal.account`; in memory the attempts of a chat go with it."""

    async def decide(self, chat_id: UUID, owner: Owner, decision: Decision) -> CallState:
        """See `Journal.decide`."""
        chat = self._find(chat_id, owner)
        call = chat.call(decision.call_id)
        if call is None:
            raise no_such_call(chat_id, decision.call_id, chat.waiting)
        if not to_decide(call, decision):
            return call
        if chat.active is not None and not self._expired(chat):
            raise self._busy(chat)
        if chat.active is None:
            chat.fence, chat.step = chat.fence + 1, 0
        self._touch(chat)
        return chat.decide(call, decision, moment(self._clock.monotonic()))

    async def renew(self, holds: Sequence[Hold]) -> frozenset[UUID]:
        """See `Journal.renew`."""
        lost: set[UUID] = set()
        for hold in holds:
            chat = self._held(hold)
            if chat is None:
                lost.add(hold.turn_id)
            else:
                chat.lease_until = self._clock.monotonic() + hold.lease
        return frozenset(lost)

    def _busy(self, chat: RememberedChat) -> ChatBusyError:
        return chat_busy(chat.head.id, chat.active, moment(chat.lease_until))

    def _touch(self, chat: RememberedChat) -> None:
        chat.head = replace(chat.head, updated_at=moment(self._clock.monotonic()))


def _refuse_closed(last: RememberedTurn | None, closing: Sequence[Entry]) -> None:
    """The last turn's calls have to be as open as the caller believes."""
    finished = [entry.id for entry in closing if isinstance(entry, CallFinished)]
    if last is None or any(key not in last.calls or last.calls[key].status not in OPEN_CALLS for key in finished):
        raise Outdated
