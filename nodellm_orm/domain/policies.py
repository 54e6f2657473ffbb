"""How long to wait and how often to try: values that users give and the engine obeys."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

from nodellm_orm.errors import (
    CircuitOpenError,
    ConfigurationError,
    OverloadedError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_RETRY_STATUSES = frozenset({408, 409, 424, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""Those that pass: of the provider itself, of what it depends on (424), and of the network in front of it (52x)."""


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
        statuses: HTTP statuses that may be retried. A refusal with another status counts as 429 where its words say
            that it is a rate limit, and as 503 where they say that the provider is overloaded.
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


DEFAULT_FALLBACK_ERRORS: Final[tuple[type[ProviderError], ...]] = (
    RateLimitError,
    OverloadedError,
    ServerError,
    ProviderTimeoutError,
    ProviderConnectionError,
    StreamInterruptedError,
    CircuitOpenError,
)
"""Errors of which another provider is free: whoever asks has done nothing wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """A model that is asked when the one before it cannot answer.

    Args:
        model: its name; omitted, the provider's default.
        provider: its provider; omitted, the client's own.
        api: the wire format, where the provider speaks several.
        on: errors of the model first asked after which this one is asked; `QuotaExceededError` is a `RateLimitError`.
        api_key: the provider's key. Where neither key, address nor options are given, the client's own are used for
            its own provider; otherwise what is not given comes from the provider's environment variables.
        base_url: the provider's address.
        options: options of that provider.

    Raises:
        ConfigurationError: it names nothing, or ``on`` is something else than classes of `ProviderError`.

    Example:
        >>> Fallback(provider="anthropic", model="claude-haiku-4-5", on=(ProviderTimeoutError,)).api is None
        True
    """

    model: str | None = None
    provider: str | None = None
    api: str | None = None
    on: tuple[type[ProviderError], ...] = DEFAULT_FALLBACK_ERRORS
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    options: Mapping[str, object] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse what could never be asked."""
        if self.model is None and self.provider is None:
            msg = "a Fallback names a model, a provider, or both: Fallback(provider='anthropic', model='...')"
            raise ConfigurationError(msg)
        errors: object = (self.on,) if isinstance(self.on, type) else self.on
        if (
            not isinstance(errors, tuple | list)
            or not errors
            or not all(isinstance(cls, type) and issubclass(cls, ProviderError) for cls in errors)
        ):
            msg = f"Fallback(on=) is a tuple of ProviderError classes, such as (RateLimitError,), not {self.on!r:.100}"
            raise ConfigurationError(msg)
        object.__setattr__(self, "on", tuple(errors))

    @classmethod
    def of(cls, value: Fallback | str | tuple[str, str]) -> Fallback:
        """A text is a model of the client's own provider, a pair is provider and model.

        Raises:
            ConfigurationError: for anything else.
        """
        match value:
            case Fallback():
                return value
            case str():
                return cls(model=value)
            case (str(provider), str(model)):
                return cls(provider=provider, model=model)
            case _:
                msg = (
                    "a fallback is the name of a model, a pair ('provider', 'model'), or a Fallback(...), "
                    f"not {type(value).__name__}"
                )
                raise ConfigurationError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreaker:
    """When a model that keeps failing is left alone for a while.

    Args:
        failures: how many failures in a row open the circuit; an answer, also one that refuses, ends the row.
        within: seconds in which they have to happen.
        open_for: seconds for which nothing is sent then; after them one request is let through as a probe.

    Raises:
        ConfigurationError: a number that cannot be meant.
    """

    failures: int = 5
    within: float = 60.0
    open_for: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what could never open, or never close."""
        if isinstance(self.failures, bool) or not isinstance(self.failures, int) or self.failures < 1:
            msg = f"CircuitBreaker(failures=) is a whole number of at least 1, not {self.failures!r:.100}"
            raise ConfigurationError(msg)
        for name in ("within", "open_for"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                msg = f"CircuitBreaker({name}=) is a number of seconds above 0, not {value!r:.100}"
                raise ConfigurationError(msg)
