"""Decisions on calls that wait for a person: what is decided, what it is bound to, and when it is still to be made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.errors import ChatError, ChatNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.ports.states import CallState

_SHOWN: Final = 10
"""Calls that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What somebody decided on one call."""

    call_id: str
    """The call's id within its chat."""
    denial: str | None = None
    """What the model reads instead of a result; ``None``: the call is approved."""
    by: str | None = None
    """Who decided."""

    @property
    def approved(self) -> bool:
        """Whether the call may run."""
        return self.denial is None


def approval_digest(name: str, arguments: JsonText) -> str:
    """What an approval is bound to: SHA-256 of a call's name and the exact text of its arguments, in hexadecimal.

    Args:
        name: of the tool.
        arguments: as received; one blank more is another call.
    """
    return hashlib.sha256(encode(dumps([name, arguments]))).hexdigest()


def to_decide(call: CallState, decision: Decision) -> bool:
    """Whether a decision is still to be made; ``False``: the same one was made before, and stands.

    Args:
        call: as stored.
        decision: on it.

    Raises:
        ChatError: the other decision was made, the call never waited, or it was changed since it was asked for.
    """
    told = f"call {call.call.call_id} of {call.call.name}"
    before = _before(call)
    if before is not None:
        if before == decision.approved:
            return False
        verdict = "approved" if before else "denied"
        msg = f"{told} was {verdict}{_whereabouts(call)}; a decision is not taken back; go on with resume()"
        raise ChatError(msg)
    if call.status != "awaiting_approval":
        msg = f"{told} does not wait for a decision (it is {call.status}); choose one of chat.pending_approvals"
        raise ChatError(msg)
    if decision.approved and call.altered:
        msg = (
            f"{told} cannot be approved: its row and the message that asks for it no longer say the same, so that it "
            "is not known what would be approved; deny() it, and let the model ask again"
        )
        raise ChatError(msg)
    return True


def decided_so(call: CallState, decision: Decision) -> bool:
    """Whether exactly this was decided on a call, by whomever.

    Args:
        call: as stored.
        decision: on it.
    """
    return _before(call) == decision.approved


def _before(call: CallState) -> bool | None:
    """The decision that was made: whether the call was approved; ``None``: there is none."""
    if call.approved_sha256 is not None:
        return True
    return False if call.status == "denied" else None


def _whereabouts(call: CallState) -> str:
    by = f" by {call.decided_by}" if call.decided_by is not None else ""
    return by if call.decided_at is None else f"{by} at {call.decided_at.isoformat(timespec='seconds')}"


def listed(calls: Iterable[tuple[str, str]]) -> str:
    """Calls as a message names them.

    Args:
        calls: id and name of each.
    """
    named = [f"{call_id} ({name})" for call_id, name in calls]
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return ", ".join(named[:_SHOWN]) + more


def no_such_call(chat_id: UUID, call_id: str, waiting: Iterable[tuple[str, str]]) -> ChatNotFoundError:
    """The error for a call that the chat does not have.

    Args:
        chat_id: the chat.
        call_id: as asked for.
        waiting: id and name of each call that waits for a decision.
    """
    told = listed(waiting)
    remedy = f"these wait for a decision: {told}" if told else "no call of it waits for a decision; check both ids"
    msg = f"chat {chat_id} has no call {call_id[:64]!a}; {remedy}"
    return ChatNotFoundError(msg)
