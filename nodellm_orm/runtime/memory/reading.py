"""Reading the chats that are kept in memory."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from nodellm_orm.domain.labels import agrees
from nodellm_orm.domain.money import add
from nodellm_orm.domain.pages import ChatSummary, InterruptedTurn, Page
from nodellm_orm.domain.usage import Usage
from nodellm_orm.domain.windows import EVERYTHING, first_loaded, last_summary
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.refused import chat_not_found, check_limit, no_cursor, turn_not_found
from nodellm_orm.ports.states import ChatTotals, Snapshot
from nodellm_orm.runtime.memory.remembered import moment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.windows import Window
    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.states import TurnState
    from nodellm_orm.runtime.memory.remembered import RememberedChat, RememberedTurn


class MemoryReading:
    """What is kept, and how it is read.

    Args:
        clock: measures the leases and dates the chats.
    """

    def __init__(self, clock: Clock) -> None:
        """Start empty."""
        self._clock = clock
        self._chats: dict[UUID, RememberedChat] = {}

    async def load(self, chat_id: UUID, owner: Owner, *, window: Window | None = EVERYTHING) -> Snapshot:
        """See `Journal.load`."""
        return self._snapshot(self._find(chat_id, owner), window)

    def _find(self, chat_id: UUID, owner: Owner) -> RememberedChat:
        chat = self._chats.get(chat_id)
        if chat is None or (owner is not ANY_OWNER and chat.head.owner != owner):
            raise chat_not_found(chat_id)
        return chat

    def _snapshot(self, chat: RememberedChat, window: Window | None = EVERYTHING) -> Snapshot:
        last, replayed = chat.last, chat.replayed
        window = window or chat.head.settings.history_window or EVERYTHING
        messages = [message for _, message in replayed]
        first = first_loaded(messages, window, last.state.first_position if last else None)
        summary = last_summary(messages)
        known = [
            *(replayed[summary : summary + 1] if summary is not None and summary < first else ()),
            *replayed[first:],
        ]
        return Snapshot(
            head=chat.head,
            messages=tuple(message for _, message in known),
            message_ids=tuple(key for key, _ in known),
            since=messages[first].position or 0 if first else 0,
            window=window,
            fence=chat.fence,
            next_position=len(chat.messages),
            last_turn=last.view(chat.lease_until, self._clock.monotonic()) if last else None,
            step=chat.step,
            retired_call_ids=chat.retired_call_ids,
        )

    def _expired(self, chat: RememberedChat) -> bool:
        return chat.lease_until < self._clock.monotonic()

    def _with_key(self, chat: RememberedChat, key: str) -> TurnState | None:
        turns = (turn for turn in chat.turns.values() if turn.state.idempotency_key == key)
        return next((self._alone(chat, turn) for turn in turns), None)

    def _alone(self, chat: RememberedChat, turn: RememberedTurn) -> TurnState:
        """A turn that is read without its chat."""
        view = turn.view(chat.lease_until, self._clock.monotonic())
        made = {attempt.message_id for attempt in view.attempts}
        return replace(view, spoken={key: message for key, message in chat.messages if key in made})

    async def history(
        self, chat_id: UUID, owner: Owner, *, limit: int, before: int | None = None, after: int | None = None
    ) -> tuple[Message, ...]:
        """See `Journal.history`."""
        check_limit(limit)
        chat = self._find(chat_id, owner)
        page = [
            message
            for position, (key, message) in enumerate(chat.messages)
            if (before is None or position < before)
            and (after is None or position > after)
            and key not in chat.superseded
        ]
        return tuple(page[-limit:] if before is not None and after is None else page[:limit])

    async def summaries(
        self,
        owner: Owner,
        *,
        metadata: Mapping[str, JsonValue] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[ChatSummary]:
        """See `Journal.summaries`; a cursor is the id of the last chat of a page."""
        check_limit(limit)
        chats = sorted(self._chats.values(), key=lambda c: (self._summary(c).created_at, c.head.id), reverse=True)
        if after is not None:
            known = [str(chat.head.id) for chat in chats]
            if after not in known:
                raise no_cursor()
            chats = chats[known.index(after) + 1 :]
        wanted = metadata or {}
        items = [
            self._summary(chat)
            for chat in chats
            if (owner is ANY_OWNER or chat.head.owner == owner) and agrees(chat.head.metadata, wanted)
        ]
        page = tuple(items[:limit])
        return Page(items=page, next=str(page[-1].id) if len(items) > limit else None)

    def _summary(self, chat: RememberedChat) -> ChatSummary:
        head = chat.head
        return ChatSummary(
            id=head.id,
            owner=head.owner,
            title=head.title,
            provider=head.provider,
            model=head.model,
            metadata=MappingProxyType(dict(head.metadata)),
            message_count=len(chat.messages),
            running=chat.active is not None and not self._expired(chat),
            created_at=head.created_at or moment(0),
            updated_at=head.updated_at or moment(0),
        )

    async def interrupted(self, *, limit: int) -> tuple[InterruptedTurn, ...]:
        """See `Journal.interrupted`."""
        check_limit(limit)
        expired = [chat for chat in self._chats.values() if chat.active is not None and self._expired(chat)]
        return tuple(
            InterruptedTurn(
                chat_id=chat.head.id,
                owner=chat.head.owner,
                turn_id=turn_id,
                takeovers=chat.turns[turn_id].state.takeovers,
                lease_until=moment(chat.lease_until),
            )
            for chat in sorted(expired, key=lambda c: (c.lease_until, c.head.id))[:limit]
            if (turn_id := chat.active) is not None
        )

    async def turn(self, chat_id: UUID, owner: Owner, turn_id: UUID) -> TurnState:
        """See `Journal.turn`."""
        chat = self._find(chat_id, owner)
        if turn_id not in chat.turns:
            raise turn_not_found(chat_id, turn_id)
        return self._alone(chat, chat.turns[turn_id])

    async def turn_by_key(self, chat_id: UUID, owner: Owner, key: str) -> TurnState | None:
        """See `Journal.turn_by_key`."""
        return self._with_key(self._find(chat_id, owner), key)

    async def totals(self, chat_id: UUID, owner: Owner) -> ChatTotals:
        """See `Journal.totals`."""
        attempts = [a for turn in self._find(chat_id, owner).turns.values() for a in turn.attempts.values()]
        usage, cost = Usage(), None
        for attempt in attempts:
            usage, cost = usage + attempt.usage, add(cost, attempt.cost)
        return ChatTotals(
            requests=len(attempts),
            failures=sum(a.status == "failed" for a in attempts),
            unpriced=sum(a.cost is None for a in attempts),
            usage=usage,
            cost=cost,
        )
