"""How much a provider still allows, as its response headers say: one vocabulary for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """One allowance, as of the response that told of it; what the provider does not say is ``None``."""

    limit: int | None = None
    """How much there is in all, in each window."""
    remaining: int | None = None
    """How much of it is left."""
    reset_after: float | None = None
    """Seconds from the response until all of it is there again."""
    reset_at: datetime | None = None
    """The same as a time, by the provider's clock."""
    window: float | None = None
    """Seconds that the limit is for, where the provider says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """Every allowance that one response told of.

    Example:
        >>> limits = RateLimits(requests=RateLimit(limit=500, remaining=499, reset_after=0.12))
        >>> limits.requests.remaining, limits.tokens.remaining
        (499, None)
    """

    requests: RateLimit = field(default_factory=RateLimit)
    tokens: RateLimit = field(default_factory=RateLimit)
    """Input and output together, or the only tokens that the provider counts."""
    input_tokens: RateLimit = field(default_factory=RateLimit)
    output_tokens: RateLimit = field(default_factory=RateLimit)
    others: Mapping[str, RateLimit] = field(default_factory=dict)
    """Further ones by the provider's name, with ``_`` for ``-``: ``tokens_month``, ``input_images`` …"""
