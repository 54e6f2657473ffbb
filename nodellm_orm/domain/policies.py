"""How long to wait and how often to try: values that users give and the engine obeys."""

from __future__ import annotations

from dataclasses import dataclass, fields

from nodellm_orm.errors import ConfigurationError

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

    Raises:
        ConfigurationError: a limit that is not a number above 0.
    """

    connect: float | None = 5.0
    first_byte: float | None = 60.0
    idle: float | None = 60.0
    total: float | None = 600.0
    tool: float | None = 120.0

    def __post_init__(self) -> None:
        """Refuse limits that nothing could keep; NaN is not above 0 either."""
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                msg = f"Timeout({limit.name}=) is a number of seconds above 0, or None for no limit, not {value!r:.100}"
                raise ConfigurationError(msg)

    @classmethod
    def of(cls, value: Timeout | float | None) -> Timeout:
        """A plain number means seconds in total; ``None`` means the defaults."""
        if isinstance(value, Timeout):
            return value
        return cls() if value is None else cls(total=value)


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

    Raises:
        ConfigurationError: a negative number.
    """

    max_attempts: int = 3
    base_ms: int = 500
    max_ms: int = 8000
    jitter: bool = True
    statuses: frozenset[int] = DEFAULT_RETRY_STATUSES
    longest_wait: float = 120.0

    def __post_init__(self) -> None:
        """Refuse what cannot be counted or waited."""
        for name in ("max_attempts", "base_ms", "max_ms", "longest_wait"):
            if not getattr(self, name) >= 0:
                msg = f"RetryPolicy({name}=) is a number of at least 0, not {getattr(self, name)!r}"
                raise ConfigurationError(msg)
