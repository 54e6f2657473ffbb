"""Values to request bytes: paths, settings, tools, instructions and the caller's own words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.errors import ConfigurationError, ProtocolError, UnsupportedFeatureError
from nodellm_orm.providers.models_bedrock import BEDROCK_PROFILES
from tests.unit.wire.bedrock.asking import HERE, WEATHER, WIRE, asking, assistant, call, result, sent, user

CLAUDE = BEDROCK_PROFILES.find("us.anthropic.claude-sonnet-4-5-20250929-v1:0")
CLAUDE_4_7 = BEDROCK_PROFILES.find("global.anthropic.claude-opus-4-7-v1:0")
NOVA = BEDROCK_PROFILES.find("us.amazon.nova-2-lite-v1:0")
LLAMA = BEDROCK_PROFILES.find("us.meta.llama3-3-70b-instruct-v1:0")
SCHEMA = '{"type":"object","properties":{"a":{"type":"integer","minimum":1}},"required":["a"]}'
FIELDS = "additionalModelRequestFields"


def thinking(model: str, **settings: Any) -> dict[str, Any]:
    """What a request to this model says beside its messages."""
    body = sent(asking(settings=Settings(**settings), profile=BEDROCK_PROFILES.find(model)))
    return {name: value for name, value in body.items() if name != "messages"}


@pytest.mark.parametrize(
    ("model", "segment"),
    [
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "us.anthropic.claude-haiku-4-5-20251001-v1%3A0"),
        (
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/mi1dadi0g15f",
            "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fmi1dadi0g15f",
        ),
        ("a b/../c?d", "a%20b%2F..%2Fc%3Fd"),
    ],
)
def test_a_model_is_one_segment_of_the_path(model: str, segment: str) -> None:
    """Colons and slashes of a name are no structure of the path, and streams have a path of their own."""
    request = asking(target=replace(HERE, model=model))
    assert WIRE.render(request).path == f"/model/{segment}/converse"
    assert WIRE.render(replace(request, stream=True)).path == f"/model/{segment}/converse-stream"
    assert unquote(segment) == model


def test_a_plain_question() -> None:
    """Nothing is sent that nobody asked for, and the model's name stands in the path alone."""
    request = WIRE.render(asking())
    assert request.body == b'{"messages":[{"role":"user","content":[{"text":"Hi"}]}]}'
    assert request.headers == {"content-type": "application/json"}


def test_what_grows_comes_last() -> None:
    """Tools end their own object, and tools, instructions and messages end the body in that order."""
    request = asking(
        settings=Settings(max_tokens=5, temperature=0.5, tool_choice="required", schema=SCHEMA),
        instructions=["Be brief.", " ", "Be kind."],
        tools=[WEATHER],
        params={"requestMetadata": {"a": "b"}},
    )
    body = sent(request)
    assert list(body) == ["inferenceConfig", "outputConfig", "requestMetadata", "toolConfig", "system", "messages"]
    assert body["inferenceConfig"] == {"maxTokens": 5, "temperature": 0.5}
    assert list(body["toolConfig"]) == ["toolChoice", "tools"]
    assert body["system"] == [{"text": "Be brief."}, {"text": "Be kind."}]


def test_tools_as_the_api_wants_them() -> None:
    """A description is sent if there is one, a schema as it was written, a name in the characters that are allowed."""
    silent = ToolSpec(name="a.b c", description="", parameters='{"properties":{"n":{"multipleOf":1.50}}}')
    tools = sent(asking(tools=[WEATHER, silent]))["toolConfig"]["tools"]
    assert tools == [
        {
            "toolSpec": {
                "name": "get_weather",
                "description": "The weather in a city.",
                "inputSchema": {"json": json.loads(WEATHER.parameters)},
            }
        },
        {
            "toolSpec": {
                "name": "a_b_c",
                "inputSchema": {"json": {"type": "object", "properties": {"n": {"multipleOf": 1.5}}}},
            }
        },
    ]
    assert WEATHER.parameters.encode() in WIRE.render(asking(tools=[WEATHER])).body


def test_strict_tools() -> None:
    """A strict tool has a closed schema where the model holds answers to one, and is a plain one elsewhere."""
    strict = replace(WEATHER, strict=True)
    (tool,) = sent(asking(tools=[strict], profile=CLAUDE))["toolConfig"]["tools"]
    assert tool["toolSpec"]["strict"] is True
    assert tool["toolSpec"]["inputSchema"]["json"]["additionalProperties"] is False
    (tool,) = sent(asking(tools=[strict], profile=NOVA))["toolConfig"]["tools"]
    assert "strict" not in tool["toolSpec"]
    assert "additionalProperties" not in tool["toolSpec"]["inputSchema"]["json"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [(None, None), ("auto", None), ("required", {"any": {}}), ("get_weather", {"tool": {"name": "get_weather"}})],
)
def test_a_choice_of_tool(choice: str | None, expected: dict[str, Any] | None) -> None:
    """A choice goes out in the API's words where the model obeys it, and is named as left out where it does not."""
    settings = Settings(tool_choice=choice)
    request = asking(settings=settings, tools=[WEATHER], profile=CLAUDE)
    assert sent(request)["toolConfig"].get("toolChoice") == expected
    assert WIRE.dropped(request) == ()
    request = asking(settings=settings, tools=[WEATHER], profile=LLAMA)
    assert "toolChoice" not in sent(request)["toolConfig"]
    assert WIRE.dropped(request) == (() if expected is None else ("tool_choice",))
    assert WIRE.dropped(asking(settings=settings)) == (() if expected is None else ("tool_choice",))


def test_no_tool_may_be_called() -> None:
    """Claude is told so and keeps its tools; others are not given theirs, unless the history has calls."""
    settings = Settings(tool_choice="none")
    body = sent(asking(settings=settings, tools=[WEATHER], profile=CLAUDE))
    assert body[FIELDS] == {"tool_choice": {"type": "none"}}
    assert "toolChoice" not in body["toolConfig"]
    request = asking(settings=settings, tools=[WEATHER], profile=NOVA)
    assert "toolConfig" not in sent(request)
    assert WIRE.dropped(request) == ()
    talk = (user("?"), assistant(call()), result())
    request = asking(*talk, settings=settings, tools=[WEATHER], profile=NOVA)
    assert sent(request)["toolConfig"]["tools"][0]["toolSpec"]["name"] == "get_weather"
    assert WIRE.dropped(request) == ("tool_choice",)


def test_calls_in_the_history_need_tools() -> None:
    """A request without tools names those that its history calls; Claude is told to call none."""
    talk = (user("?"), assistant(call(), call("b", name="other.tool"), call("c")), result(), user("And now?"))
    body = sent(asking(*talk, profile=CLAUDE))
    specs = [tool["toolSpec"] for tool in body["toolConfig"]["tools"]]
    assert [spec["name"] for spec in specs] == ["get_weather", "other_tool"]
    assert all(spec["inputSchema"] == {"json": {"type": "object"}} and spec["description"] for spec in specs)
    assert body[FIELDS] == {"tool_choice": {"type": "none"}}
    body = sent(asking(*talk, profile=NOVA))
    assert len(body["toolConfig"]["tools"]) == 2
    assert FIELDS not in body


def test_a_model_without_tools() -> None:
    """It is offered none, and calls of its history are told in words."""
    profile = BEDROCK_PROFILES.find("us.deepseek.r1-v1:0")
    with pytest.raises(UnsupportedFeatureError, match="takes no tools"):
        WIRE.render(asking(tools=[WEATHER], profile=profile))
    body = sent(asking(user("?"), assistant(call()), result(), profile=profile))
    assert "toolConfig" not in body
    assert body["messages"][1:] == [
        {"role": "assistant", "content": [{"text": '(Calls get_weather with {"city":"Paris"})'}]},
        {"role": "user", "content": [{"text": "Result of get_weather:\n21 °C"}]},
    ]


def test_a_form_of_the_answer() -> None:
    """A schema goes out as the text of a closed one where there is a switch for it, and in words elsewhere."""
    settings = Settings(schema=SCHEMA, schema_name="My answer")
    body = sent(asking(settings=settings, profile=CLAUDE))
    form = body["outputConfig"]["textFormat"]
    assert form["type"] == "json_schema"
    described = form["structure"]["jsonSchema"]
    assert described["name"] == "My_answer"
    assert json.loads(described["schema"]) == {
        "type": "object",
        "properties": {"a": {"type": "integer", "description": "(minimum: 1)"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert "system" not in body
    body = sent(asking(settings=settings, profile=NOVA))
    assert "outputConfig" not in body
    assert SCHEMA in body["system"][0]["text"]


def test_a_form_beside_tools() -> None:
    """Where a model takes no schema beside tools, words ask for the form while there are tools."""
    profile = replace(CLAUDE, structured_with_tools=False)
    body = sent(asking(settings=Settings(schema=SCHEMA), tools=[WEATHER], profile=profile))
    assert "outputConfig" not in body
    assert SCHEMA in body["system"][0]["text"]


def test_a_model_without_instructions() -> None:
    """The user says them first where a model takes none of its own."""
    profile = BEDROCK_PROFILES.find("mistral.mistral-7b-instruct-v0:2")
    body = sent(asking(user("Hi"), instructions=["Be brief."], profile=profile))
    assert body == {"messages": [{"role": "user", "content": [{"text": "Be brief."}, {"text": "Hi"}]}]}


@pytest.mark.parametrize(
    ("model", "config", "expected"),
    [
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", {"budget": 2000},
         {"inferenceConfig": {"maxTokens": 18_384}, FIELDS: {"thinking": {"type": "enabled", "budget_tokens": 2000}}}),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", {"effort": "none"}, {"inferenceConfig": {"maxTokens": 16_384}}),
        ("eu.anthropic.claude-opus-4-7-v1:0", {"effort": "xhigh"},
         {"inferenceConfig": {"maxTokens": 16_384},
          FIELDS: {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "xhigh"}}}),
        ("eu.anthropic.claude-opus-4-7-v1:0", {},
         {"inferenceConfig": {"maxTokens": 16_384},
          FIELDS: {"thinking": {"type": "adaptive", "display": "summarized"}}}),
        ("anthropic.claude-opus-5", {"effort": "none"},
         {"inferenceConfig": {"maxTokens": 16_384}, FIELDS: {"thinking": {"type": "disabled"}}}),
        ("anthropic.claude-fable-5-v1:0", {"effort": "none"},
         {"inferenceConfig": {"maxTokens": 16_384}, FIELDS: {"output_config": {"effort": "low"}}}),
        ("openai.gpt-oss-120b-1:0", {"effort": "xhigh"}, {FIELDS: {"reasoning_effort": "high"}}),
        ("openai.gpt-oss-120b-1:0", {"effort": "none"}, {FIELDS: {"reasoning_effort": "low"}}),
        ("us.openai.gpt-5.6-luna", {"effort": "none"}, {FIELDS: {"reasoning": {"effort": "none"}}}),
        ("us.openai.gpt-6-sol", {"effort": "xhigh"}, {FIELDS: {"reasoning": {"effort": "xhigh"}}}),
        ("deepseek.v3.2", {"effort": "low"}, {FIELDS: {"reasoning_effort": "high"}}),
        ("deepseek.v3.2", {"effort": "none"}, {FIELDS: {"reasoning_effort": "none"}}),
        ("zai.glm-4.7", {"effort": "none"}, {FIELDS: {"reasoning_effort": "none"}}),
        ("global.zai.glm-5.3", {"effort": "max"}, {FIELDS: {"reasoning_effort": "max"}}),
        ("global.zai.glm-5.3", {"effort": "none"}, {FIELDS: {"reasoning_effort": "low"}}),
        ("qwen.qwen3-32b-v1:0", {"effort": "medium"}, {FIELDS: {"reasoning_config": "high"}}),
        ("xai.grok-4", {"effort": "low"}, {FIELDS: {"reasoning": {"effort": "low"}}}),
        ("us.amazon.nova-2-lite-v1:0", {"effort": "medium"},
         {FIELDS: {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}}),
        ("us.amazon.nova-2-lite-v1:0", {"effort": "none"}, {}),
        ("us.amazon.nova-lite-v1:0", {"effort": "high"}, {}),
        ("us.deepseek.r1-v1:0", {"effort": "high"}, {}),
    ],
)  # fmt: skip
def test_thinking_in_each_familys_words(model: str, config: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each family has a member of its own for how much it thinks, in its own words."""
    assert thinking(model, thinking=ThinkingConfig(**config)) == expected


def test_a_budget_and_the_answer_beside_it() -> None:
    """The limit holds for both together; a smaller one than the budget grows by it, up to the model's own limit."""
    model = "anthropic.claude-3-7-sonnet-20250219-v1:0"
    for budget, limit, total, thought in (
        (2000, None, 10_192, 2000),
        (2000, 3000, 3000, 2000),
        (4000, 1000, 5000, 4000),
        (63_900, None, 64_000, 55_808),
        (10, None, 9216, 1024),
    ):
        said = thinking(model, thinking=ThinkingConfig(budget=budget), max_tokens=limit)
        assert said["inferenceConfig"]["maxTokens"] == total
        assert said[FIELDS]["thinking"]["budget_tokens"] == thought


def test_a_budget_that_cannot_be_kept() -> None:
    """Thinking is left out and named where a call is forced, where a turn began without it, or without any room."""
    settings = Settings(thinking=ThinkingConfig(budget=2000), tool_choice="required")
    request = asking(settings=settings, tools=[WEATHER], profile=CLAUDE)
    assert WIRE.dropped(request) == ("thinking",)
    assert FIELDS not in sent(request)
    settings = Settings(thinking=ThinkingConfig(budget=2000))
    request = asking(user("?"), assistant(call()), result(), settings=settings, tools=[WEATHER], profile=CLAUDE)
    assert WIRE.dropped(request) == ("thinking",)
    narrow = replace(CLAUDE, max_output_tokens=1024)
    assert WIRE.dropped(asking(settings=settings, profile=narrow)) == ("thinking",)


def test_sampling_and_thinking() -> None:
    """A temperature is left out and named where the model takes none, or none while it thinks."""
    hot = Settings(temperature=0.5)
    assert sent(asking(settings=hot, profile=CLAUDE))["inferenceConfig"]["temperature"] == 0.5
    for profile, settings in (
        (CLAUDE_4_7, hot),
        (CLAUDE, replace(hot, thinking=ThinkingConfig(budget=2000))),
        (NOVA, replace(hot, thinking=ThinkingConfig(effort="low"))),
    ):
        request = asking(settings=settings, profile=profile)
        assert WIRE.dropped(request) == ("temperature",)
        assert b"temperature" not in WIRE.render(request).body


def test_nova_thinks_without_a_limit_at_its_highest() -> None:
    """At its highest effort Nova takes no limit on the answer: it is left out and named."""
    settings = Settings(thinking=ThinkingConfig(effort="high"), max_tokens=100)
    request = asking(settings=settings, profile=NOVA)
    assert WIRE.dropped(request) == ("max_tokens",)
    assert "inferenceConfig" not in sent(request)
    lower = replace(settings, thinking=ThinkingConfig(effort="low"))
    assert sent(asking(settings=lower, profile=NOVA))["inferenceConfig"] == {"maxTokens": 100}


def test_limits_are_lowered_to_the_models_own() -> None:
    """More than the model can say is not asked for."""
    assert sent(asking(settings=Settings(max_tokens=10**6), profile=CLAUDE))["inferenceConfig"]["maxTokens"] == 64_000


def test_parallel_calls_cannot_be_turned_off() -> None:
    """The API has no switch for it; that is said where there are tools."""
    settings = Settings(parallel_tool_calls=False)
    assert WIRE.dropped(asking(settings=settings, tools=[WEATHER])) == ("parallel_tool_calls",)
    assert WIRE.dropped(asking(settings=settings)) == ()


def test_marks_for_the_cache() -> None:
    """A mark stands behind the instructions, else behind the tools where the model takes one there."""
    point = {"cachePoint": {"type": "default"}}
    settings = Settings(cache=True)
    body = sent(asking(settings=settings, instructions=["Be brief."], tools=[WEATHER], profile=CLAUDE))
    assert body["system"] == [{"text": "Be brief."}, point]
    assert point not in body["toolConfig"]["tools"]
    assert sent(asking(settings=settings, tools=[WEATHER], profile=CLAUDE))["toolConfig"]["tools"][-1] == point
    assert point not in sent(asking(settings=settings, tools=[WEATHER], profile=NOVA))["toolConfig"]["tools"]
    assert sent(asking(settings=settings, instructions=["Be brief."], profile=NOVA))["system"][-1] == point
    request = asking(settings=settings, instructions=["Be brief."], profile=LLAMA)
    assert b"cachePoint" not in WIRE.render(request).body
    assert WIRE.dropped(request) == ("cache",)
    assert b"cachePoint" not in WIRE.render(asking(instructions=["Be brief."], profile=CLAUDE)).body


def test_the_callers_own_words() -> None:
    """Members of the caller's are merged into ours, his tools are added to ours, and everything else replaces ours."""
    system_tool = {"systemTool": {"name": "nova_grounding"}}
    params = {
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "DRAFT"},
        "inferenceConfig": {"topP": 0.5, "maxTokens": 3, "stopSequences": ["END"]},
        FIELDS: {"top_k": 7},
        "toolConfig": {"tools": [system_tool], "toolChoice": {"any": {}}},
        "system": [{"text": "Mine."}],
    }
    settings = Settings(max_tokens=9, temperature=0.5, thinking=ThinkingConfig(budget=1024))
    body = sent(asking(settings=settings, instructions=["Ours."], tools=[WEATHER], profile=CLAUDE_4_7, params=params))
    assert body["guardrailConfig"] == params["guardrailConfig"]
    assert body["inferenceConfig"] == {"maxTokens": 3, "topP": 0.5, "stopSequences": ["END"]}
    assert body[FIELDS]["thinking"]["type"] == "adaptive"
    assert body[FIELDS]["top_k"] == 7
    assert [next(iter(tool)) for tool in body["toolConfig"]["tools"]] == ["toolSpec", "systemTool"]
    assert body["toolConfig"]["toolChoice"] == {"any": {}}
    assert list(body["toolConfig"])[-1] == "tools"
    assert body["system"] == [{"text": "Mine."}]
    assert sent(asking(params={"toolConfig": {"tools": [system_tool]}}))["toolConfig"] == {"tools": [system_tool]}


@pytest.mark.parametrize("params", [{"a": float("nan")}, {"a": object()}])
def test_what_json_does_not_have(params: dict[str, object]) -> None:
    """Parameters that cannot be written are our error, before anything is sent."""
    with pytest.raises(ConfigurationError, match="params"):
        WIRE.render(asking(params=params))


def test_counting_asks_the_model_itself() -> None:
    """Inference profiles cannot count: the question goes to the model behind one, without what it does not know."""
    request = asking(
        settings=Settings(max_tokens=5, schema=SCHEMA, thinking=ThinkingConfig(budget=2000)),
        instructions=["Be brief."],
        tools=[WEATHER],
        profile=CLAUDE,
        stream=True,
    )
    asked = WIRE.count_request(request)
    assert asked.path == "/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens"
    assert not asked.stream
    (counted,) = json.loads(asked.body)["input"].values()
    assert list(counted) == [FIELDS, "toolConfig", "system", "messages"]
    assert WIRE.counted(b'{"inputTokens": 375}') == 375
    with pytest.raises(ProtocolError, match="no count"):
        WIRE.counted(b'{"inputTokens": -1}')


def test_a_model_that_nobody_described() -> None:
    """Its request has nothing in it that some model might refuse."""
    request = asking(
        settings=Settings(schema=SCHEMA, cache=True, tool_choice="required", thinking=ThinkingConfig(effort="high")),
        tools=[WEATHER],
        profile=BEDROCK_PROFILES.find("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"),
    )
    assert list(sent(request)) == ["toolConfig", "system", "messages"]
    assert WIRE.dropped(request) == ("cache", "thinking", "tool_choice")
    assert ModelProfile().media != request.profile.media
