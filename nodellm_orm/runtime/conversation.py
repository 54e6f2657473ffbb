"""A chat as one process knows it: its head, its messages and the place where the next one goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import ToolCallPart, ToolResultPart
from nodellm_orm.domain.windows import EVERYTHING
from nodellm_orm.errors import ChatBusyError, ChatError
from nodellm_orm.ports.entries import (
    CallAnswered,
    CallFinished,
    HistorySuperseded,
    MessageAdded,
    MessageRevised,
    MessageSuperseded,
)
from nodellm_orm.ports.statuses import OPEN_CALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from nodellm_orm.domain.messages import Origin
    from nodellm_orm.domain.windows import Window
    from nodellm_orm.ports.ambient import IdSource
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.states import CallState, ChatHead, Snapshot, TurnState
    from nodellm_orm.ports.statuses import CallStatus
    from nodellm_orm.ports.wire import RenderCache

HeadChange: TypeAlias = "Callable[[ChatHead], ChatHead]"
"""A change of what belongs to a chat, applied to whatever is stored by then."""

_SLACK = 64
"""Rendered messages that may be kept although they are no longer part of the conversation."""
NOT_RUN = "This call was not run: the conversation went on without it."
SURPRISES = 20
"""How often in a row a chat may turn out to have changed before that is reported."""
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
    step: int = 0
    """Number of the last durable point of the turn that took the chat last."""
    since: int = 0
    """Position from which on every message is here; 0: all are."""
    window: Window = EVERYTHING
    """What it was loaded under."""
    stale: bool = False
    """Something happened that this copy may not reflect: load it again before the next turn."""
    changes: list[HeadChange] = field(default_factory=list)
    """Changes of the head that were made in this process and not saved yet; they outlive a refresh."""
    rendered_for: Origin | None = None
    rendered: RenderCache = field(default_factory=dict)
    """What the messages render to for that target."""
    call_ids: set[str] = field(default_factory=set)
    told: set[tuple[str, ...]] = field(default_factory=set)
    """Settings that models do not accept, of which the log has been told."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> Conversation:
        """A conversation as loaded."""
        conversation = cls.of_head(snapshot.head)
        conversation.refresh(snapshot)
        return conversation

    @classmethod
    def of_head(cls, head: ChatHead) -> Conversation:
        """A conversation in which nothing has been said yet, nor stored."""
        return cls(head=head, messages=[], message_ids=[], fence=0, next_position=0, last_turn=None)

    def refresh(self, snapshot: Snapshot) -> None:
        """Take over what is stored; messages this copy already has stay the same objects, with their cached bytes."""
        known = dict(zip(self.message_ids, self.messages, strict=True))
        self.head = snapshot.head
        self.message_ids = list(snapshot.message_ids)
        self.messages = [
            known[key] if key in known and (known[key] == message or not message.kept) else message
            for key, message in zip(snapshot.message_ids, snapshot.messages, strict=True)
        ]
        self.fence, self.step = snapshot.fence, snapshot.step
        self.next_position = snapshot.next_position
        self.last_turn = snapshot.last_turn
        self.since, self.window = snapshot.since, snapshot.window
        live = {call.call_id for message in self.messages for call in message.tool_calls}
        self.call_ids = live | snapshot.retired_call_ids
        self.stale = False

    def refuse_unkept(self) -> None:
        """Refuse to go on with a conversation of which only the frame was stored.

        Raises:
            ChatError: what was said is neither in the rows nor in this process.
        """
        if not all(message.kept for message in self.messages):
            msg = (
                f"what was said in chat {self.head.id} was not stored (persist=Persistence(content=False)), so it "
                "cannot be carried on from its rows; go on with the Chat object that asked, or begin a new chat"
            )
            raise ChatError(msg)

    def covers(self, window: Window) -> bool:
        """Whether all messages are here that are sent under a window.

        Args:
            window: how much is sent.
        """
        return self.since == 0 or window.within(self.window)

    @property
    def wanted(self) -> ChatHead:
        """The head with the changes that are still to be saved."""
        head = self.head
        for change in self.changes:
            head = change(head)
        return head

    def closing_messages(self, new_id: IdSource) -> list[Message]:
        """The results that a new question first gives to calls which the last turn left open."""
        last = self.last_turn
        if last is None or last.status == "completed":
            return []
        entries = answers(last.calls, self.next_position, new_id)
        return [entry.message for entry in entries if isinstance(entry, MessageAdded)]

    def saved(self, head: ChatHead, changes: Sequence[HeadChange]) -> None:
        """The head was stored, with these changes in it."""
        self.head = head
        self.changes = [change for change in self.changes if change not in changes]

    def committed(self, entries: Sequence[Entry]) -> None:
        """Move on by entries that are now durable."""
        for entry in entries:
            match entry:
                case MessageAdded():
                    self.messages.append(entry.message)
                    self.message_ids.append(entry.id)
                    self.next_position += 1
                    self._know_calls(entry.message)
                case MessageRevised():
                    self.messages[self.message_ids.index(entry.id)] = entry.message
                    self._know_calls(entry.message)
                case MessageSuperseded():
                    place = self.message_ids.index(entry.id)
                    del self.messages[place], self.message_ids[place]
                case HistorySuperseded():
                    kept = sum((message.position or 0) < entry.first for message in self.messages)
                    del self.messages[kept:], self.message_ids[kept:]
                case _:
                    pass

    def _know_calls(self, message: Message) -> None:
        if message.status == "complete":  # calls of a broken-off answer are never opened
            self.call_ids.update(call.call_id for call in message.tool_calls)

    def cache(self, origin: Origin) -> RenderCache:
        """The rendered messages for one target; those of the target before it are dropped."""
        if origin != self.rendered_for:
            self.rendered_for, self.rendered = origin, {}
        if len(self.rendered) > len(self.messages) + _SLACK:
            live = {id(message) for message in self.messages}
            self.rendered = {key: kept for key, kept in self.rendered.items() if key in live}
        return self.rendered


def changed_all_the_time(chat_id: UUID) -> ChatBusyError:
    """The error for a chat that turns out to have changed whenever it is looked at."""
    msg = f"chat {chat_id} is being changed by others all the time; try again later"
    return ChatBusyError(msg)


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
        ran, is_error = call.status in {"running", "unknown"}, call.status not in {"succeeded", "halted"}
        content = call.result
        if call.status in OPEN_CALLS or content is None:
            content, is_error = (INTERRUPTED if ran else NOT_RUN), True
        if call.status in OPEN_CALLS:
            status: CallStatus = "unknown" if ran else "skipped"
            entries.append(CallFinished(id=call.id, status=status, result=content, error="closed by a new turn"))
        message_id = new_id()
        entries.append(
            MessageAdded(id=message_id, message=result_message(call.call, content, position, is_error=is_error))
        )
        entries.append(CallAnswered(id=call.id, result_message_id=message_id))
        position += 1
    return entries
