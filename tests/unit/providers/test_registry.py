"""Providers by name."""

from __future__ import annotations

import uuid

import pytest

from nodellm_orm.config import Environment
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.providers.endpoint import resolve
from nodellm_orm.providers.registry import Registry, find_provider, provider_names, register_provider
from nodellm_orm.providers.row import ProviderRow
from nodellm_orm.providers.rows import OPENAI
from nodellm_orm.wire.anthropic import Anthropic

EMPTY = Environment.of({})


def fresh() -> str:
    """A name that no provider has: the registry belongs to the whole process."""
    return f"p{uuid.uuid1().hex}"


def test_the_built_in_providers_are_there() -> None:
    """Every provider of this package has a name."""
    assert {"anthropic", "local", "openai", "openai_compatible"} <= set(provider_names())
    assert find_provider("openai") is OPENAI


@pytest.mark.parametrize(
    ("name", "nearest"), [("opnai", "openai"), ("Anthropic", "anthropic"), ("openai-compatible", "openai_compatible")]
)
def test_an_unknown_name_brings_the_nearest(name: str, nearest: str) -> None:
    """A misspelt provider is an error with a suggestion and the list of all."""
    with pytest.raises(ConfigurationError, match=f"Did you mean '{nearest}'.*Known are: .*local"):
        Registry().find(name)


def test_a_strange_name_brings_no_suggestion() -> None:
    """Where nothing is near, nothing is suggested."""
    with pytest.raises(ConfigurationError, match=r"there is no provider 'zzzzzz'\. Known are"):
        Registry().find("zzzzzz")


def test_a_taken_name_needs_to_be_replaced_on_purpose() -> None:
    """A second row of a name is refused unless it is meant to replace the first."""
    registry = Registry()
    other = ProviderRow(name="openai", dialects=OPENAI.dialects)
    with pytest.raises(ConfigurationError, match="replace=True"):
        registry.add(other)
    registry.add(other, replace=True)
    assert registry.find("openai") is other


@pytest.mark.parametrize("name", ["", "My", "a b", "1a", "a" * 65, "a\n"])
def test_a_malformed_name_is_refused(name: str) -> None:
    """Names are small letters, digits, hyphens and underscores."""
    with pytest.raises(ConfigurationError, match="cannot name a provider"):
        register_provider(name, base_url="https://host/v1")


def test_a_registered_provider_is_like_any_other() -> None:
    """A row that a user adds gives address, key, headers, model and profiles."""
    name = fresh()
    register_provider(
        name,
        base_url="https://host/v1",
        base_url_env="MINE_URL",
        api_key_env="MINE_KEY",
        default_model="m-1",
        headers={"X-Team": "red"},
        profiles={"": {"requires_finish": True}},
    )
    endpoint = resolve(find_provider(name), environment=Environment.of({"MINE_KEY": "mine-key-1"}))
    assert (endpoint.provider, endpoint.base_url, endpoint.api) == (name, "https://host/v1", "openai_chat")
    assert endpoint.secret_headers["authorization"].reveal() == "Bearer mine-key-1"
    assert endpoint.headers == {"x-team": "red"}
    assert endpoint.default_model == "m-1"
    assert endpoint.profile("anything").requires_finish
    with pytest.raises(ConfigurationError, match="MINE_KEY"):
        resolve(find_provider(name), environment=EMPTY)


def test_a_registered_provider_may_need_no_key_and_speak_another_format() -> None:
    """Format, header of the key, and whether there has to be one are the user's to say."""
    name = fresh()
    register_provider(name, api="anthropic", base_url="http://127.0.0.1:1", api_key_header="X-Api-Key")
    endpoint = resolve(find_provider(name), environment=EMPTY)
    assert (endpoint.api, endpoint.secret_headers) == ("anthropic", {})
    keyed = resolve(find_provider(name), environment=EMPTY, api_key="mine-key-1")
    assert keyed.secret_headers["x-api-key"].reveal() == "mine-key-1"


def test_a_wire_format_of_ones_own() -> None:
    """A provider may speak a format that the user has written."""

    class Mine(Anthropic):
        name = "mine"

    endpoint_name = fresh()
    register_provider(endpoint_name, api=Mine(), base_url="https://host")
    assert resolve(find_provider(endpoint_name), environment=EMPTY).api == "mine"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"api": "grpc"}, "no wire format 'grpc'; known are openai_chat, anthropic"),
        ({"base_url": "host/v1"}, "base_url"),
        ({"api_key_header": "no such header"}, "header"),
        ({"headers": {"x": "a\nb"}}, "header"),
        ({"profiles": {"m": {"nonsense": 1}}}, "no field nonsense"),
    ],
)
def test_what_cannot_work_is_refused_at_once(wrong: dict[str, object], message: str) -> None:
    """A malformed row is refused when it is added, not when it is used."""
    name = fresh()
    with pytest.raises(ConfigurationError, match=message):
        register_provider(name, **wrong)  # type: ignore[arg-type] # each is wrong on purpose
    assert name not in provider_names()
