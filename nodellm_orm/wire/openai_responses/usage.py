"""What a response says of tokens and of why it ended, in the words of the domain."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.usage import Usage
from nodellm_orm.wire.openai_responses.received import COMPLETED, INCOMPLETE
from nodellm_orm.wire.values import amount_of, count_of, list_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

_TICKS: Final = -10
"""xAI counts money in ten-thousand-millionths of a dollar: powers of ten to shift by."""
_STATUSES: Final[Mapping[str, FinishReason]] = MappingProxyType(
    {
        COMPLETED: FinishReason.STOP,
        "complete": FinishReason.STOP,
        "failed": FinishReason.ERROR,
        "cancelled": FinishReason.ERROR,
    }
)
_INCOMPLETE: Final[Mapping[str, FinishReason]] = MappingProxyType(
    {"max_output_tokens": FinishReason.LENGTH, "content_filter": FinishReason.CONTENT_FILTER}
)
_SPLITS: Final[Mapping[str, str]] = MappingProxyType(
    {"ttl_30m_tokens": "cache_write_30m_tokens", "ttl_12h_tokens": "cache_write_12h_tokens"}
)
_MEDIA: Final = ("audio", "image", "video")
_SEARCHES: Final = "web_search_calls"
"""What xAI calls them; the other tools of its own keep their names."""


def reason_of(response: Mapping[str, object], status: str) -> tuple[FinishReason, str]:
    """Why an answer ended, and the provider's own word for it; calls do not have one.

    Args:
        response: the members of the whole response.
        status: its status.
    """
    if status == INCOMPLETE:
        word = text_of(object_of(response.get("incomplete_details")).get("reason"))
        return _INCOMPLETE.get(word, FinishReason.UNKNOWN), word or status
    return _STATUSES.get(status, FinishReason.UNKNOWN), status


def usage_of(response: Mapping[str, object]) -> Usage | None:
    """What a response states; the prompt includes cached and cache-write tokens, and the answer its reasoning.

    Args:
        response: the members of the whole response, parsed verbatim.

    Returns:
        The counts, or ``None`` where there are none.
    """
    stated = object_of(response.get("usage"))
    prompt, answer = (object_of(stated.get(f"{side}_tokens_details")) for side in ("input", "output"))
    # No prompt is empty: a server that says so did not count.
    inputs, outputs = count_of(stated.get("input_tokens")) or None, count_of(stated.get("output_tokens"))
    usage = Usage(
        input_tokens=inputs,
        cached_tokens=_within(prompt.get("cached_tokens"), inputs),
        cache_write_tokens=_within(prompt.get("cache_write_tokens"), inputs),
        output_tokens=outputs if inputs is not None else outputs or None,
        reasoning_tokens=_within(answer.get("reasoning_tokens"), outputs),
        other_tokens={name: count for name, count in _others(response, stated) if count},
        reported_cost=_cost(stated),
    )
    return None if usage == Usage() else usage


def _within(part: object, whole: int | None) -> int | None:
    count = count_of(part)
    return count if count is not None and whole is not None and count <= whole else None


def _others(response: Mapping[str, object], stated: Mapping[str, object]) -> Iterator[tuple[str, int | None]]:
    for side in ("input", "output"):
        details = object_of(stated.get(f"{side}_tokens_details"))
        for medium in _MEDIA:
            yield f"{side}_{medium}_tokens", count_of(details.get(f"{medium}_tokens"))
    written = object_of(object_of(stated.get("input_tokens_details")).get("cache_write_tokens_details"))
    yield from ((ours, count_of(written.get(name))) for name, ours in _SPLITS.items())
    yield from _tools(response, stated)


def _tools(response: Mapping[str, object], stated: Mapping[str, object]) -> Iterator[tuple[str, int | None]]:
    """How often the provider's own tools were used, and the tokens of those that are billed by tokens."""
    used = object_of(response.get("tool_usage"))
    counts = object_of(stated.get("server_side_tool_usage_details"))
    searches = count_of(object_of(used.get("web_search")).get("num_requests"))
    searches = count_of(counts.get(_SEARCHES)) if searches is None else searches
    yield "web_searches", _searches(response) if searches is None else searches
    yield from ((name, count_of(value)) for name, value in counts.items() if name != _SEARCHES)
    for name, value in used.items():
        members = object_of(value)
        yield from ((f"{name}_{side}", count_of(members.get(side))) for side in ("input_tokens", "output_tokens"))


def _searches(response: Mapping[str, object]) -> int:
    """The searches in the output, for servers that do not count them; opening a page found is none."""
    items = (object_of(item) for item in list_of(response.get("output")))
    calls = (object_of(item.get("action")) for item in items if item.get("type") == "web_search_call")
    return sum(action.get("type", "search") == "search" for action in calls)


def _cost(stated: Mapping[str, object]) -> Decimal | None:
    cost = amount_of(stated.get("cost"))
    return cost if cost is not None else amount_of(stated.get("cost_in_usd_ticks"), _TICKS)
