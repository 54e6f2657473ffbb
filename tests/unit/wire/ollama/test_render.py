"""Requests: which members are sent, in which order, and what is left out."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.providers.models_ollama import OLLAMA_PROFILES
from tests.unit.wire.ollama.asking import (
    HERE,
    LEVELS,
    MODEL,
    PROFILE,
    WEATHER,
    WIRE,
    asking,
    messages_of,
    sent,
    user,
)

_SCHEMA = '{"type":"object","properties":{"n":{"type":"integer","maximum":1e2}},"required":["n"]}'


def test_the_smallest_request() -> None:
    """Model, message and that nothing may be cut or streamed are all that is sent."""
    request = WIRE.render(asking(user("Hi")))
    assert request.body == (
        b'{"model":"some-model:8b","stream":false,"truncate":false,"shift":false,'
        b'"messages":[{"role":"user","content":"Hi"}]}'
    )
    assert (request.method, request.path, request.stream) == ("POST", "/api/chat", False)
    assert dict(request.headers) == {"content-type": "application/json"}


def test_a_request_for_a_stream() -> None:
    """Asking for a stream is said in the body and to the transport."""
    request = WIRE.render(asking(stream=True))
    assert (json.loads(request.body)["stream"], request.stream) == (True, True)


def test_instructions_are_one_message() -> None:
    """All system texts stand in one message at the beginning; blank ones are left out."""
    assert messages_of(asking(user("Hi"), instructions=["Be brief.", " \n", "Be kind."])) == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "Hi"},
    ]
    plain = asking(user("Hi"), instructions=["Be brief."], profile=replace(PROFILE, system_role="user"))
    assert messages_of(plain)[0] == {"role": "user", "content": "Be brief."}


def test_options() -> None:
    """Settings of the chat are options of the model, a limit not above its cap."""
    settings = Settings(temperature=0.5, max_tokens=1000)
    assert sent(asking(settings=settings))["options"] == {"num_predict": 1000, "temperature": 0.5}
    capped = replace(PROFILE, max_output_tokens=500, context_window=16_384)
    assert sent(asking(settings=settings, profile=capped))["options"] == {
        "num_ctx": 16_384, "num_predict": 500, "temperature": 0.5,
    }  # fmt: skip


def test_words_of_the_caller() -> None:
    """Raw members win; options are merged, and names that are options are put among them."""
    params = {"keep_alive": "10m", "seed": 7, "options": {"temperature": 0.1, "num_ctx": 8192}, "truncate": True}
    body = sent(asking(settings=Settings(temperature=0.5, max_tokens=9), params=params, tools=[WEATHER]))
    assert body["options"] == {"num_predict": 9, "temperature": 0.1, "seed": 7, "num_ctx": 8192}
    assert (body["keep_alive"], body["truncate"], body["shift"]) == ("10m", True, False)
    assert "seed" not in body
    assert list(body)[-2:] == ["tools", "messages"]
    assert sent(asking(params={"top_k": 3}))["options"] == {"top_k": 3}
    assert sent(asking(params={"options": None}, settings=Settings(temperature=0.5)))["options"] is None


def test_what_json_does_not_have_is_refused() -> None:
    """A number that is none is an error before anything is sent."""
    with pytest.raises(ConfigurationError, match="params and temperature"):
        WIRE.render(asking(settings=Settings(temperature=float("nan"))))


@pytest.mark.parametrize(
    ("config", "profile", "think", "dropped"),
    [
        (None, PROFILE, None, ()),
        (ThinkingConfig(effort="high"), PROFILE, True, ()),
        (ThinkingConfig(budget=4096), PROFILE, True, ()),
        (ThinkingConfig(), PROFILE, True, ()),
        (ThinkingConfig(effort="none"), PROFILE, False, ()),
        (ThinkingConfig(budget=0), PROFILE, False, ()),
        (ThinkingConfig(effort="minimal"), LEVELS, "low", ()),
        (ThinkingConfig(budget=9000), LEVELS, "high", ()),
        (ThinkingConfig(), LEVELS, "medium", ()),
        (ThinkingConfig(effort="max"), LEVELS, "high", ()),
        (ThinkingConfig(effort="none"), LEVELS, "low", ("thinking",)),
        (ThinkingConfig(effort="high"), OLLAMA_PROFILES.find("llama3.1:8b"), None, ("thinking",)),
        (ThinkingConfig(effort="none"), OLLAMA_PROFILES.find("llama3.1:8b"), None, ()),
        (ThinkingConfig(effort="high"), replace(LEVELS, efforts=()), None, ("thinking",)),
    ],
)
def test_thinking(
    config: ThinkingConfig | None, profile: ModelProfile, think: object, dropped: tuple[str, ...]
) -> None:
    """Thinking is a switch or a level, as the model takes it; what cannot be said is named."""
    request = asking(settings=Settings(thinking=config), profile=profile)
    assert sent(request).get("think") == think
    assert WIRE.dropped(request) == dropped


def test_tools() -> None:
    """A tool's schema goes out with the bytes it has; one without a type is an object's."""
    bare = ToolSpec(name="now", description="", parameters='{"properties":{}}')
    request = WIRE.render(asking(tools=[WEATHER, bare]))
    assert b'"parameters":' + WEATHER.parameters.encode() in request.body
    assert json.loads(request.body)["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "The weather in a city.",
                "parameters": json.loads(WEATHER.parameters),
            },
        },
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    ]
    with pytest.raises(UnsupportedFeatureError, match="takes no tools"):
        WIRE.render(asking(tools=[WEATHER], profile=OLLAMA_PROFILES.find("gemma3:4b")))


@pytest.mark.parametrize(
    ("settings", "dropped"),
    [
        (Settings(tool_choice="auto"), ()),
        (Settings(tool_choice="required"), ("tool_choice",)),
        (Settings(tool_choice="get_weather", parallel_tool_calls=False), ("parallel_tool_calls", "tool_choice")),
        (Settings(parallel_tool_calls=True), ()),
    ],
)
def test_tools_cannot_be_forced(settings: Settings, dropped: tuple[str, ...]) -> None:
    """There is no word for a choice of tools, and none for one call at a time: both are named as left out."""
    request = asking(settings=settings, tools=[WEATHER], profile=ModelProfile())
    assert WIRE.dropped(request) == dropped
    assert "tool_choice" not in sent(request)
    assert "tools" in sent(request)


def test_no_tools_is_said_by_leaving_them_out() -> None:
    """Where none may be called, none goes along, and a form of the answer is asked for as if there were none."""
    settings = Settings(tool_choice="none", schema=_SCHEMA)
    request = asking(settings=settings, tools=[WEATHER])
    assert "tools" not in sent(request)
    assert "format" in sent(request)
    assert WIRE.dropped(request) == ()


def test_a_form_is_asked_for_by_its_schema() -> None:
    """The schema goes out with the bytes it has; beside tools, which it would silence, words ask for it."""
    assert b'"format":' + _SCHEMA.encode() in WIRE.render(asking(settings=Settings(schema=_SCHEMA))).body
    beside = asking(user("Hi"), settings=Settings(schema=_SCHEMA), tools=[WEATHER], instructions=["Be brief."])
    assert "format" not in sent(beside)
    assert messages_of(beside)[0]["content"].startswith("Be brief.\n\nAnswer with one JSON object")
    json_only = asking(settings=Settings(schema=_SCHEMA), profile=replace(PROFILE, structured="json_object"))
    assert sent(json_only)["format"] == "json"
    assert _SCHEMA in messages_of(json_only)[0]["content"]
    none = asking(settings=Settings(schema=_SCHEMA), profile=replace(PROFILE, structured="none"))
    assert "format" not in sent(none)
    with pytest.raises(ConfigurationError, match="schema"):
        WIRE.render(asking(settings=Settings(schema="[]"), profile=replace(PROFILE, structured="none")))


@pytest.mark.parametrize(
    ("model", "endpoint", "told"),
    [
        (MODEL, HERE.endpoint, False),
        ("gpt-oss:120b-cloud", HERE.endpoint, True),
        ("glm-5:cloud", HERE.endpoint, True),
        ("gpt-oss:120b", "https://ollama.com", True),
    ],
)
def test_the_cloud_is_told_in_words_as_well(model: str, endpoint: str, *, told: bool) -> None:
    """A model in the cloud is not held to the schema by the server, so it is told of it."""
    target = replace(HERE, model=model, endpoint=endpoint)
    request = asking(settings=Settings(schema=_SCHEMA), target=target)
    assert "format" in sent(request)
    assert (_SCHEMA in dumps(messages_of(request)).replace('\\"', '"')) is told


def test_sampling_is_dropped_where_it_is_refused() -> None:
    """A temperature is left out, and named, for a model that takes none, or none while it thinks."""
    hot = Settings(temperature=0.2, thinking=ThinkingConfig(effort="low"))
    for profile in (replace(PROFILE, sampling=False), replace(PROFILE, sampling_with_thinking=False)):
        request = asking(settings=hot, profile=profile)
        assert "options" not in sent(request)
        assert WIRE.dropped(request) == ("temperature",)
    assert sent(asking(settings=hot))["options"] == {"temperature": 0.2}


def test_half_characters_travel_as_escapes() -> None:
    """A lone surrogate goes out as the JSON escape it came in as."""
    assert b'"content":"a\\ud800b"' in WIRE.render(asking(user("a\ud800b"))).body
