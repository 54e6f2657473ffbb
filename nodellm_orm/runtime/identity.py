"""Names of things: ids of calls that every provider accepts, digests of what a turn was asked with."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from nodellm_orm.domain.digests import digest_of_text
from nodellm_orm.domain.jsontext import dumps, loads, loads_verbatim

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from nodellm_orm.domain.jsontext import JsonText, JsonValue
    from nodellm_orm.domain.messages import Origin
    from nodellm_orm.domain.parts import ToolCallPart
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.ambient import IdSource
    from nodellm_orm.ports.wire import ModelRequest

_ACCEPTED_EVERYWHERE = re.compile(r"[A-Za-z0-9_-]{1,40}")


def call_id_for(call: ToolCallPart, taken: AbstractSet[str], new_id: IdSource) -> str:
    """The id a call has in this chat: the provider's own where it is legal and not yet taken, else a new one.

    Args:
        call: the call as parsed.
        taken: ids already used in the chat.
        new_id: source of ids.
    """
    wanted = call.wire_id or ""
    if _ACCEPTED_EVERYWHERE.fullmatch(wanted) and wanted not in taken:
        return wanted
    return f"call_{new_id().hex}"


def texts_of(request: ModelRequest) -> tuple[str, ...]:
    """The texts whose digests `settings_digest` holds: instructions and what is told of each tool."""
    return (*request.instructions, *(told_of(tool) for tool in request.tools))


@lru_cache(maxsize=1024)
def told_of(tool: ToolSpec) -> JsonText:
    """What a model is told of a tool beside its name: a JSON object of its description and its schema.

    Args:
        tool: the tool.
    """
    return dumps({"description": tool.description, "parameters": loads_verbatim(tool.parameters)})


def settings_digest(origin: Origin, request: ModelRequest, noted: Mapping[str, JsonValue] | None = None) -> JsonText:
    """What a turn was asked with, as stored on its row: replays compare it.

    Args:
        origin: the model that is asked.
        request: what it is asked.
        noted: what is to be known of the turn beyond that.
    """
    return dumps(
        {
            "provider": origin.provider,
            "api": origin.api,
            "model": origin.model,
            "options": loads(request.settings.to_json()),
            "instructions": [digest_of_text(text) for text in request.instructions],
            "tools": {tool.name: digest_of_text(told_of(tool)) for tool in request.tools},
            **(noted or {}),
        }
    )
