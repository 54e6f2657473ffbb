"""What a journal says when it does not do what it was asked for: the same words from every one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.errors import ChatBusyError, ChatNotFoundError, ConfigurationError, StaleChatError

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

WORKER_STOPPED: Final = "its worker stopped, and a new turn was begun"
"""Error message of an interrupted turn in whose place another one was begun."""
WORKERS_DIED: Final = "its workers died again and again"
"""Error message of a turn that was taken over too often."""


def chat_not_found(chat_id: UUID) -> ChatNotFoundError:
    """There is no such chat; a wrong owner is told the same."""
    msg = f"there is no chat {chat_id} for this owner; check the id, and the owner it was created with"
    return ChatNotFoundError(msg)


def turn_not_found(chat_id: UUID, turn_id: UUID) -> ChatNotFoundError:
    """There is no such turn, or no such chat."""
    msg = f"there is no turn {turn_id} in a chat {chat_id} of this owner; check the ids and the owner"
    return ChatNotFoundError(msg)


def chat_busy(chat_id: UUID, turn_id: UUID | None, lease_until: datetime | None) -> ChatBusyError:
    """Another turn holds the chat."""
    msg = (
        f"chat {chat_id} is running turn {turn_id}; wait for it (wait=seconds), cancel it, "
        "or ask again when its lease has ended"
    )
    return ChatBusyError(msg, turn_id=turn_id, lease_until=lease_until)


def chat_lost(chat_id: UUID) -> StaleChatError:
    """The hold that a point was to be written under is no longer valid."""
    msg = (
        f"this worker no longer holds chat {chat_id} (another has taken over, or the turn was ended); "
        "nothing was written; load the chat again to carry on from its rows"
    )
    return StaleChatError(msg)


def chat_deleted(chat_id: UUID) -> StaleChatError:
    """The chat that a point was to be written to is gone."""
    msg = f"chat {chat_id} was deleted while its turn ran; nothing was written, nor can it be carried on"
    return StaleChatError(msg)


def no_cursor() -> ConfigurationError:
    """What was given as the place where a page begins is none."""
    msg = "after= is not a page's cursor; pass the `next` of the page before, unchanged"
    return ConfigurationError(msg)


def check_limit(limit: int) -> None:
    """Refuse a page without room.

    Args:
        limit: rows a page.

    Raises:
        ConfigurationError: the limit is below 1.
    """
    if limit < 1:
        msg = f"limit={limit} leaves no room on a page; give 1 or more"
        raise ConfigurationError(msg)
