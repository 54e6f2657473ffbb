"""Lists of chats and turns as they are handed to a caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonValue

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list; iterates over its items."""

    items: tuple[T, ...]
    next: str | None = None
    """Pass it as ``after=`` for the page that follows; ``None``: this is the last one."""

    def __iter__(self) -> Iterator[T]:
        """The items in order."""
        return iter(self.items)

    def __len__(self) -> int:
        """How many items the page has."""
        return len(self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSummary:
    """A chat without its messages."""

    id: UUID
    owner: str | None
    title: str | None
    provider: str | None
    model: str | None
    metadata: Mapping[str, JsonValue]
    message_count: int
    """Messages in all, superseded ones included."""
    running: bool
    """Whether a turn holds the chat just now."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptedTurn:
    """A running turn whose worker is gone: ``load_chat`` its chat and ``resume(turn=...)``."""

    chat_id: UUID
    owner: str | None
    turn_id: UUID
    takeovers: int
    """How often it was taken over from a worker that died."""
    lease_until: datetime
