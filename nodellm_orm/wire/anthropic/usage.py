"""What a Messages response says of tokens and of why it ended, in the words of the domain."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.usage import Usage
from nodellm_orm.wire.anthropic.values import count_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_REASONS: Final[Mapping[str, FinishReason]] = MappingProxyType(
    {
        "end_turn": FinishReason.STOP,
        "stop_sequence": FinishReason.STOP,
        "max_tokens": FinishReason.LENGTH,
        "model_context_window_exceeded": FinishReason.LENGTH,
        "tool_use": FinishReason.TOOL_CALL,
        "refusal": FinishReason.CONTENT_FILTER,
        "pause_turn": FinishReason.PAUSE,
        # The history has been summed up and the caller may look at it; the same history sent again goes on.
        "compaction": FinishReason.PAUSE,
    }
)
_SERVER_TOOLS: Final[Mapping[str, str]] = MappingProxyType(
    {"web_search_requests": "web_searches", "web_fetch_requests": "web_fetches"}
)


def reason_of(stop_reason: str) -> FinishReason:
    """The finish reason that a ``stop_reason`` stands for.

    Args:
        stop_reason: the provider's word.
    """
    return _REASONS.get(stop_reason, FinishReason.UNKNOWN)


def usage_of(stated: Mapping[str, object]) -> Usage:
    """Token counts of a ``usage`` object.

    The API counts cached tokens beside ``input_tokens``; here they are part of them. What it does not state stays
    unknown, and of the other classes only those with tokens in them are named.

    Args:
        stated: the members of the object; of a stream, the latest of each.
    """
    details = object_of(stated.get("output_tokens_details")) or {}
    return Usage(
        input_tokens=_whole_prompt(stated),
        cached_tokens=count_of(stated.get("cache_read_input_tokens")),
        cache_write_tokens=count_of(stated.get("cache_creation_input_tokens")),
        output_tokens=count_of(stated.get("output_tokens")),
        reasoning_tokens=count_of(details.get("thinking_tokens")),
        other_tokens={name: number for name, number in _others(stated) if number},
    )


def _whole_prompt(stated: Mapping[str, object]) -> int | None:
    fresh = count_of(stated.get("input_tokens"))
    if fresh is None:
        return None
    cached = (count_of(stated.get(f"cache_{way}_input_tokens")) for way in ("read", "creation"))
    return fresh + sum(number or 0 for number in cached)


def _others(stated: Mapping[str, object]) -> Iterator[tuple[str, int | None]]:
    written = object_of(stated.get("cache_creation")) or {}
    yield "cache_write_1h_tokens", count_of(written.get("ephemeral_1h_input_tokens"))
    for name, number in (object_of(stated.get("server_tool_use")) or {}).items():
        yield _SERVER_TOOLS.get(name, name), count_of(number)
    iterations = stated.get("iterations")
    yield from _side_work(iterations if isinstance(iterations, list) else []).items()


def _side_work(iterations: list[object]) -> dict[str, int]:
    """Tokens of compactions and advisors: the totals leave them out, the bill does not."""
    totals: dict[str, int] = {}
    for members in map(object_of, iterations):
        kind = text_of(members.get("type")) if members else None
        if members is None or kind is None or kind == "message":
            continue
        for name, number in (("input", _whole_prompt(members)), ("output", count_of(members.get("output_tokens")))):
            key = f"{kind}_{name}_tokens"
            totals[key] = totals.get(key, 0) + (number or 0)
    return totals
