"""A chat as one process knows it: its head, its messages and the place where the next one goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import ToolCallPart, ToolResultPart
from nodellm_orm.ports.journal import OPEN_CALLS, CallAnswered, CallFinished, MessageAdded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from nodellm_orm.domain.messages import Origin
    from nodellm_orm.ports.ambient import IdSource
    from nodellm_orm.ports.journal import CallState, ChatHead, Entry, Snapshot, TurnState
    from nodellm_orm.ports.wire import RenderCache

HeadChange: TypeAlias = "Callable[[ChatHead], ChatHead]"
"""A change of what belongs to a chat, applied to whatever is stored by then."""

NOT_RUN = "This call was not run: the conversation went on without it."
INTERRUPTED = (
    "The outcome of this call is unknown: it was interrupted while it ran. It may or may not have taken effect; "
    "check before asking for it again."
)


@dataclass(slots=True)
class Conversation:
    """What a `Chat` object remembers between turns; moved on only by what has been committed."""

    head: ChatHead
    """As stored."""
    messages: list[Message]
    message_ids: list[UUID]
    fence: int
    next_position: int
    last_turn: TurnState | None
    stale: bool = False
    """Something happened that this copy may not reflect: load it again before the next turn."""
    changes: list[HeadChange] = field(default_factory=list)
    """Changes of the head that were made in this process and not saved yet; they outlive a refresh."""
    caches: dict[Origin, RenderCache] = field(default_factory=dict)
    call_ids: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, snapshot: Snapshot) -> Conversation:
        """A conversation as loaded."""
        conversation = cls(head=snapshot.head, messages=[], message_ids=[], fence=0, next_position=0, last_turn=None)
        conversation.refresh(snapshot)
        return conversation

    def refresh(self, snapshot: Snapshot) -> None:
        """Take over what is stored; messages this copy already has stay the same objects, with their cached bytes."""
        known = dict(zip(self.message_ids, self.messages, strict=True))
        self.head = snapshot.head
        self.message_ids = list(snapshot.message_ids)
        self.messages = [
            known[key] if known.get(key) == message else message
            for key, message in zip(snapshot.message_ids, snapshot.messages, strict=True)
        ]
        self.fence = snapshot.fence
        self.next_position = snapshot.next_position
        self.last_turn = snapshot.last_turn
        self.call_ids = {call.call_id for message in self.messages for call in message.tool_calls}
        self.stale = False

    @property
    def wanted(self) -> ChatHead:
        """The head with the changes that are still to be saved."""
        head = self.head
        for change in self.changes:
            head = change(head)
        return head

    def saved(self, head: ChatHead, changes: Sequence[HeadChange]) -> None:
        """The head was stored, with these changes in it."""
        self.head = head
        self.changes = [change for change in self.changes if change not in changes]

    def committed(self, entries: Sequence[Entry]) -> None:
        """Move on by entries that are now durable."""
        for entry in entries:
            if isinstance(entry, MessageAdded):
                self.messages.append(entry.message)
                self.message_ids.append(entry.id)
                self.next_position += 1
                self.call_ids.update(call.call_id for call in entry.message.tool_calls)

    def cache(self, origin: Origin) -> RenderCache:
        """The rendered messages for one target."""
        return self.caches.setdefault(origin, {})


def result_message(call: ToolCallPart, content: str, position: int, *, is_error: bool) -> Message:
    """The message that carries one call's result."""
    part = ToolResultPart(call_id=call.call_id, name=call.name, content=content, is_error=is_error)
    return Message(role="tool", parts=(part,), position=position)


def answers(
    calls: Sequence[CallState], position: int, new_id: IdSource
) -> list[CallFinished | MessageAdded | CallAnswered]:
    """Entries that answer every unanswered call of a turn that is left behind, so that the history stays valid.

    Args:
        calls: the turn's calls; finished ones keep their result, others get a text that says what is known.
        position: the chat's next free position.
        new_id: source of message ids.
    """
    entries: list[CallFinished | MessageAdded | CallAnswered] = []
    for call in sorted((c for c in calls if not c.answered), key=lambda c: c.position):
        content, is_error = call.result, call.status not in {"succeeded", "halted"}
        if call.status in OPEN_CALLS or content is None:
            ran = call.status in {"running", "unknown"}
            content, is_error = (INTERRUPTED if ran else NOT_RUN), True
            entries.append(
                CallFinished(
                    id=call.id, status="unknown" if ran else "skipped", result=content, error="closed by a new turn"
                )
            )
        message_id = new_id()
        entries.append(
            MessageAdded(id=message_id, message=result_message(call.call, content, position, is_error=is_error))
        )
        entries.append(CallAnswered(id=call.id, result_message_id=message_id))
        position += 1
    return entries
