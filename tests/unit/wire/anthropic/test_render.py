"""Requests: which members are sent, in which order, and what is left out."""

from __future__ import annotations

import json

import pytest

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from tests.unit.wire.anthropic.asking import WEATHER, WIRE, asking, sent, user


def test_the_smallest_request() -> None:
    """Model, a number of tokens and the message are all that is sent."""
    request = WIRE.render(asking(user("Hi")))
    assert request.body == (
        b'{"model":"claude-haiku-4-5","max_tokens":4096,'
        b'"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}'
    )
    assert (request.method, request.path, request.stream) == ("POST", "/v1/messages", False)
    assert dict(request.headers) == {"content-type": "application/json", "anthropic-version": "2023-06-01"}


def test_a_request_for_a_stream() -> None:
    """Asking for a stream is said in the body and to the transport."""
    request = WIRE.render(asking(stream=True))
    assert (json.loads(request.body)["stream"], request.stream) == (True, True)


def test_every_instruction_is_sent() -> None:
    """Each system text is a block of its own, in order; blank ones are left out."""
    body = sent(asking(instructions=["Be brief.", " \n", "Answer in French."]))
    assert body["system"] == [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Answer in French."}]


def test_what_grows_comes_last() -> None:
    """Tools, system and messages end the body, also beside the caller's own members."""
    settings = Settings(temperature=0.5, thinking=ThinkingConfig(effort="none"), cache=True)
    request = asking(settings=settings, instructions=["x"], tools=[WEATHER], params={"top_k": 3}, stream=True)
    assert list(sent(request)) == [
        "model", "max_tokens", "stream", "temperature", "cache_control", "top_k", "tools", "system", "messages",
    ]  # fmt: skip


def test_raw_members_win() -> None:
    """What the caller says in params replaces what would have been sent."""
    body = sent(asking(params={"max_tokens": 5, "metadata": {"user_id": "u"}}))
    assert (body["max_tokens"], body["metadata"]) == (5, {"user_id": "u"})


@pytest.mark.parametrize(
    ("asked", "profile", "expected"),
    [
        (None, ModelProfile(), 4096),
        (None, ModelProfile(default_max_tokens=8192), 8192),
        (100, ModelProfile(default_max_tokens=8192), 100),
        (10**6, ModelProfile(max_output_tokens=64000), 64000),
        (None, ModelProfile(default_max_tokens=8192, max_output_tokens=4096), 4096),
    ],
)
def test_max_tokens(asked: int | None, profile: ModelProfile, expected: int) -> None:
    """The caller's number, the profile's or a safe one is sent, never more than the model gives."""
    assert sent(asking(settings=Settings(max_tokens=asked), profile=profile))["max_tokens"] == expected


def test_sampling_is_dropped_where_it_is_refused() -> None:
    """A temperature is left out, and named, for models that refuse it and while a model thinks."""
    refuses = asking(settings=Settings(temperature=0.2), profile=ModelProfile(sampling=False))
    thinks = asking(
        settings=Settings(temperature=0.2, thinking=ThinkingConfig(effort="low")),
        profile=ModelProfile(thinking="budget"),
    )
    for request in (refuses, thinks):
        assert "temperature" not in sent(request)
        assert WIRE.dropped(request) == ("temperature",)
    plain = asking(settings=Settings(temperature=0.0))
    assert (sent(plain)["temperature"], WIRE.dropped(plain)) == (0.0, ())


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        ("auto", None, None),
        ("none", None, {"type": "none"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ("get_weather", None, {"type": "tool", "name": "get_weather"}),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("get_weather", False, {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}),
        ("auto", True, None),
    ],
)
def test_choosing_tools(choice: str | None, parallel: bool | None, expected: dict[str, object] | None) -> None:  # noqa: FBT001 — a value under test
    """The common words for choosing tools in the words of this API."""
    settings = Settings(tool_choice=choice, parallel_tool_calls=parallel)
    assert sent(asking(settings=settings, tools=[WEATHER])).get("tool_choice") == expected


def test_a_choice_that_cannot_be_made() -> None:
    """Forcing a tool is dropped where there are none, and where the model refuses to be forced."""
    forced = Settings(tool_choice="required")
    without = asking(settings=forced)
    refused = asking(settings=forced, tools=[WEATHER], profile=ModelProfile(forced_tool_choice=False))
    for request in (without, refused):
        assert "tool_choice" not in sent(request)
        assert WIRE.dropped(request) == ("tool_choice",)


def test_parallel_calls_where_they_have_no_switch() -> None:
    """A model without a switch for parallel calls is asked without it, and the setting is named."""
    settings = Settings(parallel_tool_calls=False)
    request = asking(settings=settings, tools=[WEATHER], profile=ModelProfile(parallel_tool_calls=False))
    assert "tool_choice" not in sent(request)
    assert WIRE.dropped(request) == ("parallel_tool_calls",)


def test_tools_are_sent_as_they_are_described() -> None:
    """A tool's schema goes out with the bytes it has; one without a type is an object's."""
    bare = ToolSpec(name="now", description="", parameters='{"properties":{}}')
    request = WIRE.render(asking(tools=[WEATHER, bare]))
    assert b'"input_schema":' + WEATHER.parameters.encode() in request.body
    tools = json.loads(request.body)["tools"]
    assert tools[1] == {"name": "now", "input_schema": {"type": "object", "properties": {}}}


def test_a_strict_tool_has_a_closed_schema() -> None:
    """Where the model can be held to a schema, a strict tool's is closed."""
    strict = ToolSpec(name="f", description="F.", parameters=WEATHER.parameters, strict=True)
    (tool,) = sent(asking(tools=[strict]))["tools"]
    assert (tool["strict"], tool["input_schema"]["additionalProperties"]) == (True, False)
    (loose,) = sent(asking(tools=[strict], profile=ModelProfile(structured="none")))["tools"]
    assert "strict" not in loose


def test_tools_for_a_model_that_has_none() -> None:
    """Tools that could not be called are refused before anything is sent."""
    with pytest.raises(UnsupportedFeatureError, match="ask without tools"):
        WIRE.render(asking(tools=[WEATHER], profile=ModelProfile(tools="none")))


def test_a_structured_answer() -> None:
    """A schema is asked for through the output's format, closed at every level."""
    schema = '{"type":"object","properties":{"n":{"type":"integer","minimum":1}},"required":["n"]}'
    settings = Settings(schema=schema, thinking=ThinkingConfig(effort="high"))
    body = sent(asking(settings=settings, profile=ModelProfile(thinking="effort", efforts=("low", "high"))))
    assert body["output_config"] == {
        "effort": "high",
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"n": {"type": "integer", "description": "(minimum: 1)"}},
                "required": ["n"],
                "additionalProperties": False,
            },
        },
    }


def test_a_structured_answer_of_a_model_that_has_none() -> None:
    """A model that cannot be held to a schema is told of it in words, after its other instructions."""
    body = sent(asking(settings=Settings(schema='{"type":"object"}'), profile=ModelProfile(structured="none")))
    assert "output_config" not in body
    assert body["system"][-1]["text"].endswith('{"type":"object"}')


@pytest.mark.parametrize("schema", ["[]", "{", "3"])
def test_what_is_no_schema(schema: str) -> None:
    """A schema that is not a JSON object is the caller's mistake."""
    with pytest.raises(ConfigurationError, match="JSON Schema"):
        WIRE.render(asking(settings=Settings(schema=schema)))


def test_free_keys_are_refused() -> None:
    """An object with free keys would always come back empty: it is refused, with what to use instead."""
    schema = dumps(
        {"type": "object", "properties": {"m": {"type": "object", "additionalProperties": {"type": "string"}}}}
    )
    with pytest.raises(UnsupportedFeatureError, match="list of objects"):
        WIRE.render(asking(settings=Settings(schema=schema)))


def test_breakpoints_of_the_cache() -> None:
    """With caching, what is common to all chats has a breakpoint, and the conversation one that moves with its end."""
    ephemeral = {"type": "ephemeral"}
    both = sent(asking(settings=Settings(cache=True), instructions=["a", "b"], tools=[WEATHER]))
    assert both["cache_control"] == ephemeral
    assert [block.get("cache_control") for block in both["system"]] == [None, ephemeral]
    assert "cache_control" not in both["tools"][-1]
    tools = sent(asking(settings=Settings(cache=True), tools=[WEATHER, WEATHER]))
    assert [tool.get("cache_control") for tool in tools["tools"]] == [None, ephemeral]
    assert "cache_control" not in dumps(sent(asking(instructions=["a"], tools=[WEATHER])))


def test_the_callers_breakpoint_is_every_breakpoint() -> None:
    """An hour's breakpoint of the caller's own is set on instructions and tools too: none shorter may precede it."""
    hour = {"type": "ephemeral", "ttl": "1h"}
    params = {"cache_control": hour}
    both = sent(asking(settings=Settings(cache=True), instructions=["a"], tools=[WEATHER], params=params))
    assert (both["cache_control"], both["system"][-1]["cache_control"]) == (hour, hour)
    tools = sent(asking(settings=Settings(cache=True), tools=[WEATHER], params=params))
    assert tools["tools"][-1]["cache_control"] == hour
    alone = sent(asking(instructions=["a"], params=params))
    assert (alone["cache_control"], "cache_control" in alone["system"][-1]) == (hour, False)


def test_the_same_values_give_the_same_bytes() -> None:
    """Rendering is a function of its values alone."""
    request = asking(user("Hi"), settings=Settings(cache=True), tools=[WEATHER], instructions=["x"])
    assert WIRE.render(request).body == WIRE.render(request).body


def test_half_characters_travel_as_escapes() -> None:
    """A lone surrogate goes out as the JSON escape it came in as, in text and in instructions."""
    body = WIRE.render(asking(user("a\ud800b"), instructions=["\udfff"])).body
    assert b'"text":"a\\ud800b"' in body
    assert b'"text":"\\udfff"' in body
