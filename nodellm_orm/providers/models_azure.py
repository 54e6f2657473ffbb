"""What models accept at Azure in Chat Completions, where a deployment's name is its owner's choice.

Most deployments are named after their model, and OpenAI's have the rules they have at OpenAI, without documents. Any
other name may be one of OpenAI's models too: its length is limited in the word that all of these take.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.providers.models_openai import OPENAI_CHAT_PROFILES
from nodellm_orm.providers.profiles import TOLERANT, ProfileTable

_SHOWN: Final = ("image", "audio", "text")
_UNKNOWN: Final = replace(
    TOLERANT, max_tokens_field="max_completion_tokens", requires_finish=True, think_tags=False, media=_SHOWN
)
_OTHERS: Final = replace(TOLERANT, media=("image", "text"))
_GROK: Final = ModelProfile(media=("image", "text"))

AZURE_CHAT_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType(
        {
            **{prefix: replace(found, media=_SHOWN) for prefix, found in OPENAI_CHAT_PROFILES.prefixes.items()},
            # At Azure some names are written without the point.
            "gpt-35": replace(OPENAI_CHAT_PROFILES.find("gpt-3.5-turbo"), media=_SHOWN),
            "grok-": _GROK,
            **dict.fromkeys(
                ("deepseek-", "mistral-", "ministral-", "codestral-", "llama-", "meta-", "phi-", "kimi-", "cohere-"),
                _OTHERS,
            ),
        }
    ),
    otherwise=_UNKNOWN,
)
"""By longest prefix of the deployment's name."""
