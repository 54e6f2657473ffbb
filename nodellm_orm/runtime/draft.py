"""The model's message of the answer that is under way: how it enters the rows, once or as it grows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nodellm_orm.domain.media import named_by_digest
from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import ToolCallPart
from nodellm_orm.ports.entries import MessageAdded, MessageRevised
from nodellm_orm.runtime.identity import call_id_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from nodellm_orm.domain.messages import Completion, Origin
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.ambient import IdSource
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.runtime.conversation import Conversation


class Draft:
    """A message that keeps its id and its place from the first time it is stored on.

    Args:
        conversation: the chat as this process knows it.
        new_id: source of ids.
    """

    def __init__(self, conversation: Conversation, new_id: IdSource) -> None:
        """Nothing is stored yet."""
        self._chat = conversation
        self._new_id = new_id
        self._growing: tuple[UUID, int] | None = None
        """Id and position of the message that holds the answer while it grows."""
        self._grown_at: float | None = None

    def committed(self, entries: Sequence[Entry]) -> None:
        """Take in entries that are now durable."""
        for entry in entries:
            match entry:
                case MessageAdded(message=message) if message.role == "assistant" and message.status == "partial":
                    self._growing = (entry.id, message.position or 0)
                case MessageRevised(message=Message(status="complete")):
                    self._growing = None
                case _:
                    pass

    def due(self, arrived: Completion | None, now: float, interval: float) -> bool:
        """Whether what has arrived is to be stored again; it then counts as stored.

        Args:
            arrived: of the answer.
            now: on the engine's clock.
            interval: seconds between two times.
        """
        self._grown_at = now if self._grown_at is None else self._grown_at
        if now - self._grown_at < interval or arrived is None:
            return False
        self._grown_at = now
        return True

    def written(self) -> None:
        """The answer is in the rows: the next one's time begins anew."""
        self._grown_at = None

    def identified(self, completion: Completion) -> Completion:
        """Give every call an id that is unique in the chat, the provider's own where that is possible.

        Where only a part of the chat was loaded, nobody knows which ids the rest has: all are new ones.

        Args:
            completion: what the model said.
        """
        taken = set(self._chat.call_ids)
        known = self._chat.since == 0
        parts: list[Part] = []
        for part in completion.parts:
            if isinstance(part, ToolCallPart):
                call_id = call_id_for(part if known else replace(part, wire_id=None), taken, self._new_id)
                taken.add(call_id)
                parts.append(replace(part, call_id=call_id))
            else:
                parts.append(part)
        return replace(completion, parts=tuple(parts))

    def entry(self, completion: Completion, origin: Origin, *, partial: bool) -> MessageAdded | MessageRevised | None:
        """How the message enters the rows; an answer without any part leaves none.

        Args:
            completion: what the model said, its calls identified.
            origin: the model.
            partial: whether it is not, or will never be, all of the answer.
        """
        if not completion.parts:
            return None
        growing = self._growing
        message = Message(
            role="assistant",
            parts=named_by_digest(completion.parts),
            status="partial" if partial else "complete",
            position=growing[1] if growing else self._chat.next_position,
            finish_reason=completion.finish_reason,
            raw_finish_reason=completion.raw_finish_reason,
            origin=origin,
        )
        tokens = completion.usage.reasoning_tokens
        if growing is not None:
            return MessageRevised(id=growing[0], message=message, thinking_tokens=tokens)
        return MessageAdded(id=self._new_id(), message=message, thinking_tokens=tokens)
