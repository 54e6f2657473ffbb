"""What Mistral's models accept.

The API refuses members that it does not know, a user's words directly after a tool's, and a system message that is not
the first. Some models think when asked, at one strength; ``magistral`` always does.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.providers.profiles import ProfileTable

_PLAIN: Final = ModelProfile(
    tool_choice_none=False,
    one_system_message=True,
    user_after_tool=False,
    named_results=True,
    call_id_length=9,
    thinking_replay="field",
    stream_usage=False,
    file_form="mistral",
    media=("image", "document", "text"),
)
_ADJUSTABLE: Final = replace(_PLAIN, thinking="effort", thinking_off="disabled", efforts=("none", "high"))
_MAGISTRAL: Final = replace(_PLAIN, thinking="adaptive", thinking_member="prompt_mode", thinking_off="never")
_VOXTRAL: Final = replace(_PLAIN, media=("audio", "text"))
_CODE: Final = replace(_PLAIN, media=("text",))
# The API counts 16 384 tokens a request, each text's own beginning among them.
_EMBEDDING: Final = replace(_PLAIN, embedding_batch=256, embedding_bytes=15_000, embedding_dimensions=None)

MISTRAL_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType(
        {
            "mistral-small": _ADJUSTABLE,
            **dict.fromkeys(("mistral-small-24", "mistral-small-25", "mistral-small-3"), _PLAIN),
            "mistral-medium": _ADJUSTABLE,
            **dict.fromkeys(
                ("mistral-medium-23", "mistral-medium-25", "mistral-medium-3-1", "mistral-medium-3.1"), _PLAIN
            ),
            "magistral": _MAGISTRAL,
            "voxtral": _VOXTRAL,
            "codestral": _CODE,
            "codestral-embed": replace(_EMBEDDING, embedding_dimensions="output_dimension"),
            "mistral-embed": _EMBEDDING,
        }
    ),
    otherwise=_PLAIN,
)
"""By longest prefix of the model's name."""
