"""DeepSeek with its Chat Completions API."""

from __future__ import annotations

from typing import Final

from nodellm_orm.providers.models_deepseek import DEEPSEEK_PROFILES
from nodellm_orm.providers.row import Dialect, KeyRule, ProviderRow
from nodellm_orm.wire.openai_chat import OpenAIChat

DEEPSEEK: Final = ProviderRow(
    name="deepseek",
    dialects=(Dialect(wire=OpenAIChat(), profiles=DEEPSEEK_PROFILES, alias="chat"),),
    base_url="https://api.deepseek.com",
    keys=(KeyRule(env="DEEPSEEK_API_KEY"),),
    default_model="deepseek-v4-flash",
    embeds=False,
)
