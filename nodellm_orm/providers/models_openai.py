"""What the generations of OpenAI's models accept in Chat Completions.

Sampling parameters are refused while a model reasons. ``sampling`` is therefore off for models that reason unless told
otherwise; those that reason only when asked to take them, but not ``sampling_with_thinking``.

A model named ``gpt-…``, ``chatgpt-…``, ``o<digit>…`` or ``codex-…`` that is not described here has the rules of the
newest generation. Any other name belongs to a model behind a proxy and has tolerant rules, as `TOLERANT` has, but for
the stream's end, which a proxy of OpenAI passes on.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.providers.profiles import TOLERANT, ProfileTable

_PROXIED: Final = replace(TOLERANT, requires_finish=True, think_tags=False)

_GPT_3_5: Final = ModelProfile(
    max_tokens_field="max_completion_tokens", max_output_tokens=4096, structured="json_object", context_window=16_385
)
_GPT_4: Final = replace(_GPT_3_5, max_output_tokens=8192, structured="none", context_window=8192)
_GPT_4_TURBO: Final = replace(_GPT_3_5, context_window=128_000)
_GPT_4O: Final = replace(_GPT_4_TURBO, max_output_tokens=16_384, structured="json_schema")
_GPT_4O_FIRST: Final = replace(_GPT_4O, max_output_tokens=4096, structured="json_object")
_GPT_4O_CHAT: Final = replace(_GPT_4O, tools="none", structured="json_object")
_GPT_4O_SEARCH: Final = replace(_GPT_4O, sampling=False, tools="none")
_GPT_4_1: Final = replace(_GPT_4O, max_output_tokens=32_768, context_window=1_047_576)
_AUDIO: Final = replace(_GPT_4O, structured="none")

_REASONING: Final = ModelProfile(
    sampling=False,
    max_tokens_field="max_completion_tokens",
    max_output_tokens=100_000,
    system_role="developer",
    parallel_tool_calls=False,
    thinking="effort",
    thinking_off="never",
    efforts=("low", "medium", "high"),
    context_window=200_000,
)
_O1_FIRST: Final = replace(
    _REASONING,
    system_role="user",
    max_output_tokens=32_768,
    tools="none",
    structured="none",
    thinking="none",
    efforts=(),
    context_window=128_000,
)
_O1_MINI: Final = replace(_O1_FIRST, max_output_tokens=65_536)
_GPT_5: Final = replace(
    _REASONING,
    parallel_tool_calls=True,
    efforts=("minimal", "low", "medium", "high"),
    max_output_tokens=128_000,
    context_window=400_000,
)
_GPT_5_CHAT: Final = replace(
    _GPT_5, sampling=True, thinking="none", thinking_off="omit", efforts=(), max_output_tokens=16_384,
    context_window=128_000,
)  # fmt: skip
_GPT_5_X_CHAT: Final = replace(_GPT_5, efforts=("medium",), max_output_tokens=16_384, context_window=128_000)
_GPT_5_PRO: Final = replace(_GPT_5, efforts=("high",))
_GPT_5_X_PRO: Final = replace(_GPT_5, efforts=("medium", "high", "xhigh"))
_GPT_5_1: Final = replace(
    _GPT_5,
    sampling=True,
    sampling_with_thinking=False,
    thinking_off="omit",
    efforts=("none", "low", "medium", "high"),
)
_GPT_5_2: Final = replace(_GPT_5_1, efforts=("none", "low", "medium", "high", "xhigh"))
_GPT_5_4: Final = replace(_GPT_5_2, context_window=1_050_000)
_GPT_5_5: Final = replace(_GPT_5_4, sampling=False, thinking_off="disabled")
_ALWAYS: Final = replace(_GPT_5_5, thinking_off="never", efforts=("low", "medium", "high", "xhigh"))
_NEWEST: Final = _ALWAYS

_EMBEDDING: Final = replace(_PROXIED, embedding_batch=2048, embedding_base64=True)

OPENAI_CHAT_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType(
        {
            **dict.fromkeys(("gpt-", "chatgpt-", "codex-", *(f"o{digit}" for digit in range(1, 10))), _NEWEST),
            "gpt-3.5": _GPT_3_5,
            "gpt-4": _GPT_4,
            "gpt-4-turbo": _GPT_4_TURBO,
            "gpt-4-1106": _GPT_4_TURBO,
            "gpt-4-0125": _GPT_4_TURBO,
            "gpt-4-vision": _GPT_4_TURBO,
            "gpt-4.1": _GPT_4_1,
            "gpt-4.5": _GPT_4O,
            "gpt-4o": _GPT_4O,
            "gpt-4o-2024-05-13": _GPT_4O_FIRST,
            "gpt-4o-search": _GPT_4O_SEARCH,
            "gpt-4o-mini-search": _GPT_4O_SEARCH,
            "gpt-4o-audio": _AUDIO,
            "gpt-4o-mini-audio": _AUDIO,
            "gpt-audio": _AUDIO,
            "chatgpt-4o": _GPT_4O_CHAT,
            "o1": _REASONING,
            "o1-mini": _O1_MINI,
            "o1-preview": _O1_FIRST,
            "o3": _REASONING,
            "o4": _REASONING,
            "codex-mini": _REASONING,
            "gpt-5": _GPT_5,
            "gpt-5-chat": _GPT_5_CHAT,
            "gpt-5-pro": _GPT_5_PRO,
            "gpt-5.1": _GPT_5_1,
            "gpt-5.1-chat": _GPT_5_X_CHAT,
            "gpt-5.2": _GPT_5_2,
            "gpt-5.2-chat": _GPT_5_X_CHAT,
            "gpt-5.2-pro": _GPT_5_X_PRO,
            "gpt-5.3": _GPT_5_2,
            "gpt-5.3-chat": _GPT_5_X_CHAT,
            "gpt-5.4": _GPT_5_4,
            "gpt-5.4-pro": replace(_GPT_5_X_PRO, context_window=1_050_000),
            "gpt-5.5": _GPT_5_5,
            "gpt-5.5-pro": replace(_GPT_5_X_PRO, context_window=1_050_000),
            "gpt-5.6": _GPT_5_5,
            "gpt-6": _GPT_5_5,
            "gpt-6-astra": _ALWAYS,
            "gpt-6.1-sol": _ALWAYS,
            "gpt-6.1-terra": _GPT_5_5,
            "gpt-6.2": _NEWEST,
            "text-embedding-": _EMBEDDING,
            "text-embedding-ada": replace(_EMBEDDING, embedding_dimensions=None),
        }
    ),
    otherwise=_PROXIED,
)
"""By longest prefix of the model's name."""
