"""The time limits hold whatever the server does."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import ProviderTimeoutError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.testing import (
    LoopbackServer,
    Pause,
    Send,
    Stall,
    endless_answer,
    frame,
    head,
    json_answer,
    raw_answer,
    slowly,
    sse_answer,
)
from tests.integration.transport.calls import CHAT, SAFETY, STREAM, call, failure, left_in, soon, transport_to

if TYPE_CHECKING:
    from nodellm_orm.testing import Answer, Step
    from nodellm_orm.transport import HttpPool

BOTH = pytest.mark.parametrize("request_", [CHAT, STREAM], ids=["body", "stream"])
SHORT = 0.2
CHUNKED = head(headers={"transfer-encoding": "chunked"})


def every(seconds: float, piece: bytes) -> list[Step]:
    """A chunk again and again, with pauses."""
    return [Send(CHUNKED), *(step for _ in range(1000) for step in (Send(frame(piece)), Pause(seconds)))]


PINGS = every(0.03, b": ping\n\n")
DRIP = every(0.4, b"x")


async def expect_timeout(
    pool: HttpPool, answer: Answer, request: WireRequest, timeout: Timeout, *, limit: str, content: bytes = b"data"
) -> ProviderTimeoutError:
    """A call ends with the error of that limit, retryable, with the connection closed on both sides."""
    async with LoopbackServer([answer]) as server:
        error, _ = await failure(transport_to(server.url, pool), request, timeout=timeout, content=content)
        await soon(server.until_idle())
    assert type(error) is ProviderTimeoutError
    assert error.retryable
    assert f"Timeout({limit}=)" in str(error)
    assert await left_in(pool) == (0, 0, 0)
    return error


@pytest.mark.fault("A07")
async def test_silence_before_the_head_of_a_stream(pool: HttpPool) -> None:
    """A stream whose head does not come passes the first-byte limit."""
    error = await expect_timeout(pool, [Stall()], STREAM, Timeout(first_byte=SHORT), limit="first_byte")
    assert error.status is None
    assert "may have been processed" in str(error)


@pytest.mark.fault("A07")
async def test_silence_after_the_head_of_a_stream(pool: HttpPool) -> None:
    """The head alone is no first byte."""
    error = await expect_timeout(pool, [Send(CHUNKED), Stall()], STREAM, Timeout(first_byte=0.6), limit="first_byte")
    assert error.status == 200


@pytest.mark.fault("A07")
async def test_unstreamed_call_may_be_silent_up_to_the_total(pool: HttpPool) -> None:
    """Neither first byte nor idle limits an unstreamed call; the total does."""
    late: Answer = [Pause(0.1), *json_answer({})]
    async with LoopbackServer([late]) as server:
        timeout = Timeout(first_byte=0.01, idle=0.01)
        assert await call(transport_to(server.url, pool), timeout=timeout) == (200, b"{}")
    await expect_timeout(pool, [Stall()], CHAT, Timeout(total=SHORT), limit="total")


@pytest.mark.fault("A08")
async def test_stream_that_falls_silent(pool: HttpPool) -> None:
    """A half-open stream passes the idle limit."""
    answer = sse_answer([b"data: one\n\n", Stall()])
    error = await expect_timeout(pool, answer, STREAM, Timeout(idle=SHORT), limit="idle")
    assert error.status == 200


@pytest.mark.fault("A08")
async def test_body_that_falls_silent(pool: HttpPool) -> None:
    """An unstreamed body that stops in the middle passes the total."""
    answer: Answer = [Send(head(headers={"content-length": "100"}) + b'{"a":'), Stall()]
    await expect_timeout(pool, answer, CHAT, Timeout(total=SHORT), limit="total")


@pytest.mark.fault("A09")
@pytest.mark.parametrize("answer", [PINGS, endless_answer(b": ping\n\n")], ids=["now and then", "as fast as it can"])
async def test_pings_do_not_renew_the_idle_limit(pool: HttpPool, answer: Answer) -> None:
    """Bytes without content, slow or in a flood, do not keep a stream alive."""
    transport_cap = 1 << 40  # The flood must meet the clock, not the cap.
    async with LoopbackServer([answer]) as server:
        transport = transport_to(server.url, pool, max_stream_bytes=transport_cap)
        error, _ = await failure(transport, STREAM, timeout=Timeout(idle=SHORT), content=b"data")
    assert type(error) is ProviderTimeoutError
    assert "Timeout(idle=)" in str(error)
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A09")
async def test_content_renews_the_idle_limit(pool: HttpPool) -> None:
    """A stream that is slower in all than the idle limit goes on as long as content keeps coming."""
    pieces = [step for _ in range(8) for step in (b"data: x\n\n", Pause(0.15))]
    async with LoopbackServer([sse_answer(pieces)]) as server:
        timeout = Timeout(idle=1.0)
        _, body = await call(transport_to(server.url, pool), STREAM, timeout=timeout, content=b"data")
    assert body == b"data: x\n\n" * 8


@pytest.mark.fault("A09")
async def test_slow_reader_is_not_an_idle_server(pool: HttpPool) -> None:
    """Time that the reader spends between two chunks does not count as the server's silence."""
    async with (
        asyncio.timeout(SAFETY),
        LoopbackServer([sse_answer([b"a", Pause(0.01), b"b", Pause(0.01), b"c"])]) as server,
        transport_to(server.url, pool).open(STREAM, timeout=Timeout(idle=0.5)) as response,
    ):
        body = b""
        async for chunk in response.chunks():
            body += chunk
            await asyncio.sleep(0.3)
    assert body == b"abc"


@pytest.mark.fault("A10")
@BOTH
async def test_one_byte_now_and_then(pool: HttpPool, request_: WireRequest) -> None:
    """A body that comes byte by byte ends at the total, content or not."""
    await expect_timeout(pool, DRIP, request_, Timeout(total=SHORT), limit="total", content=b"")


@pytest.mark.fault("A10")
async def test_one_byte_now_and_then_without_content(pool: HttpPool) -> None:
    """A stream that drips bytes without content ends at the idle limit, pauses shorter than it notwithstanding."""
    await expect_timeout(pool, DRIP, STREAM, Timeout(idle=0.5), limit="idle")


@pytest.mark.fault("A10")
@pytest.mark.parametrize(
    ("request_", "timeout", "limit"),
    [(CHAT, Timeout(total=SHORT), "total"), (STREAM, Timeout(first_byte=SHORT), "first_byte")],
)
@pytest.mark.parametrize(
    "answer",
    [
        slowly(json_answer({}), pause=0.05),
        (Send(b"HTTP/1.1 200 OK\r\n"), *([Send(b"x-more: 1\r\n"), Pause(0.01)] * 2000)),
        (Send(b"HTTP/1.1 100 Continue\r\n\r\n", 1 << 40),),
    ],
    ids=["bytes", "headers", "interim answers"],
)
async def test_head_that_never_ends(
    pool: HttpPool, answer: Answer, request_: WireRequest, timeout: Timeout, limit: str
) -> None:
    """A head that trickles, or is preceded by interim answers for ever, passes the limit."""
    await expect_timeout(pool, answer, request_, timeout, limit=limit)


@pytest.mark.parametrize("status", [401, 503])
@pytest.mark.parametrize(("timeout", "limit"), [(Timeout(first_byte=0.6), "first_byte"), (Timeout(idle=SHORT), "idle")])
async def test_error_body_of_a_stream_is_under_the_limits_too(
    pool: HttpPool, status: int, timeout: Timeout, limit: str
) -> None:
    """An error answer to a stream may not stall either."""
    began = b"{" if limit == "idle" else b""
    answer = raw_answer(head(status, headers={"content-length": "50"}) + began, then=Stall())
    error = await expect_timeout(pool, answer, STREAM, timeout, limit=limit)
    assert error.status == status


async def test_answers_that_are_whole_meet_no_limit(pool: HttpPool) -> None:
    """An answer that has arrived is handed on although its reader begins after the first-byte limit."""
    async with (
        asyncio.timeout(SAFETY),
        LoopbackServer([sse_answer([b"data: one\n\n"])]) as server,
        transport_to(server.url, pool).open(STREAM, timeout=Timeout(first_byte=0.5)) as response,
    ):
        await asyncio.sleep(0.75)
        assert [chunk async for chunk in response.chunks()] == [b"data: one\n\n"]


async def test_no_limit_is_no_limit(pool: HttpPool) -> None:
    """``None`` switches every limit off."""
    unlimited = Timeout(connect=None, first_byte=None, idle=None, total=None)
    async with LoopbackServer([sse_answer([b"data: one\n\n", Pause(0.05)])]) as server:
        assert await call(transport_to(server.url, pool), STREAM, timeout=unlimited) == (200, b"data: one\n\n")


@pytest.mark.fault("A07")
async def test_server_that_accepts_no_connection(pool: HttpPool) -> None:
    """A connection that does not come to stand passes the connect limit; nothing was sent."""
    with socket.socket() as deaf, socket.socket() as filler:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        filler.connect(deaf.getsockname())  # The queue of connections is full now; further ones get no answer.
        transport = transport_to(f"http://127.0.0.1:{deaf.getsockname()[1]}", pool)
        error, _ = await failure(transport, timeout=Timeout(connect=SHORT))
    assert type(error) is ProviderTimeoutError
    assert error.retryable
    assert "Timeout(connect=)" in str(error)
    assert "nothing was sent" in str(error)
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A07")
async def test_server_that_never_shakes_hands(pool: HttpPool) -> None:
    """The connect limit includes TLS: a server that says nothing is left, and sees it."""
    gone = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1 << 16):
                pass
        except ConnectionResetError:
            pass
        finally:
            writer.close()
            gone.set()

    async with asyncio.timeout(SAFETY), await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        error, _ = await failure(transport_to(url, pool), timeout=Timeout(connect=SHORT))
        await gone.wait()
    assert type(error) is ProviderTimeoutError
    assert "Timeout(connect=)" in str(error)
    assert await left_in(pool) == (0, 0, 0)


async def test_request_that_the_server_does_not_read(pool: HttpPool) -> None:
    """A body that the server never takes off the connection passes the total."""
    done = asyncio.Event()

    async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()  # Beyond a small buffer, asyncio reads only for somebody who asks.
        writer.transport.abort()

    async with asyncio.timeout(SAFETY), await asyncio.start_server(ignore, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        big = WireRequest(path="/chat", body=bytes(32 << 20))
        error, _ = await failure(transport_to(url, pool), big, timeout=Timeout(total=SHORT))
        done.set()
    assert type(error) is ProviderTimeoutError
    assert "may have been processed" in str(error)
    assert await left_in(pool) == (0, 0, 0)
