"""Messages that were found, as they are handed to a caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nodellm_orm.domain.pages import Page

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from nodellm_orm.domain.messages import Role
    from nodellm_orm.domain.words import Excerpt


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMessage:
    """A message that has what was looked for."""

    chat_id: UUID
    """Its chat, for `load_chat`."""
    owner: str | None
    """Whose chat that is."""
    title: str | None
    """The chat's title; ``None`` also where it is encrypted and no key was given."""
    position: int
    """Its place in the chat, as `Message.position`."""
    role: Role
    created_at: datetime
    """When it was stored."""
    superseded: bool
    """Whether another message took its place."""
    excerpt: Excerpt
    """Where in its text the words are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMessages(Page[FoundMessage]):
    """A page of found messages: perhaps fewer than asked for, or none, while ``next`` tells that more can be read."""

    searched: int
    """How many messages were read for it."""
    encrypted: int
    """How many of those could not be read, because they are encrypted and no key was given."""
    indexed: bool
    """Whether an index was used, instead of reading on message by message."""
