"""Whoever leaves a call, at whatever moment and however often, leaves no connection behind."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import ConfigurationError, ProviderConnectionError
from nodellm_orm.testing import Close, LoopbackServer, Stall, json_answer, slowly, sse_answer
from nodellm_orm.transport import HttpPool
from tests.integration.transport.calls import CHAT, PATIENT, SAFETY, STREAM, call, left_in, soon, transport_to
from tests.integration.transport.test_tls import certificate, serving, trusting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.testing import Answer, ReceivedRequest

STEPS = 70
"""Turns of the loop in which a whole call on a loopback connection is over, with and without TLS."""


@pytest.fixture(params=["http", "https"])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[LoopbackServer, HttpPool]]:
    """A server that answers bodies and streams in small pieces, and a pool that trusts it."""

    async def answer(received: ReceivedRequest) -> Answer:
        if b"true" in received.body:
            return sse_answer([b"data: one\n\n", b"data: two\n\n"])
        return slowly(json_answer({}), pause=0, size=20)

    file = certificate(tmp_path, name="IP:127.0.0.1", days=1)
    tls = serving(file) if request.param == "https" else None
    async with LoopbackServer(answer, ssl=tls) as server, trusting(file) as client:
        yield server, HttpPool(client)


async def settled(pool: HttpPool) -> None:
    """Wait until everything that was left has ended."""
    if ending := {exchange.task for exchange in pool._live}:
        await asyncio.wait(ending, timeout=SAFETY)


@pytest.mark.parametrize("request_", [CHAT, STREAM], ids=["body", "stream"])
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("reused", [False, True], ids=["new", "reused"])
async def test_cancellation_after_any_step(
    server: tuple[LoopbackServer, HttpPool], request_: WireRequest, times: int, *, reused: bool
) -> None:
    """A call that is cancelled after any number of steps, also again while it ends, leaves nothing behind."""
    listening, pool = server
    transport = transport_to(listening.url, pool)
    client = await pool.client()
    ended = 0
    for steps in range(STEPS):
        if reused:
            await call(transport)
        task = asyncio.create_task(call(transport, request_))
        for _ in range(steps):
            await asyncio.sleep(0)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await task
            ended += 1
        await settled(pool)
        assert await left_in(pool) == (0, 0, 0), f"after {steps} steps"
        if not reused:
            await _drop_idle(client)
    assert await call(transport) == (200, b"{}")
    await client.aclose()
    await soon(listening.until_idle())
    assert ended < STEPS


async def _drop_idle(client: httpx.AsyncClient) -> None:
    """Make the next call open a connection of its own."""
    transport = client._transport
    assert isinstance(transport, httpx.AsyncHTTPTransport)
    await transport._pool.aclose()


@pytest.mark.parametrize("answer", [[Stall()], sse_answer([b"data: one\n\n", Stall()])], ids=["head", "body"])
async def test_cancellation_closes_the_connection_at_once(pool: HttpPool, answer: Answer) -> None:
    """The server of a call that is waiting sees the caller leave."""
    async with LoopbackServer([answer]) as listening:
        task = asyncio.create_task(call(transport_to(listening.url, pool), STREAM))
        await soon(listening.until_received(1))
        task.cancel()
        await soon(listening.until_interrupted())
        with pytest.raises(asyncio.CancelledError):
            await task
        await soon(listening.until_idle())
    assert await left_in(pool) == (0, 0, 0)


async def test_cancelled_scope_of_anyio(pool: HttpPool) -> None:
    """In a scope that cancels every further wait, as web frameworks use it, the call ends all the same."""
    async with LoopbackServer([sse_answer([b"data: one\n\n", Stall()])]) as listening:
        with anyio.CancelScope() as scope:
            async with transport_to(listening.url, pool).open(STREAM, timeout=PATIENT) as response:
                async for _ in response.chunks():
                    scope.cancel()
        assert scope.cancelled_caught
        await soon(listening.until_idle())
    await settled(pool)
    assert await left_in(pool) == (0, 0, 0)


async def test_reader_that_stops_early(pool: HttpPool) -> None:
    """Leaving the block in the middle of a stream closes the connection; a dropped iterator is no trouble."""
    async with LoopbackServer([sse_answer([b"data: one\n\n", Stall()])]) as listening:
        async with transport_to(listening.url, pool).open(STREAM, timeout=PATIENT) as response:
            async for chunk in response.chunks():
                assert chunk == b"data: one\n\n"
                break
        await soon(listening.until_idle())
    assert await left_in(pool) == (0, 0, 0)


async def test_head_without_its_body(pool: HttpPool) -> None:
    """Leaving the block without reading at all closes the connection."""
    async with LoopbackServer([sse_answer([b"data: one\n\n", Stall()])]) as listening:
        async with transport_to(listening.url, pool).open(STREAM, timeout=PATIENT) as response:
            assert response.status == 200
        await soon(listening.until_idle())
    assert await left_in(pool) == (0, 0, 0)


async def test_pool_that_is_closed_during_a_call(pool: HttpPool) -> None:
    """Closing the pool ends what is in flight with an error that is not retried; further calls are refused."""
    async with LoopbackServer([sse_answer([b"data: one\n\n", Stall()])]) as listening:
        transport = transport_to(listening.url, pool)
        task = asyncio.create_task(call(transport, STREAM))
        await soon(listening.until_received(1))
        await pool.aclose()
        with pytest.raises(ProviderConnectionError, match="client was closed") as caught:
            await task
        await soon(listening.until_idle())
        with pytest.raises(ConfigurationError, match="has been closed"):
            await call(transport)
        await pool.aclose()
    assert not caught.value.retryable


async def test_transport_that_is_closed_ends_its_own_calls_only(pool: HttpPool) -> None:
    """Closing one endpoint leaves the calls of another one on the same pool alone."""
    gate = asyncio.Event()

    async def answer(received: ReceivedRequest) -> Answer:
        await gate.wait()
        return json_answer({}) if received.path == "/b/chat" else [Close()]

    async with LoopbackServer(answer) as listening:
        closing, staying = transport_to(f"{listening.url}/a", pool), transport_to(f"{listening.url}/b", pool)
        tasks = [asyncio.create_task(call(transport)) for transport in (closing, staying)]
        await soon(listening.until_received(2))
        await closing.aclose()
        with pytest.raises(ProviderConnectionError, match="client was closed"):
            await tasks[0]
        gate.set()
        assert await tasks[1] == (200, b"{}")


async def test_many_calls_some_cancelled(pool: HttpPool) -> None:
    """Of many calls at once, those that are not cancelled get their own answers."""

    async def answer(received: ReceivedRequest) -> Answer:
        return slowly(json_answer({"echo": received.path}), pause=0, size=30)

    async with LoopbackServer(answer) as listening:
        tasks = [
            asyncio.create_task(call(transport_to(f"{listening.url}/{number}", pool), timeout=Timeout()))
            for number in range(40)
        ]
        for steps, task in zip(itertools.cycle(range(5)), tasks[::2], strict=False):
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for number, result in enumerate(results):
        if isinstance(result, BaseException):
            assert isinstance(result, asyncio.CancelledError)
            assert number % 2 == 0
        else:
            assert result == (200, b'{"echo":"/%d/chat"}' % number)
    await settled(pool)
    assert await left_in(pool) == (0, 0, 0)
