"""Token counts of Chat Completions and its look-alikes in our convention; what makes no sense is unknown, never 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import Pairs
from nodellm_orm.domain.usage import Usage
from nodellm_orm.wire.values import amount_of, count_of, object_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

_TICKS: Final = -10
"""xAI counts money in ten-thousand-millionths of a dollar: powers of ten to shift by."""
_OTHER: Final = (
    ("prompt_tokens_details", "audio_tokens", "input_audio_tokens"),
    ("prompt_tokens_details", "image_tokens", "input_image_tokens"),
    ("prompt_tokens_details", "video_tokens", "input_video_tokens"),
    ("completion_tokens_details", "audio_tokens", "output_audio_tokens"),
    ("completion_tokens_details", "image_tokens", "output_image_tokens"),
    ("server_tool_use_details", "web_search_requests", "web_searches"),
)


def usage_of(value: object) -> Usage | None:
    """What a ``usage`` member states.

    Args:
        value: the member, parsed verbatim.

    Returns:
        The counts, or ``None`` where there are none.
    """
    if not isinstance(value, Pairs):
        return None
    members = object_of(value)
    prompt, completion = (object_of(members.get(f"{name}_tokens_details")) for name in ("prompt", "completion"))
    reasoning = count_of(completion.get("reasoning_tokens"))
    inputs, outputs = _totals(members, audio=count_of(prompt.get("audio_tokens")) or 0, reasoning=reasoning or 0)
    cached = _first_count(
        prompt.get("cached_tokens"), members.get("prompt_cache_hit_tokens"), members.get("num_cached_tokens")
    )
    usage = Usage(
        input_tokens=inputs,
        cached_tokens=_within(cached, inputs),
        cache_write_tokens=_within(count_of(prompt.get("cache_write_tokens")), inputs),
        output_tokens=outputs,
        reasoning_tokens=_within(reasoning, outputs),
        other_tokens=_others(members),
        reported_cost=_cost(members),
    )
    return None if usage == Usage() else usage


def _totals(members: Mapping[str, object], *, audio: int, reasoning: int) -> tuple[int | None, int | None]:
    """The whole prompt and the whole answer; both unknown where they contradict the stated total.

    Most prompts contain their audio and most answers their reasoning. Mistral counts audio, and xAI reasoning, beside
    them, which only the total gives away.
    """
    inputs, outputs = count_of(members.get("prompt_tokens")), count_of(members.get("completion_tokens"))
    if not inputs:
        # No prompt is empty: a server that says so did not count.
        return None, outputs or None
    total = count_of(members.get("total_tokens"))
    if outputs is None or not total:
        return inputs, outputs
    match total - inputs - outputs:
        case 0:
            return inputs, outputs
        case missing if missing == reasoning:
            return inputs, outputs + reasoning
        case missing if missing == audio:
            return inputs + audio, outputs
        case missing if missing == audio + reasoning:
            return inputs + audio, outputs + reasoning
        case _:
            return None, None


def _within(part: int | None, whole: int | None) -> int | None:
    return part if part is not None and whole is not None and part <= whole else None


def _first_count(*values: object) -> int | None:
    return next((count for value in values if (count := count_of(value)) is not None), None)


def _others(members: Mapping[str, object]) -> dict[str, int]:
    counts = ((ours, count_of(object_of(members.get(group)).get(name))) for group, name, ours in _OTHER)
    return {ours: count for ours, count in counts if count}


def _cost(members: Mapping[str, object]) -> Decimal | None:
    cost = amount_of(members.get("cost"))
    return cost if cost is not None else amount_of(members.get("cost_in_usd_ticks"), _TICKS)
