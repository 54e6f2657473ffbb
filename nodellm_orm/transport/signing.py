"""A transport whose requests carry no key, but a signature made with one: over address, headers and body as sent."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

import httpx

from nodellm_orm.errors import ProviderTimeoutError
from nodellm_orm.transport.address import parse_address
from nodellm_orm.transport.headers import check_headers
from nodellm_orm.transport.http import HttpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.ports.transport import WireRequest, WireResponse
    from nodellm_orm.transport.pool import HttpPool
    from nodellm_orm.transport.secrets import Secret

_EMPTY: Final[Mapping[str, str]] = MappingProxyType({})
_REFUSED: Final = frozenset({401, 403})
_AUTHORIZATION: Final = "authorization"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsigned:
    """A request as it is about to be sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    """Names in lower case; those that are not here, the connection adds, and no signature covers them."""
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What is added to a request."""

    headers: Mapping[str, str]
    secret_headers: Mapping[str, Secret]
    """Those that no error may repeat."""


class Signer(Protocol):
    """Signs requests. May block, on files and on networks, and is therefore asked in a thread; several at a time."""

    def sign(self, request: Unsigned) -> Signature:
        """The headers that prove who sends a request.

        Raises:
            NodeLLMError: there are no credentials, or they cannot be had.
        """
        ...

    def refused(self) -> None:
        """The endpoint did not accept a signature: what it was made with may have changed, and is read again."""
        ...


class SignedTransport:
    """Signs every attempt anew, then sends it over HTTP; see `HttpTransport`, whose promises hold here too.

    Args:
        base_url: where the endpoint is.
        signer: what signs.
        headers: what the endpoint wants with every request.
        query: parameters of every request's URL.
        pool: the connections, shared by all endpoints of a client.

    Raises:
        ConfigurationError: when the URL or a header cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        signer: Signer,
        headers: Mapping[str, str] = _EMPTY,
        query: Mapping[str, str] = _EMPTY,
        pool: HttpPool,
    ) -> None:
        """Check and keep; nothing is connected yet."""
        self._address = parse_address(base_url, query)
        self._signer = signer
        self._headers = check_headers(headers)
        self._pool = pool
        self._live: set[HttpTransport] = set()

    def __repr__(self) -> str:
        return f"SignedTransport({self.endpoint!r})"

    @property
    def endpoint(self) -> str:
        """Base URL, normalised, without query."""
        return self._address.endpoint

    @asynccontextmanager
    async def open(
        self, request: WireRequest, *, timeout: Timeout, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[WireResponse]:
        """Sign and send once; see `HttpTransport.open`.

        A caller's own ``authorization`` header goes out in place of a signature.

        Args:
            request: what to send.
            timeout: limits of this attempt; ``total`` holds for finding the credentials and for the request together.
            headers: the caller's own headers; the signature covers them.

        Raises:
            ConfigurationError: there are no credentials, or a header or the path cannot be sent.
            AuthenticationError: the credentials are there, but cannot be used any more.
            ProviderTimeoutError: when a limit passes.
        """
        own = check_headers(headers or {})
        signature = Signature(headers=_EMPTY, secret_headers={})
        if _AUTHORIZATION not in own:
            unsigned = Unsigned(
                method=request.method,
                url=str(httpx.URL(self._address.url(request.path))),
                headers={**self._headers, **check_headers(request.headers), **own},
                body=request.body,
            )
            signature, timeout = await self._signed(unsigned, timeout)
        http = HttpTransport(
            self.endpoint,
            headers={**self._headers, **signature.headers},
            secret_headers=signature.secret_headers,
            query={name: value.reveal() for name, value in self._address.query.items()},
            pool=self._pool,
        )
        self._live.add(http)
        try:
            async with http.open(request, timeout=timeout, headers=own) as response:
                if response.status in _REFUSED:
                    self._signer.refused()
                yield response
        finally:
            self._live.discard(http)

    async def aclose(self) -> None:
        """End this endpoint's requests; the connections belong to the pool, which its owner closes."""
        await asyncio.gather(*(http.aclose() for http in list(self._live)))

    async def _signed(self, unsigned: Unsigned, timeout: Timeout) -> tuple[Signature, Timeout]:
        """The signature, and the limits with what it took taken off."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(timeout.total):
                signature = await asyncio.to_thread(self._signer.sign, unsigned)
        except TimeoutError:
            msg = (
                f"the credentials for {self.endpoint} were not there within {timeout.total} s, nothing was sent; check "
                "where they come from, or allow more time with Timeout(total=...)"
            )
            raise ProviderTimeoutError(msg) from None
        if timeout.total is None:
            return signature, timeout
        left = max(timeout.total - (clock() - began), timeout.total / 1000)
        return signature, replace(timeout, total=left)
