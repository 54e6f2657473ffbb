"""Which part of a conversation a turn takes the place of, and where a branch of it may begin: decisions on messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from nodellm_orm.domain.messages import Message, asked_of
from nodellm_orm.domain.windows import is_summary
from nodellm_orm.errors import ChatError, ConfigurationError
from nodellm_orm.ports.branches import Cut
from nodellm_orm.ports.entries import HistorySuperseded, MessageAdded
from nodellm_orm.runtime.conversation import answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodellm_orm.ports.ambient import IdSource
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.states import Snapshot, TurnState
    from nodellm_orm.runtime.conversation import Conversation
    from nodellm_orm.runtime.plan import Plan

Place: TypeAlias = Message | int
"""A message of a chat, or its position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What a turn takes the place of: the answer to the last question, or a question and all that came of it."""

    edited: Place | None = None
    """The question that is asked in other words; ``None``: the last one is asked again as it is."""

    def kept(self, messages: Sequence[Message]) -> int | None:
        """How many of the messages stay; ``None`` when the question is not among them.

        Args:
            messages: of the conversation, without superseded ones.
        """
        if self.edited is None:
            return max((n for n, message in enumerate(messages, 1) if _asks(message)), default=None)
        found = index_of(messages, self.edited)
        return found if found is not None and _asks(messages[found]) else None

    def within(self, chat: Conversation) -> bool:
        """Whether everything is here that the revised conversation is made of.

        Args:
            chat: the conversation as it stands; loaded under a window, it may lack what moves into that.
        """
        return self.kept(chat.messages) is not None and (self.edited is None or chat.since == 0)

    def missing(self, messages: Sequence[Message]) -> ChatError | ConfigurationError:
        """The error for a conversation that has no such question.

        Args:
            messages: of the conversation.
        """
        if self.edited is None:
            return ChatError("the chat has no question to answer anew; ask first")
        if _strange(messages, self.edited):
            return ConfigurationError(f"edit() takes a user's message of this chat, and {_STRANGER}")
        asked = [str(message.position) for message in messages if _asks(message)]
        which = f"at position {position_of(self.edited)}" if position_of(self.edited) is not None else "of that value"
        msg = (
            f"edit() takes a user's message of this chat that was not superseded, and there is none {which}; "
            f"their positions are: {', '.join(asked) or 'none, ask first'}"
        )
        return ConfigurationError(msg)

    @property
    def digested(self) -> str:
        """What an idempotency key stands for beside the words: which question it was used on."""
        return "regenerate" if self.edited is None else f"edit {position_of(self.edited)}"


_STRANGER: Final = "the one that was given is none as it is now; take it from chat.messages, or give its position"


def _strange(messages: Sequence[Message], place: Place) -> bool:
    """Whether a message stands in for another one that has its position here, or has none at all."""
    if not isinstance(place, Message):
        return False
    return place.position is None or any(m.position == place.position and m != place for m in messages)


def _asks(message: Message) -> bool:
    return message.role == "user" and not is_summary(message)


def opened(
    plan: Plan, chat: Conversation, closing: Sequence[Entry], new_id: IdSource
) -> tuple[list[Entry], list[Message]]:
    """What a turn begins with: entries that revise the conversation and add the question, and what is then sent.

    Args:
        plan: what is asked; the question that it revises is there.
        chat: the conversation as it stands.
        closing: entries that first close what the last turn left open.
        new_id: source of message ids.
    """
    results = [entry.message for entry in closing if isinstance(entry, MessageAdded)]
    conversation = [*chat.messages, *results]
    entries: list[Entry] = []
    kept = None if plan.revision is None else plan.revision.kept(chat.messages)
    if kept is not None and kept < len(conversation):
        entries.append(HistorySuperseded(first=conversation[kept].position or 0))
        del conversation[kept:]
    if plan.parts:
        asked = asked_of(plan.model.origin, plan.parts, chat.next_position + len(results))
        entries.append(MessageAdded(id=new_id(), message=asked))
        conversation.append(asked)
    return entries, conversation


def checked_place(name: str, place: object) -> Place:
    """A message or a position, as a caller gave it.

    Args:
        name: of the argument.
        place: as given.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(place, Message) or (isinstance(place, int) and not isinstance(place, bool)):
        return place
    msg = f"{name} is a Message of this chat or its position, such as chat.messages[2], not {type(place).__name__}"
    raise ConfigurationError(msg)


def position_of(place: Place) -> int | None:
    """The position that is meant.

    Args:
        place: a message or its position.
    """
    return place.position if isinstance(place, Message) else place


def index_of(messages: Sequence[Message], place: Place) -> int | None:
    """Where a message is among others; one of another chat that has its position is not meant.

    Args:
        messages: of a conversation.
        place: one of them, or its position.
    """
    position = position_of(place)
    found = next((n for n, message in enumerate(messages) if message.position == position), None)
    if found is None or position is None or (isinstance(place, Message) and messages[found] != place):
        return None
    return found


# ── branches ──────────────────────────────────────────────────────────────────────────────────────────────────────


def cut_at(parent: Snapshot, at: Place | None, new_id: IdSource) -> tuple[Cut, list[Entry]]:
    """Where a branch leaves its parent, and what first closes the calls that the parent has left open there.

    Args:
        parent: the chat as stored.
        at: the last message of the branch; ``None``: the last that can be.
        new_id: source of message ids.

    Raises:
        ConfigurationError: there is no such message, or it lies between a call and its last result.
    """
    messages, last = settled(parent.messages, parent.last_turn), parent.last_turn
    closed = _closed(messages)
    running = last is not None and last.status == "running" and not last.expired
    if at is None:
        end = len(messages) if not running else max((n for n, ends in enumerate(closed, 1) if ends), default=0)
    else:
        end = _end(messages, at)
    entries: list[Entry] = []
    position = messages[end - 1].position if end else None
    if end and not closed[end - 1]:
        if end < len(messages) or running or last is None:
            raise _inside(messages, closed, end - 1)
        entries = [*answers(last.calls, (position or 0) + 1, new_id)]
    head = parent.head
    cut = Cut(chat_id=head.id, owner=head.owner, last=position, fence=parent.fence, step=parent.step)
    return cut, entries


def settled(messages: Sequence[Message], last: TurnState | None) -> Sequence[Message]:
    """The messages without an answer that is still growing.

    Args:
        messages: of the conversation.
        last: its last turn.
    """
    running = last is not None and last.status == "running" and not last.expired
    if not running or last is None or not messages:
        return messages
    end = messages[-1]
    growing = end.role == "assistant" and end.status == "partial" and (end.position or 0) >= last.first_position
    return messages[:-1] if growing else messages


def _closed(messages: Sequence[Message]) -> list[bool]:
    """Whether all calls have their results, after each of the messages."""
    waiting: set[str] = set()
    closed: list[bool] = []
    for message in messages:
        waiting -= {result.call_id for result in message.tool_results}
        if message.status == "complete":  # calls of a broken-off answer are never opened
            waiting |= {call.call_id for call in message.tool_calls}
        closed.append(not waiting)
    return closed


def _end(messages: Sequence[Message], at: Place) -> int:
    found = index_of(messages, at)
    if found is None and _strange(messages, at):
        msg = f"fork(at=) takes a message of this chat, and {_STRANGER}"
        raise ConfigurationError(msg)
    if found is None:
        position = position_of(at)
        there = f"they are from {messages[0].position} to {messages[-1].position}" if messages else "there are none"
        msg = (
            f"fork(at=) takes a message of this chat that was not superseded, or its position, and {position} is none; "
            f"{there}"
        )
        raise ConfigurationError(msg)
    return found + 1


def _inside(messages: Sequence[Message], closed: Sequence[bool], index: int) -> ConfigurationError:
    """The error for a place between a call and its last result."""
    before = next((messages[n].position for n in range(index, -1, -1) if closed[n]), None)
    after = next((messages[n].position for n in range(index, len(messages)) if closed[n]), None)
    places = [f"{before}, before them"] if before is not None else []
    places += [f"{after}, behind their results"] if after is not None else []
    msg = (
        f"message {messages[index].position} lies between calls of tools and their results, where no conversation can "
        f"go on; fork at {' or at '.join(places) or 'another message'}"
    )
    return ConfigurationError(msg)
