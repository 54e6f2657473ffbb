"""The price book: what a provider reports, else what the user says, else the bundled list of ``genai-prices``.

The list is data inside an installed package: nothing is fetched, and no background task is started. A program that
wants newer prices without a new release installs them itself, through that package's own ``set_custom_snapshot``.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.domain.money import UNKNOWN_COST, Cost, exact
from nodellm_orm.providers.rates import TOOL_CALLS, Rates

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime
    from types import ModuleType

    from nodellm_orm.domain.money import Price
    from nodellm_orm.domain.usage import Usage

PRICE_LISTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "openai": "openai",
        "anthropic": "anthropic",
        "azure": "azure",
        "bedrock": "aws",
        "deepseek": "deepseek",
        "gemini": "google",
        "mistral": "mistral",
        "openrouter": "openrouter",
        "xai": "x-ai",
    }
)
"""Our name of a provider → the list's. A provider that is not here has no known price: guessing by the look of its
name would charge somebody else's rates."""

FREE: Final = frozenset({"local"})
"""Providers that cost nothing by their nature."""

_TOKEN_PRICES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "input": ("input_mtok", "input_text_mtok"),
        "cached": ("cache_read_mtok",),
        "cache_write": ("cache_write_5m_mtok", "cache_write_mtok"),
        "cache_write_1h": ("cache_write_1h_mtok",),
        "input_audio": ("input_audio_mtok",),
        "input_image": ("input_image_mtok",),
        "input_video": ("input_video_mtok",),
        "output": ("output_mtok", "output_text_mtok"),
        "reasoning": ("output_reasoning_mtok",),
        "output_audio": ("output_audio_mtok",),
        "output_image": ("output_image_mtok",),
        "output_video": ("output_video_mtok",),
    }
)
_USER: Final = "user"
_PROVIDER: Final = "provider"
_ZERO: Final = Decimal(0)
_RELEASE: Final = re.compile(r"(?:[-@:]\d{4}-?\d{2}-?\d{2}|[-@:]latest)$")


class GenaiPrices:
    """A `PriceBook`.

    Args:
        prices: the user's own, by model; they win over the list, and hold for dated names of the model too.
        lists: our name of a provider → its name in the list.
        free: providers that cost nothing.
        now: the time for which prices are looked up; the present when ``None``.

    Example:
        >>> book = GenaiPrices({"my-model": Price(input=1, output="2.50")})
        >>> book.cost(provider="openai", model="my-model", usage=Usage(input_tokens=1000, output_tokens=0)).total
        Decimal('0.001000000000')
    """

    def __init__(
        self,
        prices: Mapping[str, Price] | None = None,
        *,
        lists: Mapping[str, str] = PRICE_LISTS,
        free: Collection[str] = FREE,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        """Read the list, if this process has not done so yet."""
        self._own = {model.lower(): _own_rates(model, price) for model, price in (prices or {}).items()}
        self._lists = dict(lists)
        self._free = frozenset(free)
        self._now = now
        _listing()

    def cost(self, *, provider: str, model: str, usage: Usage, asked: str | None = None) -> Cost:
        """What a request cost.

        Args:
            provider: our name of the provider.
            model: the model as the provider names it.
            usage: what it used; ``reported_cost`` in it wins over every price.
            asked: the model that was asked for: its price holds where that of the answering one is not known.

        Returns:
            Amounts in US dollars, ``None`` where they are not known; none is negative.
        """
        reported = usage.reported_cost
        if reported is not None and reported.is_finite() and reported >= 0:
            return Cost(total=reported, source=_PROVIDER)
        names = [name.lower() for name in (model, asked) if name]
        for name in names:
            own = self._own.get(name) or self._own.get(_RELEASE.sub("", name))
            if own is not None:
                return own.cost(usage)
        if provider in self._free:
            return Cost(total=_ZERO, input=_ZERO, output=_ZERO, source=provider)
        for name in names:
            rates = self._listed(provider, name, usage.input_tokens or 0)
            if rates is not None:
                return rates.cost(usage)
        return UNKNOWN_COST

    def _listed(self, provider: str, model: str, input_tokens: int) -> Rates | None:
        provider_id = self._lists.get(provider)
        if provider_id is None:
            return None
        for name in dict.fromkeys((model, _RELEASE.sub("", model))):
            try:
                found = _listing().calc_price(
                    _listing().Usage(),
                    name,
                    provider_id=provider_id,
                    genai_request_timestamp=self._now() if self._now else None,
                )
            except LookupError:
                continue
            return _listed_rates(found, input_tokens)
        return None


@cache
def _listing() -> ModuleType:
    """The package with the list.

    Its import takes a quarter of a second, which only those who price something should pay, and before the first
    request rather than in the middle of it.
    """
    import genai_prices  # noqa: PLC0415 — see above
    import genai_prices.data  # noqa: PLC0415 — the list itself, which that package reads late

    return genai_prices


def _own_rates(model: str, price: Price) -> Rates:
    amounts = {
        "input": price.input,
        "output": price.output,
        "cached": price.cached,
        "cache_write": price.cache_write,
        "cache_write_1h": price.cache_write_1h,
        "reasoning": price.reasoning,
    }
    tokens = {name: exact(amount) for name, amount in amounts.items() if amount is not None}
    return Rates(source=_USER, model=model, tokens=tokens)


def _listed_rates(found: Any, input_tokens: int) -> Rates:
    prices = found.model_price
    return Rates(
        source=f"genai-prices {_listing().__version__}",
        model=found.model.id,
        tokens=dict(_token_rates(prices, input_tokens)),
        calls={
            name: rate
            for name in TOOL_CALLS
            if (rate := _rate(getattr(prices, f"{name}_kcount"), input_tokens)) is not None
        },
    )


def _token_rates(prices: object, input_tokens: int) -> Iterator[tuple[str, Decimal]]:
    for name, keys in _TOKEN_PRICES.items():
        found = (_rate(getattr(prices, key), input_tokens) for key in keys)
        if (rate := next((rate for rate in found if rate is not None), None)) is not None:
            yield name, rate


def _rate(price: Any, input_tokens: int) -> Decimal | None:
    """A rate; of one with tiers, that of the highest tier whose threshold the whole prompt exceeds."""
    if price is None or isinstance(price, Decimal):
        return price
    rate: Decimal = price.base
    for tier in price.tiers:
        if input_tokens > tier.start:
            rate = tier.price
    return rate
