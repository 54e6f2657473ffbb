"""What the models on Amazon Bedrock accept in Converse, by family.

Claude's generations are those of its own API, with what Bedrock does otherwise. Of the other families little is written
down that is true of each of their models, so what is doubtful is left out: a choice of tool that is not known to be
obeyed, a switch for the form of the answer that is not known to exist. A model that is not described here, and the ARN
of a profile of the user's own, have the narrowest of these rules; ``profiles=`` says better where somebody knows.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.providers.models_anthropic import ANTHROPIC_PROFILES
from nodellm_orm.providers.profiles import ProfileTable
from nodellm_orm.wire.bedrock.models import foundation_model

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN: Final = ModelProfile(
    structured="none",
    forced_tool_choice=False,
    parallel_tool_calls=False,
    tool_choice_none=False,
    fetches_urls=False,
    media=("image", "document", "text"),
)
_WORDS_ONLY: Final = replace(_PLAIN, media=("document", "text"))
_SCHEMAS: Final = replace(_WORDS_ONLY, structured="json_schema")
_SEEING_SCHEMAS: Final = replace(_SCHEMAS, media=("image", "document", "text"))
_NO_TOOLS: Final = replace(_WORDS_ONLY, tools="none")
_OLDEST: Final = replace(_NO_TOOLS, system_role="user")

_NOVA: Final = replace(
    _PLAIN,
    forced_tool_choice=True,
    cache_points="instructions",
    fetches_urls=True,  # from buckets
    media=("image", "video", "document", "text"),
    context_window=300_000,
)
_NOVA_MICRO: Final = replace(_NOVA, media=("text",), fetches_urls=False, context_window=128_000)
_NOVA_PREMIER: Final = replace(_NOVA, context_window=1_000_000)
_NOVA_2: Final = replace(
    _NOVA,
    thinking="effort",
    efforts=("low", "medium", "high"),
    effort_field="reasoningConfig.maxReasoningEffort",
    sampling_with_thinking=False,
    context_window=1_000_000,
)

_LLAMA: Final = replace(_WORDS_ONLY, user_after_tool=False, context_window=128_000)
_LLAMA_SMALL: Final = replace(_LLAMA, tools="none")
_LLAMA_3: Final = replace(_LLAMA_SMALL, context_window=8192)
_LLAMA_SEEING: Final = replace(_LLAMA, media=("image", "document", "text"))

_MISTRAL: Final = replace(_WORDS_ONLY, user_after_tool=False)
_MISTRAL_SCHEMAS: Final = replace(_MISTRAL, structured="json_schema")
_MISTRAL_SEEING: Final = replace(_MISTRAL_SCHEMAS, media=("image", "document", "text"))
_PIXTRAL: Final = replace(_MISTRAL, media=("image", "document", "text"))
_VOXTRAL: Final = replace(_MISTRAL_SCHEMAS, media=("audio", "document", "text"))

_GPT: Final = replace(
    _SEEING_SCHEMAS,
    sampling=False,
    thinking="effort",
    thinking_off="disabled",
    efforts=("none", "low", "medium", "high", "xhigh"),
    effort_field="reasoning.effort",
)
_GPT_OSS: Final = replace(
    _SCHEMAS, thinking="effort", thinking_off="never", efforts=("low", "medium", "high"), context_window=128_000
)
_GROK: Final = replace(
    _PLAIN,
    thinking="effort",
    thinking_off="never",
    efforts=("low", "medium", "high", "xhigh"),
    effort_field="reasoning.effort",
)
_SWITCHED: Final = replace(_SCHEMAS, thinking="effort", thinking_off="disabled", efforts=("high",))
_GLM_5_3: Final = replace(_SWITCHED, thinking_off="never", efforts=("low", "medium", "high", "xhigh", "max"))
_QWEN: Final = replace(
    _SCHEMAS, thinking="effort", thinking_off="disabled", efforts=("low", "high"), effort_field="reasoning_config"
)
_QWEN_CODER: Final = _SCHEMAS
_QWEN_SEEING: Final = _SEEING_SCHEMAS
_ALWAYS_THINKS: Final = replace(_SCHEMAS, thinking_off="never")
_R1: Final = replace(_NO_TOOLS, thinking_off="never", context_window=128_000)

_TITAN_EMBEDDING: Final = replace(_PLAIN, embedding_form="titan", embedding_batch=1)
_COHERE_EMBEDDING: Final = replace(_PLAIN, embedding_form="cohere")


def _on_bedrock(name: str, profile: ModelProfile) -> ModelProfile:
    """A generation of Claude, as Bedrock has it."""
    oldest = name.startswith(("claude-2", "claude-instant", "claude-v2"))
    uncached = oldest or (name.startswith("claude-3") and not name.startswith(("claude-3-5", "claude-3-7")))
    late = profile.structured == "json_schema" and not name.startswith("claude-opus-4-1")
    return replace(
        profile,
        structured="json_schema" if late else "none",
        parallel_tool_calls=False,
        tools="none" if oldest else "native",
        cache_points="none" if uncached else "request",
        documents_after_tool=False,
        fetches_urls=False,
        media=("document", "text") if oldest else ("image", "document", "text"),
    )


def _claude() -> Iterator[tuple[str, ModelProfile]]:
    table = dict(ANTHROPIC_PROFILES.prefixes)
    table["claude-v2"] = table["claude-2"]
    # The first of them came before prompts were cached.
    table["claude-3-5-sonnet-20240620"] = table["claude-3-5"]
    for name, profile in table.items():
        here = _on_bedrock(name, profile)
        yield f"anthropic.{name}", replace(here, cache_points="none") if name.endswith("20240620") else here


BEDROCK_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType(
        {
            **dict(_claude()),
            "amazon.nova-": _NOVA,
            "amazon.nova-micro": _NOVA_MICRO,
            "amazon.nova-premier": _NOVA_PREMIER,
            "amazon.nova-2": _NOVA_2,
            "amazon.nova-2-multimodal-embeddings": replace(
                _PLAIN, embedding_form="nova", embedding_batch=1, embedding_dimensions="embeddingDimension"
            ),
            "amazon.titan": _OLDEST,
            "amazon.titan-embed": _TITAN_EMBEDDING,
            "amazon.titan-embed-image": replace(
                _TITAN_EMBEDDING, embedding_form="titan_image", embedding_dimensions="outputEmbeddingLength"
            ),
            "amazon.titan-embed-text-v1": replace(_TITAN_EMBEDDING, embedding_dimensions=None),
            "amazon.titan-embed-g1": replace(_TITAN_EMBEDDING, embedding_dimensions=None),
            "ai21.jamba": _WORDS_ONLY,
            "cohere.command-r": _WORDS_ONLY,
            "cohere.embed": replace(_COHERE_EMBEDDING, embedding_dimensions="output_dimension"),
            "cohere.embed-english-v3": replace(_COHERE_EMBEDDING, embedding_dimensions=None),
            "cohere.embed-multilingual-v3": replace(_COHERE_EMBEDDING, embedding_dimensions=None),
            "deepseek.r1": _R1,
            "deepseek.v3": _SWITCHED,
            "google.gemma": _SEEING_SCHEMAS,
            "meta.llama": _LLAMA_SEEING,
            "meta.llama2": replace(_LLAMA_SMALL, context_window=4096),
            "meta.llama3-": _LLAMA_3,
            "meta.llama3-1": _LLAMA,
            "meta.llama3-2": _LLAMA_SEEING,
            "meta.llama3-2-1b": _LLAMA_SMALL,
            "meta.llama3-2-3b": _LLAMA_SMALL,
            "meta.llama3-3": _LLAMA,
            "minimax.": _ALWAYS_THINKS,
            "mistral.": _MISTRAL_SCHEMAS,
            "mistral.mistral-7b": replace(_OLDEST, user_after_tool=False),
            "mistral.mixtral": replace(_OLDEST, user_after_tool=False),
            "mistral.mistral-large-24": _MISTRAL,
            "mistral.mistral-small-24": _MISTRAL,
            "mistral.mistral-large-3": _MISTRAL_SEEING,
            "mistral.ministral-3": _MISTRAL_SEEING,
            "mistral.pixtral": _PIXTRAL,
            "mistral.voxtral": _VOXTRAL,
            "moonshot": _ALWAYS_THINKS,
            "nvidia.": _SCHEMAS,
            "openai.gpt-": _GPT,
            "openai.gpt-oss": _GPT_OSS,
            "qwen.": _QWEN,
            "qwen.qwen3-coder": _QWEN_CODER,
            "qwen.qwen3-vl": _QWEN_SEEING,
            "writer.": replace(_WORDS_ONLY, user_after_tool=False, result_status=False),
            "xai.": _GROK,
            "zai.": _SWITCHED,
            "zai.glm-5.3": _GLM_5_3,
        }
    ),
    otherwise=_PLAIN,
    base=foundation_model,
)
"""By longest prefix of the model's name, without the geography of an inference profile or the rest of an ARN."""
