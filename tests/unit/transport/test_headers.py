"""Which header wins, and which are refused."""

from __future__ import annotations

import pytest

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.transport import Secret, check_headers
from nodellm_orm.transport.headers import USER_AGENT, request_headers


def test_callers_headers_win_over_keys_and_formats() -> None:
    """Caller, then key, then format, then our own defaults; case does not matter."""
    headers = request_headers(
        {"X-A": "format", "x-b": "format", "x-c": "format", "User-Agent": "format"},
        {"x-b": Secret("key"), "x-c": Secret("key")},
        {"X-C": "caller"},
        stream=False,
    )
    assert headers == {
        "accept-encoding": "gzip, deflate",
        "user-agent": "format",
        "x-a": "format",
        "x-b": "key",
        "x-c": "caller",
    }


def test_streams_are_asked_for_unpacked() -> None:
    """A stream is offered no packing, under our own name."""
    assert request_headers({}, {}, {}, stream=True) == {"accept-encoding": "identity", "user-agent": USER_AGENT}


@pytest.mark.parametrize("name", ["", "a b", "a:", "naïve", "a\r\nb", "x\x00"])
def test_illegal_name_is_refused(name: str) -> None:
    """A name that is no token is refused."""
    with pytest.raises(ConfigurationError, match="is not a header name"):
        check_headers({name: "value"})


@pytest.mark.fault("E02")
@pytest.mark.parametrize("value", ["a\r\nb: c", "a\n", "\ra", "a\x00", "é", "a\x1b[0m"])
def test_illegal_value_is_refused_by_name(value: str) -> None:
    """The error names the header and does not show the value."""
    with pytest.raises(ConfigurationError, match="'X-Note'") as caught:
        check_headers({"X-Note": f"canary{value}"})
    assert "canary" not in str(caught.value)


def test_blanks_around_a_value_are_dropped() -> None:
    """HTTP knows no blanks at the ends of a value."""
    assert check_headers({"X-Note": " \ta b\t"}) == {"x-note": "a b"}
