"""How long to wait and how often to try: values that users give and the engine obeys."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_RETRY_STATUSES = frozenset({408, 409, 429, 500, 502, 503, 504, 529})


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeout:
    """Time limits in seconds; ``None`` means no limit.

    Args:
        connect: until the connection stands, TLS included.
        first_byte: until the first byte of a stream's body (an unstreamed answer may be silent long).
        idle: between two pieces of *content* of a stream; comments and pings do not count.
        total: for one attempt, from sending to the last byte.
        tool: for one tool call.
    """

    connect: float | None = 5.0
    first_byte: float | None = 60.0
    idle: float | None = 60.0
    total: float | None = 600.0
    tool: float | None = 120.0

    @classmethod
    def of(cls, value: Timeout | float | None) -> Timeout:
        """A plain number means seconds in total; ``None`` means the defaults."""
        if isinstance(value, Timeout):
            return value
        return cls() if value is None else cls(total=float(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When an attempt may be repeated.

    Args:
        max_attempts: attempts in all, the first one included.
        base_ms: the first delay in milliseconds; doubles with every attempt.
        max_ms: the longest delay we choose ourselves, in milliseconds.
        jitter: draw the delay between zero and the computed one (full jitter).
        statuses: HTTP statuses that may be retried.
        longest_wait: seconds; when a provider asks for more, the attempt fails at once.
    """

    max_attempts: int = 3
    base_ms: int = 500
    max_ms: int = 8000
    jitter: bool = True
    statuses: frozenset[int] = DEFAULT_RETRY_STATUSES
    longest_wait: float = 120.0
