"""The calls of one round: opened with the answer that asks for them, run, and answered together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nodellm_orm.errors import ToolError
from nodellm_orm.ports.approvals import approval_digest, listed
from nodellm_orm.ports.entries import CallAnswered, CallFinished, CallOpened, MessageAdded
from nodellm_orm.ports.workspace import NoWorkspace
from nodellm_orm.runtime.conversation import INTERRUPTED, result_message
from nodellm_orm.runtime.outcomes import ToolOutcome, failed
from nodellm_orm.runtime.toolbox import PlannedCall
from nodellm_orm.runtime.tools import ToolContext
from nodellm_orm.runtime.transcript import WENT_WRONG

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.ports.ambient import IdSource
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.states import CallState, ChatHead, TurnState
    from nodellm_orm.ports.statuses import CallStatus
    from nodellm_orm.ports.workspace import Workspace
    from nodellm_orm.runtime.plan import UnknownPolicy
    from nodellm_orm.runtime.toolbox import Toolbox

_ENDED: frozenset[CallStatus] = frozenset({"succeeded", "failed", "denied", "skipped", "halted"})
_UNKNOWN: Final = ToolOutcome(status="unknown", content=INTERRUPTED, is_error=True, error="interrupted while it ran")
_UNAPPROVED: Final = (
    "This call was not run: it needs the approval of a person, which was not asked for. Ask for it again, if it is "
    "still wanted."
)
_CHANGED: Final = (
    "This call was not run: it is no longer the call that was approved. Ask for it again, if it is still wanted."
)

_NOT_RUNNING: Final = NoWorkspace("a call that does not run has no context.session")


def settled(states: Sequence[CallState]) -> bool:
    """Whether a round has nothing left that could be done before somebody decides.

    Args:
        states: calls of a stored turn.
    """
    left = [state for state in states if not state.answered]
    waiting = [state for state in left if state.status == "awaiting_approval"]
    return bool(waiting) and all(
        state.status in _ENDED and not _never_ran(state) for state in left if state not in waiting
    )


def undecided(turn: TurnState | None) -> bool:
    """Whether a turn is one that a new question must not pass over in silence: calls of it wait, or waited.

    Args:
        turn: the last one of a chat.
    """
    if turn is None or turn.status != "suspended":
        return False
    return turn.reason == "approval" or any(call.status == "awaiting_approval" for call in turn.calls)


def what_waits(states: Sequence[CallState]) -> str:
    """What a question is refused with while calls wait, or are decided on and not carried on.

    Args:
        states: calls of the turn.
    """
    left = [state for state in states if not state.answered]
    waiting = [state for state in left if state.status == "awaiting_approval"]
    told = listed((state.call.call_id, state.call.name) for state in waiting or left)
    if waiting:
        return (
            f"calls of the last turn wait for approval: {told}; approve() or deny() them and resume(), "
            "or ask with abandon_pending=True"
        )
    return (
        f"calls of the last turn are decided on and not carried on yet: {told}; resume(), "
        "or ask with abandon_pending=True"
    )


def _never_ran(state: CallState) -> bool:
    """Whether a call was passed over when its turn ended, and is still to run."""
    return state.status == "skipped" and state.result is None


@dataclass(slots=True)
class RoundCall:
    """A call of the current round."""

    opened: CallOpened
    outcome: ToolOutcome | None = None
    recorded: bool = False
    """Its outcome is in the rows."""
    started: bool = False
    """It has run in this process, or begun to."""
    approved_by: str | None = None
    """Who let it run, where somebody had to."""
    workspace: Workspace = _NOT_RUNNING
    """Where its tool may write."""

    @property
    def waiting(self) -> bool:
        """Whether a person has to decide first."""
        return self.opened.status == "awaiting_approval"

    @property
    def refused(self) -> bool:
        """Whether it failed here before it could run."""
        return self.outcome is not None and self.outcome.status == "failed" and not (self.recorded or self.started)

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

    A call that was approved is refused when it is no longer the one that was, and so is a call that needs an approval
    and has none.

    Args:
        states: calls of one message.
        toolbox: knows which tools may run twice, and which need approval.
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
    if state.status in _ENDED and not _never_ran(state):
        outcome = ToolOutcome(
            status=state.status,
            content=state.result or "",
            is_error=state.status in WENT_WRONG,
            error=state.error,
            value=state.result if state.status == "halted" else None,
        )
        return RoundCall(opened, outcome, recorded=True)
    if status == "awaiting_approval":
        return RoundCall(opened)
    by = state.decided_by if state.approved_sha256 is not None else None
    refusal = _refusal(state, toolbox)
    if state.status in {"unknown", "running"}:
        # It may have run before: that it does not run again is no reason to say that it did not.
        reported = _unknown_outcome(state, toolbox, policy)
        return RoundCall(opened, reported if refusal is None else _UNKNOWN, approved_by=by)
    return RoundCall(opened, refusal, approved_by=by)


def _refusal(state: CallState, toolbox: Toolbox) -> ToolOutcome | None:
    """Why a call must not run, whatever its row says: what is about to run is compared with what was approved."""
    if state.approved_sha256 is None:
        tool = toolbox.get(state.call.name)
        return failed(_UNAPPROVED) if tool is not None and tool.requires_approval else None
    about_to_run = approval_digest(state.call.name, state.call.arguments)
    if about_to_run == state.approved_sha256 and not state.altered:
        return None
    return failed(_CHANGED, "its name or arguments were changed after it was approved; nothing ran")


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
    return _UNKNOWN


def planned(calls: Sequence[RoundCall], head: ChatHead, *, hooked: bool) -> list[PlannedCall]:
    """The calls as the toolbox runs them.

    Args:
        calls: those that are to run.
        head: their chat.
        hooked: whether hooks are told when one starts.
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
                approved_by=call.approved_by,
                workspace=call.workspace,
            ),
            noted=hooked or call.opened.status != "running",
        )
        for index, call in enumerate(calls)
    ]


async def discarded(calls: Sequence[RoundCall]) -> None:
    """Undo what the tools of calls have written and nobody has recorded."""
    for call in calls:
        await call.workspace.discard()


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
