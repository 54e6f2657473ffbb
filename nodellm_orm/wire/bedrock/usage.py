"""What a response says of tokens and of why it ended, in the words of the domain."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.usage import Usage
from nodellm_orm.wire.values import count_of, list_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_REASONS: Final[Mapping[str, FinishReason]] = MappingProxyType(
    {
        "end_turn": FinishReason.STOP,
        "stop_sequence": FinishReason.STOP,
        "max_tokens": FinishReason.LENGTH,
        "model_context_window_exceeded": FinishReason.LENGTH,
        "tool_use": FinishReason.TOOL_CALL,
        "guardrail_intervened": FinishReason.CONTENT_FILTER,
        "content_filtered": FinishReason.CONTENT_FILTER,
        "malformed_model_output": FinishReason.ERROR,
        "malformed_tool_use": FinishReason.ERROR,
    }
)
_AN_HOUR: Final = "1h"
_CAPITAL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def reason_of(stop_reason: str) -> FinishReason:
    """The finish reason that a ``stopReason`` stands for.

    Args:
        stop_reason: the provider's word.
    """
    return _REASONS.get(stop_reason, FinishReason.UNKNOWN)


def usage_of(stated: Mapping[str, object]) -> Usage:
    """Token counts of a ``usage`` object.

    The API counts cached tokens beside ``inputTokens``; here they are part of them. What it does not state stays
    unknown, and of the other classes only those with something in them are named.

    Args:
        stated: the members of the object.
    """
    read, written = _cached(stated, "Read"), _cached(stated, "Write")
    details = {text_of(item.get("ttl")): count_of(item.get("inputTokens")) for item in _details(stated)}
    if written is None and details:
        written = sum(number or 0 for number in details.values())
    fresh = count_of(stated.get("inputTokens"))
    others = {"cache_write_1h_tokens": details.get(_AN_HOUR), **dict(_server_tools(stated))}
    return Usage(
        input_tokens=None if fresh is None else fresh + (read or 0) + (written or 0),
        cached_tokens=read,
        cache_write_tokens=written,
        output_tokens=count_of(stated.get("outputTokens")),
        other_tokens={name: number for name, number in others.items() if number},
    )


def _cached(stated: Mapping[str, object], way: str) -> int | None:
    count = count_of(stated.get(f"cache{way}InputTokens"))
    return count_of(stated.get(f"cache{way}InputTokenCount")) if count is None else count


def _details(stated: Mapping[str, object]) -> list[dict[str, object]]:
    return [members for item in list_of(stated.get("cacheDetails")) if (members := object_of(item))]


def _server_tools(stated: Mapping[str, object]) -> Iterator[tuple[str, int | None]]:
    """How often the provider's own tools were used: ``webSearchRequests`` counts as ``web_searches``."""
    for name, number in object_of(stated.get("serverToolUsage")).items():
        plain = _CAPITAL.sub("_", name).lower()
        known = {"web_search_requests": "web_searches", "code_execution_requests": "code_executions"}
        yield known.get(plain, plain), count_of(number)
