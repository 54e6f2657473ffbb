"""What a response says of tokens and of why it ended, in the words of the domain."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import Pairs
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.usage import Usage
from nodellm_orm.wire.values import count_of, list_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLOCKED: Final = (
    "SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII MODEL_ARMOR IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT "
    "IMAGE_RECITATION"
)
_FAILED: Final = (
    "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS MISSING_THOUGHT_SIGNATURE MALFORMED_RESPONSE "
    "LANGUAGE NO_IMAGE IMAGE_OTHER"
)
_REASONS: Final[Mapping[str, FinishReason]] = MappingProxyType(
    {
        "STOP": FinishReason.STOP,
        "MAX_TOKENS": FinishReason.LENGTH,
        # It goes on only for who sends its token back; the same history sent again begins anew.
        "CONTINUATION": FinishReason.LENGTH,
        **dict.fromkeys(_BLOCKED.split(), FinishReason.CONTENT_FILTER),
        **dict.fromkeys(_FAILED.split(), FinishReason.ERROR),
    }
)
_MEDIA: Final = frozenset({"audio", "image", "video"})
_INPUTS: Final = ("promptTokensDetails", "toolUsePromptTokensDetails")
_OUTPUTS: Final = ("candidatesTokensDetails",)


def reason_of(finish_reason: str) -> FinishReason:
    """The finish reason that a ``finishReason`` stands for; calls do not have one of their own.

    Args:
        finish_reason: the provider's word.
    """
    return _REASONS.get(finish_reason, FinishReason.UNKNOWN)


def usage_of(value: object) -> Usage | None:
    """What a ``usageMetadata`` states.

    Tokens that a server-side tool put into the prompt are counted beside it, and thoughts beside the answer; here both
    are part of the whole. A count of zero is left out on the wire, which the total tells from one that is not known.

    Args:
        value: the member, parsed verbatim.

    Returns:
        The counts, or ``None`` where there are none.
    """
    if not isinstance(value, Pairs):
        return None
    stated = object_of(value)
    prompt, tools, answer, thoughts, total = (
        count_of(stated.get(name))
        for name in (
            "promptTokenCount",
            "toolUsePromptTokenCount",
            "candidatesTokenCount",
            "thoughtsTokenCount",
            "totalTokenCount",
        )
    )
    inputs = None if prompt is None else prompt + (tools or 0)
    if answer is None and inputs is not None and total == inputs + (thoughts or 0):
        answer = 0
    others = {**_by_medium("input", _INPUTS, stated), **_by_medium("output", _OUTPUTS, stated)}
    if tools:
        others["tool_use_prompt_tokens"] = tools
    usage = Usage(
        input_tokens=inputs,
        cached_tokens=count_of(stated.get("cachedContentTokenCount")),
        output_tokens=None if answer is None else answer + (thoughts or 0),
        reasoning_tokens=thoughts,
        other_tokens=others,
    )
    return None if usage == Usage() else usage


def _by_medium(side: str, names: tuple[str, ...], stated: Mapping[str, object]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for detail in (object_of(item) for name in names for item in list_of(stated.get(name))):
        medium, number = text_of(detail.get("modality")).lower(), count_of(detail.get("tokenCount"))
        if medium in _MEDIA and number:
            name = f"{side}_{medium}_tokens"
            counts[name] = counts.get(name, 0) + number
    return counts
