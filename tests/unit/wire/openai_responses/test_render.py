"""What a request says: model, settings, tools, instructions and the form of the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from tests.unit.wire.openai_responses.asking import (
    CLOSED,
    PLAIN,
    REASONS,
    WEATHER,
    WIRE,
    asking,
    assistant,
    called,
    result,
    said,
    sent,
    thought,
    user,
)


def test_the_simplest_request() -> None:
    """Nothing is stored at the provider, and what was thought comes back in its encrypted form."""
    request = WIRE.render(asking())
    assert request.body == (
        b'{"model":"gpt-5-mini","store":false,"include":["reasoning.encrypted_content"],'
        b'"input":[{"type":"message","role":"user","content":"Hi"}]}'
    )
    assert (request.path, request.method, request.stream) == ("/responses", "POST", False)
    assert request.headers == {"content-type": "application/json"}


def test_a_whole_request() -> None:
    """Every member in its place: what grows comes last."""
    settings = Settings(
        max_tokens=100,
        thinking=ThinkingConfig(effort="high"),
        tool_choice="get_weather",
        parallel_tool_calls=False,
        schema=CLOSED,
        schema_name="City",
    )
    request = asking(settings=settings, tools=[WEATHER], instructions=["Be brief.", "Be kind."], stream=True)
    assert WIRE.render(request).body.decode() == (
        '{"model":"gpt-5-mini","stream":true,"store":false,"include":["reasoning.encrypted_content"],'
        '"max_output_tokens":100,"reasoning":{"effort":"high","summary":"auto"},'
        '"tool_choice":{"type":"function","name":"get_weather"},"parallel_tool_calls":false,'
        f'"text":{{"format":{{"type":"json_schema","name":"City","strict":true,"schema":{CLOSED}}}}},'
        '"tools":[{"type":"function","name":"get_weather","description":"Tells the weather.",'
        f'"parameters":{CLOSED},"strict":false}}],'
        '"input":[{"type":"message","role":"developer","content":"Be brief."},'
        '{"type":"message","role":"developer","content":"Be kind."},'
        '{"type":"message","role":"user","content":"Hi"}]}'
    )
    assert WIRE.render(request).stream


def test_words_of_the_caller_win() -> None:
    """Raw members replace ours, also those that are always sent."""
    body = sent(asking(params={"store": True, "include": [], "prompt_cache_key": "chat-7", "tools": [{"type": "x"}]}))
    assert (body["store"], body["include"], body["prompt_cache_key"]) == (True, [], "chat-7")
    assert list(body)[-2:] == ["tools", "input"]


@pytest.mark.parametrize(
    ("tool", "strict"),
    [
        (WEATHER, False),
        (ToolSpec(name="f", description="", parameters=CLOSED, strict=True), True),
        (ToolSpec(name="f", description="", parameters='{"type":"object","properties":{}}', strict=True), False),
    ],
)
def test_strict_is_always_said(tool: ToolSpec, *, strict: bool) -> None:
    """A tool is strict where that was asked for and its schema is closed; left out, it would be strict anyway."""
    [function] = sent(asking(tools=[tool]))["tools"]
    assert function["strict"] is strict
    assert ("description" in function) == bool(tool.description)


def test_a_schema_without_a_type_is_an_object() -> None:
    """The API wants the word."""
    [function] = sent(asking(tools=[ToolSpec(name="f", description="", parameters="{}")]))["tools"]
    assert function["parameters"] == {"type": "object"}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (None, None),
        ("auto", None),
        ("none", "none"),
        ("required", "required"),
        ("f", {"type": "function", "name": "f"}),
    ],
)
def test_choices_of_tools(wanted: str | None, said: Any) -> None:
    """A word, or a function by its name."""
    request = asking(tools=[WEATHER], settings=Settings(tool_choice=wanted))
    assert sent(request).get("tool_choice") == said
    assert WIRE.dropped(request) == ()


def test_some_of_the_tools_may_be_allowed_by_raw_words() -> None:
    """The list of tools stays as it is, and with it the beginning of the request."""
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_weather"}]}
    body = sent(asking(tools=[WEATHER], params={"tool_choice": allowed}))
    assert body["tool_choice"] == allowed
    assert [tool["name"] for tool in body["tools"]] == ["get_weather"]


def test_without_tools_nothing_is_said_of_them() -> None:
    """The API refuses the switch for parallel calls, and a choice, when there is nothing to choose from."""
    settings = Settings(tool_choice="required", parallel_tool_calls=True)
    body = sent(asking(settings=settings))
    assert not body.keys() & {"tools", "tool_choice", "parallel_tool_calls"}
    assert WIRE.dropped(asking(settings=settings)) == ("tool_choice",)


def test_a_model_that_does_not_obey_a_choice_of_no_tool_gets_none() -> None:
    """Tools, choice and switch are left out together."""
    settings = Settings(tool_choice="none", parallel_tool_calls=False)
    body = sent(asking(tools=[WEATHER], settings=settings, profile=ModelProfile(tool_choice_none=False)))
    assert not body.keys() & {"tools", "tool_choice", "parallel_tool_calls"}


def test_parallel_calls_without_a_switch() -> None:
    """Where there is none, only the wish to turn them off is lost."""
    profile = ModelProfile(parallel_tool_calls=False)
    for wanted, lost in ((True, ()), (False, ("parallel_tool_calls",))):
        request = asking(tools=[WEATHER], settings=Settings(parallel_tool_calls=wanted), profile=profile)
        assert "parallel_tool_calls" not in sent(request)
        assert WIRE.dropped(request) == lost


def test_a_choice_that_thinking_forbids_needs_thinking_turned_off() -> None:
    """It is sent when the caller turned thinking off, and otherwise named as lost."""
    profile = ModelProfile(
        thinking="effort", thinking_off="disabled", efforts=("none", "high"), forced_with_thinking=False
    )
    thinking = asking(tools=[WEATHER], settings=Settings(tool_choice="required"), profile=profile)
    assert WIRE.dropped(thinking) == ("tool_choice",)
    off = Settings(tool_choice="required", thinking=ThinkingConfig(effort="none"))
    assert sent(asking(tools=[WEATHER], settings=off, profile=profile))["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("config", "asked"),
    [
        (None, None),
        (ThinkingConfig(), {"effort": "medium", "summary": "auto"}),
        (ThinkingConfig(effort="xhigh"), {"effort": "high", "summary": "auto"}),
        (ThinkingConfig(budget=3000), {"effort": "medium", "summary": "auto"}),
        (ThinkingConfig(effort="none"), {"effort": "none"}),
        (ThinkingConfig(budget=0), {"effort": "none"}),
    ],
)
def test_thinking_is_asked_for_by_an_effort(config: ThinkingConfig | None, asked: Any) -> None:
    """A summary is asked for only where thinking is; a budget becomes the word that allows as much."""
    request = asking(settings=Settings(thinking=config))
    assert sent(request).get("reasoning") == asked
    assert WIRE.dropped(request) == ()


def test_models_without_summaries_are_not_asked_for_them() -> None:
    """The effort alone."""
    profile = ModelProfile(thinking="effort", efforts=("low",), thinking_summaries=False)
    assert sent(asking(settings=Settings(thinking=ThinkingConfig(effort="low")), profile=profile))["reasoning"] == {
        "effort": "low"
    }


def test_a_model_that_always_thinks_thinks_as_little_as_it_can() -> None:
    """Thinking that cannot be turned off is lowered, and the wish named as lost."""
    profile = ModelProfile(thinking="effort", thinking_off="never", efforts=("low", "high"))
    request = asking(settings=Settings(thinking=ThinkingConfig(effort="none")), profile=profile)
    assert sent(request)["reasoning"] == {"effort": "low"}
    assert WIRE.dropped(request) == ("thinking",)


def test_a_model_that_thinks_only_when_asked_is_not_told_not_to() -> None:
    """Saying nothing turns thinking off."""
    profile = ModelProfile(thinking="effort", thinking_off="omit", efforts=("none", "low"))
    request = asking(settings=Settings(thinking=ThinkingConfig(effort="none")), profile=profile)
    assert "reasoning" not in sent(request)
    assert WIRE.dropped(request) == ()


def test_a_model_that_never_thinks_is_not_asked_to() -> None:
    """The wish is named as lost."""
    request = asking(settings=Settings(thinking=ThinkingConfig(effort="high")), profile=PLAIN)
    assert "reasoning" not in sent(request)
    assert WIRE.dropped(request) == ("thinking",)


@pytest.mark.parametrize(
    ("profile", "effort", "sampled"),
    [
        (PLAIN, None, True),
        (REASONS, None, False),
        (REASONS, "low", False),
        (REASONS, "none", True),
        (ModelProfile(sampling=False), "none", False),
        (ModelProfile(sampling_with_thinking=False, thinking="effort", efforts=("low",)), None, True),
        (ModelProfile(sampling_with_thinking=False, thinking="effort", efforts=("low",)), "low", False),
        (ModelProfile(thinking="effort", efforts=("low",)), "low", True),
    ],
)
def test_temperature_goes_with_models_that_are_not_thinking(
    profile: ModelProfile, effort: Any, *, sampled: bool
) -> None:
    """A model that thinks by itself takes it once thinking is turned off; one of xAI's takes it always."""
    thinking = ThinkingConfig(effort=effort) if effort else None
    request = asking(settings=Settings(temperature=0.5, thinking=thinking), profile=profile)
    assert sent(request).get("temperature") == (0.5 if sampled else None)
    assert ("temperature" in WIRE.dropped(request)) != sampled


def test_a_long_answer_is_cut_to_what_the_model_can_write() -> None:
    """The smaller of the two numbers is sent."""
    profile = ModelProfile(max_output_tokens=50)
    assert sent(asking(settings=Settings(max_tokens=80), profile=profile))["max_output_tokens"] == 50
    assert sent(asking(settings=Settings(max_tokens=20), profile=profile))["max_output_tokens"] == 20


def test_an_open_schema_is_not_strict() -> None:
    """The API would refuse it otherwise; the answer is checked afterwards all the same."""
    schema = '{"type":"object","properties":{"n":{"type":"number","default":1.50}}}'
    form = sent(asking(settings=Settings(schema=schema)))["text"]["format"]
    assert (form["strict"], form["name"]) == (False, "answer")
    assert schema.encode() in WIRE.render(asking(settings=Settings(schema=schema))).body


@pytest.mark.parametrize(("structured", "form"), [("json_object", {"type": "json_object"}), ("none", None)])
def test_a_form_without_a_schema_is_asked_for_in_words(structured: Any, form: Any) -> None:
    """The schema goes last among the instructions."""
    request = asking(settings=Settings(schema=CLOSED), profile=ModelProfile(structured=structured), instructions=["A"])
    body = sent(request)
    assert body.get("text") == (None if form is None else {"format": form})
    assert [item["role"] for item in body["input"]] == ["system", "system", "user"]
    assert CLOSED in body["input"][1]["content"]


def test_blank_instructions_are_left_out_and_others_may_have_to_be_one() -> None:
    """Each is an item; a server that takes one system message gets them joined."""
    assert [item["content"] for item in sent(asking(instructions=["A", " ", "B"]))["input"]] == ["A", "B", "Hi"]
    single = ModelProfile(one_system_message=True)
    assert [item["content"] for item in sent(asking(instructions=["A", "B"], profile=single))["input"]] == [
        "A\n\nB",
        "Hi",
    ]


def test_background_needs_a_stream() -> None:
    """An answer that would have to be fetched later is refused before it costs anything."""
    with pytest.raises(UnsupportedFeatureError, match="leave background out of params"):
        WIRE.render(asking(params={"background": True}))
    assert sent(asking(params={"background": True}, stream=True))["background"] is True


def test_what_json_does_not_have_is_refused() -> None:
    """With a remedy."""
    with pytest.raises(ConfigurationError, match="look at params and temperature"):
        WIRE.render(asking(params={"x": object()}))


_ROUND = (
    user("What is the weather?"),
    assistant(thought("I look."), said("One moment.", phase="commentary"), called("call_1", "fc_1")),
    result("call_1"),
    assistant(thought(wire_id="rs_2"), said("4 °C.", "msg_2")),
    user("Thanks."),
)


@given(st.integers(1, len(_ROUND)), st.booleans())
def test_requests_are_prefixes_of_later_ones(length: int, cached: bool) -> None:  # noqa: FBT001 — drawn
    """Tools, instructions and messages of a request begin those of every later one, byte by byte."""
    options: dict[str, Any] = {"tools": [WEATHER], "instructions": ["Be brief."]}
    cache: Any = {} if cached else None
    shorter = WIRE.render(asking(*_ROUND[:length], **options), cache).body
    longer = WIRE.render(asking(*_ROUND, **options), cache).body
    assert longer.startswith(shorter.removesuffix(b"]}"))
    assert json.loads(longer)["input"][:2] == json.loads(shorter)["input"][:2]
