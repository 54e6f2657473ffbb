"""A journal that lives in memory: for chats that need no database, and the reference the databases are held to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, assert_never

from nodellm_orm.domain.money import add
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import ChatBusyError, ChatNotFoundError, IdempotencyError, StaleChatError
from nodellm_orm.ports.journal import (
    ANY_OWNER,
    AttemptClosed,
    AttemptOpened,
    AttemptState,
    CallAnswered,
    CallFinished,
    CallOpened,
    CallStarted,
    CallState,
    ChatTotals,
    Hold,
    MessageAdded,
    Outdated,
    Snapshot,
    TurnEnded,
    TurnState,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.ports.journal import ChatHead, Entry, Owner, Take, TurnOpened

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Turn:
    state: TurnState
    calls: dict[UUID, CallState] = field(default_factory=dict)
    attempts: dict[UUID, AttemptState] = field(default_factory=dict)

    def view(self, lease_until: float, now: float) -> TurnState:
        return replace(
            self.state,
            calls=tuple(self.calls.values()),
            attempts=tuple(self.attempts.values()),
            lease_until=_EPOCH + timedelta(seconds=lease_until) if self.state.status == "running" else None,
            expired=self.state.status == "running" and lease_until < now,
        )


@dataclass(slots=True)
class _Chat:
    head: ChatHead
    messages: list[tuple[UUID, Message]]
    turns: dict[UUID, _Turn] = field(default_factory=dict)
    fence: int = 0
    step: int = 0
    active: UUID | None = None
    worker: str | None = None
    lease_until: float = 0.0

    @property
    def last(self) -> _Turn | None:
        return next(reversed(self.turns.values()), None)


class MemoryJournal:
    """Chats kept in this process only; leases run on the given clock.

    Example:
        >>> from nodellm_orm.runtime.clock import SystemClock
        >>> journal = MemoryJournal(SystemClock())
    """

    def __init__(self, clock: Clock) -> None:
        """Start empty.

        Args:
            clock: measures the leases.
        """
        self._clock = clock
        self._chats: dict[UUID, _Chat] = {}

    async def create(self, head: ChatHead, messages: Sequence[tuple[UUID, Message]] = ()) -> Snapshot:
        """See `Journal.create`."""
        chat = self._chats.get(head.id)
        if chat is None:
            chat = self._chats[head.id] = _Chat(head, list(messages))
        return self._snapshot(self._find(head.id, head.owner))

    async def load(self, chat_id: UUID, owner: Owner) -> Snapshot:
        """See `Journal.load`."""
        return self._snapshot(self._find(chat_id, owner))

    def _find(self, chat_id: UUID, owner: Owner) -> _Chat:
        chat = self._chats.get(chat_id)
        if chat is None or (owner is not ANY_OWNER and chat.head.owner != owner):
            msg = f"there is no chat {chat_id} for this owner; check the id, and the owner it was created with"
            raise ChatNotFoundError(msg)
        return chat

    def _snapshot(self, chat: _Chat) -> Snapshot:
        last = chat.last
        return Snapshot(
            head=chat.head,
            messages=tuple(message for _, message in chat.messages),
            message_ids=tuple(key for key, _ in chat.messages),
            fence=chat.fence,
            next_position=len(chat.messages),
            last_turn=last.view(chat.lease_until, self._clock.monotonic()) if last else None,
        )

    def _refuse_busy(self, chat: _Chat) -> None:
        if chat.active is not None and chat.lease_until >= self._clock.monotonic():
            msg = (
                f"chat {chat.head.id} is running turn {chat.active}; wait for it (wait=seconds), cancel it, "
                "or ask again when its lease has ended"
            )
            raise ChatBusyError(msg, turn_id=chat.active, lease_until=_EPOCH + timedelta(seconds=chat.lease_until))

    async def begin(
        self, take: Take, turn: TurnOpened, entries: Sequence[Entry], *, closing: Sequence[Entry] = ()
    ) -> Hold:
        """See `Journal.begin`."""
        chat = self._find(take.chat_id, take.owner)
        if turn.idempotency_key is not None and any(
            t.state.idempotency_key == turn.idempotency_key for t in chat.turns.values()
        ):
            msg = f"idempotency key {turn.idempotency_key!r} was used in this chat before; choose another"
            raise IdempotencyError(msg)
        self._refuse_busy(chat)
        if (chat.fence, chat.head.version) != (take.fence, take.version):
            raise Outdated
        if take.head is not None:
            chat.head = replace(take.head, version=chat.head.version + 1)
        last = chat.last
        chat.fence += 1
        if last is not None:
            if last.state.status == "running":
                self._interrupt(last)
                last.state = replace(last.state, status="failed", error_type="Interrupted")
            self._apply(chat, last, closing)
        chat.turns[turn.id] = fresh = _Turn(
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
        chat.active, chat.worker = turn.id, take.worker
        chat.lease_until = self._clock.monotonic() + take.lease
        chat.step += 1
        self._apply(chat, fresh, entries)
        return Hold(
            chat_id=take.chat_id,
            owner=chat.head.owner,
            turn_id=turn.id,
            worker=take.worker,
            fence=chat.fence,
            step=chat.step,
            lease=take.lease,
        )

    async def record(self, hold: Hold, entries: Sequence[Entry]) -> Hold:
        """See `Journal.record`."""
        chat = self._held(hold)
        if chat is None:
            msg = f"another worker has taken over chat {hold.chat_id}; load the chat again to carry on from its rows"
            raise StaleChatError(msg)
        chat.lease_until = self._clock.monotonic() + hold.lease
        chat.step += 1
        self._apply(chat, chat.turns[hold.turn_id], entries)
        return replace(hold, step=chat.step)

    def _held(self, hold: Hold) -> _Chat | None:
        chat = self._chats.get(hold.chat_id)
        if chat is None or (chat.active, chat.fence, chat.worker) != (hold.turn_id, hold.fence, hold.worker):
            return None
        return chat

    async def take_over(self, chat_id: UUID, owner: str | None, turn_id: UUID, *, worker: str, lease: float) -> Hold:
        """See `Journal.take_over`."""
        chat = self._find(chat_id, owner)
        self._refuse_busy(chat)
        last = chat.last
        if last is None or last.state.id != turn_id or last.state.status == "completed":
            msg = f"turn {turn_id} is not the last unfinished turn of chat {chat_id}; load the chat again"
            raise ChatNotFoundError(msg)
        self._interrupt(last)
        last.state = replace(last.state, status="running", takeovers=last.state.takeovers + 1, reason=None)
        chat.fence += 1
        chat.step += 1
        chat.active, chat.worker = turn_id, worker
        chat.lease_until = self._clock.monotonic() + lease
        return Hold(
            chat_id=chat_id,
            owner=chat.head.owner,
            turn_id=turn_id,
            worker=worker,
            fence=chat.fence,
            step=chat.step,
            lease=lease,
        )

    def _interrupt(self, turn: _Turn) -> None:
        for key, attempt in turn.attempts.items():
            if attempt.status == "started":
                turn.attempts[key] = replace(attempt, status="unknown")
        for key, call in turn.calls.items():
            if call.status == "running":
                turn.calls[key] = replace(call, status="unknown")

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

    async def update(self, head: ChatHead) -> ChatHead:
        """See `Journal.update`."""
        chat = self._find(head.id, head.owner)
        chat.head = replace(head, version=chat.head.version + 1)
        return chat.head

    async def append(self, head: ChatHead, fence: int, messages: Sequence[tuple[UUID, Message]]) -> Snapshot:
        """See `Journal.append`."""
        chat = self._find(head.id, head.owner)
        self._refuse_busy(chat)
        if chat.fence != fence:
            raise Outdated
        chat.fence += 1
        chat.step += 1
        chat.messages.extend(messages)
        return self._snapshot(chat)

    async def history(
        self, chat_id: UUID, owner: Owner, *, limit: int, before: int | None = None, after: int | None = None
    ) -> tuple[Message, ...]:
        """See `Journal.history`."""
        chat = self._find(chat_id, owner)
        page = [
            message
            for position, (_, message) in enumerate(chat.messages)
            if (before is None or position < before) and (after is None or position > after)
        ]
        return tuple(page[-limit:] if before is not None and after is None else page[:limit])

    async def turn(self, chat_id: UUID, owner: Owner, turn_id: UUID) -> TurnState:
        """See `Journal.turn`."""
        chat = self._find(chat_id, owner)
        if turn_id not in chat.turns:
            msg = f"chat {chat_id} has no turn {turn_id}; check the id"
            raise ChatNotFoundError(msg)
        return chat.turns[turn_id].view(chat.lease_until, self._clock.monotonic())

    async def totals(self, chat_id: UUID, owner: Owner) -> ChatTotals:
        """See `Journal.totals`."""
        attempts = [a for turn in self._find(chat_id, owner).turns.values() for a in turn.attempts.values()]
        usage, cost = Usage(), None
        for attempt in attempts:
            usage, cost = usage + attempt.usage, add(cost, attempt.cost)
        return ChatTotals(
            requests=len(attempts),
            failures=sum(a.status == "failed" for a in attempts),
            unpriced=sum(a.cost is None for a in attempts),
            usage=usage,
            cost=cost,
        )

    def _apply(self, chat: _Chat, turn: _Turn, entries: Sequence[Entry]) -> None:
        for entry in entries:
            match entry:
                case MessageAdded():
                    if entry.message.position != len(chat.messages):
                        msg = f"position {entry.message.position} is not the next one, {len(chat.messages)}"
                        raise ValueError(msg)
                    chat.messages.append((entry.id, entry.message))
                case AttemptOpened():
                    turn.attempts[entry.id] = AttemptState(
                        id=entry.id, status="started", attempt=entry.attempt, provider=entry.provider
                    )
                case AttemptClosed():
                    turn.attempts[entry.id] = replace(
                        turn.attempts[entry.id],
                        status=entry.status,
                        request_id=entry.request_id,
                        message_id=entry.message_id,
                        model=entry.model,
                        usage=entry.usage,
                        cost=entry.cost.total,
                    )
                case CallOpened():
                    turn.calls[entry.id] = CallState(
                        id=entry.id,
                        message_id=entry.message_id,
                        position=entry.position,
                        call=entry.call,
                        status=entry.status,
                        attempts=1 if entry.status == "running" else 0,
                    )
                case CallStarted():
                    call = turn.calls[entry.id]
                    turn.calls[entry.id] = replace(call, status="running", attempts=call.attempts + 1)
                case CallFinished():
                    turn.calls[entry.id] = replace(
                        turn.calls[entry.id], status=entry.status, result=entry.result, error=entry.error
                    )
                case CallAnswered():
                    turn.calls[entry.id] = replace(turn.calls[entry.id], answered=True)
                case TurnEnded():
                    turn.state = replace(
                        turn.state,
                        status=entry.status,
                        reason=entry.reason,
                        error_type=entry.error_type,
                        error_message=entry.error_message,
                    )
                    chat.active, chat.worker = None, None
                case _:
                    assert_never(entry)
