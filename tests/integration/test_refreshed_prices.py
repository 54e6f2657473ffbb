"""The price list is fetched when a program asks for it, and never otherwise."""

from __future__ import annotations

from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from genai_prices.data_snapshot import set_custom_snapshot

from nodellm_orm import ConfigurationError, Price, ProviderConnectionError, Usage, create_llm, refresh_prices
from nodellm_orm.providers.prices import GenaiPrices
from nodellm_orm.testing import LoopbackServer, Reset, json_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.domain.jsontext import JsonValue


@pytest.fixture(autouse=True)
def bundled() -> Iterator[None]:
    """Every test leaves the process with the list that was installed."""
    yield
    set_custom_snapshot(None)


def _list(model: str, price: float) -> JsonValue:
    """A price list of one model of OpenAI."""
    return [
        {
            "id": "openai",
            "name": "OpenAI",
            "api_pattern": "https://api\\.openai\\.com",
            "models": [
                {
                    "id": model,
                    "match": {"equals": model},
                    "name": "Newest",
                    "context_window": 1234,
                    "prices": {"input_mtok": price, "output_mtok": 2},
                }
            ],
        }
    ]


async def test_a_refreshed_list_prices_what_comes_after_it() -> None:
    """A model that the installed list does not know has a price and a window afterwards, and the source says so."""
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    before = GenaiPrices().cost(provider="openai", model="newest", usage=usage)
    async with LoopbackServer([json_answer(_list("newest", 7))]) as server:
        source = await refresh_prices(f"{server.url}/data.json")
    after = GenaiPrices().cost(provider="openai", model="newest", usage=usage)
    assert (before.total, after.total, after.source) == (None, Decimal(7), source)
    assert source.startswith(f"genai-prices {version('genai-prices')} of 20")
    async with create_llm("openai", api_key="sk-x") as llm:
        info = llm.model_info("newest")
    assert (info.name, info.price) == ("Newest", Price(input=Decimal(7), output=Decimal(2)))


async def test_a_list_that_cannot_be_had_leaves_the_one_in_use() -> None:
    """Server errors, broken connections and other documents are errors; prices stay as they were."""
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    before = GenaiPrices().cost(provider="openai", model="gpt-4o", usage=usage)
    script = [json_answer({"error": "no"}, status=500), [Reset()], json_answer({"not": "a list"})]
    async with LoopbackServer(script) as server:
        for error in (ProviderConnectionError, ProviderConnectionError, ConfigurationError):
            with pytest.raises(error, match="price list"):
                await refresh_prices(f"{server.url}/data.json")
    assert GenaiPrices().cost(provider="openai", model="gpt-4o", usage=usage) == before
