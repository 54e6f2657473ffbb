"""Which profile a model has."""

from __future__ import annotations

import pytest

from nodellm_orm.domain.profile import EFFORTS, ModelProfile
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.providers.models_anthropic import ANTHROPIC_PROFILES
from nodellm_orm.providers.models_openai import OPENAI_CHAT_PROFILES
from nodellm_orm.providers.profiles import TOLERANT, ProfileTable

MAX = "max_completion_tokens"
TABLE = ProfileTable(
    prefixes={"m-2": ModelProfile(sampling=False), "m-2-old": ModelProfile(structured="none")},
    otherwise=ModelProfile(tools="none"),
)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("m-2", ModelProfile(sampling=False)),
        ("M-2-2026-01-01", ModelProfile(sampling=False)),
        ("m-2-old-1", ModelProfile(structured="none")),
        ("ft:m-2:org::id", ModelProfile(sampling=False)),
        ("other", ModelProfile(tools="none")),
    ],
)
def test_the_longest_prefix_wins(model: str, expected: ModelProfile) -> None:
    """Of several prefixes the longest counts; a fine-tuned model has the profile of what it was made of."""
    assert TABLE.find(model) == expected


def test_overrides_change_single_fields_or_the_whole() -> None:
    """The user's own words win over the table, field by field or as a whole profile, layer upon layer."""
    own = TABLE.overridden({"M-2": {"context_window": 5}}).overridden({"": {"sampling": True}})
    assert own.find("m-2-large") == ModelProfile(context_window=5)
    assert own.find("other") == ModelProfile(tools="none")
    whole = ModelProfile(thinking="effort")
    assert TABLE.overridden({"m-2": whole}).find("m-2-old") == whole
    assert TABLE.find("m-2-large") == ModelProfile(sampling=False)


def test_an_unknown_field_is_refused() -> None:
    """A misspelt field is an error that lists the right ones."""
    with pytest.raises(ConfigurationError, match=r"no field temperature; known are .*sampling"):
        TABLE.overridden({"m": {"temperature": True}})


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-3-haiku-20240307", (True, "none", "omit", True, "none")),
        ("claude-3-7-sonnet-latest", (True, "budget", "omit", True, "none")),
        ("claude-opus-4-20250514", (True, "budget", "omit", True, "none")),
        ("claude-opus-4-1-20250805", (True, "budget", "omit", True, "json_schema")),
        ("claude-sonnet-4-5-20250929", (True, "budget", "omit", True, "json_schema")),
        ("claude-haiku-4-5", (True, "budget", "omit", True, "json_schema")),
        ("claude-sonnet-4-6", (True, "adaptive", "omit", True, "json_schema")),
        ("claude-opus-4-8", (False, "adaptive", "omit", True, "json_schema")),
        ("claude-opus-5", (False, "adaptive", "disabled", True, "json_schema")),
        ("claude-haiku-5-5", (False, "adaptive", "disabled", True, "json_schema")),
        ("claude-sonnet-5-5", (False, "adaptive", "between_tools", False, "json_schema")),
        ("claude-fable-5", (False, "adaptive", "never", True, "json_schema")),
        ("claude-mythos-5-2", (False, "adaptive", "never", False, "json_schema")),
        ("claude-opus-5-5", (False, "adaptive", "never", False, "json_schema")),
        ("claude-something-7", (False, "adaptive", "never", False, "json_schema")),
        ("my-proxied-model", (True, "budget", "omit", True, "json_schema")),
    ],
)
def test_generations_of_claude(model: str, expected: tuple[bool, str, str, bool, str]) -> None:
    """Each generation of Claude accepts what its sheet says, and an unknown one what the newest accepts."""
    found = ANTHROPIC_PROFILES.find(model)
    shape = (found.sampling, found.thinking, found.thinking_off, found.forced_tool_choice, found.structured)
    assert shape == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-3.5-turbo", (True, "system", MAX, "omit", ())),
        ("gpt-4o-mini-2024-07-18", (True, "system", MAX, "omit", ())),
        ("gpt-4.1-nano", (True, "system", MAX, "omit", ())),
        ("o1-mini", (False, "user", MAX, "never", ())),
        ("o3-mini", (False, "developer", MAX, "never", ("low", "medium", "high"))),
        ("gpt-5-mini", (False, "developer", MAX, "never", ("minimal", "low", "medium", "high"))),
        ("gpt-5-chat-latest", (True, "developer", MAX, "omit", ())),
        ("gpt-5.1", (True, "developer", MAX, "omit", ("none", "low", "medium", "high"))),
        ("gpt-5.2-chat-latest", (False, "developer", MAX, "never", ("medium",))),
        ("gpt-5.4", (True, "developer", MAX, "omit", ("none", "low", "medium", "high", "xhigh"))),
        ("gpt-5.5", (False, "developer", MAX, "disabled", ("none", "low", "medium", "high", "xhigh"))),
        ("gpt-5.5-pro", (False, "developer", MAX, "never", ("medium", "high", "xhigh"))),
        ("gpt-6-astra", (False, "developer", MAX, "never", ("low", "medium", "high", "xhigh"))),
        ("gpt-9", (False, "developer", MAX, "never", ("low", "medium", "high", "xhigh"))),
        ("llama-3", (True, "system", "max_tokens", "omit", ("low", "medium", "high"))),
    ],
)
def test_generations_of_openai_in_chat_completions(
    model: str, expected: tuple[bool, str, str, str, tuple[str, ...]]
) -> None:
    """Each generation of OpenAI's models accepts what its sheet says, and an unknown one what the newest accepts."""
    found = OPENAI_CHAT_PROFILES.find(model)
    shape = (found.sampling, found.system_role, found.max_tokens_field, found.thinking_off, found.efforts)
    assert shape == expected


def test_no_model_of_openai_takes_the_highest_effort_in_chat_completions() -> None:
    """The word ``max`` exists in the Responses format only."""
    assert all("max" not in profile.efforts for profile in OPENAI_CHAT_PROFILES.prefixes.values())


@pytest.mark.parametrize("table", [ANTHROPIC_PROFILES, OPENAI_CHAT_PROFILES])
def test_tables_are_consistent(table: ProfileTable) -> None:
    """Prefixes are in lower case, efforts in ascending order, and default lengths within the caps."""
    for prefix, profile in table.prefixes.items():
        assert prefix == prefix.lower()
        assert list(profile.efforts) == sorted(profile.efforts, key=EFFORTS.index)
        assert (profile.default_max_tokens or 0) <= (profile.max_output_tokens or 0)
        assert profile.requires_finish


def test_a_look_alike_is_asked_for_little_and_forgiven_much() -> None:
    """The tolerant profile demands no end of a stream, reads thinking out of text, and speaks the oldest dialect."""
    assert (TOLERANT.requires_finish, TOLERANT.think_tags) == (False, True)
    assert (TOLERANT.max_tokens_field, TOLERANT.system_role, TOLERANT.sampling) == ("max_tokens", "system", True)
