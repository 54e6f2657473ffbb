"""What the generations of Grok accept, in Responses and in Chat Completions alike.

Sampling stays legal while they think, and thoughts are summed up unasked. Documents would have to be uploaded first.
Names older than 4.3 lead to 4.3. A name ``grok-…`` that is not described here has the rules of the newest generation.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.providers.profiles import TOLERANT, ProfileTable

_PLAIN: Final = ModelProfile(media=("image", "text"), thinking_summaries=False)
_GROK_4_3: Final = replace(
    _PLAIN, thinking="effort", thinking_off="disabled", efforts=("none", "low", "medium", "high")
)
_GROK_3_MINI: Final = replace(_GROK_4_3, efforts=("none", "low", "high"))
_GROK_4_5: Final = replace(_GROK_4_3, thinking_off="never", efforts=("low", "medium", "high"))
_GROK_4_7: Final = replace(_GROK_4_5, efforts=("low", "medium", "high", "xhigh"))

XAI_PROFILES: Final = ProfileTable(
    prefixes=MappingProxyType(
        {
            "grok-": _GROK_4_7,
            **dict.fromkeys(("grok-2", "grok-4.20", "grok-code"), _PLAIN),
            **dict.fromkeys(("grok-latest", "grok-3", "grok-4", "grok-4.3"), _GROK_4_3),
            "grok-3-mini": _GROK_3_MINI,
            **dict.fromkeys(("grok-4.5", "grok-4.6", "grok-build"), _GROK_4_5),
            "grok-4.7": _GROK_4_7,
            "grok-4.8": _GROK_4_7,
            "grok-4.9": _GROK_4_7,
        }
    ),
    otherwise=replace(TOLERANT, requires_finish=True, think_tags=False, thinking_summaries=False),
)
"""By longest prefix of the model's name."""
