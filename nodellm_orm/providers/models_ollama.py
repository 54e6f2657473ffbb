"""What the families of open models can do on an Ollama server, as far as their names say.

The server knows it better: what it refuses, it refuses with a clear error. These rows are for what it does not refuse:
an image given to a model without eyes is lost, and a model without a template for tools can still be asked for the
arguments of one in words. A model that is not described here may think, call tools and see; its profile can be changed
with ``profiles=``.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.providers.profiles import TOLERANT, ProfileTable

_UNKNOWN: Final = ModelProfile(
    forced_tool_choice=False,
    parallel_tool_calls=False,
    structured_with_tools=False,
    thinking="adaptive",
    thinking_off="disabled",
    thinking_replay="field",
    think_tags=True,
    media=("image", "text"),
    fetches_urls=False,
)
_THINKS: Final = replace(_UNKNOWN, media=("text",))
_PLAIN: Final = replace(_THINKS, thinking="none", thinking_off="omit")
_SEES: Final = replace(_PLAIN, media=("image", "text"))
_TALKS: Final = replace(_PLAIN, tools="prompted")
_LOOKS: Final = replace(_SEES, tools="prompted")
_GPT_OSS: Final = replace(_THINKS, thinking="effort", thinking_off="never", efforts=("low", "medium", "high"))

OLLAMA_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType(
        {
            "bakllava": _LOOKS,
            "codegemma": _TALKS,
            "codellama": _TALKS,
            "codestral": _TALKS,
            "command-r": _PLAIN,
            "deepseek-coder": _TALKS,
            "deepseek-r1": _THINKS,
            "deepseek-v2": _TALKS,
            "deepseek-v3": _THINKS,
            "devstral": _PLAIN,
            "devstral-small-2": _SEES,
            "gemma": _TALKS,
            "gemma3": _LOOKS,
            "gemma3:1b": _TALKS,
            "gemma3:270m": _TALKS,
            "gemma3n": _TALKS,
            "gemma4": _UNKNOWN,
            "gpt-oss": _GPT_OSS,
            "llama2": _TALKS,
            "llama3": _TALKS,
            "llama3-groq-tool-use": _PLAIN,
            "llama3.": _PLAIN,
            "llama3.2-vision": _LOOKS,
            "llama4": _SEES,
            "llava": _LOOKS,
            "magistral": _THINKS,
            "minicpm-v": _LOOKS,
            "mistral": _PLAIN,
            "mistral-small3.": _SEES,
            "mistral-small4": _UNKNOWN,
            "mixtral": _PLAIN,
            "moondream": _LOOKS,
            "phi": _TALKS,
            "phi4-mini": _PLAIN,
            "qwen2": _PLAIN,
            "qwen2.5vl": _LOOKS,
            "qwen3": _THINKS,
            "qwen3-coder": _PLAIN,
            "qwen3-vl": _UNKNOWN,
            "qwen3.": _UNKNOWN,
            "qwq": _THINKS,
            "smollm": _PLAIN,
            "smollm:": _TALKS,
            "tinyllama": _TALKS,
        }
    ),
    otherwise=_UNKNOWN,
)
"""By longest prefix of the model's name."""

OLLAMA_CHAT_PROFILES: Final = ProfileTable(
    otherwise=replace(
        TOLERANT,
        forced_tool_choice=False,
        parallel_tool_calls=False,
        thinking_off="disabled",
        efforts=("none", "low", "medium", "high"),
        thinking_replay="field",
        media=("image", "text"),
        fetches_urls=False,
    )
)
"""The same models behind the server's likeness of Chat Completions."""
