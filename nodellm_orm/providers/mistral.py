"""Mistral with its own API, which resembles Chat Completions."""

from __future__ import annotations

from typing import Final

from nodellm_orm.providers.models_mistral import MISTRAL_PROFILES
from nodellm_orm.providers.row import Dialect, KeyRule, ProviderRow
from nodellm_orm.wire.openai_chat import OpenAIChat

MISTRAL: Final = ProviderRow(
    name="mistral",
    dialects=(Dialect(wire=OpenAIChat(), profiles=MISTRAL_PROFILES, alias="chat"),),
    base_url="https://api.mistral.ai/v1",
    keys=(KeyRule(env="MISTRAL_API_KEY"),),
    default_model="mistral-small-latest",
    embedding_model="mistral-embed",
)
