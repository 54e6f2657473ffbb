"""The environment as one immutable value."""

from __future__ import annotations

import pickle

import pytest

from nodellm_orm.config import Environment
from nodellm_orm.errors import ConfigurationError


def test_later_changes_do_not_reach_it() -> None:
    """An environment is a copy, as it was when it was read."""
    variables = {"NODELLM_PROVIDER": "openai"}
    environment = Environment.of(variables)
    variables["NODELLM_PROVIDER"] = "anthropic"
    assert environment.provider == "openai"


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_variable_is_not_set(value: str | None) -> None:
    """An empty variable and a missing one are the same."""
    variables = {} if value is None else {"OPENAI_API_KEY": value, "NODELLM_MODEL": value}
    environment = Environment.of(variables)
    assert environment.get("OPENAI_API_KEY") is None
    assert environment.model_for("openai") is None


def test_values_are_given_exactly_and_words_without_blanks() -> None:
    """A key comes as it is set, so that a stray line break is noticed; names lose the blanks around them."""
    environment = Environment.of({"KEY": "k\n", "NODELLM_PROVIDER": " openai\n"})
    assert environment.get("KEY") == "k\n"
    assert environment.provider == "openai"


@pytest.mark.parametrize(
    ("variables", "provider", "model"),
    [
        ({"NODELLM_MODEL": "m"}, "openai", "m"),
        ({"NODELLM_MODEL": "m", "NODELLM_PROVIDER": "openai"}, "openai", "m"),
        ({"NODELLM_MODEL": "m", "NODELLM_PROVIDER": "openai"}, "anthropic", None),
        ({"NODELLM_PROVIDER": "openai"}, "openai", None),
    ],
)
def test_a_model_belongs_to_the_provider_named_beside_it(
    variables: dict[str, str], provider: str, model: str | None
) -> None:
    """The model of the environment is not used for another provider than the environment's."""
    assert Environment.of(variables).model_for(provider) == model


def test_no_value_is_shown_or_pickled() -> None:
    """Neither the text of an environment nor a pickle of it holds a key."""
    environment = Environment.of({"OPENAI_API_KEY": "sk-secret-1"})
    assert "sk-secret-1" not in f"{environment!r} {environment}"
    with pytest.raises(ConfigurationError, match="read it again"):
        pickle.dumps(environment)
