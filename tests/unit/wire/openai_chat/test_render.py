"""Requests: the same values give the same bytes, and every word in them is one the model takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import OpaquePart, RefusalPart, TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from tests.unit.wire.openai_chat.asking import (
    ELSEWHERE,
    HERE,
    PLAIN,
    WEATHER,
    WIRE,
    asking,
    assistant,
    called,
    result,
    sent,
    user,
)

if TYPE_CHECKING:
    from nodellm_orm.ports.wire import ModelRequest, RenderCache

_CLOSED = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'


def _closed(member: str, definition: str = '{"type":"null"}') -> str:
    """A closed object schema with one member, and a definition that the member may refer to."""
    head = f'{{"type":"object","properties":{{"n":{member}}},"required":["n"],"additionalProperties":false'
    return f'{head},"$defs":{{"N":{definition}}}}}'


_REPLAYS = ModelProfile(thinking_replay="field")


def messages(*history: Message, **options: Any) -> list[dict[str, Any]]:
    """The messages that would be sent."""
    rendered: list[dict[str, Any]] = sent(asking(*history, **options))["messages"]
    return rendered


def test_a_plain_request_says_model_and_messages_only() -> None:
    """Nothing is sent that nobody asked for."""
    request = WIRE.render(asking())
    assert request.body == b'{"model":"gpt-5-mini","messages":[{"role":"user","content":"Hi"}]}'
    assert (request.path, request.method, request.stream) == ("/chat/completions", "POST", False)
    assert dict(request.headers) == {"content-type": "application/json"}


def test_what_grows_comes_last() -> None:
    """Tools and messages end the body in that order, instructions first."""
    settings = Settings(temperature=0.5, max_tokens=9, tool_choice="required", schema=_CLOSED, schema_name="n")
    body = sent(asking(settings=settings, tools=[WEATHER], instructions=["Be brief."], stream=True))
    assert list(body)[-2:] == ["tools", "messages"]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}


def test_every_instruction_is_a_message_of_its_own() -> None:
    """Several instructions arrive all, in order; blank ones do not."""
    told = messages(user("Hi"), instructions=["One.", "  ", "Two."])
    assert told == [
        {"role": "system", "content": "One."},
        {"role": "system", "content": "Two."},
        {"role": "user", "content": "Hi"},
    ]


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_instructions_have_the_role_that_the_model_knows(role: Any) -> None:
    """The profile names it, for instructions and for system messages in the conversation."""
    inside = Message(role="system", parts=(TextPart(text="Now in French."),))
    told = messages(user("Hi"), inside, instructions=["Be brief."], profile=ModelProfile(system_role=role))
    assert [message["role"] for message in told] == [role, "user", role]


def test_a_round_of_calls_goes_back_as_it_came() -> None:
    """Calls keep ids, names and the very characters of their arguments; results follow, one message a call."""
    arguments = '{"city" : "Oslo", "n": 1.50, "n": 1e5}'
    told = messages(
        user("Hi"), assistant(called("c1", arguments), called("c2", "not json")), result("c1"), result("c2")
    )
    assert told[1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": arguments}},
                {"id": "c2", "type": "function", "function": {"name": "get_weather", "arguments": "not json"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "4 °C"},
        {"role": "tool", "tool_call_id": "c2", "content": "4 °C"},
    ]


def test_results_follow_in_the_order_of_the_calls() -> None:
    """Results that were recorded in another order are sent in the order of their calls."""
    told = messages(user("Hi"), assistant(called("a"), called("b"), called("c")), result("c"), result("a"), result("b"))
    assert [message.get("tool_call_id") for message in told[2:]] == ["a", "b", "c"]


def test_several_results_in_one_message_are_several_messages() -> None:
    """A message with two results becomes two messages."""
    both = Message(role="tool", parts=tuple(ToolResultPart(call_id=i, name="f", content=f"r{i}") for i in ("a", "b")))
    told = messages(user("Hi"), assistant(called("a"), called("b")), both)
    assert [message["content"] for message in told[2:]] == ["ra", "rb"]


def test_calls_are_sent_under_the_id_they_have_in_the_chat() -> None:
    """The provider's own id, which may be missing or repeated, stays at home."""
    call = ToolCallPart(call_id="ours", wire_id="theirs", name="f", arguments="{}")
    assert messages(user("Hi"), assistant(call))[1]["tool_calls"][0]["id"] == "ours"


def test_text_beside_calls_is_kept() -> None:
    """An answer with both text and calls sends both."""
    told = messages(user("Hi"), assistant(TextPart(text="Let me "), TextPart(text="look."), called("a")))
    assert told[1]["content"] == "Let me look."


def test_what_was_broken_off_goes_back_as_its_text() -> None:
    """Of a partial answer only the text is sent, and nothing where there was none."""
    parts = (ThinkingPart(text="Hm.", field="reasoning_content"), TextPart(text="It is"), called("a", '{"ci'))
    assert messages(user("Hi"), assistant(*parts, status="partial"), profile=_REPLAYS)[1] == {
        "role": "assistant",
        "content": "It is",
    }
    assert len(messages(user("Hi"), assistant(called("a", '{"ci'), status="partial"), user("Go on"))) == 2


def test_an_answer_without_anything_to_send_is_left_out() -> None:
    """An empty message, or one of thinking that is not replayed, would be refused."""
    assert len(messages(user("Hi"), assistant(), assistant(ThinkingPart(text="Hm.")), user("Well?"))) == 2


def test_a_refusal_goes_back_as_one_at_home_and_as_text_elsewhere() -> None:
    """Look-alikes do not know the member; their model still reads what was said."""
    refused = assistant(RefusalPart(text="I won't."))
    assert messages(user("Hi"), refused)[1] == {"role": "assistant", "content": None, "refusal": "I won't."}
    assert messages(user("Hi"), refused, target=ELSEWHERE)[1] == {"role": "assistant", "content": "I won't."}


@pytest.mark.fault("A47")
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "reasoning_text", "thinking"])
def test_thinking_goes_back_in_the_field_it_came_in(field: str) -> None:
    """Where the profile asks for it, at its own origin; never elsewhere, never unasked."""
    thought = assistant(ThinkingPart(text="Hm.", field=field), TextPart(text="Yes"), called("a"))
    assert messages(user("Hi"), thought, profile=_REPLAYS)[1][field] == "Hm."
    assert field not in messages(user("Hi"), thought)[1]
    assert field not in messages(user("Hi"), thought, profile=_REPLAYS, target=ELSEWHERE)[1]


@pytest.mark.fault("A47")
def test_structured_thinking_goes_back_byte_for_byte() -> None:
    """Signatures hold for the very bytes they came with; the plain text is not sent a second time."""
    details = '[{"type":"reasoning.text","text":"Hm.","signature":"c2ln","index":0,"x":1.50}]'
    part = ThinkingPart(text="Hm.", signature="c2ln", field="reasoning_details", opaque=details)
    request = asking(user("Hi"), assistant(part, called("a")), profile=_REPLAYS)
    assert f'"reasoning_details":{details}'.encode() in WIRE.render(request).body
    assert "reasoning" not in sent(request)["messages"][1]


def test_thinking_that_was_an_item_of_content_goes_back_as_one() -> None:
    """Mistral's chunks keep their place before the text."""
    item = '{"type":"thinking","thinking":[{"type":"text","text":"Hm."}],"closed":true}'
    answer = assistant(ThinkingPart(text="Hm.", field="content", opaque=item), TextPart(text="Yes"))
    told = messages(user("Hi"), answer, profile=_REPLAYS)[1]["content"]
    assert told == [json.loads(item), {"type": "text", "text": "Yes"}]
    assert messages(user("Hi"), answer)[1]["content"] == "Yes"


def test_opaque_items_go_back_to_their_origin_only() -> None:
    """A block this version does not understand is sent verbatim at home and left out elsewhere."""
    answer = assistant(
        TextPart(text="See "),
        OpaquePart(payload='{"type":"reference","ids":[1.0]}'),
        OpaquePart(payload='{"unknown_part":{}}'),
    )
    request = asking(user("Hi"), answer)
    assert b'[{"type":"text","text":"See "},{"type":"reference","ids":[1.0]}]' in WIRE.render(request).body
    assert messages(user("Hi"), answer, target=ELSEWHERE)[1]["content"] == "See "


def test_members_beyond_text_and_call_go_back_to_their_origin_only() -> None:
    """Vendors' signatures, and notes where the server reads them, return verbatim; what servers refuse stays."""
    call = ToolCallPart(
        call_id="a", name="f", arguments="{}", extra='{"extra_content":{"google":{"thought_signature":"c2ln"}}}'
    )
    text = TextPart(text="Yes", extra='{"annotations":[{"type":"url_citation","n":1.0}],"audio":{"id":"a"}}')
    noting = ModelProfile(file_form="openrouter")
    body = WIRE.render(asking(user("Hi"), assistant(text, call), profile=noting)).body
    assert b'"extra_content":{"google":{"thought_signature":"c2ln"}}' in body
    assert b'"annotations":[{"type":"url_citation","n":1.0}]' in body
    assert b"audio" not in body
    plain = WIRE.render(asking(user("Hi"), assistant(text, call))).body
    assert b'"extra_content":{"google":{"thought_signature":"c2ln"}}' in plain
    assert b"annotations" not in plain
    foreign = WIRE.render(asking(user("Hi"), assistant(text, call), target=ELSEWHERE)).body
    assert b"extra_content" not in foreign
    assert b"annotations" not in foreign


def test_several_texts_of_a_user_stay_apart() -> None:
    """One text is a string, several are a list."""
    both = Message(role="user", parts=(TextPart(text="a"), TextPart(text="b")))
    assert messages(both)[0]["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def test_a_lone_surrogate_leaves_as_the_escape_it_came_as() -> None:
    """The body is UTF-8 whatever the text holds."""
    body = WIRE.render(asking(user("a\ud83d z\u20ac"))).body
    assert b"a\\ud83d z\xe2\x82\xac" in body
    assert json.loads(body)["messages"][0]["content"] == "a\ud83d z\u20ac"


def test_tools_are_functions_with_their_schemas_verbatim() -> None:
    """Name, description and parameters; no description where there is none."""
    bare = ToolSpec(name="f", description="", parameters='{"properties":{}}')
    request = asking(tools=[WEATHER, bare])
    assert WEATHER.parameters.encode() in WIRE.render(request).body
    assert sent(request)["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "Tells the weather.",
                "parameters": json.loads(WEATHER.parameters),
            },
        },
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}},
    ]


@pytest.mark.parametrize(
    ("parameters", "structured", "expected"),
    [(_CLOSED, "json_schema", True), ('{"type":"object"}', "json_schema", None), (_CLOSED, "json_object", None)],
)
def test_strict_tools_need_a_closed_schema_and_a_model_that_knows_them(
    parameters: str,
    structured: Any,
    expected: bool | None,  # noqa: FBT001 — the expectation
) -> None:
    """``strict`` is never sent where the server would refuse it."""
    strict = ToolSpec(name="f", description="", parameters=parameters, strict=True)
    body = sent(asking(tools=[strict], profile=ModelProfile(structured=structured)))
    assert body["tools"][0]["function"].get("strict") is expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", None),
        ("none", "none"),
        ("required", "required"),
        ("get_weather", {"type": "function", "function": {"name": "get_weather"}}),
    ],
)
def test_tool_choice_says_word_or_function(choice: str | None, expected: object) -> None:
    """A tool's own name becomes a choice of that function."""
    body = sent(asking(tools=[WEATHER], settings=Settings(tool_choice=choice)))
    assert body.get("tool_choice") == expected


@pytest.mark.parametrize("choice", ["required", "get_weather"])
def test_a_choice_that_cannot_be_forced_is_left_out_and_named(choice: str) -> None:
    """With a model that cannot be forced, and without tools."""
    for request in (
        asking(tools=[WEATHER], settings=Settings(tool_choice=choice), profile=ModelProfile(forced_tool_choice=False)),
        asking(settings=Settings(tool_choice=choice)),
    ):
        assert "tool_choice" not in sent(request)
        assert WIRE.dropped(request) == ("tool_choice",)
    silent = asking(settings=Settings(tool_choice="none"))
    assert "tool_choice" not in sent(silent)
    assert WIRE.dropped(silent) == ()


@pytest.mark.parametrize(
    ("wanted", "knows", "tools", "expected", "left_out"),
    [
        (False, True, True, False, ()),
        (True, True, True, True, ()),
        (None, True, True, None, ()),
        (False, True, False, None, ()),
        (False, False, True, None, ("parallel_tool_calls",)),
        (True, False, True, None, ()),
    ],
)
def test_parallel_calls_are_switched_where_there_is_a_switch(
    wanted: bool | None,  # noqa: FBT001 — a case of the table
    knows: bool,  # noqa: FBT001 — a case of the table
    tools: bool,  # noqa: FBT001 — a case of the table
    expected: bool | None,  # noqa: FBT001 — a case of the table
    left_out: tuple[str, ...],
) -> None:
    """Only with tools, only where the model knows it; turning them off in vain is told."""
    request = asking(
        tools=[WEATHER] if tools else [],
        settings=Settings(parallel_tool_calls=wanted),
        profile=ModelProfile(parallel_tool_calls=knows),
    )
    assert sent(request).get("parallel_tool_calls") is expected
    assert WIRE.dropped(request) == left_out


@pytest.mark.parametrize("tools", ["prompted", "none"])
def test_a_model_without_tools_is_not_given_any(tools: Any) -> None:
    """The request fails before it is sent."""
    with pytest.raises(UnsupportedFeatureError, match="takes no tools"):
        WIRE.render(asking(tools=[WEATHER], profile=ModelProfile(tools=tools)))


def test_length_is_said_in_the_models_word_and_capped() -> None:
    """The profile names the member and the most that the model takes."""
    profile = ModelProfile(max_tokens_field="max_completion_tokens", max_output_tokens=100, default_max_tokens=7)
    assert sent(asking(settings=Settings(max_tokens=50), profile=profile))["max_completion_tokens"] == 50
    assert sent(asking(settings=Settings(max_tokens=500), profile=profile))["max_completion_tokens"] == 100
    assert "max_completion_tokens" not in sent(asking(profile=profile))
    assert sent(asking(settings=Settings(max_tokens=5)))["max_tokens"] == 5


def test_temperature_is_left_out_where_it_is_refused() -> None:
    """And named; elsewhere it is sent, 0 included."""
    refused = asking(settings=Settings(temperature=0.0), profile=ModelProfile(sampling=False))
    assert "temperature" not in sent(refused)
    assert WIRE.dropped(refused) == ("temperature",)
    assert sent(asking(settings=Settings(temperature=0.0)))["temperature"] == 0.0


_LEVELS: Any = ("low", "medium", "high")


@pytest.mark.parametrize(
    ("config", "profile", "expected", "left_out"),
    [
        (ThinkingConfig(effort="xhigh"), ModelProfile(thinking="effort", efforts=_LEVELS), "high", ()),
        (ThinkingConfig(effort="minimal"), ModelProfile(thinking="effort", efforts=_LEVELS), "low", ()),
        (ThinkingConfig(budget=8000), ModelProfile(thinking="effort", efforts=_LEVELS), "medium", ()),
        (ThinkingConfig(), ModelProfile(thinking="effort", efforts=_LEVELS), "medium", ()),
        (ThinkingConfig(effort="high"), ModelProfile(thinking="effort"), None, ("thinking",)),
        (ThinkingConfig(effort="high"), PLAIN, None, ("thinking",)),
        (ThinkingConfig(budget=2000), ModelProfile(thinking="budget", efforts=_LEVELS), None, ("thinking",)),
        (ThinkingConfig(effort="none"), PLAIN, None, ()),
        (ThinkingConfig(budget=0), ModelProfile(thinking="effort", efforts=_LEVELS), None, ()),
        (
            ThinkingConfig(effort="none"),
            ModelProfile(thinking="effort", efforts=("none", *_LEVELS), thinking_off="disabled"),
            "none",
            (),
        ),
        (
            ThinkingConfig(effort="none"),
            ModelProfile(thinking="effort", efforts=("minimal", *_LEVELS), thinking_off="never"),
            "minimal",
            ("thinking",),
        ),
    ],
)
def test_thinking_is_said_in_the_nearest_word(
    config: ThinkingConfig, profile: ModelProfile, expected: str | None, left_out: tuple[str, ...]
) -> None:
    """Budgets become words, words the nearest accepted one; what cannot be said is named."""
    request = asking(settings=Settings(thinking=config), profile=profile)
    assert sent(request).get("reasoning_effort") == expected
    assert WIRE.dropped(request) == left_out


@pytest.mark.parametrize(("effort", "expected"), [("high", None), ("none", 0.5), (None, 0.5)])
def test_temperature_gives_way_to_thinking_where_they_exclude_each_other(effort: Any, expected: float | None) -> None:
    """Some models take it only while they do not think."""
    profile = ModelProfile(
        thinking="effort", efforts=("none", *_LEVELS), thinking_off="disabled", sampling_with_thinking=False
    )
    config = ThinkingConfig(effort=effort) if effort else None
    request = asking(settings=Settings(temperature=0.5, thinking=config), profile=profile)
    assert sent(request).get("temperature") == expected
    assert WIRE.dropped(request) == (() if expected else ("temperature",))
    free = ModelProfile(thinking="effort", efforts=_LEVELS)
    assert sent(asking(settings=Settings(temperature=0.5, thinking=config), profile=free))["temperature"] == 0.5


def test_thinking_is_turned_off_by_a_member_of_its_own_where_no_word_does() -> None:
    """DeepSeek and Z.ai have a switch beside the scale."""
    profile = ModelProfile(thinking="effort", efforts=("low", "high"), thinking_off="disabled")
    body = sent(asking(settings=Settings(thinking=ThinkingConfig(effort="none")), profile=profile))
    assert body["thinking"] == {"type": "disabled"}
    assert "reasoning_effort" not in body


def test_usage_is_asked_for_where_the_server_knows_how() -> None:
    """Streams ask for their usage, unless the profile says that the option is refused."""
    body = sent(asking(stream=True))
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert "stream_options" not in sent(asking(stream=True, profile=ModelProfile(stream_usage=False)))
    assert WIRE.render(asking(stream=True)).stream


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (_CLOSED, True),
        ('{"type":"object","properties":{},"additionalProperties":false}', True),
        ('{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}', None),
        ('{"type":"object","properties":{"n":{"type":"integer"}},"additionalProperties":false}', None),
        ('{"type":"object","additionalProperties":{"type":"integer"}}', None),
        (_closed("{}"), None),
        (_closed('{"type":"array","items":{"type":"object"}}'), None),
        (_closed('{"anyOf":[{"$ref":"#/$defs/N"},{"type":"null"}]}', _CLOSED), True),
        (_closed('{"$ref":"#/$defs/N"}', '{"type":["object","null"]}'), None),
        (_closed('{"type":"integer","default":1}'), None),
        ('{"type":"object","properties":[],"required":[],"additionalProperties":false}', None),
        ('{"type":"object","properties":{},"required":"n","additionalProperties":false}', None),
        ('{"anyOf":[{"type":"string"}]}', None),
    ],
)
def test_a_schema_is_strict_exactly_when_it_is_closed(schema: str, strict: bool | None) -> None:  # noqa: FBT001 — the expectation
    """It is sent verbatim under its name; ``strict`` where every object in it is closed."""
    request = asking(settings=Settings(schema=schema, schema_name="city"))
    form = sent(request)["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["name"] == "city"
    assert form["json_schema"].get("strict") is strict
    assert schema.encode() in WIRE.render(request).body


def test_a_schema_without_a_name_has_one() -> None:
    """The API demands it."""
    assert sent(asking(settings=Settings(schema=_CLOSED)))["response_format"]["json_schema"]["name"] == "answer"


def test_a_model_with_json_only_is_told_the_schema_in_words() -> None:
    """The last instruction holds it, and the word JSON that the mode demands."""
    profile = ModelProfile(structured="json_object")
    body = sent(asking(settings=Settings(schema=_CLOSED), profile=profile, instructions=["Be brief."]))
    assert body["response_format"] == {"type": "json_object"}
    assert [message["role"] for message in body["messages"]] == ["system", "system", "user"]
    assert _CLOSED in body["messages"][1]["content"]
    assert "JSON" in body["messages"][1]["content"]


def test_a_model_without_a_switch_for_structured_output_is_asked_in_words() -> None:
    """Nothing is sent that it would refuse; the schema is in the last instruction."""
    body = sent(asking(settings=Settings(schema=_CLOSED), profile=ModelProfile(structured="none")))
    assert "response_format" not in body
    assert body["messages"][0]["content"].endswith(_CLOSED)


@pytest.mark.parametrize("schema", ["[]", "{", '"object"'])
@pytest.mark.parametrize("structured", ["json_schema", "json_object"])
def test_a_schema_that_is_none_is_refused(schema: str, structured: Any) -> None:
    """The request fails before it is sent."""
    with pytest.raises(ConfigurationError, match="pass a pydantic model"):
        WIRE.render(asking(settings=Settings(schema=schema), profile=ModelProfile(structured=structured)))


def test_the_callers_own_words_win() -> None:
    """Params replace what was there and add what was not; the order of what grows stays."""
    params = {"temperature": 1, "top_p": 0.5, "messages": [], "tools": None}
    body = sent(asking(settings=Settings(temperature=0.5), tools=[WEATHER], params=params))
    assert body == {"model": "gpt-5-mini", "temperature": 1, "top_p": 0.5, "tools": None, "messages": []}
    assert list(body)[-2:] == ["tools", "messages"]


def test_params_that_json_does_not_have_are_refused() -> None:
    """With our own error, before anything is sent."""
    with pytest.raises(ConfigurationError, match="NaN"):
        WIRE.render(asking(params={"top_p": float("nan")}))


def test_all_that_is_left_out_is_named_in_order() -> None:
    """A request that asks a simple model for everything."""
    settings = Settings(
        temperature=1, thinking=ThinkingConfig(effort="high"), tool_choice="required", parallel_tool_calls=False
    )
    profile = ModelProfile(sampling=False, forced_tool_choice=False, parallel_tool_calls=False)
    request = asking(tools=[WEATHER], settings=settings, profile=profile)
    assert WIRE.dropped(request) == ("parallel_tool_calls", "temperature", "thinking", "tool_choice")


_TEXTS = st.text(max_size=8)
_PARTS = st.one_of(
    st.builds(TextPart, text=_TEXTS, extra=st.sampled_from([None, '{"annotations":[1.50]}'])),
    st.builds(RefusalPart, text=_TEXTS),
    st.builds(ThinkingPart, text=_TEXTS, field=st.sampled_from([None, "reasoning_content"])),
    st.builds(ToolCallPart, call_id=_TEXTS, name=_TEXTS, arguments=_TEXTS),
    st.builds(OpaquePart, payload=st.just('{"type":"x"}')),
)
_MESSAGES = st.one_of(
    st.builds(user, _TEXTS),
    st.builds(
        lambda parts, origin, status: Message(role="assistant", parts=tuple(parts), origin=origin, status=status),
        st.lists(_PARTS, max_size=4),
        st.sampled_from([None, HERE, ELSEWHERE]),
        st.sampled_from(["complete", "partial"]),
    ),
    st.builds(result, _TEXTS, _TEXTS),
)


@given(st.lists(_MESSAGES, min_size=1, max_size=8), st.sampled_from([PLAIN, _REPLAYS]))
def test_what_was_sent_is_a_prefix_of_what_will_be(history: list[Message], profile: ModelProfile) -> None:
    """A further user message and answer change no byte of what came before, with a cache and without one."""
    before = asking(*history, profile=profile, tools=[WEATHER], instructions=["Be brief."])
    longer = [*history, user("More"), assistant(TextPart(text="Yes"))]
    after = asking(*longer, profile=profile, tools=[WEATHER], instructions=["Be brief."])
    cache: RenderCache = {}
    first, again = WIRE.render(before, cache).body, WIRE.render(after, cache).body
    assert first == WIRE.render(before).body
    assert again == WIRE.render(after).body
    assert again.startswith(first.removesuffix(b"]}"))
    json.loads(again)


def test_the_cache_serialises_a_message_once() -> None:
    """What is in the cache is sent, so that a long conversation costs only what is new."""
    request: ModelRequest = asking(user("Hi"), assistant(TextPart(text="Yes")))
    cache: RenderCache = {id(request.messages[0]): (request.messages[0], ('{"role":"user","content":"cached"}',))}
    assert sent(request, cache)["messages"][0]["content"] == "cached"
    assert set(cache) == {id(message) for message in request.messages}
