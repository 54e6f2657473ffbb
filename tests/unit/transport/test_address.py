"""Base URLs: normalised, and freed of what may not be shown."""

from __future__ import annotations

import pytest

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.transport.address import parse_address


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1"),
        (" HTTPS://API.Example.com:443/v1/ \n", "https://api.example.com/v1"),
        ("http://localhost:11434", "http://localhost:11434"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("https://user:canary@example.com/a/../b?key=canary#canary", "https://example.com/b"),
        ("https://bücher.example/v1", "https://xn--bcher-kva.example/v1"),
    ],
)
def test_endpoint_is_the_normalised_url_without_anything_secret(given: str, endpoint: str) -> None:
    """Spelling, default port, user, password, query, fragment and trailing slash make no difference."""
    address = parse_address(given, {})
    assert address.endpoint == endpoint
    assert "canary" not in repr(address)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "api.example.com/v1",
        "ftp://example.com",
        "https://",
        "https:///v1",
        "https://user:canary@",
        "https://exa mple.com/canary",
        "https://example.com:port/canary",
        "https://example.com/\ncanary",
        f"https://canary{'x' * 64}.example",
        "https://canary..example",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(given: str) -> None:
    """The error says how a base URL looks, and not how this one did."""
    with pytest.raises(ConfigurationError, match="base_url is not an http or https URL") as caught:
        parse_address(given, {})
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("base", "path", "target"),
    [
        ("https://h/v1/", "/chat", b"/v1/chat"),
        ("https://h", "/chat?alt=sse", b"/chat?alt=sse"),
        ("https://h/v1?a=1", "/chat?alt=sse", b"/v1/chat?alt=sse&a=1&key=s%26x"),
        ("https://h?key=old", "/m/a b:go", b"/m/a%20b:go?key=s%26x"),
    ],
)
def test_url_of_a_request(base: str, path: str, target: bytes) -> None:
    """Base path, path and every query come together; a given parameter wins over the base URL's."""
    query = {"key": "s&x"} if b"key" in target else {}
    url = parse_address(base, query).url(path)
    assert url.raw_path == target
    assert "key" not in f"{url} {url!r}"


@pytest.mark.parametrize("path", ["chat", "", "/a\nb", "@evil.example/"])
def test_path_that_cannot_be_one(path: str) -> None:
    """A path begins with a slash and has no control characters."""
    with pytest.raises(ConfigurationError, match="cannot be part of a URL"):
        parse_address("https://h/v1", {}).url(path)


def test_urls_compare_with_their_query() -> None:
    """Only what is shown lacks the query: URLs that differ there are different."""
    address = parse_address("https://h", {})
    assert address.url("/a?x=1") == address.url("/a?x=1")
    assert address.url("/a?x=1") != address.url("/a?x=2")
    assert len({address.url("/a?x=1"), address.url("/a?x=1"), address.url("/a?x=2")}) == 2
