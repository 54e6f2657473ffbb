"""What a request cost, class by class: tokens are split into the classes that have a rate, each at its own.

Counts of a class are part of the whole (see `Usage`), so what is left after the classes with a rate of their own is
charged at the plain one. A class that claims more than is left gets what is left: no amount is ever negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.domain.money import PICO, UNKNOWN_COST, Cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.usage import Usage

Side: TypeAlias = Literal["input", "output", "calls"]

TOOL_CALLS: Final = ("web_searches", "social_searches", "storage_searches", "code_executions")
"""Server-side tools that are charged by the use; names as in `Usage.other_tokens`."""

_MILLION: Final = 1_000_000
_THOUSAND: Final = 1_000
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_FALLBACK: Final = MappingProxyType(
    {"cached": "input", "cache_write": "input", "cache_write_1h": "cache_write", "reasoning": "output"}
)
_MEDIA: Final = ("audio", "image", "video")
_COMPACTION: Final = "compaction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """The rates of one model.

    Args:
        source: where they come from.
        model: the name the price list has for it.
        tokens: US dollars a million tokens by class: ``input cached cache_write cache_write_1h input_audio
            input_image input_video output reasoning output_audio output_image output_video``.
        calls: US dollars a thousand uses by name of `TOOL_CALLS`; ``None`` when uses are not charged apart.
    """

    source: str
    model: str
    tokens: Mapping[str, Decimal]
    calls: Mapping[str, Decimal] | None = None

    def cost(self, usage: Usage) -> Cost:
        """What the usage costs; where a count or a rate is missing, its side and the total are unknown."""
        charges = tuple(_charges(usage, self))
        if not charges:
            return UNKNOWN_COST
        return Cost(
            total=_sum(charges),
            input=_sum(charge for charge in charges if charge.side == "input"),
            output=_sum(charge for charge in charges if charge.side == "output"),
            prices=_snapshot(self.model, charges),
            source=self.source,
        )

    def rate(self, name: str) -> Decimal | None:
        """The rate of a class of tokens, or of the class it is part of."""
        at: str | None = name
        while at is not None:
            if at in self.tokens:
                return self.tokens[at]
            at = _FALLBACK.get(at)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Charge:
    """One line of the bill."""

    name: str
    side: Side
    quantity: int | None
    price: Decimal | None
    per: int = _MILLION

    @property
    def amount(self) -> Decimal | None:
        """Exact to `PICO`; ``None`` when it depends on what is not known."""
        if self.quantity == 0 or self.price == 0:
            return Decimal(0)
        if self.quantity is None or self.price is None:
            return None
        exact = _EXACT.divide(_EXACT.multiply(self.price, Decimal(self.quantity)), Decimal(self.per))
        return _EXACT.quantize(exact, PICO)


def _charges(usage: Usage, rates: Rates) -> Iterator[_Charge]:
    others = usage.other_tokens
    longer = min(others.get("cache_write_1h_tokens", 0), usage.cache_write_tokens or 0)
    yield from _side(
        "input",
        usage.input_tokens,
        {
            "cached": usage.cached_tokens or 0,
            "cache_write_1h": longer,
            "cache_write": (usage.cache_write_tokens or 0) - longer,
            **_with_own_rate("input", others, rates),
        },
        rates,
    )
    reasoning = {"reasoning": usage.reasoning_tokens or 0} if "reasoning" in rates.tokens else {}
    yield from _side("output", usage.output_tokens, {**reasoning, **_with_own_rate("output", others, rates)}, rates)
    yield from _side_work(others, rates)
    if rates.calls is not None:
        for name in TOOL_CALLS:
            if (uses := others.get(name, 0)) > 0:
                yield _Charge(name=name, side="calls", quantity=uses, price=rates.calls.get(name), per=_THOUSAND)


def _with_own_rate(side: Side, others: Mapping[str, int], rates: Rates) -> dict[str, int]:
    names = (f"{side}_{medium}" for medium in _MEDIA)
    return {name: others.get(f"{name}_tokens", 0) for name in names if name in rates.tokens}


def _side(side: Side, whole: int | None, classes: Mapping[str, int], rates: Rates) -> Iterator[_Charge]:
    plain = rates.rate(side)
    if whole is None:
        # A model that has no rate for a side is not charged for it (embeddings have no output).
        if plain is not None:
            yield _Charge(name=side, side=side, quantity=None, price=plain)
        return
    left = max(whole, 0)
    for name, claimed in classes.items():
        if quantity := min(max(claimed, 0), left):
            left -= quantity
            yield _Charge(name=name, side=side, quantity=quantity, price=rates.rate(name))
    if left or plain is not None:
        yield _Charge(name=side, side=side, quantity=left, price=plain)


def _side_work(others: Mapping[str, int], rates: Rates) -> Iterator[_Charge]:
    """Tokens that the totals leave out and the bill does not: a compaction, an advisor (of which model is not said)."""
    for name, quantity in others.items():
        kind, _, side = name.removesuffix("_tokens").rpartition("_")
        if not kind or not name.endswith("_tokens") or quantity <= 0:
            continue
        price = rates.rate(side) if kind == _COMPACTION else None
        if side == "input":
            yield _Charge(name=f"{kind}_input", side="input", quantity=quantity, price=price)
        elif side == "output":
            yield _Charge(name=f"{kind}_output", side="output", quantity=quantity, price=price)


def _sum(charges: Iterable[_Charge]) -> Decimal | None:
    """The sum; ``None`` when there is nothing to add, or something of it is unknown."""
    total: Decimal | None = None
    for charge in charges:
        if charge.amount is None:
            return None
        total = charge.amount if total is None else _EXACT.add(total, charge.amount)
    return total


def _snapshot(model: str, charges: Iterable[_Charge]) -> JsonText:
    classes = {
        charge.name: {
            "quantity": charge.quantity,
            "price": None if charge.price is None else format(charge.price, "f"),
            "per": charge.per,
        }
        for charge in charges
    }
    return dumps({"model": model, "classes": classes})
