"""Rate limits from the headers of every provider: recorded ones, and whatever else may stand there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.ratelimit import RateLimit, RateLimits
from nodellm_orm.errors import RateLimitError
from nodellm_orm.wire.failures import failure_of
from nodellm_orm.wire.ratelimits import headers_in, rate_limits_of
from tests.unit.wire.recordings import Interaction, interactions, needs_recordings

NOW: Final = datetime(2026, 8, 19, 14, 34, 10, tzinfo=UTC)
DATE: Final = {"date": "Wed, 19 Aug 2026 14:34:10 GMT"}


def limits_of(headers: dict[str, str]) -> RateLimits:
    """The limits, where there are any."""
    limits = rate_limits_of(headers)
    assert limits is not None
    return limits


def reset(text: str, **more: str) -> tuple[float | None, datetime | None]:
    """When requests are there again, for a value of the reset header."""
    found = limits_of({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": text, **more}).requests
    return found.reset_after, found.reset_at


def test_openai() -> None:
    """Two allowances with resets as durations; images have one of their own."""
    limits = limits_of(
        {
            "X-RateLimit-Limit-Requests": "10000",
            "X-RateLimit-Remaining-Requests": "9988",
            "X-RateLimit-Reset-Requests": "1m42.277s",
            "x-ratelimit-limit-tokens": "200000",
            "x-ratelimit-remaining-tokens": "198455",
            "x-ratelimit-reset-tokens": "463ms",
            "x-ratelimit-limit-input-images": "50000",
            "x-ratelimit-remaining-input-images": "49998",
            "x-ratelimit-reset-input-images": "2ms",
        }
    )

    assert limits == RateLimits(
        requests=RateLimit(limit=10000, remaining=9988, reset_after=102.277),
        tokens=RateLimit(limit=200000, remaining=198455, reset_after=0.463),
        others={"input_images": RateLimit(limit=50000, remaining=49998, reset_after=0.002)},
    )


def test_anthropic() -> None:
    """Input and output have allowances of their own; resets are times, and count from the response's date."""
    names = {"requests": 9999, "tokens": 11999000, "input-tokens": 9999000, "output-tokens": 2000000}
    headers = {f"anthropic-ratelimit-{name}-remaining": str(left) for name, left in names.items()}
    headers |= {f"anthropic-ratelimit-{name}-limit": "12000000" for name in names}
    headers |= {f"anthropic-ratelimit-{name}-reset": "2026-08-19T14:34:16Z" for name in names}

    limits = limits_of({**headers, **DATE})

    told = (limits.requests, limits.tokens, limits.input_tokens, limits.output_tokens)
    assert [limit.remaining for limit in told] == list(names.values())
    assert {(limit.limit, limit.reset_after, limit.reset_at) for limit in told} == {
        (12000000, 6.0, NOW + timedelta(seconds=6))
    }
    assert limits_of(headers).tokens.reset_after is None
    assert limits_of(headers).tokens.reset_at == NOW + timedelta(seconds=6)


def test_anthropic_priority() -> None:
    """The allowance of the priority tier stands beside the usual one, under its own name."""
    headers = {
        "anthropic-ratelimit-input-tokens-remaining": "5",
        "anthropic-priority-input-tokens-remaining": "7",
        "anthropic-ratelimit-unified-status": "allowed",
    }

    limits = limits_of(headers)

    assert limits.input_tokens.remaining == 5
    assert limits.others == {"priority_input_tokens": RateLimit(remaining=7)}


def test_azure() -> None:
    """Resets are bare seconds, and the window stands in a header of its own; what is no number says nothing."""
    limits = limits_of(
        {
            "x-ratelimit-key": "gpt-5-nano",
            "x-ratelimit-abusepenalty-active": "False",
            "x-ratelimit-remaining-requests": "249",
            "x-ratelimit-reset-requests": "0",
            "x-ratelimit-limit-requests": "250",
            "x-ratelimit-renewalperiod-requests": "60",
        }
    )

    assert limits == RateLimits(requests=RateLimit(limit=250, remaining=249, reset_after=0.0, window=60.0))


def test_mistral() -> None:
    """The window is in the name; of two windows the shorter one is the main one."""
    limits = limits_of(
        {
            "x-ratelimit-limit-tokens-month": "4000000",
            "x-ratelimit-remaining-tokens-month": "3995029",
            "x-ratelimit-limit-tokens-minute": "50000",
            "x-ratelimit-remaining-tokens-minute": "49227",
            "x-ratelimit-limit-req-minute": "60",
            "x-ratelimit-remaining-req-minute": "49",
            "x-ratelimit-tokens-query-cost": "82",
        }
    )

    assert limits == RateLimits(
        requests=RateLimit(limit=60, remaining=49, window=60.0),
        tokens=RateLimit(limit=50000, remaining=49227, window=60.0),
        others={"tokens_month": RateLimit(limit=4000000, remaining=3995029)},
    )


def test_openrouter() -> None:
    """Bare names mean requests, and a reset is milliseconds since 1970; the body may repeat the provider's headers."""
    told = {
        "X-RateLimit-Limit": "20",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(int(NOW.timestamp() * 1000) + 5000),
    }
    body = json.dumps({"error": {"message": "Rate limit", "code": 429, "metadata": {"headers": told}}})
    expected = RateLimit(limit=20, remaining=0, reset_after=5.0, reset_at=NOW + timedelta(seconds=5))

    error = failure_of(status=429, message="Rate limit", headers=DATE, body=body)

    assert limits_of({**told, **DATE}).requests == expected
    assert isinstance(error, RateLimitError)
    assert error.rate_limits.requests == expected


def test_draft_standard_of_the_ietf() -> None:
    """The names without ``x-`` are read as well, and what follows the first number is left aside."""
    limits = limits_of({"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "50", "ratelimit-reset": "30"})

    assert limits.requests == RateLimit(limit=100, remaining=50, reset_after=30.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("0s", 0.0),
        ("6m0s", 360.0),
        ("1h30m", 5400.0),
        ("1d2h", 93600.0),
        ("1.5s", 1.5),
        ("250µs", 0.00025),
        ("7", 7.0),
        ("7.5", 7.5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations count from the response, and are times as well where that has a date."""
    after, at = reset(text)
    assert (round(after or 0, 9), at) == (seconds, None)
    assert reset(text, **DATE)[1] == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["1787150050", "1787150050000", "2026-08-19T14:34:10Z", DATE["date"]])
def test_times(text: str) -> None:
    """Seconds and milliseconds since 1970, RFC 3339 and HTTP dates; one that is past is over now."""
    at = datetime.fromtimestamp(1787150050, UTC) if text.isdigit() else NOW

    assert reset(text) == (None, at)
    assert reset(text, date="Wed, 19 Aug 2099 14:34:10 GMT") == (0.0, at)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "-5", "nan", "inf", "1e9", "s", "5x", "9" * 400, "99999999999d", "2026-08-19T14:34:10", "2026-13-01"],
)
def test_what_is_no_time_says_nothing(text: str) -> None:
    """Nonsense is unknown, never 0."""
    assert reset(text, **DATE) == (None, None)


@pytest.mark.parametrize(
    ("text", "count"),
    [("5", 5), ("5.0", 5), ("-3", 0), ("", None), ("many", None), ("9" * 30, None), ("9223372036854775807", 2**63 - 1)],
)
def test_counts(text: str, count: int | None) -> None:
    """Counts are whole numbers; more used than there was leaves nothing, and nonsense is unknown."""
    assert limits_of({"x-ratelimit-remaining-tokens": text, "x-ratelimit-limit-tokens": "1"}).tokens.remaining == count


def test_headers_without_limits() -> None:
    """A response that says nothing of limits has none."""
    assert rate_limits_of({"content-type": "application/json", "x-ratelimit-limit-tokens": "?"}) is None
    assert failure_of(status=500, message="broken", headers={}).retryable


@given(
    st.dictionaries(
        st.from_regex(
            r"(x-ratelimit-|ratelimit-|anthropic-ratelimit-)(limit|remaining|reset|renewalperiod)?(-?(requests|tokens"
            r"|input-tokens|images))?(-(minute|day|month|limit|reset))?",
            fullmatch=True,
        )
        | st.sampled_from(["date", "retry-after"]),
        st.text(max_size=20) | st.from_regex(r"[0-9]{1,25}(ms|s|m|h|d)?([0-9.]{1,5}s)?", fullmatch=True),
    )
)
def test_any_headers_are_read_without_an_error(headers: dict[str, str]) -> None:
    """Whatever a server sends, reading it never fails, and no count or wait is below 0."""
    limits = rate_limits_of(headers)

    if limits is not None:
        told = [limits.requests, limits.tokens, limits.input_tokens, limits.output_tokens, *limits.others.values()]
        assert all((limit.remaining or 0) >= 0 and (limit.reset_after or 0) >= 0 for limit in told)


@given(st.integers(0, 40), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_durations_as_go_writes_them(hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    """Every duration comes back as the seconds it was made of."""
    text = f"{hours}h{minutes}m{seconds}.{milliseconds:03}s"

    assert reset(text)[0] == pytest.approx(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000)


@pytest.mark.parametrize("body", [None, b"", b"no json", b"[]", b'{"error": "text"}', b'{"error": {"metadata": null}}'])
def test_bodies_without_headers(body: bytes | None) -> None:
    """An error's body that repeats no headers gives none."""
    assert headers_in(body) == {}


@needs_recordings
@pytest.mark.parametrize("provider", ["openai", "anthropic", "azure", "mistral", "xai"])
def test_recorded_limits_are_found_whole(provider: str) -> None:
    """In every recorded response each limit and each remainder that its headers name is in what is read."""
    recorded = [i for i in interactions(provider, "") if any("ratelimit" in name for name in i.headers)]

    assert recorded
    for interaction in recorded:
        assert _numbers(interaction) == _read(limits_of(interaction.headers))


def _numbers(interaction: Interaction) -> list[int]:
    named = (v for n, v in interaction.headers.items() if "ratelimit" in n and ("-limit" in n or "-remaining" in n))
    return sorted(int(value) for value in named)


def _read(limits: RateLimits) -> list[int]:
    told = [limits.requests, limits.tokens, limits.input_tokens, limits.output_tokens, *limits.others.values()]
    return sorted(count for limit in told for count in (limit.limit, limit.remaining) if count is not None)
