"""What OpenAI's models accept in the Responses format, beside what they accept in Chat Completions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.providers.models_openai import OPENAI_CHAT_PROFILES
from nodellm_orm.providers.models_openai_responses import OPENAI_RESPONSES_PROFILES

if TYPE_CHECKING:
    from nodellm_orm.domain.parts import MediaKind

_READ: tuple[MediaKind, ...] = ("image", "document", "text")


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("gpt-4o-mini", False),
        ("o4-mini", False),
        ("gpt-5-nano", False),
        ("gpt-5.4-mini", False),
        ("gpt-5.5", False),
        ("gpt-5.5-pro", False),
        ("gpt-5.6-sol", True),
        ("gpt-6-luna", True),
        ("gpt-6-astra", True),
        ("gpt-6.1-terra", True),
        ("gpt-6.2-sol", True),
        ("gpt-9", True),
        ("o5", False),
    ],
)
def test_the_newest_take_the_highest_effort_here(model: str, *, most: bool) -> None:
    """Everything else is as in Chat Completions, but that recordings are not read and documents are."""
    here, chat = OPENAI_RESPONSES_PROFILES.find(model), OPENAI_CHAT_PROFILES.find(model)
    assert here == replace(chat, media=_READ, efforts=(*chat.efforts, "max") if most else chat.efforts)
    assert "max" not in chat.efforts


def test_models_for_sound_read_it() -> None:
    """They alone."""
    assert "audio" in OPENAI_RESPONSES_PROFILES.find("gpt-audio").media
    assert "audio" not in OPENAI_RESPONSES_PROFILES.find("gpt-5-mini").media


def test_models_of_others_behind_a_proxy_have_the_rules_of_chat_completions() -> None:
    """Nothing is known of them in either format."""
    assert OPENAI_RESPONSES_PROFILES.find("acme-7b") == OPENAI_CHAT_PROFILES.find("acme-7b")
