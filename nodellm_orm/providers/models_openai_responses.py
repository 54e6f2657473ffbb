"""What the generations of OpenAI's models accept in the Responses format.

It is what they accept in Chat Completions, but for the files they read, and for the effort ``max``, which the newest
take here only.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.providers.models_openai import OPENAI_CHAT_PROFILES
from nodellm_orm.providers.profiles import ProfileTable

if TYPE_CHECKING:
    from nodellm_orm.domain.profile import ModelProfile

_MOST: Final = frozenset({"gpt-", "gpt-5.6", "gpt-6", "gpt-6-astra", "gpt-6.1-sol", "gpt-6.1-terra", "gpt-6.2"})
"""Generations that also take the effort ``max``; the first is that of names not described."""
_READ: Final = ("image", "document", "text")


def _here(prefix: str, chat: ModelProfile) -> ModelProfile:
    read = chat if "audio" in prefix else replace(chat, media=_READ)
    return replace(read, efforts=(*chat.efforts, "max")) if prefix in _MOST else read


OPENAI_RESPONSES_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType({prefix: _here(prefix, chat) for prefix, chat in OPENAI_CHAT_PROFILES.prefixes.items()}),
    otherwise=OPENAI_CHAT_PROFILES.otherwise,
)
"""By longest prefix of the model's name."""
