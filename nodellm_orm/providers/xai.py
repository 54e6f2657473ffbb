"""xAI's Grok: the Responses format, and the older Chat Completions, where it shows no thinking."""

from __future__ import annotations

from typing import Final

from nodellm_orm.providers.models_xai import XAI_PROFILES
from nodellm_orm.providers.row import Dialect, KeyRule, ProviderRow
from nodellm_orm.wire.openai_chat import OpenAIChat
from nodellm_orm.wire.openai_responses import UncountedResponses

XAI: Final = ProviderRow(
    name="xai",
    dialects=(
        Dialect(wire=UncountedResponses(), profiles=XAI_PROFILES, alias="responses"),
        Dialect(wire=OpenAIChat(), profiles=XAI_PROFILES, alias="chat"),
    ),
    base_url="https://api.x.ai/v1",
    keys=(KeyRule(env="XAI_API_KEY"),),
    default_model="grok-4.3",
)
