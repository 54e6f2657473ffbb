"""What figures and strangers' texts look like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from nodellm_orm.domain.figures import age, count, duration, money
from nodellm_orm.domain.printable import one_line, printable

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cost", "unpriced", "shown"),
    [
        (None, 0, "-"),
        (None, 2, "unknown"),
        (Decimal(0), 0, "$0"),
        (Decimal("0.000123456"), 0, "$0.0001235"),
        (Decimal("0.000046000000"), 1, "$0.000046+"),
        (Decimal("0.5"), 0, "$0.50"),
        (Decimal("1234.5"), 0, "$1,234.50"),
        (Decimal("0.99999"), 0, "$1.00"),
        (Decimal("0.000000000001"), 0, "$0.000000000001"),
    ],
)
def test_money_shows_the_digits_that_tell_something(cost: Decimal | None, unpriced: int, shown: str) -> None:
    """Unknown is not nothing, nothing is not free, and small amounts keep four digits."""
    assert money(cost, unpriced=unpriced) == shown


@pytest.mark.parametrize(
    ("passed", "shown"),
    [
        (timedelta(seconds=59), "now"),
        (timedelta(minutes=5, seconds=30), "5 min"),
        (timedelta(hours=23), "23 h"),
        (timedelta(days=29), "29 d"),
        (timedelta(days=30), "2026-01-01"),
        (timedelta(seconds=-5), "now"),
    ],
)
def test_age_is_told_in_one_unit(passed: timedelta, shown: str) -> None:
    """The largest unit that fits; a date when it is long ago; a clock that is behind does no harm."""
    assert age(NOON - passed, NOON) == shown


def test_durations_and_counts() -> None:
    """Milliseconds, seconds, minutes, and thousands apart."""
    assert [duration(s) for s in (0.0421, 2.34, 59.99, 125, None)] == ["42 ms", "2.3 s", "60.0 s", "2 min 5 s", "-"]
    assert [count(n) for n in (0, 12345, None)] == ["0", "12,345", "-"]


@pytest.mark.fault("E18")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, 日本語, naïve", "plain, 日本語, naïve"),
        ("two\r\nlines\tand a tab", "two\nlines\tand a tab"),
        ("a\rb\x1b[31m\x7f\x9b", "a\\x0db\\x1b[31m\\x7f\\x9b"),
        ("\u202e\u2066\u200b\u2028\ufeff", "\\u202e\\u2066\\u200b\\u2028\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("no\u00a0break", "no\u00a0break"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_what_a_terminal_might_obey_is_shown(text: str, shown: str) -> None:
    """Control characters, reordering, invisible ones and half characters become escapes; all else stays."""
    assert printable(text) == shown


def test_one_line_is_one_line_within_its_limit() -> None:
    """Line ends become spaces, and what is too long ends with a sign."""
    assert one_line("a\n\n b\tc") == "a b c"
    assert one_line("abcdef", 4) == "abc…"
    assert one_line("abcd", 4) == "abcd"
