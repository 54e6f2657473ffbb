"""What the generations of Claude accept in the Messages API.

A model named ``claude-…`` that is not described here has the rules of the newest generation, which are the narrowest:
what they leave out is refused by no model. Any other name belongs to a model behind a proxy and has tolerant rules.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.providers.profiles import ProfileTable

_CLAUDE_3: Final = ModelProfile(
    default_max_tokens=4096,
    max_output_tokens=4096,
    structured="none",
    context_window=200_000,
    stream_above=21_333,  # beyond that the provider's own clients refuse to wait
    media=("image", "text"),
)
_CLAUDE_2: Final = replace(_CLAUDE_3, media=("text",))
_CLAUDE_3_5: Final = replace(
    _CLAUDE_3, default_max_tokens=8192, max_output_tokens=8192, media=("image", "document", "text")
)
_CLAUDE_3_7: Final = replace(_CLAUDE_3_5, max_output_tokens=64_000, thinking="budget")
_OPUS_4_1: Final = replace(_CLAUDE_3_7, max_output_tokens=32_000, structured="json_schema")
_OPUS_4: Final = replace(_OPUS_4_1, structured="none")
_SONNET_4: Final = _CLAUDE_3_7
_CLAUDE_4_5: Final = replace(_CLAUDE_3_7, default_max_tokens=16_384, max_output_tokens=64_000, structured="json_schema")
_OPUS_4_5: Final = replace(_CLAUDE_4_5, efforts=("low", "medium", "high"))
_CLAUDE_4_6: Final = replace(
    _CLAUDE_4_5,
    max_output_tokens=128_000,
    thinking="adaptive",
    efforts=("low", "medium", "high", "max"),
    context_window=1_000_000,
)
_CLAUDE_4_7: Final = replace(_CLAUDE_4_6, sampling=False, efforts=("low", "medium", "high", "xhigh", "max"))
_CLAUDE_5: Final = replace(_CLAUDE_4_7, thinking_off="disabled")
_SONNET_5_5: Final = replace(_CLAUDE_4_7, thinking_off="between_tools", forced_tool_choice=False)
_FABLE_5: Final = replace(_CLAUDE_4_7, thinking_off="never")
_NEWEST: Final = replace(_FABLE_5, forced_tool_choice=False)
_PROXIED: Final = ModelProfile(thinking="budget", media=("image", "document", "text"))

ANTHROPIC_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType(
        {
            "claude-": _NEWEST,
            "claude-2": _CLAUDE_2,
            "claude-instant": _CLAUDE_2,
            "claude-3": _CLAUDE_3,
            "claude-3-5": _CLAUDE_3_5,
            "claude-3-7": _CLAUDE_3_7,
            # The first models of generation 4 are named with a date right behind the 4.
            "claude-opus-4-0": _OPUS_4,
            "claude-opus-4-2": _OPUS_4,
            "claude-opus-4-1": _OPUS_4_1,
            "claude-opus-4-5": _OPUS_4_5,
            "claude-opus-4-6": _CLAUDE_4_6,
            "claude-opus-4-7": _CLAUDE_4_7,
            "claude-opus-4-8": _CLAUDE_4_7,
            "claude-opus-5": _CLAUDE_5,
            "claude-opus-5-5": _NEWEST,
            "claude-sonnet-4-0": _SONNET_4,
            "claude-sonnet-4-2": _SONNET_4,
            "claude-sonnet-4-5": _CLAUDE_4_5,
            "claude-sonnet-4-6": _CLAUDE_4_6,
            "claude-sonnet-5": _CLAUDE_5,
            "claude-sonnet-5-5": _SONNET_5_5,
            "claude-haiku-4-5": _CLAUDE_4_5,
            "claude-haiku-5": _CLAUDE_5,
            "claude-fable-5": _FABLE_5,
            "claude-fable-5-1": _NEWEST,
            "claude-fable-5-2": _NEWEST,
            "claude-mythos-5": _FABLE_5,
            "claude-mythos-5-1": _NEWEST,
            "claude-mythos-5-2": _NEWEST,
        }
    ),
    otherwise=_PROXIED,
)
"""By longest prefix of the model's name."""
