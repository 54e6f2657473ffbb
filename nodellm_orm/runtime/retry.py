"""Whether and when an attempt is repeated: a pure decision."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nodellm_orm.errors import (
    OverloadedError,
    ProviderConnectionError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    StreamInterruptedError,
)

if TYPE_CHECKING:
    from nodellm_orm.domain.policies import RetryPolicy
    from nodellm_orm.errors import ProviderError

_FIRST_ERROR = 400
_TOO_MANY_REQUESTS = 429
_FIRST_SERVER_ERROR = 500
_UNAVAILABLE = 503
_WITHOUT_ANSWER = (ProviderConnectionError, ProviderTimeoutError, StreamInterruptedError)


def delay_before_next(
    policy: RetryPolicy, error: ProviderError, *, attempt: int, delivered: bool, chance: float
) -> float | None:
    """Seconds to wait before the next attempt, or ``None`` to give up.

    Args:
        policy: the limits.
        error: what the attempt ended with.
        attempt: number of the attempt that failed, from 1.
        delivered: whether the consumer has been given anything of the answer; then nothing is repeated.
        chance: a random number from 0 to 1, for full jitter.

    A delay that the provider itself names is kept exactly; one longer than ``policy.longest_wait`` is an error now
    rather than a silent sleep.
    """
    if delivered or not error.retryable or attempt >= policy.max_attempts or isinstance(error, QuotaExceededError):
        return None
    status = _counted_as(error)
    if (
        status is not None
        and status >= _FIRST_ERROR
        and status not in policy.statuses
        and not isinstance(error, _WITHOUT_ANSWER)
    ):
        return None
    if error.retry_after is not None and not math.isnan(error.retry_after):
        return max(0.0, error.retry_after) if error.retry_after <= policy.longest_wait else None
    ceiling: float = min(policy.max_ms, policy.base_ms * 2 ** (attempt - 1)) / 1000
    return ceiling * chance if policy.jitter else ceiling


def _counted_as(error: ProviderError) -> int | None:
    """The status of an error; that which it should have had where the provider's words say something else."""
    if error.status is None or not _FIRST_ERROR <= error.status < _FIRST_SERVER_ERROR:
        return error.status
    match error:
        case RateLimitError():
            return _TOO_MANY_REQUESTS
        case OverloadedError() if error.status != _TOO_MANY_REQUESTS:
            return _UNAVAILABLE
        case _:
            return error.status
