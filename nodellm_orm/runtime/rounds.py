"""The calls of one round: opened with the answer that asks for them, run, and answered together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nodellm_orm.errors import ToolError
from nodellm_orm.ports.journal import CallAnswered, CallFinished, CallOpened, MessageAdded
from nodellm_orm.runtime.conversation import INTERRUPTED, result_message
from nodellm_orm.runtime.outcomes import ToolOutcome
from nodellm_orm.runtime.toolbox import PlannedCall
from nodellm_orm.runtime.tools import ToolContext
from nodellm_orm.runtime.transcript import WENT_WRONG

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.ports.ambient import IdSource
    from nodellm_orm.ports.journal import CallState, CallStatus, ChatHead, Entry
    from nodellm_orm.runtime.plan import UnknownPolicy
    from nodellm_orm.runtime.toolbox import Toolbox

_ENDED: frozenset[CallStatus] = frozenset({"succeeded", "failed", "denied", "skipped", "halted"})


@dataclass(slots=True)
class RoundCall:
    """A call of the current round."""

    opened: CallOpened
    outcome: ToolOutcome | None = None
    recorded: bool = False
    """Its outcome is in the rows."""
    started: bool = False
    """It has run in this process, or begun to."""

    @property
    def waiting(self) -> bool:
        """Whether a person has to decide first."""
        return self.opened.status == "awaiting_approval"

    @property
    def result(self) -> ToolOutcome:
        """The outcome of a call that has ended."""
        if self.outcome is None:
            msg = f"call {self.opened.call.call_id} has no outcome yet"
            raise AssertionError(msg)
        return self.outcome

    def finished(self) -> CallFinished:
        """The entry that records the outcome."""
        outcome = self.result
        return CallFinished(id=self.opened.id, status=outcome.status, result=outcome.content, error=outcome.error)

    def interrupted(self) -> CallFinished:
        """The entry for a call that was stopped while it ran, or never came to run."""
        if not self.started:
            return CallFinished(id=self.opened.id, status="skipped", result=None, error="the turn ended before it ran")
        return CallFinished(id=self.opened.id, status="unknown", result=None, error="interrupted while it ran")


def opened_calls(
    completion: Completion, message_id: UUID, toolbox: Toolbox, new_id: IdSource, *, held_back: bool
) -> list[RoundCall]:
    """The calls of an answer, as they enter the rows.

    Args:
        completion: the answer, its calls identified.
        message_id: the message that asks for them.
        toolbox: knows which of them need approval.
        new_id: source of row ids.
        held_back: no further round is allowed: they stay pending.
    """
    calls: list[RoundCall] = []
    for position, call in enumerate(completion.tool_calls):
        tool = toolbox.get(call.name)
        status: CallStatus = "pending" if held_back else "running"
        if tool is not None and tool.requires_approval:
            status = "awaiting_approval"
        entry = CallOpened(id=new_id(), message_id=message_id, position=position, call=call, status=status)
        calls.append(RoundCall(entry))
    return calls


def restored_calls(states: Sequence[CallState], toolbox: Toolbox, policy: UnknownPolicy) -> list[RoundCall]:
    """The unanswered calls of a stored turn: ended ones keep their outcome, one of unknown outcome follows the policy.

    Args:
        states: calls of one message.
        toolbox: knows which tools may run twice.
        policy: for the others.

    Raises:
        ToolError: the policy is ``fail`` and there is such a call.
    """
    return [
        _restored(state, toolbox, policy) for state in sorted(states, key=lambda s: s.position) if not state.answered
    ]


def _restored(state: CallState, toolbox: Toolbox, policy: UnknownPolicy) -> RoundCall:
    # Whatever is to run now is started anew, so that its row says so.
    status: CallStatus = "awaiting_approval" if state.status == "awaiting_approval" else "pending"
    opened = CallOpened(
        id=state.id, message_id=state.message_id, position=state.position, call=state.call, status=status
    )
    if state.status in _ENDED and not (state.status == "skipped" and state.result is None):
        outcome = ToolOutcome(
            status=state.status,
            content=state.result or "",
            is_error=state.status in WENT_WRONG,
            error=state.error,
            value=state.result if state.status == "halted" else None,
        )
        return RoundCall(opened, outcome, recorded=True)
    if state.status in {"unknown", "running"}:
        return RoundCall(opened, _unknown_outcome(state, toolbox, policy))
    return RoundCall(opened)


def _unknown_outcome(state: CallState, toolbox: Toolbox, policy: UnknownPolicy) -> ToolOutcome | None:
    tool = toolbox.get(state.call.name)
    if policy == "retry" or (tool is not None and tool.idempotent):
        return None
    if policy == "fail":
        msg = (
            f"call {state.call.call_id} of {state.call.name} was running when its process stopped, and nobody knows "
            'what came of it; resume(unknown="report") tells the model so, resume(unknown="retry") runs it again'
        )
        raise ToolError(msg, fatal=True)
    return ToolOutcome(status="unknown", content=INTERRUPTED, is_error=True, error="interrupted while it ran")


def planned(calls: Sequence[RoundCall], head: ChatHead) -> list[PlannedCall]:
    """The calls as the toolbox runs them.

    Args:
        calls: those that are to run.
        head: their chat.
    """
    return [
        PlannedCall(
            index=index,
            call=call.opened.call,
            context=ToolContext(
                chat_id=head.id,
                owner=head.owner,
                call_id=call.opened.call.call_id,
                idempotency_key=f"{head.id}:{call.opened.call.call_id}",
            ),
        )
        for index, call in enumerate(calls)
    ]


def result_entries(calls: Sequence[RoundCall], position: int, new_id: IdSource) -> list[Entry]:
    """What was not yet recorded of the outcomes, and all results of the round as messages in call order.

    Args:
        calls: the whole round; each has its outcome.
        position: the chat's next free position.
        new_id: source of message ids.
    """
    entries: list[Entry] = [call.finished() for call in calls if not call.recorded]
    for offset, call in enumerate(sorted(calls, key=lambda c: c.opened.position)):
        outcome, message_id = call.result, new_id()
        message = result_message(call.opened.call, outcome.content, position + offset, is_error=outcome.is_error)
        entries += [
            MessageAdded(id=message_id, message=message),
            CallAnswered(id=call.opened.id, result_message_id=message_id),
        ]
    return entries
