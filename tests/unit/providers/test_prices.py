"""What requests cost, exactly or not at all."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.jsontext import loads
from nodellm_orm.domain.money import UNKNOWN_COST, Price
from nodellm_orm.domain.usage import Usage
from nodellm_orm.providers.prices import GenaiPrices, Listing
from nodellm_orm.providers.rates import Rates

MILLION = 1_000_000
OWN = {"own": Price(input=2, output=8, cached="0.5", cache_write="2.5", cache_write_1h=4, reasoning=16)}
COUNTS = st.none() | st.integers(min_value=-5, max_value=10**9)


def book(prices: dict[str, Price] | None = None) -> GenaiPrices:
    """Prices as they were on one fixed day."""
    return GenaiPrices(prices, now=lambda: datetime(2026, 11, 1, 12, tzinfo=UTC))


def test_every_class_has_its_own_rate() -> None:
    """Uncached, cached and cache-write tokens, answer and reasoning are each charged at their own rate."""
    usage = Usage(
        input_tokens=1000,
        cached_tokens=100,
        cache_write_tokens=300,
        output_tokens=50,
        reasoning_tokens=20,
        other_tokens={"cache_write_1h_tokens": 200},
    )
    cost = book(OWN).cost(provider="openai", model="own", usage=usage)
    assert cost.input == Decimal("0.0023")  # 600 at 2, 100 at 0.5, 100 at 2.5, 200 at 4
    assert cost.output == Decimal("0.00056")  # 30 at 8, 20 at 16
    assert cost.total == Decimal("0.00286")
    assert cost.source == "user"


def test_the_snapshot_names_quantity_and_rate_of_each_class() -> None:
    """The stored prices are enough to compute the cost again."""
    cost = book(OWN).cost(
        provider="openai", model="own", usage=Usage(input_tokens=10, cached_tokens=4, output_tokens=2)
    )
    assert cost.prices is not None
    assert loads(cost.prices) == {
        "model": "own",
        "classes": {
            "cached": {"quantity": 4, "price": "0.5", "per": MILLION},
            "input": {"quantity": 6, "price": "2", "per": MILLION},
            "output": {"quantity": 2, "price": "8", "per": MILLION},
        },
    }


def test_classes_without_a_rate_fall_back() -> None:
    """Without rates of their own, cached and written tokens cost as input, and reasoning as output."""
    usage = Usage(input_tokens=10, cached_tokens=4, cache_write_tokens=3, output_tokens=5, reasoning_tokens=5)
    cost = book({"m": Price(input=1, output=2)}).cost(provider="x", model="m", usage=usage)
    assert cost.total == Decimal("0.00002")


def test_a_given_price_of_zero_is_known() -> None:
    """Free is not unknown."""
    cost = book({"m": Price(input=0, output=0)}).cost(
        provider="openai", model="m", usage=Usage(input_tokens=10, output_tokens=10)
    )
    assert cost.total == 0


def test_a_float_price_means_its_digits() -> None:
    """A price of 0.1 is a tenth."""
    cost = book({"m": Price(input=0.1, output=0)}).cost(
        provider="openai", model="m", usage=Usage(input_tokens=3 * MILLION, output_tokens=0)
    )
    assert cost.total == Decimal("0.3")


@pytest.mark.parametrize("model", ["own", "OWN", "own-2026-01-31", "own-20260131", "own@latest"])
def test_the_users_price_holds_for_dated_names(model: str) -> None:
    """The provider answers with the dated name of the model that was priced."""
    assert book(OWN).cost(provider="zzz", model=model, usage=Usage(input_tokens=1, output_tokens=0)).total is not None


def test_the_users_price_is_not_for_relatives() -> None:
    """A price of one model says nothing of another that begins with the same name."""
    assert book(OWN).cost(provider="zzz", model="own-mini", usage=Usage(input_tokens=1)) == UNKNOWN_COST


def test_the_users_price_wins_over_the_list() -> None:
    """What the user says about a listed model counts."""
    cost = book({"gpt-4o": Price(input=1, output=1)}).cost(
        provider="openai", model="gpt-4o-2024-08-06", usage=Usage(input_tokens=MILLION, output_tokens=0)
    )
    assert (cost.total, cost.source) == (Decimal(1), "user")


def test_what_the_provider_reports_wins_over_all() -> None:
    """A cost that came with the answer is the cost, also zero."""
    usage = Usage(input_tokens=1, output_tokens=1, reported_cost=Decimal("0.0123"))
    cost = book(OWN).cost(provider="openrouter", model="own", usage=usage)
    assert (cost.total, cost.input, cost.prices, cost.source) == (Decimal("0.0123"), None, None, "provider")
    assert book().cost(provider="x", model="m", usage=Usage(reported_cost=Decimal(0))).total == 0


def test_a_negative_report_is_not_believed() -> None:
    """No amount is negative, whoever says it."""
    usage = Usage(input_tokens=MILLION, output_tokens=0, reported_cost=Decimal(-1))
    assert book(OWN).cost(provider="openrouter", model="own", usage=usage).total == 2


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "no-such-model"), ("no-such-provider", "gpt-4o"), ("openai_compatible", "gpt-4o")],
)
def test_an_unknown_price_is_unknown(provider: str, model: str) -> None:
    """Without a price every amount is ``None``, never 0; another provider's price is not borrowed."""
    cost = book().cost(provider=provider, model=model, usage=Usage(input_tokens=5, output_tokens=5))
    assert cost == UNKNOWN_COST


def test_unknown_counts_make_unknown_costs() -> None:
    """Without counts there is no amount; a known side is told, but no total is made of half of it."""
    prices = book(OWN)
    assert prices.cost(provider="x", model="own", usage=Usage()).total is None
    cost = prices.cost(provider="x", model="own", usage=Usage(input_tokens=MILLION))
    assert (cost.input, cost.output, cost.total) == (Decimal(2), None, None)


def test_local_models_cost_nothing() -> None:
    """A model in this process is free, and known to be, unless the user says what it costs him."""
    usage = Usage(input_tokens=MILLION, output_tokens=0)
    cost = book().cost(provider="local", model="smollm2-135m-instruct", usage=usage)
    assert (cost.total, cost.source) == (Decimal(0), "local")
    assert book(OWN).cost(provider="local", model="own", usage=usage).total == 2


def test_the_list_prices_dated_names() -> None:
    """A model of the list is found by its dated name, also a date that the list does not know yet."""
    prices = book()
    usage = Usage(input_tokens=1000, cached_tokens=400, output_tokens=100, reasoning_tokens=60)
    costs = [
        prices.cost(provider="openai", model=model, usage=usage)
        for model in ("gpt-5-mini", "gpt-5-mini-2025-08-07", "gpt-5-mini-2099-01-01")
    ]
    assert costs[0].source == f"genai-prices {version('genai-prices')}"
    assert costs[0].total is not None
    assert 0 < costs[0].total < Decimal("0.01")
    assert {cost.total for cost in costs} == {costs[0].total}
    assert "reasoning" not in (costs[0].prices or "")


def test_long_prompts_have_the_rate_of_their_tier() -> None:
    """A prompt beyond the threshold is charged at the higher rate as a whole, and so is its answer."""
    prices = book()

    def cost(tokens: int) -> Decimal:
        usage = Usage(input_tokens=tokens, output_tokens=0)
        total = prices.cost(provider="anthropic", model="claude-sonnet-4-5", usage=usage).total
        assert total is not None
        return total

    assert cost(200_001) > Decimal("1.9") * cost(200_000)


def test_audio_has_its_own_rate_where_it_is_listed() -> None:
    """Audio tokens are charged apart from text."""
    spoken = Usage(
        input_tokens=100,
        output_tokens=100,
        other_tokens={"input_audio_tokens": 100, "output_audio_tokens": 100},
    )
    written = Usage(input_tokens=100, output_tokens=100)
    prices = book()
    audio, text = (prices.cost(provider="openai", model="gpt-audio", usage=usage).total for usage in (spoken, written))
    assert audio is not None
    assert text is not None
    assert audio > text > 0


def test_searches_are_charged_by_the_use() -> None:
    """Uses of server-side tools come on top of the tokens."""
    plain = Usage(input_tokens=100, output_tokens=0)
    searching = Usage(input_tokens=100, output_tokens=0, other_tokens={"web_searches": 3})
    prices = book()
    without, with_searches = (
        prices.cost(provider="anthropic", model="claude-haiku-4-5", usage=usage) for usage in (plain, searching)
    )
    assert without.total is not None
    assert with_searches.total == without.total + Decimal("0.03")
    assert with_searches.input == without.input


def test_side_work_is_charged_or_makes_the_total_unknown() -> None:
    """A compaction is the model's own work at its own rates; an advisor is another model at unknown ones."""
    rates = Rates(source="s", model="m", tokens={"input": Decimal(1), "output": Decimal(2)})
    usage = Usage(input_tokens=1, output_tokens=1)
    compacted = replace(usage, other_tokens={"compaction_input_tokens": MILLION})
    advised = replace(usage, other_tokens={"advisor_message_output_tokens": 7})
    assert rates.cost(compacted).total == Decimal("1.000003")
    assert rates.cost(advised).total is None


def test_embeddings_have_no_output() -> None:
    """A model without a rate for answers needs no count of them."""
    cost = book().cost(provider="openai", model="text-embedding-3-small", usage=Usage(input_tokens=MILLION))
    assert cost.total is not None
    assert cost.total > 0
    assert cost.output is None


def test_classes_that_claim_more_than_the_whole_are_cut() -> None:
    """A cached count above the prompt's is charged no further than the prompt goes."""
    usage = Usage(input_tokens=10, cached_tokens=50, cache_write_tokens=50, output_tokens=5, reasoning_tokens=90)
    cost = book(OWN).cost(provider="x", model="own", usage=usage)
    assert cost.input == Decimal("0.000005")
    assert cost.output == Decimal("0.00008")


@given(whole=COUNTS, cached=COUNTS, written=COUNTS, longer=st.integers(-5, 10**9), answer=COUNTS, reasoning=COUNTS)
def test_no_amount_is_negative_and_sides_add_up(
    whole: int | None, cached: int | None, written: int | None, longer: int, answer: int | None, reasoning: int | None
) -> None:
    """Whatever counts arrive, amounts are ``None`` or at least 0, and the total is the sum of the sides."""
    usage = Usage(
        input_tokens=whole,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=answer,
        reasoning_tokens=reasoning,
        other_tokens={"cache_write_1h_tokens": longer},
    )
    cost = RATES.cost(usage)
    assert all(amount is None or amount >= 0 for amount in (cost.total, cost.input, cost.output))
    if whole is not None and answer is not None:
        assert cost.total == (cost.input or 0) + (cost.output or 0)


RATES = Rates(
    source="s",
    model="m",
    tokens={
        "input": Decimal(2),
        "cached": Decimal("0.5"),
        "cache_write": Decimal("2.5"),
        "cache_write_1h": Decimal(4),
        "output": Decimal(8),
        "reasoning": Decimal(16),
    },
)


def test_media_of_the_users_own_prices_have_their_own_rates() -> None:
    """Sound and images, asked and answered, cost what the user says they cost."""
    price = Price(input=1, output=2, input_audio=10, input_image=20, output_audio=30, output_image=40)
    usage = Usage(
        input_tokens=100,
        output_tokens=100,
        other_tokens={
            "input_audio_tokens": 10,
            "input_image_tokens": 20,
            "output_audio_tokens": 30,
            "output_image_tokens": 40,
        },
    )
    cost = book({"m": price}).cost(provider="x", model="m", usage=usage)
    assert cost.input == Decimal("0.00057")  # 70 at 1, 10 at 10, 20 at 20
    assert cost.output == Decimal("0.00256")  # 30 at 2, 30 at 30, 40 at 40


def test_a_listing_names_window_and_price() -> None:
    """What the list says of a model is the model's own, also under a dated name."""
    listing = book().listing("anthropic", "claude-haiku-4-5-20251001")
    assert (listing.name, listing.context_window) == ("Claude Haiku 4.5", 200_000)
    assert listing.price is not None
    assert (listing.price.input, listing.price.output, listing.price.cached) == (1, 5, Decimal("0.1"))
    assert listing.source == f"genai-prices {version('genai-prices')}"


def test_a_listing_of_an_unknown_model_says_nothing() -> None:
    """Nothing is guessed, and what the user says is taken."""
    assert book().listing("openai", "no-such-model") == Listing()
    assert book(OWN).listing("openai", "own").price == replace(
        OWN["own"], **{name: Decimal(str(value)) for name, value in _given(OWN["own"]).items()}
    )
    assert book().listing("local", "anything").price == Price(input=0, output=0)


def _given(price: Price) -> dict[str, object]:
    return {f.name: value for f in fields(price) if (value := getattr(price, f.name)) is not None}
