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
from nodellm_orm.providers.models_gemini import GEMINI_PROFILES
from tests.unit.wire.gemini.asking import HERE, OLDER, WEATHER, WIRE, asking, sent, user

_SCHEMA = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}'


def test_the_smallest_request() -> None:
    """The message is all that is sent; the model is in the path."""
    request = WIRE.render(asking(user("Hi")))
    assert request.body == b'{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}'
    assert (request.method, request.path, request.stream) == ("POST", "/models/gemini-3.5-flash:generateContent", False)
    assert dict(request.headers) == {"content-type": "application/json"}


def test_a_request_for_a_stream() -> None:
    """A stream has a path of its own, and the same body."""
    whole, stream = WIRE.render(asking()), WIRE.render(asking(stream=True))
    assert (stream.path, stream.stream) == ("/models/gemini-3.5-flash:streamGenerateContent?alt=sse", True)
    assert stream.body == whole.body


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("models/gemini-3.5-flash", "/models/gemini-3.5-flash:generateContent"),
        ("tunedModels/mine-1", "/tunedModels/mine-1:generateContent"),
        ("a b?key=c#d", "/models/a%20b%3Fkey%3Dc%23d:generateContent"),
        ("../files/x", "/models/..%2Ffiles%2Fx:generateContent"),
        ("models/../x", "/models/..%2Fx:generateContent"),
        ("publishers/x", "/models/publishers%2Fx:generateContent"),
    ],
)
def test_the_name_of_a_model_cannot_leave_its_place(model: str, path: str) -> None:
    """A name is one segment of the path whatever is in it; ``models/`` before it changes nothing."""
    assert WIRE.render(asking(target=replace(HERE, model=model))).path == path


def test_every_instruction_is_sent() -> None:
    """Each system text is a part of its own, in order; blank ones are left out."""
    body = sent(asking(instructions=["Be brief.", " \n", "Answer in French."]))
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Answer in French."}]}


def test_a_model_without_instructions_hears_them_from_the_user() -> None:
    """Gemma takes no ``systemInstruction``: what it is told opens the conversation."""
    gemma = GEMINI_PROFILES.find("gemma-3-27b-it")
    body = sent(asking(user("Hi"), instructions=["Be brief."], profile=gemma))
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Be brief."}, {"text": "Hi"}]}]}


def test_what_grows_comes_last() -> None:
    """Tools, instructions and contents end the body, also beside the caller's own members."""
    settings = Settings(temperature=0.5, tool_choice="required")
    params = {"safetySettings": [], "labels": {"a_b": "c"}}
    request = asking(settings=settings, instructions=["x"], tools=[WEATHER], params=params)
    assert list(sent(request)) == [
        "generationConfig", "toolConfig", "safetySettings", "labels", "tools", "systemInstruction", "contents",
    ]  # fmt: skip
    assert sent(request)["labels"] == {"a_b": "c"}


def test_raw_members_win() -> None:
    """What the caller says in params takes the place of what would have been sent."""
    body = sent(asking(tools=[WEATHER], params={"tools": [{"googleSearch": {}}], "cachedContent": "cachedContents/1"}))
    assert (body["tools"], body["cachedContent"]) == ([{"googleSearch": {}}], "cachedContents/1")


@pytest.mark.parametrize("name", ["generationConfig", "generation_config"])
def test_raw_configuration_is_merged(name: str) -> None:
    """Members of a raw ``generationConfig`` join ours, and win over them, in either spelling."""
    settings = Settings(temperature=0.5, max_tokens=10)
    body = sent(asking(settings=settings, params={name: {"topK": 1, "max_output_tokens": 20}}))
    assert body == {
        "generationConfig": {"maxOutputTokens": 20, "temperature": 0.5, "topK": 1},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
    }


def test_raw_tool_configuration_is_merged() -> None:
    """A switch for the provider's own tools leaves the choice of ours where it is."""
    params = {"toolConfig": {"includeServerSideToolInvocations": True}}
    body = sent(asking(settings=Settings(tool_choice="required"), tools=[WEATHER], params=params))
    assert body["toolConfig"] == {
        "functionCallingConfig": {"mode": "ANY"},
        "includeServerSideToolInvocations": True,
    }
    assert sent(asking(params=params))["toolConfig"] == params["toolConfig"]


@pytest.mark.parametrize(
    ("asked", "cap", "expected"), [(None, 8192, None), (100, 8192, 100), (10**6, 8192, 8192), (10**6, None, 10**6)]
)
def test_max_tokens(asked: int | None, cap: int | None, expected: int | None) -> None:
    """The caller's number is sent, never more than the model gives; without one the model decides."""
    body = sent(asking(settings=Settings(max_tokens=asked), profile=ModelProfile(max_output_tokens=cap)))
    assert body.get("generationConfig", {}).get("maxOutputTokens") == expected


def test_sampling_is_dropped_where_it_is_refused() -> None:
    """A temperature is left out, and named, for models that refuse it."""
    refused = asking(settings=Settings(temperature=0.2), profile=ModelProfile(sampling=False))
    assert "generationConfig" not in sent(refused)
    assert WIRE.dropped(refused) == ("temperature",)
    assert sent(asking(settings=Settings(temperature=0.0)))["generationConfig"] == {"temperature": 0.0}


_2_5, _LITE, _PRO = (GEMINI_PROFILES.find(f"gemini-2.5-{name}") for name in ("flash", "flash-lite", "pro"))
_3, _3_PRO, _4 = (GEMINI_PROFILES.find(f"gemini-{name}") for name in ("3.5-flash", "3-pro-preview", "4-carbon"))
_2_0 = GEMINI_PROFILES.find("gemini-2.0-flash")


@pytest.mark.parametrize(
    ("config", "profile", "expected", "named"),
    [
        (None, _3, None, False),
        # In tokens.
        (ThinkingConfig(), _2_5, {"thinkingBudget": -1, "includeThoughts": True}, False),
        (ThinkingConfig(budget=-1), _2_5, {"thinkingBudget": -1, "includeThoughts": True}, False),
        (ThinkingConfig(budget=3000), _2_5, {"thinkingBudget": 3000, "includeThoughts": True}, False),
        (ThinkingConfig(budget=100), _LITE, {"thinkingBudget": 512, "includeThoughts": True}, False),
        (ThinkingConfig(budget=10**6), _2_5, {"thinkingBudget": 24_576, "includeThoughts": True}, False),
        (ThinkingConfig(effort="max"), _PRO, {"thinkingBudget": 32_768, "includeThoughts": True}, False),
        (ThinkingConfig(effort="low"), _2_5, {"thinkingBudget": 2048, "includeThoughts": True}, False),
        (ThinkingConfig(effort="none"), _2_5, {"thinkingBudget": 0}, False),
        (ThinkingConfig(budget=0), _LITE, {"thinkingBudget": 0}, False),
        (ThinkingConfig(effort="none"), _PRO, {"thinkingBudget": 128}, True),
        # In levels.
        (ThinkingConfig(), _3, {"includeThoughts": True}, False),
        (ThinkingConfig(budget=-1), _3, {"includeThoughts": True}, False),
        (ThinkingConfig(effort="minimal"), _3, {"thinkingLevel": "MINIMAL", "includeThoughts": True}, False),
        (ThinkingConfig(effort="minimal"), _4, {"thinkingLevel": "LOW", "includeThoughts": True}, False),
        (ThinkingConfig(effort="medium"), _3_PRO, {"thinkingLevel": "HIGH", "includeThoughts": True}, False),
        (ThinkingConfig(effort="max"), _3, {"thinkingLevel": "HIGH", "includeThoughts": True}, False),
        (ThinkingConfig(budget=8000), _4, {"thinkingLevel": "MEDIUM", "includeThoughts": True}, False),
        (ThinkingConfig(effort="none"), _3, {"thinkingLevel": "MINIMAL"}, True),
        (ThinkingConfig(effort="none"), _3_PRO, {"thinkingLevel": "LOW"}, True),
        # Not at all.
        (ThinkingConfig(effort="high"), _2_0, None, True),
        (ThinkingConfig(effort="none"), _2_0, None, False),
    ],
)
def test_thinking(
    config: ThinkingConfig | None,
    profile: ModelProfile,
    expected: dict[str, object] | None,
    named: bool,  # noqa: FBT001 — a value under test
) -> None:
    """Each generation is asked in its own words, never in both; what it cannot do is named."""
    request = asking(settings=Settings(thinking=config), profile=profile)
    assert sent(request).get("generationConfig", {}).get("thinkingConfig") == expected
    assert WIRE.dropped(request) == (("thinking",) if named else ())


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", None),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ("get_weather", {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}),
    ],
)
def test_choosing_tools(choice: str | None, expected: dict[str, object] | None) -> None:
    """The common words for choosing tools in the words of this API."""
    body = sent(asking(settings=Settings(tool_choice=choice), tools=[WEATHER]))
    assert body.get("toolConfig") == (None if expected is None else {"functionCallingConfig": expected})


def test_a_choice_that_cannot_be_made() -> None:
    """Forcing a tool is dropped where there are none and where the model refuses it, parallel calls have no switch."""
    forced = Settings(tool_choice="required")
    refused = asking(settings=forced, tools=[WEATHER], profile=ModelProfile(forced_tool_choice=False))
    for request in (asking(settings=forced), refused):
        assert "toolConfig" not in sent(request)
        assert WIRE.dropped(request) == ("tool_choice",)
    one = asking(settings=Settings(parallel_tool_calls=False), tools=[WEATHER])
    assert WIRE.dropped(one) == ("parallel_tool_calls",)
    assert WIRE.dropped(asking(settings=Settings(parallel_tool_calls=True), tools=[WEATHER])) == ()
    assert "toolConfig" not in sent(asking(settings=Settings(tool_choice="none")))


def test_tools_are_declared_with_json_schema() -> None:
    """A tool's schema goes out as JSON Schema; one without a type is an object's."""
    bare = ToolSpec(name="now", description="", parameters='{"properties":{}}')
    assert sent(asking(tools=[WEATHER, bare]))["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "get_weather",
                    "description": "The weather in a city.",
                    "parametersJsonSchema": json.loads(WEATHER.parameters),
                },
                {"name": "now", "parametersJsonSchema": {"type": "object", "properties": {}}},
            ]
        }
    ]


def test_what_a_schema_may_not_say_is_said_in_words() -> None:
    """Keywords that the API does not know become part of the description; names of properties are no keywords."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "T",
        "type": "object",
        "properties": {
            "title": {"type": "string", "title": "Title", "format": "date", "description": "When."},
            "kind": {"const": "a"},
            "n": {"type": "integer", "minimum": 0, "exclusiveMaximum": 9},
            "pair": {"type": "array", "prefixItems": [{"type": "number", "title": "X"}], "minItems": 1},
            "tree": {"$ref": "#/$defs/Tree"},
            "any": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": "^a"}]},
        },
        "$defs": {"Tree": {"type": "array", "items": {"$ref": "#/$defs/Tree"}, "examples": [[]]}},
        "required": ["title"],
        "additionalProperties": False,
    }
    body = sent(asking(settings=Settings(schema=dumps(schema))))
    assert body["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {
            "type": "object",
            "properties": {
                "title": {"type": "string", "description": 'When.\n(format: "date")'},
                "kind": {"enum": ["a"]},
                "n": {"type": "integer", "minimum": 0, "description": "(exclusiveMaximum: 9)"},
                "pair": {"type": "array", "prefixItems": [{"type": "number"}], "minItems": 1},
                "tree": {"$ref": "#/$defs/Tree"},
                "any": {"anyOf": [{"type": "null"}, {"type": "string", "description": '(pattern: "^a")'}]},
            },
            "$defs": {"Tree": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
            "required": ["title"],
            "additionalProperties": False,
        },
    }


def test_a_form_beside_tools() -> None:
    """Generation 3 takes a schema and tools at once; up to 2.5 the form is asked for in words while there are tools."""
    settings = Settings(schema=_SCHEMA)
    newer = sent(asking(settings=settings, tools=[WEATHER]))
    assert newer["generationConfig"]["responseJsonSchema"] == json.loads(_SCHEMA)
    assert "systemInstruction" not in newer
    older = sent(asking(settings=settings, tools=[WEATHER], profile=OLDER, instructions=["x"]))
    assert "generationConfig" not in older
    assert older["systemInstruction"]["parts"][-1]["text"].endswith(_SCHEMA)
    assert "responseJsonSchema" in sent(asking(settings=settings, profile=OLDER))["generationConfig"]


def test_a_form_without_a_switch_for_schemas() -> None:
    """JSON without a schema is switched on and described, and a model without any switch is told in words."""
    settings = Settings(schema=_SCHEMA)
    loose = sent(asking(settings=settings, profile=ModelProfile(structured="json_object")))
    assert loose["generationConfig"] == {"responseMimeType": "application/json"}
    assert loose["systemInstruction"]["parts"][-1]["text"].endswith(_SCHEMA)
    none = sent(asking(settings=settings, profile=ModelProfile(structured="none")))
    assert "generationConfig" not in none


@pytest.mark.parametrize("schema", ["[]", "{", "3"])
def test_what_is_no_schema(schema: str) -> None:
    """A schema that is not a JSON object is the caller's mistake, also a tool's."""
    tool = ToolSpec(name="f", description="", parameters=schema)
    for request in (asking(settings=Settings(schema=schema)), asking(tools=[tool])):
        with pytest.raises(ConfigurationError, match="JSON Schema"):
            WIRE.render(request)


def test_tools_for_a_model_that_has_none() -> None:
    """Tools that could not be called are refused before anything is sent."""
    with pytest.raises(UnsupportedFeatureError, match="ask without tools"):
        WIRE.render(asking(tools=[WEATHER], profile=ModelProfile(tools="none")))


def test_what_json_does_not_have() -> None:
    """A number that JSON has no form for is refused with what to look at."""
    with pytest.raises(ConfigurationError, match="look at params"):
        WIRE.render(asking(params={"x": float("nan")}))


def test_the_same_values_give_the_same_bytes() -> None:
    """Rendering is a function of its values alone."""
    request = asking(user("Hi"), settings=Settings(schema=_SCHEMA), tools=[WEATHER], instructions=["x"])
    assert WIRE.render(request) == WIRE.render(request)


def test_half_characters_travel_as_escapes() -> None:
    """A lone surrogate goes out as the JSON escape it came in as, in text and in instructions."""
    body = WIRE.render(asking(user("a\ud800b"), instructions=["\udfff"])).body
    assert b'"text":"a\\ud800b"' in body
    assert b'"text":"\\udfff"' in body
