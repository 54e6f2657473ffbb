"""How long a provider's words say to wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.errors import BadRequestError, QuotaExceededError, RateLimitError
from nodellm_orm.wire.failures import failure_of
from nodellm_orm.wire.hints import wait_said

_UNITS = st.sampled_from(["ms", "s", "m", "h", "d", " seconds", " minutes", " hour", " days"])


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Rate limit reached. Please try again in 1.2s. Visit the dashboard.", 1.2),
        ("Please try again in 20ms.", 0.02),
        ("Please try again in 7m12s.", 432),
        ("Please try again in 1h2m3.5s", 3723.5),
        ("Please retry after 86400 seconds. Go there to raise it.", 86400),
        ("Please retry in 36.9s", 36.9),
        ("Try again in 30 seconds", 30),
        ("Wait for 2 minutes and 5 seconds", 125),
        ("retry after 5 minutes, 3 secs", 303),
        ("Please wait before trying again.", None),
        ("Please try again later", None),
        ("try again in 5 million years", None),
        ("try again in 0s", None),
        ("retry 3 times", None),
        ("it took 3s", None),
        ("", None),
    ],
)
def test_a_wait_in_words(words: str, seconds: float | None) -> None:
    """Durations as providers write them; what names no time is no hint."""
    assert wait_said(words) == pytest.approx(seconds)


@given(st.lists(st.tuples(st.integers(0, 10**9), _UNITS), max_size=4), st.text(max_size=20))
def test_no_words_break_the_reading_of_waits(pieces: list[tuple[int, str]], text: str) -> None:
    """Whatever stands there, the wait is ``None`` or a finite number above 0."""
    said = wait_said(f"try again in {''.join(f'{number}{unit}' for number, unit in pieces)}{text}")
    assert said is None or 0 < said < float("inf")


def test_a_header_goes_before_words() -> None:
    """What the header says is meant for programs."""
    error = failure_of(status=429, message="Please try again in 6s", headers={"retry-after": "2"})
    assert (type(error), error.retry_after) == (RateLimitError, 2.0)


@pytest.mark.parametrize(("status", "cls"), [(400, BadRequestError), (402, QuotaExceededError)])
def test_words_count_only_where_waiting_helps(status: int, cls: type[Exception]) -> None:
    """A refusal that mentions a time gives no hint to wait for it."""
    error = failure_of(status=status, message="the tool said: try again in 6s")
    assert (type(error), error.retry_after) == (cls, None)
