"""Where an endpoint is: its base URL taken apart into what may be shown and what may not."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.transport.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOST = re.compile(rb"[a-z0-9._:-]+")
_EXAMPLE = "write it like https://api.example.com/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A base URL, taken apart."""

    endpoint: str
    """Scheme, host, port and path, normalised and without a trailing slash."""
    query: Mapping[str, Secret]
    """Goes along with every request and is shown nowhere: some providers take the key there."""
    authorization: Secret | None
    """The header that the URL's user and password stand for."""

    def url(self, path: str) -> httpx.URL:
        """The URL of one request.

        Args:
            path: with a leading slash; may have a query of its own.

        Raises:
            ConfigurationError: when it cannot be part of a URL.
        """
        try:
            url = httpx.URL(self.endpoint + path)
        except httpx.InvalidURL:
            url = None
        if url is None or not path.startswith("/"):
            msg = f"the path of a request to {self.endpoint} cannot be part of a URL; check the name of the model"
            raise ConfigurationError(msg)
        extra = {name: value.reveal() for name, value in self.query.items()}
        return QuietURL(url.copy_merge_params(extra) if extra else url)


class QuietURL(httpx.URL):
    """A URL whose texts lack the query: httpx logs the text of every URL it sends to."""

    def __str__(self) -> str:
        return str(httpx.URL(self, query=None))

    def __repr__(self) -> str:
        return f"URL({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return httpx.URL(self) == (httpx.URL(other) if isinstance(other, httpx.URL) else other)

    def __hash__(self) -> int:
        return hash(httpx.URL(self))


def parse_address(base_url: str, query: Mapping[str, str]) -> Address:
    """Take a base URL apart.

    Args:
        base_url: ``https://`` or ``http://``, a host, perhaps a port, a path, a query, and ``user:password@``.
        query: further parameters of every request; they win over those in the URL.

    Raises:
        ConfigurationError: when it is not such a URL; the message does not repeat it, for it may hold a password.
    """
    try:
        url = httpx.URL(base_url.strip())
        url.host.encode("idna")  # What the resolver will do; a label over 63 characters fails here, not there.
    except (httpx.InvalidURL, UnicodeError):
        url = None
    if url is None or url.scheme not in {"http", "https"} or not _HOST.fullmatch(url.raw_host):
        msg = f"base_url is not an http or https URL; {_EXAMPLE}"
        raise ConfigurationError(msg)
    plain = url.copy_with(userinfo=b"", query=None, fragment=None)
    pair = f"{url.username}:{url.password}"
    return Address(
        endpoint=str(plain).rstrip("/"),
        query={name: Secret(value) for name, value in {**url.params, **query}.items()},
        authorization=Secret(f"Basic {base64.b64encode(pair.encode()).decode()}") if url.userinfo else None,
    )
