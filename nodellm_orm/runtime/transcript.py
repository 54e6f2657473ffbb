"""What has come of a turn so far, for its reply: messages, calls, tokens, money."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from nodellm_orm.domain.money import add
from nodellm_orm.domain.parts import ThinkingPart
from nodellm_orm.domain.replies import Reply, Thinking, ToolCall
from nodellm_orm.domain.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from nodellm_orm.domain.messages import FinishReason, Message, Origin
    from nodellm_orm.ports.journal import AttemptClosed, CallOpened, TurnState
    from nodellm_orm.runtime.toolbox import ToolOutcome


class Transcript:
    """Collects the committed steps of one turn."""

    def __init__(self, origin: Origin) -> None:
        """Begin with nothing.

        Args:
            origin: the model the turn is asked of.
        """
        self._origin = origin
        self._calls: dict[UUID, ToolCall] = {}
        self._message: Message | None = None
        self._usage = Usage()
        self._last_usage = Usage()
        self._cost: Decimal | None = Decimal(0)
        self._spent: Decimal | None = None
        self._model: str | None = None
        self._request_ids: list[str] = []
        self.halted: ToolOutcome | None = None

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """All calls so far, in order."""
        return tuple(self._calls.values())

    def call(self, key: UUID) -> ToolCall:
        """One call by the id of its row."""
        return self._calls[key]

    @property
    def spent(self) -> Decimal:
        """US dollars spent so far, as far as known."""
        return self._spent or Decimal(0)

    def answered(self, message: Message | None, closed: AttemptClosed) -> None:
        """An attempt was answered and recorded."""
        self._message = message or self._message
        self.attempted(closed)

    def attempted(self, closed: AttemptClosed) -> None:
        """An attempt was closed: its tokens and money count, whatever came of it."""
        if closed.status == "ok":
            self._last_usage = closed.usage
        self._usage = self._usage + closed.usage
        self._count(closed.cost.total, ok=closed.status == "ok")
        self._model = closed.model or self._model
        if closed.request_id:
            self._request_ids.append(closed.request_id)

    def _count(self, cost: Decimal | None, *, ok: bool) -> None:
        self._spent = add(self._spent, cost)
        if cost is not None and self._cost is not None:
            self._cost += cost
        elif ok:
            # An answer without a price makes the turn's price unknown; a failed attempt without one cost nothing known.
            self._cost = None

    def opened(self, calls: Sequence[CallOpened]) -> None:
        """Calls were recorded."""
        for opened in calls:
            self._calls[opened.id] = ToolCall(
                call_id=opened.call.call_id,
                name=opened.call.name,
                arguments=opened.call.arguments,
                status=opened.status,
            )

    def finished(self, key: UUID, outcome: ToolOutcome) -> None:
        """A call has its outcome."""
        self._calls[key] = replace(
            self._calls[key], result=outcome.content, is_error=outcome.is_error, status=outcome.status
        )
        if outcome.status == "halted":
            self.halted = outcome

    def restore(self, state: TurnState, messages: Sequence[Message]) -> None:
        """Take over a stored turn.

        Args:
            state: the turn with its calls and attempts.
            messages: the chat's messages.
        """
        for call in state.calls:
            self._calls[call.id] = ToolCall(
                call_id=call.call.call_id,
                name=call.call.name,
                arguments=call.call.arguments,
                result=call.result,
                is_error=call.status in {"failed", "denied", "skipped", "unknown"},
                status=call.status,
            )
        for attempt in state.attempts:
            self._usage = self._usage + attempt.usage
            self._count(attempt.cost, ok=attempt.status == "ok")
            self._model = attempt.model or self._model
            if attempt.status == "ok":
                self._last_usage = attempt.usage
            if attempt.request_id:
                self._request_ids.append(attempt.request_id)
        own = [m for m in messages if m.role == "assistant" and (m.position or 0) >= state.first_position]
        self._message = own[-1] if own else None

    def reply(self, turn_id: UUID, finish: FinishReason) -> Reply[Any]:
        """The reply as of now.

        Args:
            turn_id: the turn.
            finish: why it stopped.
        """
        message, halted = self._message, self.halted
        content = message.content or message.refusal if message else ""
        return Reply(
            content=halted.content if halted else content,
            message=message,
            turn_id=turn_id,
            usage=self._usage,
            cost=self._cost if self._request_ids or self._spent is not None else None,
            finish_reason=finish,
            thinking=self._thinking(message),
            tool_calls=self.calls,
            model=self._model or self._origin.model,
            provider=self._origin.provider,
            request_ids=tuple(self._request_ids),
            value=halted.value if halted else None,
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
