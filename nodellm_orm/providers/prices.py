"""The price book: what a provider reports, else what the user says, else the bundled list of ``genai-prices``.

The list is data inside an installed package: nothing is fetched, and no background task is started. A program that
wants newer prices without a new release calls `refresh_prices`, once or from time to time.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.domain.money import UNKNOWN_COST, Cost, Price, exact
from nodellm_orm.errors import ConfigurationError, ProviderConnectionError
from nodellm_orm.providers.rates import TOOL_CALLS, Rates
from nodellm_orm.wire.bedrock.models import foundation_model, named_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime
    from types import ModuleType

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
_BEDROCK: Final = "bedrock"
_USER: Final = "user"
_PROVIDER: Final = "provider"
_ZERO: Final = Decimal(0)
_RELEASE: Final = re.compile(r"(?:[-@:]\d{4}-?\d{2}-?\d{2}|[-@:]latest)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What is known of one model."""

    name: str | None = None
    context_window: int | None = None
    price: Price | None = None
    source: str | None = None


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
            if (own := self._owned(name)) is not None:
                return own.cost(usage)
        if provider in self._free:
            return Cost(total=_ZERO, input=_ZERO, output=_ZERO, source=provider)
        for name in names:
            found = self._found(provider, name)
            if found is not None:
                return _listed_rates(found, usage.input_tokens or 0).cost(usage)
        return UNKNOWN_COST

    def listing(self, provider: str, model: str) -> Listing:
        """What is known of a model: its name, its context window, its price.

        Args:
            provider: our name of the provider.
            model: the model as the provider names it.
        """
        own = self._owned(model.lower())
        found = self._found(provider, model.lower())
        rates = own if own is not None else _listed_rates(found, 0) if found is not None else None
        free = rates is None and provider in self._free
        return Listing(
            name=found.model.name if found is not None else None,
            context_window=found.model.context_window if found is not None else None,
            price=Price(input=0, output=0) if free else _price(rates),
            source=provider if free else rates.source if rates is not None else None,
        )

    def _owned(self, model: str) -> Rates | None:
        return self._own.get(model) or self._own.get(_RELEASE.sub("", model))

    def _found(self, provider: str, model: str) -> Any | None:
        provider_id = self._lists.get(provider)
        if provider_id is None:
            return None
        for name in dict.fromkeys(_names(provider, model)):
            try:
                return _listing().calc_price(
                    _listing().Usage(),
                    name,
                    provider_id=provider_id,
                    genai_request_timestamp=self._now() if self._now else None,
                )
            except LookupError:
                continue
        return None


async def refresh_prices(url: str | None = None) -> str:
    """Fetch the newest price list, and use it from now on in this process; costs already recorded stay as they are.

    Args:
        url: where it is, in the form of the ``genai-prices`` project; that project's own address when omitted.

    Returns:
        What ``price_source`` says from now on.

    Raises:
        ProviderConnectionError: it cannot be fetched; the list that was in use stays.
        ConfigurationError: what is there is no such list.

    Example:
        >>> await refresh_prices()  # doctest: +SKIP
        'genai-prices 0.2.3 of 2026-11-25'
    """
    from genai_prices import data_snapshot, update_prices  # noqa: PLC0415 — see `_listing`

    updates = update_prices.UpdatePrices() if url is None else update_prices.UpdatePrices(url=url)
    try:
        snapshot = await asyncio.to_thread(updates.fetch)
    except (ValueError, TypeError, KeyError) as error:
        msg = "there is no price list of the genai-prices project at that address; check url"
        raise ConfigurationError(msg) from error
    except Exception as error:  # whatever the HTTP client of that package raises
        msg = f"the price list cannot be fetched ({type(error).__name__}); the one in use stays, try again later"
        raise ProviderConnectionError(msg) from error
    data_snapshot.set_custom_snapshot(snapshot)
    return _source()


@cache
def _listing() -> ModuleType:
    """The package with the list.

    Its import takes a quarter of a second, which only those who price something should pay, and before the first
    request rather than in the middle of it.
    """
    import genai_prices  # noqa: PLC0415 — see above
    import genai_prices.data  # noqa: PLC0415 — the list itself, which that package reads late

    return genai_prices


def _source() -> str:
    """Name and version of the list in use, and its day where it was fetched."""
    from genai_prices import data_snapshot  # noqa: PLC0415 — see `_listing`

    snapshot = data_snapshot.get_snapshot()
    day = f" of {snapshot.timestamp:%Y-%m-%d}" if snapshot.from_auto_update else ""
    return f"genai-prices {_listing().__version__}{day}"


def _names(provider: str, model: str) -> Iterator[str]:
    """What a model may be listed under: as it is named, and without its release.

    On Bedrock also without its ARN, and then without the geography it runs in, for not each of them is listed.
    """
    names = (model, named_in(model), foundation_model(model)) if provider == _BEDROCK else (model,)
    for name in names:
        yield name
        yield _RELEASE.sub("", name)


def _own_rates(model: str, price: Price) -> Rates:
    amounts = {f.name: getattr(price, f.name) for f in fields(price)}
    tokens = {name: exact(amount) for name, amount in amounts.items() if amount is not None}
    return Rates(source=_USER, model=model, tokens=tokens)


def _price(rates: Rates | None) -> Price | None:
    """The rates as a price; a model without a rate for answers (embeddings) charges nothing for them."""
    if rates is None or "input" not in rates.tokens:
        return None
    return Price(**{"output": _ZERO, **rates.tokens})


def _listed_rates(found: Any, input_tokens: int) -> Rates:
    prices = found.model_price
    return Rates(
        source=_source(),
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
