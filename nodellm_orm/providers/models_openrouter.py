"""What models accept behind OpenRouter, by the vendor in their names.

OpenRouter leaves out sampling that a model refuses, translates efforts, and has one object for thinking. Vendors differ
in whether thinking can be turned off, and in whether a prompt has to be marked for caching: Anthropic's routes take a
directive for the whole request, Google's a mark on the instructions, the others cache by themselves.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.providers.profiles import ProfileTable

_ROUTED: Final = ModelProfile(
    thinking="effort",
    thinking_member="reasoning",
    thinking_off="disabled",
    efforts=("minimal", "low", "medium", "high", "xhigh", "max"),
    thinking_replay="field",
    file_form="openrouter",
)
_ALWAYS: Final = replace(_ROUTED, thinking_off="never")
_ANTHROPIC: Final = replace(_ROUTED, cache_points="request")
_GOOGLE: Final = replace(_ROUTED, cache_points="instructions")
_GOOGLE_ALWAYS: Final = replace(_GOOGLE, thinking_off="never")

OPENROUTER_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType(
        {
            "anthropic/": _ANTHROPIC,
            "google/": _GOOGLE,
            "google/gemini-2.5-pro": _GOOGLE_ALWAYS,
            "google/gemini-3": _GOOGLE_ALWAYS,
            "google/gemini-4": _GOOGLE_ALWAYS,
            **{f"openai/o{digit}": _ALWAYS for digit in range(1, 10)},
            "openai/gpt-5": _ALWAYS,
            "openai/gpt-5-chat": _ROUTED,
            "openai/gpt-5.": _ROUTED,
            "openai/gpt-6-astra": _ALWAYS,
            "openai/gpt-6.1-sol": _ALWAYS,
            "openai/gpt-6.2": _ALWAYS,
            "openai/gpt-oss": _ALWAYS,
            "deepseek/deepseek-r1": _ALWAYS,
            "minimax/minimax-m": _ALWAYS,
            "moonshotai/kimi-k3": _ALWAYS,
            "x-ai/grok-4": _ALWAYS,
            "x-ai/grok-4-fast": _ROUTED,
            "x-ai/grok-4.1-fast": _ROUTED,
            "x-ai/grok-4.3": _ROUTED,
        }
    ),
    otherwise=_ROUTED,
)
"""By longest prefix of the model's name."""
