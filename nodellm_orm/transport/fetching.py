"""Fetches URLs that somebody else may have written: to checked addresses only, and never more than was allowed.

The name is resolved here, once, every address it has is checked, and the connection goes to one of exactly these: a
name that resolves differently the next moment changes nothing. Each redirect begins anew.
"""

from __future__ import annotations

import asyncio
import socket
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeAlias

import httpx

from nodellm_orm.errors import AttachmentError
from nodellm_orm.ports.fetching import Fetched
from nodellm_orm.transport.decoding import decoder_for
from nodellm_orm.transport.public import is_odd, may_be_reached

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator

    from nodellm_orm.domain.attachments import AttachmentPolicy

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, for a port."""

_PORTS: Final = {"http": 80, "https": 443}
_LAST_PORT: Final = 65535
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_OK: Final = 200
_CONNECT: Final = 5.0
"""Seconds for one address of several, so that one that is not reached does not use up the whole time."""
_HEADERS: Final = {"user-agent": "nodellm_orm", "accept": "*/*", "accept-encoding": "identity"}


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """The addresses that the operating system finds.

    Args:
        host: a name, or an address.
        port: the port.

    Raises:
        OSError: there are none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedFetcher:
    """Fetches within the rules of an `AttachmentPolicy`, without cookies, keys or proxies.

    Args:
        resolve: finds the addresses of a name.
        certificates: which authorities are trusted; those of httpx, or of SSL_CERT_FILE, when omitted.

    Example:
        >>> fetched = await GuardedFetcher().fetch("https://example.com/photo.jpg", AttachmentPolicy(urls="fetch"))
    """

    def __init__(self, resolve: Resolve = resolve_by_system, *, certificates: ssl.SSLContext | None = None) -> None:
        """Prepare; nothing is connected yet."""
        self._resolve = resolve
        self._certificates = certificates

    async def fetch(self, url: str, policy: AttachmentPolicy) -> Fetched:
        """See `Fetcher.fetch`."""
        target = _parsed(url, "the URL")
        try:
            async with asyncio.timeout(policy.timeout):
                return await self._follow(target, policy)
        except TimeoutError:
            msg = (
                f"{_shown(target)} took over {policy.timeout} seconds; raise AttachmentPolicy(timeout=) to wait longer"
            )
            raise AttachmentError(msg) from None

    async def _follow(self, url: httpx.URL, policy: AttachmentPolicy) -> Fetched:
        for _ in range(policy.max_redirects + 1):
            addresses = await self._allowed(url, policy)
            found = await self._ask(url, addresses, policy)
            if isinstance(found, Fetched):
                return found
            if url.scheme == "https" and found.scheme == "http":
                msg = f"{_shown(url)} redirects from https to http, which is not followed; give the final URL"
                raise AttachmentError(msg)
            url = found
        limit = policy.max_redirects
        msg = f"{_shown(url)} is behind more than {limit} redirects; raise AttachmentPolicy(max_redirects=) to allow it"
        raise AttachmentError(msg)

    async def _allowed(self, url: httpx.URL, policy: AttachmentPolicy) -> Sequence[str]:
        """The addresses of a URL's host, every one of them checked."""
        host, port = _host(url), url.port or _PORTS[url.scheme]
        policy.refuse_host(host, port)
        if is_odd(host):
            msg = f"{host!r:.100} is no host name; write an address as four decimal numbers"
            raise AttachmentError(msg)
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            msg = f"the host {host!r:.300} is not found; check the URL"
            raise AttachmentError(msg) from error
        if not addresses or not all(may_be_reached(a, private=policy.private_addresses) for a in addresses):
            # Not which: names of inside must not be looked up through this.
            msg = (
                f"the host {host!r:.300} is not on the public internet; AttachmentPolicy(private_addresses=True) "
                "allows one's own networks (never link-local addresses)"
            )
            raise AttachmentError(msg)
        return addresses

    async def _ask(self, url: httpx.URL, addresses: Sequence[str], policy: AttachmentPolicy) -> Fetched | httpx.URL:
        """The content, or where it is said to be; asked at the first address that can be reached.

        The client lives for this request alone, so that no cookie and no connection outlives it.
        """
        failure: httpx.TransportError | None = None
        async with self._client(policy) as client:
            for address in addresses:
                try:
                    return await _sent(client, url, address, policy)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    failure = error
                except (httpx.TransportError, httpx.InvalidURL, zlib.error) as error:
                    msg = f"{_shown(url)} broke off ({type(error).__name__}); try again, or pass the bytes"
                    raise AttachmentError(msg) from error
        kind = type(failure).__name__
        msg = f"{_shown(url)} cannot be reached ({kind}: {failure}); check the URL, or pass the bytes"
        raise AttachmentError(msg) from failure

    def _client(self, policy: AttachmentPolicy) -> httpx.AsyncClient:
        if self._certificates is None:
            self._certificates = httpx.create_ssl_context()
        return httpx.AsyncClient(
            verify=self._certificates,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(policy.timeout, connect=min(_CONNECT, policy.timeout)),
        )


async def _sent(
    client: httpx.AsyncClient, url: httpx.URL, address: str, policy: AttachmentPolicy
) -> Fetched | httpx.URL:
    """Ask one address: the URL names the address, the headers and the handshake name the host."""
    # A port that is the scheme's own is left out by httpx, as in the header that servers expect.
    request = client.build_request(
        "GET",
        url.copy_with(host=address, fragment=None),
        headers={**_HEADERS, "host": url.netloc.decode("ascii")},
        extensions={"sni_hostname": _host(url)},
    )
    response = await client.send(request, stream=True)
    try:
        if response.status_code in _REDIRECTS:
            return _parsed(response.headers.get("location", ""), f"what {_shown(url)} redirects to", base=url)
        if response.status_code != _OK:
            msg = f"{_shown(url)} answered {response.status_code}; check the URL, or pass the bytes"
            raise AttachmentError(msg)
        data = await _content(response, url, policy)
        return Fetched(
            data=data, url=str(url.copy_with(fragment=None)), media_type=response.headers.get("content-type")
        )
    finally:
        await response.aclose()


async def _content(response: httpx.Response, url: httpx.URL, policy: AttachmentPolicy) -> bytes:
    """The body, unpacked; what its headers say of its length is believed only when it is too long."""
    what, announced = f"the file at {_shown(url)}", response.headers.get("content-length", "")
    policy.refuse_size(int(announced) if announced.isdecimal() else 0, what)
    content, packed = bytearray(), 0
    async with aclosing(_pieces(response)) as pieces:
        async for data, size in pieces:
            content += data
            packed += size
            policy.refuse_size(max(len(content), packed), what)
    return bytes(content)


async def _pieces(response: httpx.Response) -> AsyncGenerator[tuple[bytes, int]]:
    """The unpacked pieces, each with the packed bytes that were read for it."""
    encoding = response.headers.get("content-encoding", "")
    decoder = decoder_for(encoding)
    if decoder is None:
        msg = f"{response.url.host!r} answered packed as {encoding!r:.60}, which was not asked for; pass the bytes"
        raise AttachmentError(msg)
    raw: AsyncIterator[bytes] = response.aiter_raw()
    async for piece in raw:
        yield b"", len(piece)
        for data in decoder.feed(piece):
            yield data, 0
    decoder.finish()


def _parsed(text: str, what: str, *, base: httpx.URL | None = None) -> httpx.URL:
    """A URL that may be asked, if it is one.

    Raises:
        AttachmentError: it is not.
    """
    try:
        url = httpx.URL(text) if base is None else base.join(text)
        fit = bool(text) and url.scheme in _PORTS and bool(url.host) and 0 < (url.port or 1) <= _LAST_PORT
        url.raw_host.decode("ascii").encode("idna")
    except (httpx.InvalidURL, UnicodeError, ValueError, TypeError):
        fit, url = False, httpx.URL("")
    if not fit:
        msg = f"{what} is not a URL of http or https; only these are fetched"
        raise AttachmentError(msg)
    if url.userinfo:
        msg = f"{what} holds a user or a password; give a URL without, or pass the bytes"
        raise AttachmentError(msg)
    return url


def _host(url: httpx.URL) -> str:
    return url.raw_host.decode("ascii").lower().strip("[]").rstrip(".")


def _shown(url: httpx.URL) -> str:
    """A URL as errors may show it: the query may hold a key."""
    return repr(str(url.copy_with(query=None, fragment=None))[:300])
