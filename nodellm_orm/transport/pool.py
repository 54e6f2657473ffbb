"""The connections of one client: shared by all of its endpoints, one httpx client for each running event loop."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from os import environ
from typing import TYPE_CHECKING

import httpx

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.transport.exchange import end_all

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

    from nodellm_orm.transport.exchange import Exchange

_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=100, keepalive_expiry=30.0)
"""As many calls at once as a busy server makes; an idle connection ends before the usual balancer's minute."""

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")

_CLOSED = "the client has been closed; create a new one"
_BAD_ENVIRONMENT = (
    "the proxy or certificates named in the environment cannot be used; check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY "
    "(a SOCKS proxy needs `pip install httpx[socks]`), SSL_CERT_FILE and SSL_CERT_DIR"
)


class HttpPool:
    """Owns, or borrows, the httpx client that requests are sent with.

    An own client speaks HTTP/1.1, verifies certificates, keeps no cookies and follows no redirects. A client that was
    left open is closed when its event loop shuts down (as `asyncio.run` does it), and one pool serves several loops,
    one after the other or in several threads.

    Args:
        http_client: a client of the user's, with any proxy, certificates or hooks; it is never closed here, and its
            own headers, parameters and authentication go along. Redirects are refused all the same, and the limits of
            `Timeout` hold in place of its own.
        trust_env: whether an own client obeys HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and
            SSL_CERT_DIR, as httpx does by default.
        keep_alive: whether an own client uses a connection for more than one request.
    """

    def __init__(
        self, http_client: httpx.AsyncClient | None = None, *, trust_env: bool = True, keep_alive: bool = True
    ) -> None:
        """Prepare; no connection is made before the first request."""
        self._borrowed = http_client
        self._trust_env = trust_env
        self._limits = _LIMITS if keep_alive else httpx.Limits(max_connections=1000, max_keepalive_connections=0)
        self._clients: dict[asyncio.AbstractEventLoop, _LoopClient] = {}
        self._live: set[Exchange] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __repr__(self) -> str:
        whose = "own" if self._borrowed is None else "borrowed"
        return f"<HttpPool {whose}, {'closed' if self._closed else f'{len(self._live)} in flight'}>"

    @property
    def in_flight(self) -> int:
        """How many requests are being sent or answered now."""
        return len(self._live)

    async def client(self) -> httpx.AsyncClient:
        """The httpx client of the running loop.

        Raises:
            ConfigurationError: when the pool or the user's client has been closed, or the environment is unusable.
        """
        if self._closed or (self._borrowed is not None and self._borrowed.is_closed):
            raise ConfigurationError(_CLOSED)
        if self._borrowed is not None:
            return self._borrowed
        loop = asyncio.get_running_loop()
        with self._lock:
            found = self._clients.get(loop)
            if found is None or found.client.is_closed:
                self._clients = {other: kept for other, kept in self._clients.items() if not other.is_closed()}
                found = self._clients[loop] = _LoopClient(self._new_client())
        await found.register()
        return found.client

    def keep(self, exchange: Exchange) -> None:
        """Keep a request alive until its connection has been given back, and end it when the pool is closed.

        Args:
            exchange: just begun.
        """
        self._live.add(exchange)
        exchange.task.add_done_callback(lambda _: self._live.discard(exchange))

    async def aclose(self) -> None:
        """End what is in flight and close the own client of this loop; those of other loops close in their own time."""
        self._closed = True
        loop = asyncio.get_running_loop()
        await end_all(exchange for exchange in list(self._live) if exchange.task.get_loop() is loop)
        with self._lock:
            clients, self._clients = self._clients, {}
        for other, found in clients.items():
            if other is loop:
                await found.aclose()
            elif other.is_running():
                asyncio.run_coroutine_threadsafe(found.aclose(), other)

    def _new_client(self) -> httpx.AsyncClient:
        client: httpx.AsyncClient | None = None
        # The error is raised outside, without these as its context: the text of a proxy's URL may hold a password.
        with suppress(ImportError, OSError, ValueError, httpx.InvalidURL):
            client = httpx.AsyncClient(
                verify=_tls(*(environ.get(name) for name in _CERTIFICATES if self._trust_env)),
                http2=False,
                trust_env=self._trust_env,
                timeout=None,  # noqa: S113 — the limits of `Timeout` are enforced around every wait
                limits=self._limits,
                follow_redirects=False,
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            )
        if client is None:
            raise ConfigurationError(_BAD_ENVIRONMENT)
        return client


@cache
def _tls(*named: str | None) -> ssl.SSLContext:
    """Reading the authorities' certificates takes long enough to be done once for each choice of them."""
    return httpx.create_ssl_context(trust_env=bool(named))


class _LoopClient:
    """An httpx client that closes with its loop: the loop shuts down the asynchronous generators it has seen."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self._life = self._live()
        self._registered = False

    async def register(self) -> None:
        if not self._registered:
            self._registered = True
            await anext(self._life)

    async def aclose(self) -> None:
        await self._life.aclose()
        await self.client.aclose()

    async def _live(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self.client.aclose()
