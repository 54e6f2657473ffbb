"""Where a chat is cut when it is forked, as the journal is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from uuid import UUID

    from nodellm_orm.ports.states import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The place up to which a branch copies its parent, and the state that its caller believes the parent to be in."""

    chat_id: UUID
    """The parent."""
    owner: str | None
    last: int | None
    """Position of the last message that is copied; ``None``: none is."""
    fence: int
    """With ``step``, of the snapshot that the place was chosen by: when the parent moved on since, it is outdated."""
    step: int

    @property
    def length(self) -> int:
        """Messages that are copied."""
        return 0 if self.last is None else self.last + 1


def branch_of(found: Snapshot, parent: UUID) -> Snapshot:
    """A chat that was found under the id of a branch to be.

    Args:
        found: the chat.
        parent: whose branch it was to be.

    Raises:
        ConfigurationError: it is no branch of that chat.
    """
    if found.head.parent_chat_id != parent:
        msg = f"chat {found.head.id} is there already and no branch of chat {parent}; choose another id, or none"
        raise ConfigurationError(msg)
    return found
