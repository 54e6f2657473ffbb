"""The providers that need nothing but data."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from nodellm_orm.providers.models_anthropic import ANTHROPIC_PROFILES
from nodellm_orm.providers.models_bedrock import BEDROCK_PROFILES
from nodellm_orm.providers.models_gemini import GEMINI_PROFILES
from nodellm_orm.providers.models_ollama import OLLAMA_PROFILES
from nodellm_orm.providers.models_openai import OPENAI_CHAT_PROFILES
from nodellm_orm.providers.models_openai_responses import OPENAI_RESPONSES_PROFILES
from nodellm_orm.providers.profiles import TOLERANT, ProfileTable
from nodellm_orm.providers.row import Dialect, HeaderOption, KeyRule, ProviderRow
from nodellm_orm.wire.anthropic import Anthropic
from nodellm_orm.wire.bedrock import Bedrock
from nodellm_orm.wire.gemini import Gemini
from nodellm_orm.wire.ollama import Ollama
from nodellm_orm.wire.openai_chat import OpenAIChat
from nodellm_orm.wire.openai_responses import OpenAIResponses

OPENAI: Final = ProviderRow(
    name="openai",
    dialects=(
        Dialect(wire=OpenAIResponses(), profiles=OPENAI_RESPONSES_PROFILES, alias="responses"),
        Dialect(wire=OpenAIChat(), profiles=OPENAI_CHAT_PROFILES, alias="chat"),
    ),
    base_url="https://api.openai.com/v1",
    base_url_env="OPENAI_BASE_URL",
    keys=(KeyRule(env="OPENAI_API_KEY"),),
    default_model="gpt-5-mini",
    embedding_model="text-embedding-3-small",
    header_options=(
        HeaderOption(option="organization", header="openai-organization", env="OPENAI_ORG_ID"),
        HeaderOption(option="project", header="openai-project", env="OPENAI_PROJECT_ID"),
    ),
)

ANTHROPIC: Final = ProviderRow(
    name="anthropic",
    dialects=(Dialect(wire=Anthropic(), profiles=ANTHROPIC_PROFILES, alias="messages"),),
    base_url="https://api.anthropic.com",
    base_url_env="ANTHROPIC_BASE_URL",
    keys=(KeyRule(env="ANTHROPIC_API_KEY", header="x-api-key", scheme=None), KeyRule(env="ANTHROPIC_AUTH_TOKEN")),
    default_model="claude-haiku-4-5",
)

OPENAI_COMPATIBLE: Final = ProviderRow(
    # The key of OpenAI is never read here: it would be sent to somebody else's server.
    name="openai_compatible",
    dialects=(Dialect(wire=OpenAIChat(), profiles=ProfileTable(otherwise=TOLERANT), alias="chat"),),
    base_url_env="OPENAI_COMPATIBLE_BASE_URL",
    keys=(KeyRule(env="OPENAI_COMPATIBLE_API_KEY"),),
    key_required=False,
)

DIALECTS: Final = MappingProxyType(
    {
        "openai_chat": Dialect(wire=OpenAIChat(), profiles=ProfileTable(otherwise=TOLERANT), alias="chat"),
        "anthropic": Dialect(wire=Anthropic(), profiles=ANTHROPIC_PROFILES, alias="messages"),
        "gemini": Dialect(wire=Gemini(), profiles=GEMINI_PROFILES),
        "ollama": Dialect(wire=Ollama(), profiles=OLLAMA_PROFILES),
        "bedrock": Dialect(wire=Bedrock(), profiles=BEDROCK_PROFILES, alias="converse"),
        "openai_responses": Dialect(
            wire=OpenAIResponses(), profiles=ProfileTable(otherwise=TOLERANT), alias="responses"
        ),
    }
)
"""What a provider that a user registers speaks, by the name of the wire format."""
