"""Which texts a turn names by their digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.domain.jsontext import JsonTextError, loads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.jsontext import JsonValue


def settings_of(text: object) -> Mapping[str, JsonValue] | None:
    """The settings of a turn; ``None`` when they are no JSON object.

    Args:
        text: as stored.
    """
    if not isinstance(text, str):
        return None
    try:
        value = loads(text)
    except JsonTextError:
        return None
    return value if isinstance(value, dict) else None


def texts_named(text: object) -> frozenset[str]:
    """Digests of the instructions and tool schemas that a turn was asked with.

    Args:
        text: the turn's settings as stored; what cannot be read names none.
    """
    settings = settings_of(text) or {}
    instructions, tools = settings.get("instructions"), settings.get("tools")
    named = [
        *(instructions if isinstance(instructions, list) else ()),
        *(tools.values() if isinstance(tools, dict) else ()),
    ]
    return frozenset(digest for digest in named if isinstance(digest, str))
