"""xAI's Grok."""

from __future__ import annotations

from typing import Final

from nodellm_orm.providers.models_xai import XAI_CHAT_PROFILES
from nodellm_orm.providers.row import Dialect, KeyRule, ProviderRow
from nodellm_orm.wire.openai_chat import OpenAIChat

XAI: Final = ProviderRow(
    name="xai",
    dialects=(Dialect(wire=OpenAIChat(), profiles=XAI_CHAT_PROFILES, alias="chat"),),
    base_url="https://api.x.ai/v1",
    keys=(KeyRule(env="XAI_API_KEY"),),
    default_model="grok-4.3",
)
