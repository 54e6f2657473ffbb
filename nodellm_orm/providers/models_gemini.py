"""What the generations of Gemini accept in ``generateContent``.

Thinking is asked for in tokens up to generation 2.5 and in levels from 3 on, which always thinks. Generation 3 demands
the signatures of calls, and takes a schema and tools in one request. No generation has a switch for parallel calls.

A model named ``gemini-…`` that is not described here has the rules of the newest generation. Any other name belongs to
a model behind a proxy and has tolerant rules.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.providers.profiles import ProfileTable

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROXIED: Final = ModelProfile(
    parallel_tool_calls=False, thinking="effort", efforts=("low", "medium", "high"), call_signatures=True
)

_GEMINI_1_5: Final = ModelProfile(
    max_output_tokens=8192,
    parallel_tool_calls=False,
    structured_with_tools=False,
    fetches_urls=False,
    searches_by_prompt=True,
    context_window=1_048_576,
)
_GEMINI_1_5_PRO: Final = replace(_GEMINI_1_5, context_window=2_097_152)
_GEMINI_2_0: Final = _GEMINI_1_5
_FLASH_2_5: Final = replace(
    _GEMINI_2_0,
    max_output_tokens=65_536,
    thinking="budget",
    thinking_off="disabled",
    thinking_min_budget=1,
    thinking_max_budget=24_576,
)
_LITE_2_5: Final = replace(_FLASH_2_5, thinking_min_budget=512)
_PRO_2_5: Final = replace(_FLASH_2_5, thinking_off="never", thinking_min_budget=128, thinking_max_budget=32_768)
_IMAGE_2_5: Final = replace(
    _GEMINI_2_0, max_output_tokens=32_768, tools="none", structured="none", context_window=32_768
)
_SPEECH: Final = replace(
    _GEMINI_2_0, max_output_tokens=None, tools="none", structured="none", media=("text",), context_window=8192
)

_GEMINI_3: Final = ModelProfile(
    max_output_tokens=65_536,
    parallel_tool_calls=False,
    thinking="effort",
    thinking_off="never",
    efforts=("minimal", "low", "medium", "high"),
    call_signatures=True,
    context_window=1_048_576,
)
_PRO_3: Final = replace(_GEMINI_3, efforts=("low", "high"))
_THREE_LEVELS: Final = replace(_GEMINI_3, efforts=("low", "medium", "high"))
_IMAGE_3: Final = replace(
    _GEMINI_3, max_output_tokens=32_768, thinking="none", thinking_off="omit", efforts=(), tools="none"
)
_IMAGE_3_1: Final = replace(_IMAGE_3, thinking="effort", thinking_off="never", efforts=("minimal", "high"))
_GEMINI_4: Final = replace(_THREE_LEVELS, max_output_tokens=None)

_GEMMA_3: Final = ModelProfile(
    max_output_tokens=8192,
    system_role="user",
    tools="prompted",
    parallel_tool_calls=False,
    structured="none",
    fetches_urls=False,
    context_window=131_072,
    media=("image", "text"),
)
_GEMMA_4: Final = replace(
    _GEMINI_2_0, max_output_tokens=None, structured="none", context_window=262_144, media=("image", "text")
)

_EMBEDDING: Final = replace(_PROXIED, embedding_batch=100, embedding_dimensions="outputDimensionality")

_BY_PREFIX: Final[Mapping[str, ModelProfile]] = MappingProxyType(
    {
        "gemini-": _GEMINI_4,
        "gemini-1.0": replace(_GEMINI_1_5, context_window=32_768),
        "gemini-1.5": _GEMINI_1_5,
        "gemini-1.5-pro": _GEMINI_1_5_PRO,
        "gemini-2.0": _GEMINI_2_0,
        "gemini-2.5": _FLASH_2_5,
        "gemini-2.5-flash-lite": _LITE_2_5,
        "gemini-2.5-flash-image": _IMAGE_2_5,
        "gemini-2.5-flash-tts": _SPEECH,
        "gemini-2.5-flash-preview-tts": _SPEECH,
        "gemini-2.5-flash-lite-preview-tts": _SPEECH,
        "gemini-2.5-pro": _PRO_2_5,
        "gemini-2.5-pro-tts": _SPEECH,
        "gemini-2.5-pro-preview-tts": _SPEECH,
        "gemini-3": _GEMINI_3,
        "gemini-3-pro": _PRO_3,
        "gemini-3-pro-image": _IMAGE_3,
        "gemini-3.1-pro": _THREE_LEVELS,
        "gemini-3.1-flash-image": _IMAGE_3_1,
        "gemini-3.1-flash-lite-image": _IMAGE_3_1,
        "gemini-3.1-flash-tts": _SPEECH,
        "gemini-3.7-flash": _THREE_LEVELS,
        "gemini-3.8": _THREE_LEVELS,
        "gemini-3.8-flash-tts": _SPEECH,
        "gemini-3.8-flash-lite-tts": _SPEECH,
        "gemini-4": _GEMINI_4,
        "gemini-embedding": _EMBEDDING,
        "text-embedding": _EMBEDDING,
        "gemma-": _GEMMA_4,
        "gemma-2": _GEMMA_3,
        "gemma-3": _GEMMA_3,
    }
)

GEMINI_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType({**_BY_PREFIX, **{f"models/{prefix}": found for prefix, found in _BY_PREFIX.items()}}),
    otherwise=_PROXIED,
)
"""By longest prefix of the model's name, with or without ``models/`` before it."""
