"""Ids of chats as callers give them."""

from __future__ import annotations

from uuid import UUID

from nodellm_orm.errors import ConfigurationError


def chat_id_of(value: object) -> UUID:
    """A chat's id from a UUID or its text.

    Args:
        value: as given.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(value, UUID):
        return value
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            pass
    msg = f"a chat's id is a UUID or its text, not {value!r:.60}"
    raise ConfigurationError(msg)
