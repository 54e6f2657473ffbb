"""Chats as JSON for programs: ids, times and amounts as text, everything else as it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from nodellm_orm.domain.codec import encode_parts
from nodellm_orm.domain.jsontext import loads

if TYPE_CHECKING:
    from nodellm_orm.domain.pages import ChatSummary, Page
    from nodellm_orm.store.details import ChatDetails, MessageDetails, RequestDetails
    from nodellm_orm.store.glances import Glances


def chats(page: Page[ChatSummary], glances: Glances) -> str:
    """A page of chats.

    Args:
        page: the chats.
        glances: what is shown of each.
    """
    listed = [
        {
            **{name: getattr(chat, name) for name in ("id", "owner", "title", "provider", "model")},
            "metadata": dict(chat.metadata),
            "opening": glances.by_chat[chat.id].opening,
            "messages": chat.message_count,
            "running": chat.running,
            "cost": glances.by_chat[chat.id].cost,
            "unpriced": glances.by_chat[chat.id].unpriced,
            "created_at": chat.created_at,
            "updated_at": chat.updated_at,
        }
        for chat in page
    ]
    return _text({"chats": listed, "next": page.next})


def chat(details: ChatDetails) -> str:
    """A chat in full.

    Args:
        details: the chat.
    """
    head = details.head
    return _text(
        {
            **{name: getattr(head, name) for name in ("id", "owner", "title", "provider", "model", "api")},
            "instructions": list(head.instructions),
            "settings": loads(head.settings.to_json()),
            "metadata": dict(head.metadata),
            "created_at": head.created_at,
            "updated_at": head.updated_at,
            "cost": details.cost,
            "turns": [asdict(turn) for turn in details.turns],
            "messages": [_message(message) for message in details.messages],
            "requests": [_request(request) for request in details.requests],
        }
    )


def _message(details: MessageDetails) -> dict[str, Any]:
    message = details.message
    return {
        "id": details.id,
        "turn_id": details.turn_id,
        "position": message.position,
        "role": message.role,
        "content": message.content,
        "parts": loads(encode_parts(message.parts)),
        "status": message.status,
        "finish_reason": message.finish_reason,
        "model": message.origin.model if message.origin else None,
        "provider": message.origin.provider if message.origin else None,
        "thinking": [asdict(trace) for trace in details.thinking],
        "tool_calls": [asdict(call) for call in details.calls],
        "attachments": [asdict(file) for file in details.attachments],
        "created_at": details.created_at,
        "superseded_at": details.superseded_at,
    }


def _request(details: RequestDetails) -> dict[str, Any]:
    usage = details.usage
    plain = {name: getattr(details, name) for name in details.__dataclass_fields__ if name != "usage"}
    names = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    return {**plain, **{name: getattr(usage, name) for name in names}, "other_tokens": dict(usage.other_tokens)}


def _text(value: object) -> str:
    # ASCII only: nothing in it can reach a terminal as a command, and every program can read it.
    return json.dumps(value, indent=2, default=_plain)


def _plain(value: object) -> str:
    match value:
        case UUID():
            return str(value)
        case Decimal():
            return f"{value:f}"
        case datetime():
            return value.isoformat()
        case _:
            msg = f"a {type(value).__name__} has no form in JSON"
            raise TypeError(msg)
