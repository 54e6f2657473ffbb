"""What has come of a turn so far, for its reply: a fold over what was committed."""

from __future__ import annotations

import copy
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.money import add
from nodellm_orm.domain.parts import ThinkingPart
from nodellm_orm.domain.replies import Reply, Thinking, ToolCall
from nodellm_orm.domain.usage import Usage
from nodellm_orm.ports.entries import (
    AttemptClosed,
    AttemptOpened,
    CallFinished,
    CallOpened,
    MessageAdded,
    MessageRevised,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from nodellm_orm.domain.messages import Message, Origin
    from nodellm_orm.domain.ratelimit import RateLimits
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.states import CallState, TurnState
    from nodellm_orm.ports.statuses import AttemptStatus, CallStatus

WENT_WRONG: frozenset[CallStatus] = frozenset({"failed", "denied", "skipped", "unknown"})
"""Calls whose result the model reads as an error."""


def told_of(call: CallState) -> ToolCall:
    """A stored call as callers are told of it.

    Args:
        call: as stored.
    """
    return ToolCall(
        call_id=call.call.call_id,
        name=call.call.name,
        arguments=call.call.arguments,
        result=call.result,
        is_error=call.status in WENT_WRONG,
        status=call.status,
    )


class Transcript:
    """Collects the committed steps of one turn."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._calls: dict[UUID, ToolCall] = {}
        self._message: Message | None = None
        self._before_pause = ""
        self._usage = Usage()
        self._last_usage = Usage()
        self._spent: Decimal | None = None
        self._unpriced = False
        self._model: str | None = None
        self._provider: str | None = None
        self._asked: str | None = None
        self._request_ids: list[str] = []

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """All calls so far, in order."""
        return tuple(self._calls.values())

    def call(self, key: UUID) -> ToolCall:
        """One call by the id of its row."""
        return self._calls[key]

    @property
    def unpriced(self) -> bool:
        """Whether an answer came whose price is not known."""
        return self._unpriced

    def with_entries(self, entries: Iterable[Entry]) -> Transcript:
        """What it would be with further entries, which could not be committed.

        Args:
            entries: in order.
        """
        other = copy.copy(self)
        other._calls = dict(self._calls)  # noqa: SLF001 — of the same class
        other._request_ids = list(self._request_ids)  # noqa: SLF001 — of the same class
        other.committed(entries)
        return other

    @property
    def spent(self) -> Decimal:
        """US dollars spent so far, as far as known."""
        return self._spent or Decimal(0)

    def committed(self, entries: Iterable[Entry]) -> None:
        """Take in entries that are now durable.

        Args:
            entries: in order.
        """
        for entry in entries:
            match entry:
                case MessageAdded(message=message) | MessageRevised(message=message) if message.role == "assistant":
                    self._said(message)
                case AttemptOpened():
                    self._asks(entry)
                case AttemptClosed():
                    if entry.status == "ok" and entry.message_id is None:
                        self._message = None
                    self._attempted(
                        entry.status, entry.usage, entry.cost.total, model=entry.model, request_id=entry.request_id
                    )
                case CallOpened(call=call):
                    self._calls[entry.id] = ToolCall(
                        call_id=call.call_id, name=call.name, arguments=call.arguments, status=entry.status
                    )
                case CallFinished():
                    self._calls[entry.id] = replace(
                        self._calls[entry.id],
                        result=entry.result,
                        is_error=entry.status in WENT_WRONG,
                        status=entry.status,
                    )
                case _:
                    pass

    def _asks(self, attempt: AttemptOpened) -> None:
        """A model is asked; what another one called itself before is no longer its name."""
        if self._asked is not None and (self._provider, self._asked) != (attempt.provider, attempt.requested_model):
            self._model = None
        self._provider, self._asked = attempt.provider, attempt.requested_model

    def _said(self, message: Message) -> None:
        """The model's last words; those that go on after a pause continue the ones before it."""
        before = self._message
        if before is not None and before.position != message.position:
            paused = before.finish_reason is FinishReason.PAUSE
            self._before_pause = self._before_pause + before.content if paused else ""
        self._message = message

    def _attempted(
        self, status: AttemptStatus, usage: Usage, cost: Decimal | None, *, model: str | None, request_id: str | None
    ) -> None:
        """An attempt was closed: its tokens and money count, whatever came of it."""
        self._usage = self._usage + usage
        self._spent = add(self._spent, cost)
        if status == "ok":
            self._last_usage = usage
            # An answer without a price makes the turn's price unknown; a failed attempt without one cost nothing known.
            self._unpriced = self._unpriced or cost is None
        self._model = model or self._model
        if request_id:
            self._request_ids.append(request_id)

    def restore(self, state: TurnState, messages: Mapping[UUID, Message]) -> None:
        """Take over a stored turn.

        Args:
            state: the turn with its calls and attempts.
            messages: the chat's messages by id.
        """
        for call in state.calls:
            self._calls[call.id] = told_of(call)
        for attempt in state.attempts:
            self._provider = attempt.provider or self._provider
            self._attempted(
                attempt.status, attempt.usage, attempt.cost, model=attempt.model, request_id=attempt.request_id
            )
            if attempt.status == "ok" and attempt.message_id is None:
                self._message = None
            message = messages.get(attempt.message_id) if attempt.message_id is not None else None
            if message is not None:
                self._said(message)

    def reply(
        self,
        turn_id: UUID,
        finish: FinishReason,
        *,
        origin: Origin,
        halted: object = None,
        rate_limits: RateLimits | None = None,
    ) -> Reply[Any]:
        """The reply as of now.

        Args:
            turn_id: the turn.
            finish: why it stopped.
            origin: the model that is asked now; named where no attempt says which it was.
            halted: what a `ToolHalt` carried, as long as it is in this process.
            rate_limits: of the last response, likewise.
        """
        message = self._message
        content = self._before_pause + (message.content or message.refusal) if message else ""
        halt = next((call for call in self.calls if call.status == "halted"), None)
        if halt is not None:
            content = halt.result or ""
        return Reply(
            content=content,
            message=message,
            turn_id=turn_id,
            usage=self._usage,
            cost=None if self._unpriced else self._spent,
            finish_reason=finish,
            thinking=self._thinking(message),
            tool_calls=self.calls,
            model=self._model or self._asked or origin.model,
            provider=self._provider or origin.provider,
            request_ids=tuple(self._request_ids),
            value=halted if halted is not None or halt is None else halt.result,
            rate_limits=rate_limits,
        )

    def _thinking(self, message: Message | None) -> Thinking | None:
        parts = [p for p in message.parts if isinstance(p, ThinkingPart)] if message else []
        if not parts:
            return None
        return Thinking(
            text="".join(part.text for part in parts),
            signature=next((part.signature for part in parts if part.signature), None),
            tokens=self._last_usage.reasoning_tokens,
        )
