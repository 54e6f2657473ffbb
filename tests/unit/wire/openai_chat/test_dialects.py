"""The switches of a profile: what one server insists on and another refuses."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.messages import Message
from nodellm_orm.domain.parts import TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from nodellm_orm.providers.deepseek import DEEPSEEK
from nodellm_orm.providers.mistral import MISTRAL
from nodellm_orm.providers.openrouter import OPENROUTER
from nodellm_orm.wire.openai_chat.call_ids import wire_call_id
from tests.unit.wire.openai_chat.asking import (
    ELSEWHERE,
    HERE,
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
    from nodellm_orm.domain.profile import ModelProfile


def of(row: Any, model: str) -> ModelProfile:
    """What a model of a provider takes in Chat Completions."""
    (dialect,) = (found for found in row.dialects if found.wire.name == WIRE.name)
    profile: ModelProfile = dialect.profiles.find(model)
    return profile


V4, REASONER, OLD_CHAT = (of(DEEPSEEK, f"deepseek-{name}") for name in ("v4-pro", "reasoner", "chat"))
CLAUDE, GEMINI, GROK, GPT = (
    of(OPENROUTER, name)
    for name in ("anthropic/claude-sonnet-4.6", "google/gemini-2.5-flash", "x-ai/grok-4.5", "openai/gpt-5.6")
)
SMALL, MAGISTRAL, LARGE = (of(MISTRAL, name) for name in ("mistral-small-latest", "magistral-medium", "mistral-large"))


def messages(*history: Message, **options: Any) -> list[dict[str, Any]]:
    """The messages that would be sent."""
    rendered: list[dict[str, Any]] = sent(asking(*history, **options))["messages"]
    return rendered


def asked(profile: ModelProfile, config: ThinkingConfig) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The members about thinking, and what was left out."""
    request = asking(profile=profile, settings=Settings(thinking=config))
    names = ("reasoning_effort", "thinking", "reasoning", "prompt_mode")
    return {name: value for name, value in sent(request).items() if name in names}, WIRE.dropped(request)


def _on(effort: str) -> dict[str, Any]:
    return {"thinking": {"type": "enabled"}, "reasoning_effort": effort}


_NONE = ThinkingConfig(effort="none")


@pytest.mark.parametrize(
    ("profile", "config", "expected", "left_out"),
    [
        (V4, ThinkingConfig(effort="minimal"), _on("low"), ()),
        (V4, ThinkingConfig(effort="medium"), _on("high"), ()),
        (V4, ThinkingConfig(effort="max"), _on("max"), ()),
        (V4, ThinkingConfig(budget=2000), _on("low"), ()),
        (V4, _NONE, {"thinking": {"type": "disabled"}}, ()),
        (REASONER, _NONE, _on("low"), ("thinking",)),
        (OLD_CHAT, ThinkingConfig(effort="high"), {}, ("thinking",)),
        (OLD_CHAT, _NONE, {}, ()),
        (CLAUDE, ThinkingConfig(effort="medium"), {"reasoning": {"enabled": True, "effort": "medium"}}, ()),
        (CLAUDE, ThinkingConfig(budget=2000), {"reasoning": {"max_tokens": 2000}}, ()),
        (CLAUDE, ThinkingConfig(), {"reasoning": {"enabled": True}}, ()),
        (CLAUDE, _NONE, {"reasoning": {"effort": "none"}}, ()),
        (CLAUDE, ThinkingConfig(budget=0), {"reasoning": {"effort": "none"}}, ()),
        (GROK, _NONE, {"reasoning": {"enabled": True, "effort": "minimal"}}, ("thinking",)),
        (SMALL, ThinkingConfig(effort="low"), {"reasoning_effort": "high"}, ()),
        (SMALL, _NONE, {"reasoning_effort": "none"}, ()),
        (MAGISTRAL, ThinkingConfig(effort="low"), {"prompt_mode": "reasoning"}, ()),
        (MAGISTRAL, _NONE, {}, ("thinking",)),
        (LARGE, ThinkingConfig(effort="low"), {}, ("thinking",)),
        (LARGE, _NONE, {}, ()),
    ],
)
def test_thinking_is_asked_for_in_the_words_of_the_server(
    profile: ModelProfile, config: ThinkingConfig, expected: dict[str, Any], left_out: tuple[str, ...]
) -> None:
    """Switch, object, mode or word; nothing is said that the model refuses, and that is told."""
    assert asked(profile, config) == (expected, left_out)


@pytest.mark.parametrize("choice", ["required", "get_weather"])
def test_a_model_that_thinks_by_itself_is_forced_only_when_it_does_not(choice: str) -> None:
    """DeepSeek refuses a forced choice in thinking mode, which is on unless it is turned off."""

    def request(profile: ModelProfile, thinking: ThinkingConfig | None) -> Any:
        return asking(tools=[WEATHER], profile=profile, settings=Settings(tool_choice=choice, thinking=thinking))

    for thinking in (None, ThinkingConfig(effort="low")):
        assert "tool_choice" not in sent(request(V4, thinking))
        assert WIRE.dropped(request(V4, thinking)) == ("tool_choice",)
    assert "tool_choice" in sent(request(V4, _NONE))
    assert "tool_choice" in sent(request(OLD_CHAT, None))
    assert "tool_choice" not in sent(request(REASONER, _NONE))
    assert "tool_choice" not in sent(request(replace(V4, thinking_off="never"), _NONE))


def test_thinking_goes_back_to_deepseek_with_every_answer() -> None:
    """As it came, also in later turns: an answer with calls is refused without it."""
    thought = assistant(ThinkingPart(text="Hm.", field="reasoning_content"), called("a"))
    told = messages(user("Hi"), thought, result("a"), assistant(TextPart(text="4")), user("Sure?"), profile=V4)
    assert list(told[1]) == ["role", "content", "reasoning_content", "tool_calls"]
    assert told[1]["reasoning_content"] == "Hm."
    assert "reasoning_content" not in told[3]
    assert "reasoning_content" not in messages(user("Hi"), thought, result("a"), profile=OLD_CHAT)[1]


@pytest.mark.parametrize(
    "answer",
    [
        assistant(called("a")),
        assistant(ThinkingPart(text="Hm.", field="reasoning_content"), called("a"), origin=ELSEWHERE),
        assistant(ThinkingPart(text="Hm.", signature="c2ln"), called("a"), origin=None),
    ],
)
def test_an_answer_with_calls_carries_empty_thinking_where_there_is_none(answer: Message) -> None:
    """Made without thinking, or by another model: the member is there all the same."""
    assert messages(user("Hi"), answer, result("a"), profile=V4)[1]["reasoning_content"] == ""
    assert "reasoning_content" not in messages(user("Hi"), answer, result("a"))[1]


def test_a_model_with_json_only_is_told_the_schema() -> None:
    """DeepSeek has no schemas in Chat Completions."""
    body = sent(asking(profile=V4, settings=Settings(schema='{"type":"object"}', max_tokens=5)))
    assert body["response_format"] == {"type": "json_object"}
    assert "JSON" in body["messages"][0]["content"]
    assert body["max_tokens"] == 5


def test_reasoning_details_go_back_to_openrouter_alone() -> None:
    """Verbatim and in order beside the calls; the plain copy is not sent, and no other provider sees either."""
    details = '[{"type":"reasoning.summary","summary":"s"},{"type":"reasoning.encrypted","data":"e","index":0}]'
    part = ThinkingPart(text="s", field="reasoning_details", opaque=details)
    request = asking(user("Hi"), assistant(part, called("a")), result("a"), profile=GPT)
    assert f'"reasoning_details":{details},"tool_calls"'.encode() in WIRE.render(request).body
    assert "reasoning" not in sent(request)["messages"][1]
    foreign = asking(user("Hi"), assistant(part, called("a"), origin=ELSEWHERE), result("a"), profile=GPT)
    assert b"reasoning" not in WIRE.render(foreign).body


_MARK = {"type": "ephemeral"}


def test_anthropics_routes_are_told_what_to_cache() -> None:
    """The request as a whole and the instructions are marked; no message is, for it would change with the next."""
    cached = Settings(cache=True)
    body = sent(asking(profile=CLAUDE, settings=cached, instructions=["One.", "Two."], tools=[WEATHER]))
    assert body["cache_control"] == _MARK
    assert body["messages"] == [
        {"role": "system", "content": "One."},
        {"role": "system", "content": [{"type": "text", "text": "Two.", "cache_control": _MARK}]},
        {"role": "user", "content": "Hi"},
    ]
    assert "cache_control" not in body["tools"][0]
    assert sent(asking(profile=CLAUDE, settings=cached, tools=[WEATHER]))["tools"][0]["cache_control"] == _MARK


def test_googles_routes_are_told_which_instructions_to_cache() -> None:
    """The last of them carries the mark, and nothing else does."""
    body = sent(asking(profile=GEMINI, settings=Settings(cache=True), instructions=["One."], tools=[WEATHER]))
    assert "cache_control" not in body
    assert body["messages"][0]["content"] == [{"type": "text", "text": "One.", "cache_control": _MARK}]


@pytest.mark.parametrize("profile", [CLAUDE, GPT, V4, SMALL])
@pytest.mark.parametrize("cache", [None, False, True])
def test_what_caches_by_itself_is_told_nothing(profile: ModelProfile, *, cache: bool | None) -> None:
    """Nor is anybody who was not asked to cache."""
    body = WIRE.render(asking(profile=profile, settings=Settings(cache=cache), instructions=["One."])).body
    assert (b"cache_control" in body) == (cache is True and profile is CLAUDE)


def test_mistral_takes_one_system_message() -> None:
    """Instructions are one message, the first; a later one is told in the user's place."""
    late = Message(role="system", parts=(TextPart(text="In French."),))
    told = messages(user("Hi"), assistant(TextPart(text="Yes")), late, instructions=["One.", "Two."], profile=SMALL)
    assert told[0] == {"role": "system", "content": "One.\n\nTwo."}
    assert told[3] == {"role": "user", "content": "<system>\nIn French.\n</system>"}


def test_mistral_hears_the_assistant_between_a_tool_and_a_user() -> None:
    """A question right after a result is refused there, and so are words of the host's; an answer between is not."""
    late = Message(role="system", parts=(TextPart(text="In French."),))
    for next_one in (user("Well?"), late):
        told = messages(user("Hi"), assistant(called("a")), result("a"), next_one, profile=SMALL)
        assert [message["role"] for message in told] == ["user", "assistant", "tool", "assistant", "user"]
        assert told[3] == {"role": "assistant", "content": "OK."}
    answered = [user("Hi"), assistant(called("a")), result("a"), assistant(TextPart(text="4")), user("Well?")]
    assert len(messages(*answered, profile=SMALL)) == 5
    silent = [user("Hi"), assistant(called("a")), result("a"), assistant(ThinkingPart(text="Hm.")), user("Well?")]
    assert [message["role"] for message in messages(*silent, profile=SMALL)][2:] == ["tool", "assistant", "user"]
    assert [message["role"] for message in messages(*silent)][2:] == ["tool", "user"]


def test_mistral_reads_which_tool_a_result_is_of() -> None:
    """Under an id of nine letters and digits, which is the same for the call and its result."""
    call, told = messages(user("Hi"), assistant(called("call_1")), result("call_1"), profile=SMALL)[1:]
    wire_id = call["tool_calls"][0]["id"]
    assert re.fullmatch(r"[A-Za-z0-9]{9}", wire_id)
    assert told == {"role": "tool", "tool_call_id": wire_id, "name": "get_weather", "content": "4 °C"}


@given(st.text(max_size=50), st.text(max_size=50))
def test_ids_are_mapped_to_legal_ones(one: str, other: str) -> None:
    """Always the same for the same call, different for another one; what is legal stays as it is."""
    first, second = wire_call_id(one, 9), wire_call_id(other, 9)
    assert re.fullmatch(r"[A-Za-z0-9]{9}", first)
    assert first == wire_call_id(first, 9) == wire_call_id(one, 9)
    assert (first == second) == (one == other)
    assert wire_call_id(one, None) == one


def test_mistral_is_not_given_tools_that_it_may_not_call() -> None:
    """The choice of none is not obeyed there; what the caller says of parallel calls goes with the tools."""
    settings = Settings(tool_choice="none", parallel_tool_calls=False)
    body = sent(asking(tools=[WEATHER], settings=settings, profile=SMALL))
    assert not body.keys() & {"tools", "tool_choice", "parallel_tool_calls"}
    assert sent(asking(tools=[WEATHER], settings=settings))["tool_choice"] == "none"


def test_mistral_is_not_asked_for_what_it_refuses() -> None:
    """A stream's usage comes unasked, and an unknown member would be an error."""
    body = sent(asking(stream=True, profile=SMALL, settings=Settings(max_tokens=5)))
    assert body == {
        "model": "gpt-5-mini",
        "stream": True,
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "Hi"}],
    }


@pytest.mark.parametrize("name", ["prediction", "random_seed", "user_id", "provider", "plugins", "reasoning"])
def test_what_has_no_setting_goes_as_it_is_given(name: str) -> None:
    """A server's own members are the caller's to write, and win over ours."""
    request = asking(profile=CLAUDE, settings=Settings(thinking=ThinkingConfig(effort="low")), params={name: {"x": 1}})
    assert sent(request)[name] == {"x": 1}


def test_requests_stay_prefixes_in_every_dialect() -> None:
    """Switches never change what was sent before: a further question is added behind it."""
    history = [
        user("Hi"),
        assistant(ThinkingPart(text="Hm.", field="reasoning_content"), called("a"), called("b")),
        result("b"),
        result("a"),
        user("Well?"),
    ]
    for profile in (V4, REASONER, CLAUDE, GEMINI, GPT, SMALL, MAGISTRAL):
        settings = Settings(cache=True)
        bodies = [
            WIRE.render(
                asking(*history[:end], profile=profile, settings=settings, tools=[WEATHER], instructions=["Be brief."])
            ).body
            for end in (1, 2, 4, 5)
        ]
        for before, after in itertools.pairwise(bodies):
            assert after.startswith(before.removesuffix(b"]}"))


def test_a_call_without_an_origin_keeps_its_id_elsewhere() -> None:
    """The map depends on the id alone, not on where the call was made."""
    call = ToolCallPart(call_id="toolu_01", name="f", arguments="{}", wire_id="toolu_01")
    told = [
        messages(user("Hi"), assistant(call, origin=origin), result("toolu_01"), profile=SMALL)
        for origin in (None, HERE, ELSEWHERE)
    ]
    assert told[0] == told[1] == told[2]
