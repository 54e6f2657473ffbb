"""The transport over HTTP: adds host and key to a request, sends it exactly once, enforces every limit."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

from nodellm_orm.transport.address import QuietURL, parse_address
from nodellm_orm.transport.exchange import Exchange, end_all
from nodellm_orm.transport.failures import redirected
from nodellm_orm.transport.headers import check_headers, credentials_among, request_headers
from nodellm_orm.transport.limits import Limits
from nodellm_orm.transport.response import HttpResponse
from nodellm_orm.transport.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    import httpx

    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.ports.transport import WireRequest, WireResponse
    from nodellm_orm.transport.pool import HttpPool

_log = logging.getLogger("nodellm_orm.transport")

_REDIRECTS = range(300, 400)
_EMPTY: Mapping[str, str] = MappingProxyType({})
MAX_BODY_BYTES = 64 << 20
MAX_STREAM_BYTES = 256 << 20


class HttpTransport:
    """One endpoint and its key.

    Every attempt opens with `open`, is sent exactly once, and ends in bounded time whatever the server does. Nothing
    that it raises, logs or shows contains the key, and the body of an error has the key taken out.

    Args:
        base_url: where the endpoint is; ``user:password@`` becomes an ``authorization`` header, a query goes along
            with every request, and neither is ever shown.
        headers: what the endpoint wants with every request, nothing secret among it.
        secret_headers: headers that carry the key, complete: ``{"authorization": "Bearer …"}``.
        query: parameters of every request's URL; treated as secret, too.
        pool: the connections, shared by all endpoints of a client.
        max_body_bytes: bytes that an unstreamed answer may have, packed or unpacked.
        max_stream_bytes: bytes that a whole stream may have.

    Raises:
        ConfigurationError: when the URL or a header cannot be used.

    Example:
        >>> transport = HttpTransport("https://api.example.com/v1", secret_headers={"x-api-key": key}, pool=HttpPool())
        >>> async with transport.open(request, timeout=Timeout()) as response:
        ...     body = b"".join([chunk async for chunk in response.chunks()])
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] = _EMPTY,
        secret_headers: Mapping[str, str | Secret] = _EMPTY,
        query: Mapping[str, str] = _EMPTY,
        pool: HttpPool,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_stream_bytes: int = MAX_STREAM_BYTES,
    ) -> None:
        """Check and keep; nothing is connected yet."""
        self._address = parse_address(base_url, query)
        self._headers = check_headers(headers)
        self._secret_headers = _secret(secret_headers)
        if self._address.authorization is not None:
            self._secret_headers.setdefault("authorization", self._address.authorization)
        self._secrets = (*self._secret_headers.values(), *self._address.query.values())
        self._pool = pool
        self._live: set[Exchange] = set()
        self._max_body_bytes = max_body_bytes
        self._max_stream_bytes = max_stream_bytes

    def __repr__(self) -> str:
        return f"HttpTransport({self.endpoint!r})"

    @property
    def endpoint(self) -> str:
        """Base URL, normalised, without key, user or query: the scope in which opaque provider state is valid."""
        return self._address.endpoint

    @asynccontextmanager
    async def open(
        self, request: WireRequest, *, timeout: Timeout, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[WireResponse]:
        """Send once, and give the response once its head has arrived; leaving the block ends it wherever it is.

        Args:
            request: what to send.
            timeout: limits of this attempt; ``first_byte`` and ``idle`` hold for streams only.
            headers: the caller's own headers; they win over all others, the key's included.

        Raises:
            ConfigurationError: when a header or the path cannot be sent; it names the header, not its value.
            ProviderTimeoutError: when a limit passes.
            ProviderConnectionError: when the endpoint cannot be reached or the connection breaks.
            ProviderError: when the endpoint answers with a redirect; none is ever followed.
        """
        client = await self._pool.client()
        prepared = self._prepare(client, request, headers or {})
        clock = asyncio.get_running_loop().time
        began = clock()
        limits = Limits(timeout, stream=request.stream, now=began)
        secrets = (*self._secrets, *credentials_among(headers or {}))
        exchange = Exchange(
            client, prepared, limits=limits, endpoint=self.endpoint, stream=request.stream, secrets=secrets
        )
        self._pool.keep(exchange)
        self._live.add(exchange)
        outcome = "left"
        try:
            head = await exchange.head()
            outcome = str(head.status_code)
            self._refuse_redirect(head, secrets)
            cap = self._max_stream_bytes if request.stream else self._max_body_bytes
            yield HttpResponse(exchange, head, limits=limits, cap=cap, secrets=secrets)
        except BaseException as error:
            outcome = f"{outcome} {type(error).__name__}"
            raise
        finally:
            path = prepared.url.raw_path.partition(b"?")[0].decode("ascii")
            _log.debug("%s %s %s in %d ms", prepared.method, path, outcome, (clock() - began) * 1000)
            self._live.discard(exchange)
            await exchange.close()

    async def aclose(self) -> None:
        """End this endpoint's requests; the connections belong to the pool, which its owner closes."""
        loop = asyncio.get_running_loop()
        await end_all(exchange for exchange in list(self._live) if exchange.task.get_loop() is loop)

    def _refuse_redirect(self, head: httpx.Response, secrets: Sequence[Secret]) -> None:
        if head.status_code in _REDIRECTS:
            raise redirected(head, self.endpoint, secrets)

    def _prepare(self, client: httpx.AsyncClient, request: WireRequest, own: Mapping[str, str]) -> httpx.Request:
        prepared = client.build_request(
            request.method,
            self._address.url(request.path),
            headers=request_headers(
                {**self._headers, **request.headers}, self._secret_headers, own, stream=request.stream
            ),
            content=request.body or None,
            timeout=None,
        )
        prepared.url = QuietURL(prepared.url)
        return prepared


def _secret(headers: Mapping[str, str | Secret]) -> dict[str, Secret]:
    plain = {name: value.reveal() if isinstance(value, Secret) else value for name, value in headers.items()}
    return {name: Secret(value) for name, value in check_headers(plain).items()}
