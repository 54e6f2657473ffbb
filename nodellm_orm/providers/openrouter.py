"""OpenRouter: models of many vendors under one key."""

from __future__ import annotations

from typing import Final

from nodellm_orm.providers.models_openrouter import OPENROUTER_PROFILES
from nodellm_orm.providers.row import Dialect, HeaderOption, KeyRule, ProviderRow
from nodellm_orm.wire.openai_chat import OpenAIChat

OPENROUTER: Final = ProviderRow(
    name="openrouter",
    dialects=(Dialect(wire=OpenAIChat(), profiles=OPENROUTER_PROFILES, alias="chat"),),
    base_url="https://openrouter.ai/api/v1",
    keys=(KeyRule(env="OPENROUTER_API_KEY"),),
    default_model="openai/gpt-5-mini",
    embedding_model="openai/text-embedding-3-small",
    # Who asks, for OpenRouter's public statistics; nothing is sent unless it is given.
    header_options=(
        HeaderOption(option="app_url", header="http-referer", env="OPENROUTER_APP_URL"),
        HeaderOption(option="app_title", header="x-title", env="OPENROUTER_APP_TITLE"),
    ),
)
