"""Whether an attempt is repeated, and after how long: a table, and what holds for every input."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.policies import RetryPolicy
from nodellm_orm.errors import (
    AuthenticationError,
    BadRequestError,
    CircuitOpenError,
    ContextWindowError,
    OverloadedError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
)
from nodellm_orm.runtime.retry import delay_before_next

KINDS: list[type[ProviderError]] = [
    AuthenticationError,
    BadRequestError,
    CircuitOpenError,
    ContextWindowError,
    OverloadedError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
    StreamInterruptedError,
]
ERRORS = st.builds(
    lambda kind, **known: kind("x", **known),
    st.sampled_from(KINDS),
    status=st.none() | st.integers(200, 599),
    retry_after=st.none() | st.floats(),
    retryable=st.none() | st.booleans(),
)
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 10),
    base_ms=st.integers(0, 5_000),
    max_ms=st.integers(0, 20_000),
    jitter=st.booleans(),
    statuses=st.frozensets(st.integers(400, 599)),
    longest_wait=st.floats(0, 1_000),
)


def decide(error: ProviderError, *, attempt: int = 1, policy: RetryPolicy | None = None) -> float | None:
    """The decision with nothing delivered and no luck in it."""
    chosen = policy or RetryPolicy(jitter=False)
    return delay_before_next(chosen, error, attempt=attempt, delivered=False, chance=1.0)


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        (RateLimitError("x", status=429), 0.5),
        (OverloadedError("x", status=529), 0.5),
        (OverloadedError("x", status=503), 0.5),
        (ServerError("x", status=500), 0.5),
        (ServerError("x", status=501), None),
        (ServerError("x", status=None), 0.5),
        (ProviderConnectionError("x"), 0.5),
        (ProviderConnectionError("x", status=200), 0.5),
        (ProviderTimeoutError("x", status=None), 0.5),
        (ProviderTimeoutError("x", status=418), 0.5),
        (StreamInterruptedError("x", status=200), 0.5),
        (OverloadedError("inside a stream", status=200), 0.5),
        (BadRequestError("x", status=400), None),
        (ContextWindowError("x", status=400), None),
        (AuthenticationError("x", status=401), None),
        (ProtocolError("x", status=200), None),
        (CircuitOpenError("x"), None),
        (QuotaExceededError("x", status=429), None),
        (QuotaExceededError("x", status=429, retryable=True), None),
        (RateLimitError("x", status=429, retryable=False), None),
        (ProviderError("conflict", status=409, retryable=True), 0.5),
        (ProviderError("conflict", status=422, retryable=True), None),
    ],
)
@pytest.mark.fault("A30")
@pytest.mark.fault("A31")
@pytest.mark.fault("A32")
@pytest.mark.fault("A33")
def test_which_errors_are_retried(error: ProviderError, delay: float | None) -> None:
    """Those that waiting helps, with a status that may be retried; a used-up quota never."""
    assert decide(error) == delay


@pytest.mark.fault("A29")
@pytest.mark.parametrize(
    ("retry_after", "delay"),
    [
        (3.25, 3.25),
        (0.0, 0.0),
        (-5.0, 0.0),
        (120.0, 120.0),
        (120.001, None),
        (86_400.0, None),
        (math.inf, None),
        (-math.inf, 0.0),
        (math.nan, 0.5),
        (None, 0.5),
    ],
)
def test_what_the_provider_asks_for_is_kept_exactly_or_refused(retry_after: float | None, delay: float | None) -> None:
    """Longer than the policy waits is an error now; a number that is none is no hint."""
    assert decide(RateLimitError("x", status=429, retry_after=retry_after)) == delay


@pytest.mark.parametrize(
    ("attempt", "delay"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 8.0), (6, 8.0), (9, 8.0), (10, None)]
)
def test_delays_double_up_to_the_longest(attempt: int, delay: float | None) -> None:
    """And the last attempt is the last."""
    assert decide(ServerError("x"), attempt=attempt, policy=RetryPolicy(max_attempts=10, jitter=False)) == delay


def test_jitter_is_full() -> None:
    """The delay is drawn between nothing and the computed one."""
    policy = RetryPolicy(max_attempts=5)
    delays = [
        delay_before_next(policy, ServerError("x"), attempt=3, delivered=False, chance=chance)
        for chance in (0.0, 0.25, 1.0)
    ]
    assert delays == [0.0, 0.5, 2.0]


@given(POLICIES, ERRORS, st.integers(1, 12), st.floats(0, 1), st.booleans())
def test_no_decision_breaks_the_rules(
    policy: RetryPolicy,
    error: ProviderError,
    attempt: int,
    chance: float,
    delivered: bool,  # noqa: FBT001 — drawn
) -> None:
    """Never after delivery, never past the last attempt, never a quota, never longer than allowed, never negative."""
    delay = delay_before_next(policy, error, attempt=attempt, delivered=delivered, chance=chance)
    if delivered or attempt >= policy.max_attempts or not error.retryable or isinstance(error, QuotaExceededError):
        assert delay is None
    if delay is not None:
        assert 0 <= delay <= max(policy.max_ms / 1000, policy.longest_wait)
        if error.retry_after is not None and not math.isnan(error.retry_after):
            assert delay == max(0.0, error.retry_after)
    assert delay == delay_before_next(policy, error, attempt=attempt, delivered=delivered, chance=chance)
