"""Token counts in one convention for all providers, and how they add up."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

Number = TypeVar("Number", int, Decimal)


def _plus(left: Number | None, right: Number | None) -> Number | None:
    if left is None or right is None:
        return right if left is None else left
    return left + right


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one or more requests; ``None`` means the provider did not say, never 0.

    ``input_tokens`` is the whole prompt including cached and cache-write tokens, ``output_tokens`` includes
    ``reasoning_tokens``, whatever a provider's own convention is.
    """

    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    other_tokens: Mapping[str, int] = field(default_factory=dict)
    """Counts of other classes by name: ``input_audio_tokens``, ``cache_write_1h_tokens``, ``web_searches`` …"""
    reported_cost: Decimal | None = None
    """US dollars, where the provider itself reports what the request cost."""

    def __add__(self, other: Usage) -> Usage:
        """Add two usages; an unknown count stays unknown only if it is unknown in both."""
        names = {*self.other_tokens, *other.other_tokens}
        return Usage(
            input_tokens=_plus(self.input_tokens, other.input_tokens),
            cached_tokens=_plus(self.cached_tokens, other.cached_tokens),
            cache_write_tokens=_plus(self.cache_write_tokens, other.cache_write_tokens),
            output_tokens=_plus(self.output_tokens, other.output_tokens),
            reasoning_tokens=_plus(self.reasoning_tokens, other.reasoning_tokens),
            other_tokens={n: self.other_tokens.get(n, 0) + other.other_tokens.get(n, 0) for n in sorted(names)},
            reported_cost=_plus(self.reported_cost, other.reported_cost),
        )

    def updated(self, newer: Usage) -> Usage:
        """This usage with every count that ``newer`` states put in its place (streams report cumulatively)."""
        changes = {
            f.name: value
            for f in fields(newer)
            if f.name != "other_tokens" and (value := getattr(newer, f.name)) is not None
        }
        return replace(self, **changes, other_tokens={**self.other_tokens, **newer.other_tokens})

    @property
    def total_tokens(self) -> int | None:
        """Input plus output, as far as known."""
        return _plus(self.input_tokens, self.output_tokens)
