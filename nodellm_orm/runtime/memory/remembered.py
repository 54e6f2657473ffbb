"""What the in-memory journal keeps of a chat and its turns, and how the entries of a durable point change it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, assert_never

from nodellm_orm.ports.approvals import approval_digest
from nodellm_orm.ports.entries import (
    AttemptClosed,
    AttemptOpened,
    CallAnswered,
    CallFinished,
    CallOpened,
    CallStarted,
    HistorySuperseded,
    MessageAdded,
    MessageRevised,
    MessageSuperseded,
    TurnEnded,
    TurnReleased,
)
from nodellm_orm.ports.states import AttemptState, CallState
from nodellm_orm.ports.statuses import RELEASED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.approvals import Decision
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.states import ChatHead, TurnState

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


def moment(seconds: float) -> datetime:
    """A time on the journal's clock as a timestamp.

    Args:
        seconds: as the clock gives them.
    """
    return _EPOCH + timedelta(seconds=seconds)


@dataclass(slots=True)
class RememberedTurn:
    """A turn with its calls and attempts."""

    state: TurnState
    calls: dict[UUID, CallState] = field(default_factory=dict)
    attempts: dict[UUID, AttemptState] = field(default_factory=dict)

    def view(self, lease_until: float, now: float) -> TurnState:
        """The turn as it is handed out.

        Args:
            lease_until: when the lease of its chat ends.
            now: the time, on the same clock.
        """
        running = self.state.status == "running"
        return replace(
            self.state,
            calls=tuple(self.calls.values()),
            attempts=tuple(self.attempts.values()),
            lease_until=moment(lease_until) if running else None,
            expired=running and lease_until < now,
        )

    def interrupt(self) -> None:
        """What is in flight has an unknown outcome."""
        for key, attempt in self.attempts.items():
            if attempt.status == "started":
                self.attempts[key] = replace(attempt, status="unknown")
        for key, call in self.calls.items():
            if call.status == "running":
                self.calls[key] = replace(call, status="unknown")


@dataclass(slots=True)
class RememberedChat:
    """A chat, and who holds it."""

    head: ChatHead
    messages: list[tuple[UUID, Message]]
    superseded: set[UUID] = field(default_factory=set)
    """Ids of messages that are no longer replayed."""
    turns: dict[UUID, RememberedTurn] = field(default_factory=dict)
    fence: int = 0
    step: int = 0
    active: UUID | None = None
    worker: str | None = None
    lease_until: float = 0.0

    @property
    def last(self) -> RememberedTurn | None:
        """The newest turn."""
        return next(reversed(self.turns.values()), None)

    @property
    def replayed(self) -> list[tuple[UUID, Message]]:
        """The messages that are sent to a model, with their ids."""
        return [(key, message) for key, message in self.messages if key not in self.superseded]

    @property
    def retired_call_ids(self) -> frozenset[str]:
        """Ids of the calls of superseded messages."""
        gone = (m for key, m in self.messages if key in self.superseded and m.status == "complete")
        return frozenset(call.call_id for message in gone for call in message.tool_calls)

    @property
    def waiting(self) -> list[tuple[str, str]]:
        """Id and name of each call that waits for a decision."""
        calls = [call for turn in self.turns.values() for call in turn.calls.values()]
        return [(call.call.call_id, call.call.name) for call in calls if call.status == "awaiting_approval"]

    def call(self, call_id: str) -> CallState | None:
        """The call of that id, in whatever turn."""
        calls = (call for turn in self.turns.values() for call in turn.calls.values())
        return next((call for call in calls if call.call.call_id == call_id), None)

    def decide(self, call: CallState, decision: Decision, now: datetime) -> CallState:
        """Write a decision that is still to be made.

        Args:
            call: the call, which waits.
            decision: on it.
            now: when it is made.
        """
        bound = approval_digest(call.call.name, call.call.arguments) if decision.approved else None
        decided = replace(
            call,
            status="pending" if decision.approved else "denied",
            result=decision.denial,
            decided_by=decision.by,
            decided_at=now,
            approved_sha256=bound,
        )
        next(turn for turn in self.turns.values() if call.id in turn.calls).calls[call.id] = decided
        return decided

    def release(self) -> None:
        """No turn holds the chat any more."""
        self.active, self.worker = None, None

    def apply(self, turn: RememberedTurn, entries: Sequence[Entry]) -> None:
        """Write the entries of one point.

        Args:
            turn: the turn they belong to.
            entries: in order; positions have been checked.
        """
        for entry in entries:
            match entry:
                case MessageAdded():
                    self.messages.append((entry.id, entry.message))
                case MessageRevised():
                    place = next(at for at, (key, _) in enumerate(self.messages) if key == entry.id)
                    self.messages[place] = (entry.id, entry.message)
                case MessageSuperseded():
                    self.superseded.add(entry.id)
                case HistorySuperseded():
                    self.superseded.update(key for key, _ in self.messages[entry.first :])
                case AttemptOpened() | AttemptClosed():
                    _apply_attempt(turn, entry)
                case CallOpened() | CallStarted() | CallFinished() | CallAnswered():
                    _apply_call(turn, entry)
                case TurnEnded():
                    turn.state = replace(
                        turn.state,
                        status=entry.status,
                        reason=entry.reason,
                        error_type=entry.error_type,
                        error_message=entry.error_message,
                    )
                    self.release()
                case TurnReleased():
                    turn.state = replace(turn.state, reason=RELEASED)
                    self.worker, self.lease_until = None, 0.0
                case _:
                    assert_never(entry)


def _apply_attempt(turn: RememberedTurn, entry: AttemptOpened | AttemptClosed) -> None:
    match entry:
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
        case _:
            assert_never(entry)


def _apply_call(turn: RememberedTurn, entry: CallOpened | CallStarted | CallFinished | CallAnswered) -> None:
    match entry:
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
        case _:
            assert_never(entry)
