"""Usage, money, effort, policies, messages, replies and pages: small values with exact rules."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, fields
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.effort import EFFORT_BUDGETS, budget_of, effort_of, is_off, nearest_effort
from nodellm_orm.domain.messages import Completion, FinishReason, Message, Origin, user
from nodellm_orm.domain.money import PICO, UNKNOWN_COST, Price, add, exact
from nodellm_orm.domain.pages import Page
from nodellm_orm.domain.parts import RefusalPart, TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.policies import DEFAULT_RETRY_STATUSES, RetryPolicy, Timeout
from nodellm_orm.domain.profile import EFFORTS, Effort
from nodellm_orm.domain.replies import Chunk, Reply
from nodellm_orm.domain.settings import ThinkingConfig
from nodellm_orm.domain.tools import ToolSpec
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import ConfigurationError

COUNTS = st.none() | st.integers(0, 2**63)
AMOUNTS = st.none() | st.decimals(0, 1000, places=12)
USAGES = st.builds(
    Usage,
    input_tokens=COUNTS,
    cached_tokens=COUNTS,
    cache_write_tokens=COUNTS,
    output_tokens=COUNTS,
    reasoning_tokens=COUNTS,
    other_tokens=st.dictionaries(st.sampled_from("abc"), st.integers(0, 100)),
    reported_cost=AMOUNTS,
)


@given(USAGES, USAGES, USAGES)
def test_usages_add_up_in_any_order(one: Usage, two: Usage, three: Usage) -> None:
    """Addition is commutative and associative, and nothing is lost or rounded."""
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + Usage() == one


@pytest.mark.fault("A45")
def test_unknown_counts_stay_unknown_only_together() -> None:
    """``None`` and a number give the number, ``None`` twice gives ``None``, never 0."""
    total = Usage(input_tokens=3) + Usage(output_tokens=4, reported_cost=Decimal("0.1"))
    assert total == Usage(input_tokens=3, output_tokens=4, reported_cost=Decimal("0.1"))
    assert total.cached_tokens is None


@pytest.mark.parametrize(
    ("usage", "total"),
    [
        (Usage(), None),
        (Usage(input_tokens=3), 3),
        (Usage(output_tokens=0), 0),
        (Usage(input_tokens=3, output_tokens=4, cached_tokens=2, reasoning_tokens=1), 7),
    ],
)
def test_the_total_counts_no_token_twice(usage: Usage, total: int | None) -> None:
    """Cached and reasoning tokens are inside input and output."""
    assert usage.total_tokens == total


@given(USAGES, USAGES)
def test_newer_counts_replace_older_ones(older: Usage, newer: Usage) -> None:
    """What the newer report states counts; what it leaves out stays."""
    updated = older.updated(newer)
    for f in fields(Usage):
        if f.name != "other_tokens":
            stated = getattr(newer, f.name)
            assert getattr(updated, f.name) == (getattr(older, f.name) if stated is None else stated)
    assert updated.other_tokens == {**older.other_tokens, **newer.other_tokens}
    assert updated.updated(newer) == updated


def test_usage_can_be_copied_pickled_and_made_a_dict() -> None:
    """Replies travel through queues and JSON encoders, and their usage with them."""
    usage = Usage(input_tokens=1)
    assert pickle.loads(pickle.dumps(usage)) == copy.deepcopy(usage) == usage  # noqa: S301 — our own bytes
    assert asdict(usage)["other_tokens"] == {}


@pytest.mark.parametrize(
    ("amount", "digits"), [(0.1, "0.1"), (1, "1"), ("0.30", "0.30"), (Decimal("1.50"), "1.50"), (1e-12, "1E-12")]
)
def test_money_keeps_the_digits_it_is_written_with(amount: Any, digits: str) -> None:
    """A tenth is a tenth, not its binary neighbour."""
    assert str(exact(amount)) == digits


@given(st.lists(st.decimals(0, 10**11, places=12), max_size=20))
def test_sums_of_money_are_exact(amounts: list[Decimal]) -> None:
    """As many pico-dollars come out as went in."""
    total: Decimal | None = Decimal(0)
    for amount in amounts:
        total = add(total, amount)
    assert total is not None
    assert int(total / PICO) == sum(int(amount.scaleb(12)) for amount in amounts)


def test_money_is_unknown_only_together() -> None:
    """The sum of what is known; ``None`` only when nothing is."""
    assert add(None, None) is None
    assert add(Decimal(1), None) == add(None, Decimal(1)) == Decimal(1)
    assert UNKNOWN_COST.total is None


@pytest.mark.parametrize("amount", ["much", "", float("nan"), float("inf"), Decimal("sNaN"), "1,50"])
def test_what_is_no_amount_is_refused(amount: Any) -> None:
    """NaN and Infinity are no money, and neither are words."""
    with pytest.raises(InvalidOperation):
        exact(amount)


@pytest.mark.parametrize("price", [-1, "free", float("nan"), Decimal("-0.01"), None])
def test_a_price_is_checked_when_it_is_given(price: Any) -> None:
    """A wrong price is refused by the name of its field before anything has been spent."""
    with pytest.raises(ConfigurationError, match=r"output=.* is not a price; give dollars per million tokens"):
        Price(input=0, output=price)
    if price is not None:
        with pytest.raises(ConfigurationError, match="cached="):
            Price(input=0, output=0, cached=price)
    assert Price(input="0.15", output=Decimal("0.6"), cached=0).cache_write is None


@pytest.mark.parametrize(
    ("config", "off", "effort", "budget"),
    [
        (ThinkingConfig(), False, None, 8192),
        (ThinkingConfig(effort="none"), True, "none", 0),
        (ThinkingConfig(budget=0), True, "none", 0),
        (ThinkingConfig(budget=-1), True, "none", -1),
        (ThinkingConfig(budget=1), False, "minimal", 1),
        (ThinkingConfig(budget=2048), False, "low", 2048),
        (ThinkingConfig(budget=2049), False, "medium", 2049),
        (ThinkingConfig(budget=10**9), False, "max", 10**9),
        (ThinkingConfig(effort="high"), False, "high", 16384),
        (ThinkingConfig(effort="high", budget=5), False, "high", 5),
        (ThinkingConfig(effort="none", budget=5), True, "none", 5),
    ],
)
def test_words_and_budgets_are_one_scale(
    config: ThinkingConfig,
    *,
    off: bool,
    effort: Effort | None,
    budget: int,
) -> None:
    """A budget gives the first word that allows as much, a word gives its budget."""
    assert (is_off(config), effort_of(config), budget_of(config)) == (off, effort, budget)


def test_every_word_has_a_larger_budget_than_the_one_before() -> None:
    """The scale rises."""
    assert list(EFFORT_BUDGETS) == list(EFFORTS)
    assert list(EFFORT_BUDGETS.values()) == sorted(set(EFFORT_BUDGETS.values()))


@given(st.sampled_from(EFFORTS), st.sets(st.sampled_from(EFFORTS)))
def test_the_nearest_effort_is_accepted_and_not_lower_than_need_be(wanted: Effort, accepted: set[Effort]) -> None:
    """The word given is accepted, never ``none``, and below the one wanted only where nothing above is accepted."""
    words = accepted - {"none"}
    got = nearest_effort(wanted, accepted)
    assert (got is None) == (not words)
    if got is not None:
        above = [word for word in EFFORTS if word in words and EFFORTS.index(word) >= EFFORTS.index(wanted)]
        assert got == (above[0] if above else max(words, key=EFFORTS.index))


def test_a_plain_number_is_the_total_time() -> None:
    """A number means seconds in total, ``None`` the defaults, a `Timeout` itself."""
    own = Timeout(connect=1, total=None)
    assert Timeout.of(own) is own
    assert Timeout.of(7) == Timeout(total=7.0)
    assert Timeout.of(None) == Timeout(connect=5, first_byte=60, idle=60, total=600, tool=120)


@pytest.mark.parametrize("limit", ["connect", "first_byte", "idle", "total", "tool"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), "5", True])
def test_time_limits_nothing_could_keep_are_refused(limit: str, value: Any) -> None:
    """Each by its name, with the way to have no limit."""
    with pytest.raises(ConfigurationError, match=rf"Timeout\({limit}=\) is a number of seconds above 0, or None"):
        Timeout(**{limit: value})
    assert getattr(Timeout(**{limit: None}), limit) is None


@pytest.mark.parametrize(
    "options",
    [{"max_attempts": -1}, {"base_ms": -1}, {"max_ms": -1}, {"longest_wait": -0.1}, {"longest_wait": float("nan")}],
)
def test_retry_policies_that_say_nothing_are_refused(options: dict[str, Any]) -> None:
    """A number below nothing is told by its name."""
    with pytest.raises(ConfigurationError, match=rf"RetryPolicy\({next(iter(options))}=\)"):
        RetryPolicy(**options)


def test_the_retry_defaults_are_the_documented_ones() -> None:
    """Three attempts, from half a second to eight, with jitter."""
    assert RetryPolicy() == RetryPolicy(
        max_attempts=3, base_ms=500, max_ms=8000, jitter=True, statuses=DEFAULT_RETRY_STATUSES, longest_wait=120
    )
    assert {429, 529} <= DEFAULT_RETRY_STATUSES
    assert not {400, 401, 403, 404, 422} & DEFAULT_RETRY_STATUSES


def test_a_message_shows_its_text_and_its_parts() -> None:
    """The text of a message is its text parts; of a message with results only, the results."""
    call = ToolCallPart(call_id="1", name="f", arguments="{}")
    result = ToolResultPart(call_id="1", name="f", content="42")
    message = Message(
        role="assistant",
        parts=(ThinkingPart(text="hm"), TextPart(text="a"), call, TextPart(text="b"), RefusalPart(text="no")),
    )
    assert (message.content, message.thinking, message.refusal) == ("ab", "hm", "no")
    assert (message.tool_calls, message.tool_results) == ((call,), ())
    told = Message(role="tool", parts=(result,))
    assert (told.content, told.tool_results, told.refusal) == ("42", (result,), "")
    assert user("hi") == Message(role="user", parts=(TextPart(text="hi"),))


def test_a_completion_shows_text_and_calls() -> None:
    """The same views on an answer that has not become a message yet."""
    call = ToolCallPart(call_id="1", name="f", arguments="{}")
    answer = Completion(
        parts=(TextPart(text="a"), call, TextPart(text="b")), finish_reason=FinishReason.TOOL_CALL, usage=Usage()
    )
    assert (answer.text, answer.tool_calls) == ("ab", (call,))


def test_state_is_shared_by_endpoint_and_not_by_model() -> None:
    """Signatures hold between models of one provider, wire format and address."""
    home = Origin(provider="p", api="a", endpoint="https://e", model="m")
    assert home.shares_state_with(Origin(provider="p", api="a", endpoint="https://e", model="other"))
    for other in (
        Origin(provider="q", api="a", endpoint="https://e", model="m"),
        Origin(provider="p", api="b", endpoint="https://e", model="m"),
        Origin(provider="p", api="a", endpoint="https://f", model="m"),
    ):
        assert not home.shares_state_with(other)


def test_a_reply_is_its_text() -> None:
    """``str(reply)`` is what was answered, and an unknown cost is ``None``."""
    reply: Reply[None] = Reply(
        content="Hi", message=None, turn_id=UUID(int=1), usage=Usage(), finish_reason=FinishReason.STOP
    )
    assert str(reply) == "Hi"
    assert reply.cost is None


def test_an_empty_chunk_carries_strings_and_nothing_else() -> None:
    """Text and thinking are always strings, everything else is ``None`` when the chunk carries none."""
    assert asdict(Chunk()) == {
        "content": "",
        "thinking": "",
        "tool_call": None,
        "tool_result": None,
        "usage": None,
        "finish_reason": None,
    }


def test_a_page_is_iterated_and_counted() -> None:
    """A page behaves as the list it holds."""
    page = Page(items=(1, 2), next="x")
    assert (list(page), len(page), page.next) == ([1, 2], 2, "x")


def test_values_are_frozen() -> None:
    """What was said cannot be changed afterwards."""
    spec: Any = ToolSpec(name="f", description="", parameters="{}")
    with pytest.raises(FrozenInstanceError):
        spec.name = "g"
