"""What DeepSeek's models accept in Chat Completions.

Since generation 4 a model thinks unless it is told not to, wants every answer with calls back together with what it
thought, and cannot be forced to call a tool meanwhile. ``deepseek-chat`` and ``deepseek-reasoner`` are the same model
under its old names: the one never thinks, the other always does.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.providers.profiles import ProfileTable

_V4: Final = ModelProfile(
    max_output_tokens=384_000,
    forced_with_thinking=False,
    parallel_tool_calls=False,
    structured="json_object",
    thinking="effort",
    thinking_member="thinking",
    thinking_off="disabled",
    efforts=("low", "high", "max"),
    thinking_replay="field",
    required_thinking="reasoning_content",
    context_window=1_000_000,
    media=("text",),
)
_CHAT: Final = replace(
    _V4,
    forced_with_thinking=True,
    thinking="none",
    thinking_off="omit",
    efforts=(),
    thinking_replay="none",
    required_thinking=None,
)
_REASONER: Final = replace(_V4, thinking_off="never", forced_tool_choice=False)

DEEPSEEK_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType({"deepseek-chat": _CHAT, "deepseek-reasoner": _REASONER}), otherwise=_V4
)
"""By longest prefix of the model's name."""
