"""What models accept at Azure, where a deployment's name is its owner's choice.

Most deployments are named after their model, and OpenAI's have the rules they have at OpenAI; Chat Completions takes no
documents here. Any other name may be one of OpenAI's models too: its length is limited in the word that all of these
take.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.providers.models_openai import OPENAI_CHAT_PROFILES
from nodellm_orm.providers.models_openai_responses import OPENAI_RESPONSES_PROFILES
from nodellm_orm.providers.profiles import TOLERANT, ProfileTable

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHOWN: Final = ("image", "audio", "text")
_UNKNOWN: Final = replace(
    TOLERANT, max_tokens_field="max_completion_tokens", requires_finish=True, think_tags=False, media=_SHOWN
)
_OTHERS: Final = replace(TOLERANT, media=("image", "text"), thinking_summaries=False)
_GROK: Final = ModelProfile(media=("image", "text"), thinking_summaries=False)
_OF_OTHER_MAKERS: Final[Mapping[str, ModelProfile]] = MappingProxyType(
    {
        "grok-": _GROK,
        **dict.fromkeys(
            ("deepseek-", "mistral-", "ministral-", "codestral-", "llama-", "meta-", "phi-", "kimi-", "cohere-"),
            _OTHERS,
        ),
    }
)
_GPT_3_5: Final = "gpt-3.5-turbo"
_UNPOINTED: Final = "gpt-35"
"""At Azure that name is written without the point."""

AZURE_CHAT_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType(
        {
            **{prefix: replace(found, media=_SHOWN) for prefix, found in OPENAI_CHAT_PROFILES.prefixes.items()},
            _UNPOINTED: replace(OPENAI_CHAT_PROFILES.find(_GPT_3_5), media=_SHOWN),
            **_OF_OTHER_MAKERS,
        }
    ),
    otherwise=_UNKNOWN,
)
"""By longest prefix of the deployment's name."""

AZURE_RESPONSES_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType(
        {
            **OPENAI_RESPONSES_PROFILES.prefixes,
            _UNPOINTED: OPENAI_RESPONSES_PROFILES.find(_GPT_3_5),
            **_OF_OTHER_MAKERS,
        }
    ),
    otherwise=replace(_UNKNOWN, media=("image", "document", "text")),
)
"""The same in the Responses format."""
