"""Whose connections are used: the user's client, one client for each event loop, the proxies of the environment."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from nodellm_orm.errors import ConfigurationError, ProviderConnectionError, ProviderError
from nodellm_orm.testing import LoopbackServer, body_answer, gzip_answer, json_answer
from nodellm_orm.transport import HttpPool
from tests.integration.transport.calls import SAFETY, STREAM, call, failure, left_in, transport_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nodellm_orm.testing import Answer, ReceivedRequest

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no proxy, to be changed by the test."""
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@contextmanager
def server_of_its_own() -> Iterator[tuple[LoopbackServer, Callable[[], None]]]:
    """A server on a loop in a thread of its own, there while other loops come and go; and a wait until it idles."""

    async def answer(_: ReceivedRequest) -> Answer:
        return json_answer({})

    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        async with server:
            loops.append(asyncio.get_running_loop())
            started.set()
            await stop.wait()

    def until_idle() -> None:
        # The server hears a moment later that its client has hung up.
        asyncio.run_coroutine_threadsafe(server.until_idle(), loops[0]).result(SAFETY)

    server, started, stop = LoopbackServer(answer), threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(SAFETY)
        yield server, until_idle
    finally:
        for loop in loops:
            loop.call_soon_threadsafe(stop.set)
        thread.join(SAFETY)


def test_one_pool_serves_one_loop_after_another() -> None:
    """A pool that nobody closes between two runs of asyncio works in both, and its first connections are closed."""
    pool = HttpPool(trust_env=False)
    with server_of_its_own() as (server, until_idle):
        transport = transport_to(server.url, pool)
        for _ in range(3):
            assert asyncio.run(call(transport)) == (200, b"{}")
            gc.collect()  # A connection left open on a dead loop would be reported here, and fail the test.
        assert server.connections == 3
        until_idle()


def test_one_pool_serves_two_loops_at_once() -> None:
    """Two threads, each with a loop, use one pool side by side; closing it in one leaves neither with connections."""
    pool = HttpPool(trust_env=False)
    both = threading.Barrier(2, timeout=SAFETY)
    results: list[tuple[int, bytes]] = []

    async def work(transport_url: str, *, closing: bool) -> None:
        results.append(await call(transport_to(transport_url, pool)))
        await asyncio.to_thread(both.wait)
        if closing:
            await pool.aclose()
        await asyncio.to_thread(both.wait)

    with server_of_its_own() as (server, until_idle):
        threads = [
            threading.Thread(target=lambda closing=closing: asyncio.run(work(server.url, closing=closing)))
            for closing in (True, False)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SAFETY)
        gc.collect()
        assert results == [(200, b"{}")] * 2
        until_idle()


async def test_users_client_is_used_and_not_closed() -> None:
    """A client of the user's carries the requests, its own headers go along, and closing the pool leaves it open."""
    async with LoopbackServer([json_answer({}), json_answer({})]) as server:
        async with httpx.AsyncClient(headers={"x-site": "north", "user-agent": "mine"}, trust_env=False) as client:
            pool = HttpPool(client)
            await call(transport_to(server.url, pool))
            await pool.aclose()
            assert not client.is_closed
            await call(transport_to(server.url, HttpPool(client)))
        with pytest.raises(ConfigurationError, match="has been closed"):
            await call(transport_to(server.url, HttpPool(client)))
    assert [request.headers["x-site"] for request in server.requests] == ["north", "north"]
    assert server.requests[0].headers["user-agent"].startswith("nodellm_orm/")


@pytest.mark.fault("A35")
async def test_users_client_follows_no_redirects_either() -> None:
    """Redirects are refused although the user's client would follow them."""
    async with LoopbackServer() as other:
        answer = body_answer(b"", status=307, headers={"location": other.url})
        async with (
            LoopbackServer([answer]) as server,
            httpx.AsyncClient(follow_redirects=True, trust_env=False) as client,
        ):
            error, _ = await failure(transport_to(server.url, HttpPool(client)))
        assert other.connections == 0
    assert type(error) is ProviderError


async def test_users_client_without_a_network() -> None:
    """A client whose transport is a function works, too: nothing depends on what httpcore reports."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"query": request.url.params["q"]})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        transport = transport_to("http://model.example/v1?q=1", HttpPool(client))
        assert await call(transport, STREAM) == (200, b'{"query":"1"}')


async def test_hook_of_the_users_client_may_read_the_body() -> None:
    """A hook that reads the response first, to log it, takes nothing away, packed or not."""

    async def read(response: httpx.Response) -> None:
        await response.aread()

    answers = [gzip_answer(b'{"a":1}'), json_answer({"a": 1})]
    async with (
        LoopbackServer(answers) as server,
        httpx.AsyncClient(event_hooks={"response": [read]}, trust_env=False) as client,
    ):
        transport = transport_to(server.url, HttpPool(client))
        assert [await call(transport) for _ in answers] == [(200, b'{"a":1}')] * 2


async def test_time_limits_of_the_users_client_are_replaced(pool: HttpPool) -> None:
    """The limits of a call hold in place of those of the user's client."""

    async def answer(_: ReceivedRequest) -> Answer:
        await asyncio.sleep(0.1)
        return json_answer({})

    async with LoopbackServer(answer) as server, httpx.AsyncClient(timeout=0.01, trust_env=False) as client:
        assert await call(transport_to(server.url, HttpPool(client))) == (200, b"{}")
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A04")
async def test_proxy_of_the_environment_is_used(environment: pytest.MonkeyPatch) -> None:
    """With ``trust_env``, the default, a request goes to the proxy; without, it goes straight."""
    async with LoopbackServer([json_answer({}), json_answer({})]) as proxy:
        environment.setenv("HTTP_PROXY", proxy.url)
        trusting, straight = HttpPool(), HttpPool(trust_env=False)
        assert await call(transport_to("http://model.invalid/v1", trusting)) == (200, b"{}")
        error, _ = await failure(transport_to("http://model.invalid/v1", straight))
        assert [request.path for request in proxy.requests] == ["http://model.invalid/v1/chat"]
        await trusting.aclose()
        await straight.aclose()
    assert type(error) is ProviderConnectionError


@pytest.mark.fault("A04")
@pytest.mark.parametrize(("status", "retryable"), [(407, False), (403, False), (502, True)])
async def test_proxy_that_refuses(environment: pytest.MonkeyPatch, status: int, *, retryable: bool) -> None:
    """A proxy that opens no tunnel is named as the cause; nothing was sent to the endpoint."""
    async with LoopbackServer([body_answer(b"", status=status)]) as proxy:
        environment.setenv("HTTPS_PROXY", proxy.url)
        pool = HttpPool()
        error, _ = await failure(transport_to("https://model.invalid/v1", pool))
        assert await left_in(pool) == (0, 0, 0)
        await pool.aclose()
        assert [request.method for request in proxy.requests] == ["CONNECT"]
        assert "authorization" not in proxy.requests[0].headers
    assert type(error) is ProviderConnectionError
    assert error.retryable is retryable
    assert "the proxy on the way" in str(error)
    assert "nothing was sent" in str(error)


@pytest.mark.fault("A04")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks9://me:canary-password@127.0.0.1:1"),
        ("HTTP_PROXY", "http://me:canary-password@127.0.0.1:none"),
        ("SSL_CERT_FILE", "/nowhere/canary-password.pem"),
    ],
)
async def test_unusable_environment(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A proxy or a certificate file that cannot be used is named by its variable, without its value."""
    environment.setenv(name, value)
    with pytest.raises(ConfigurationError, match=name) as caught:
        await call(transport_to("http://127.0.0.1:9", HttpPool()))
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None
