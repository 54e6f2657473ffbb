"""How thinking is asked for, and that it leaves room for an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.parts import TextPart, ThinkingPart
from nodellm_orm.domain.profile import EFFORTS, ModelProfile
from nodellm_orm.domain.settings import Settings, ThinkingConfig
from tests.unit.wire.anthropic.asking import ELSEWHERE, WEATHER, WIRE, asking, assistant, call, result, sent, user

_BUDGET = ModelProfile(thinking="budget", default_max_tokens=4096, max_output_tokens=64000, thinking_off="disabled")
_ADAPTIVE = ModelProfile(thinking="adaptive", efforts=("low", "medium", "high", "max"), sampling=False)


def _asked(max_tokens: int | None = None, **config: object) -> Settings:
    return Settings(max_tokens=max_tokens, thinking=ThinkingConfig(**config))  # type: ignore[arg-type]  # by name


def test_nothing_is_said_unless_asked() -> None:
    """Without the setting, thinking is left to the provider."""
    body = sent(asking(profile=_ADAPTIVE))
    assert body.keys().isdisjoint({"thinking", "output_config"})


@pytest.mark.parametrize(
    ("max_tokens", "budget", "expected"),
    [
        (None, 2048, (2048, 6144)),
        (None, 10, (1024, 5120)),
        (10000, 2048, (2048, 10000)),
        (1000, 2048, (2048, 3048)),
        (2048, 2048, (2048, 4096)),
        (None, 63000, (59904, 64000)),
        (64000, 100000, (32000, 64000)),
        (100, 100000, (63900, 64000)),
    ],
)
def test_a_budget_leaves_room_for_the_answer(max_tokens: int | None, budget: int, expected: tuple[int, int]) -> None:
    """The budget comes on top where it would take the answer's tokens, up to the model's own cap."""
    body = sent(asking(settings=_asked(max_tokens, budget=budget), profile=_BUDGET))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": expected[0]}
    assert body["max_tokens"] == expected[1]


@given(
    max_tokens=st.none() | st.integers(0, 10**5),
    budget=st.integers(-5, 10**5),
    cap=st.none() | st.integers(1, 10**5),
    default=st.none() | st.integers(1, 10**5),
)
def test_a_budget_is_always_smaller_than_max_tokens(
    max_tokens: int | None, budget: int, cap: int | None, default: int | None
) -> None:
    """Whatever is asked, the numbers sent are those that the API accepts together."""
    profile = ModelProfile(thinking="budget", max_output_tokens=cap, default_max_tokens=default)
    request = asking(settings=_asked(max_tokens, budget=budget), profile=profile)
    body = sent(request)
    assert cap is None or body["max_tokens"] <= cap
    if "thinking" in body:
        assert 1024 <= body["thinking"]["budget_tokens"] < body["max_tokens"]
    elif budget > 0:
        assert WIRE.dropped(request) == ("thinking",)
        assert max_tokens is None or body["max_tokens"] <= max(max_tokens, 1)


@pytest.mark.parametrize("effort", [word for word in EFFORTS if word != "none"])
def test_a_word_becomes_a_budget(effort: str) -> None:
    """Every word of the common scale is a budget for models that take tokens."""
    body = sent(asking(settings=_asked(effort=effort), profile=_BUDGET))
    assert 1024 <= body["thinking"]["budget_tokens"] < body["max_tokens"]


@pytest.mark.parametrize(
    ("config", "effort"),
    [
        ({"effort": "minimal"}, "low"),
        ({"effort": "xhigh"}, "max"),
        ({"budget": 8000}, "medium"),
        ({}, None),
    ],
)
def test_adaptive_thinking(config: dict[str, object], effort: str | None) -> None:
    """Newer models are told to think and how hard, and to show what they think."""
    body = sent(asking(settings=_asked(**config), profile=_ADAPTIVE))  # type: ignore[arg-type]  # by name
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body.get("output_config") == (None if effort is None else {"effort": effort})
    assert body["max_tokens"] == 4096


@pytest.mark.parametrize("config", [{"effort": "none"}, {"budget": 0}])
@pytest.mark.parametrize(
    ("profile", "thinking", "effort", "dropped"),
    [
        (ModelProfile(thinking="adaptive", thinking_off="omit"), None, None, ()),
        (_BUDGET, {"type": "disabled"}, None, ()),
        (ModelProfile(thinking="adaptive", thinking_off="between_tools"), {"type": "between_tools"}, None, ()),
        (ModelProfile(thinking="adaptive", thinking_off="never", efforts=("low", "max")), None, "low", ("thinking",)),
        (ModelProfile(), None, None, ()),
    ],
)
def test_thinking_turned_off(
    config: dict[str, object],
    profile: ModelProfile,
    thinking: dict[str, object] | None,
    effort: str | None,
    dropped: tuple[str, ...],
) -> None:
    """Each generation is told in its own way; a model that always thinks is told to think little."""
    request = asking(settings=_asked(**config), profile=profile)  # type: ignore[arg-type]  # by name
    body = sent(request)
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort
    assert WIRE.dropped(request) == dropped


def test_a_model_that_cannot_think() -> None:
    """The setting is left out, and named, for a model without thinking."""
    request = asking(settings=_asked(effort="high"))
    assert "thinking" not in sent(request)
    assert WIRE.dropped(request) == ("thinking",)


def test_a_budget_and_a_forced_tool() -> None:
    """The API refuses a budget beside a forced tool: the tool is what the request is for."""
    settings = Settings(thinking=ThinkingConfig(budget=2048), tool_choice="required", temperature=0.1)
    request = asking(settings=settings, tools=[WEATHER], profile=_BUDGET)
    body = sent(request)
    assert "thinking" not in body
    assert (body["max_tokens"], body["temperature"]) == (4096, 0.1)
    assert WIRE.dropped(request) == ("thinking",)
    adaptive = sent(asking(settings=settings, tools=[WEATHER], profile=_ADAPTIVE))
    assert adaptive["thinking"]["type"] == "adaptive"


def test_a_turn_that_did_not_begin_with_thinking() -> None:
    """With a budget, the API goes on only with a turn that begins with its thinking: others go on without."""
    settings = Settings(thinking=ThinkingConfig(budget=2048))
    signed = ThinkingPart(text="Hm", signature="c2ln")

    def thinks(*parts: ThinkingPart | TextPart, origin: object = None) -> bool:
        answer = assistant(*parts, call(), **({"origin": origin} if origin else {}))  # type: ignore[arg-type]  # by name
        request = asking(user("Hi"), answer, result(), settings=settings, tools=[WEATHER], profile=_BUDGET)
        return "thinking" in sent(request)

    assert thinks(signed)
    assert thinks(signed, TextPart(text="x"))
    assert not thinks()
    assert not thinks(TextPart(text="x"), signed)
    assert not thinks(signed, origin=ELSEWHERE)
    over = asking(user("Hi"), assistant(TextPart(text="x")), user("?"), settings=settings, profile=_BUDGET)
    assert "thinking" in sent(over)
