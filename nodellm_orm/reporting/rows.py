"""One line of a report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from nodellm_orm.domain.jsontext import JsonValue

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

GroupValue: TypeAlias = JsonValue | UUID | date | datetime
"""What a group is named by: a text, a day, an hour, a chat's id, a value of the metadata, or ``None``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """Sums over the requests of one group; every attempt at a provider is a request."""

    keys: Mapping[str, GroupValue]
    """The group, by the names of ``group_by``: ``day``, ``week`` (its Monday) and ``month`` (its first day) are dates,
    ``hour`` is a datetime with its offset, ``chat`` a UUID, ``metadata.x`` the JSON value; the others are texts."""
    requests: int
    """How many there were."""
    failures: int
    """How many of them failed; a cancelled one is no failure."""
    unpriced: int
    """How many have no known cost."""
    input_tokens: int | None
    """All prompt tokens, cached ones included; ``None`` where no provider said, as in the other counts."""
    cached_tokens: int | None
    """Of these, read from a provider's cache."""
    cache_write_tokens: int | None
    """Of these, written to a cache."""
    output_tokens: int | None
    """All answer tokens, reasoning included."""
    reasoning_tokens: int | None
    """Of these, reasoning."""
    cost: Decimal | None
    """US dollars: the sum of the known costs, exact; ``None`` when none is known."""
    latency_p50: int | None
    """Milliseconds within which the answer was complete in half of the requests (nearest rank); ``None`` where none
    was timed, as in the other percentiles, or where they were not asked for."""
    latency_p95: int | None
    """The same in 95 of 100."""
    first_token_p50: int | None
    """Milliseconds until the first event of the answer in half of the requests."""
    first_token_p95: int | None
    """The same in 95 of 100."""


MEASURES = (
    "requests",
    "failures",
    "unpriced",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost",
    "latency_p50",
    "latency_p95",
    "first_token_p50",
    "first_token_p95",
)
"""What is told of each group, and can be ordered by."""
