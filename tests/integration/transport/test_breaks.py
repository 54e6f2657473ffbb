"""Endpoints that cannot be reached, connections that break, answers that are damaged."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.errors import ProtocolError, ProviderConnectionError, StreamInterruptedError
from nodellm_orm.testing import (
    Close,
    LoopbackServer,
    Reset,
    Send,
    body_answer,
    cut,
    gzip_answer,
    head,
    json_answer,
    raw_answer,
    sse_answer,
)
from tests.integration.transport.calls import CHAT, STREAM, call, failure, left_in, soon, transport_to

if TYPE_CHECKING:
    from nodellm_orm.errors import ProviderError
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.testing import Answer, GzipDamage
    from nodellm_orm.transport import HttpPool

BOTH = pytest.mark.parametrize("request_", [CHAT, STREAM], ids=["body", "stream"])
ENDS = pytest.mark.parametrize("then", [Close(), Reset()], ids=["closed", "reset"])
LONG = json_answer({"text": "x" * 300})
EVENTS = sse_answer([b"data: one\n\n", b"data: two\n\n"])


def broken(request: WireRequest) -> type[ProviderError]:
    """What a break in the middle of an answer is called."""
    return StreamInterruptedError if request.stream else ProviderConnectionError


@pytest.mark.fault("A01")
@BOTH
async def test_refused_connection(pool: HttpPool, request_: WireRequest) -> None:
    """Where nothing listens the error says so, says that nothing was sent, and may be retried."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error, _ = await failure(transport_to(f"http://127.0.0.1:{unused.getsockname()[1]}", pool), request_)
    assert type(error) is ProviderConnectionError
    assert "nothing listens" in str(error)
    assert "nothing was sent" in str(error)
    assert error.retryable
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A02")
async def test_unknown_host_again_and_again(pool: HttpPool) -> None:
    """A name that cannot be resolved is a retryable error each time, and other hosts stay reachable."""
    async with LoopbackServer([json_answer({})]) as server:
        for _ in range(2):
            error, _ = await failure(transport_to("http://nowhere.invalid/v1", pool))
            assert type(error) is ProviderConnectionError
            assert "cannot be resolved; nothing was sent" in str(error)
            assert error.retryable
        assert await call(transport_to(server.url, pool)) == (200, b"{}")
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A05")
@BOTH
@ENDS
async def test_no_answer_at_all(pool: HttpPool, request_: WireRequest, then: Close | Reset) -> None:
    """A connection that breaks before the head is retryable, was sent once, and says it may have been processed."""
    async with LoopbackServer([[then]]) as server:
        error, _ = await failure(transport_to(server.url, pool), request_)
        assert len(server.requests) == 1
    assert type(error) is ProviderConnectionError
    assert "may have been processed" in str(error)
    assert (error.retryable, error.status) == (True, None)
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A06")
@ENDS
@pytest.mark.parametrize("after", [20, 120, 250])
async def test_body_cut_off(pool: HttpPool, then: Close | Reset, after: int) -> None:
    """A body that breaks off, in its head or after it, is a retryable connection error."""
    async with LoopbackServer([cut(LONG, after=after, then=then)]) as server:
        error, _ = await failure(transport_to(server.url, pool))
    assert type(error) is ProviderConnectionError
    assert error.retryable
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A12")
@pytest.mark.fault("A13")
@ENDS
@pytest.mark.parametrize("lost", [1, 6, 15])
async def test_stream_cut_off(pool: HttpPool, then: Close | Reset, lost: int) -> None:
    """A stream that breaks off, also in the middle of a line, is a retryable StreamInterruptedError."""
    sent = b"".join(step.data for step in EVENTS if isinstance(step, Send))
    async with LoopbackServer([cut(raw_answer(sent), after=len(sent) - lost, then=then)]) as server:
        error, body = await failure(transport_to(server.url, pool), STREAM)
    assert type(error) is StreamInterruptedError
    assert (error.retryable, error.status) == (True, 200)
    assert b"data: one\n\ndata: two\n\n".startswith(body)
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A13")
async def test_stream_gives_what_came_before_the_break(pool: HttpPool) -> None:
    """Everything that arrived before the break is handed on before the error."""
    async with LoopbackServer([sse_answer([b"data: one\n\n", b"data: tw"], terminated=False)]) as server:
        error, body = await failure(transport_to(server.url, pool), STREAM)
    assert type(error) is StreamInterruptedError
    assert body == b"data: one\n\ndata: tw"


@pytest.mark.fault("A17")
@BOTH
async def test_bad_chunk_framing(pool: HttpPool, request_: WireRequest) -> None:
    """A chunk without a size breaks the answer off."""
    lines = head(headers={"transfer-encoding": "chunked"})
    async with LoopbackServer([raw_answer(lines, b"5\r\nhello\r\n", b"not a size\r\n")]) as server:
        error, body = await failure(transport_to(server.url, pool), request_)
    assert type(error) is broken(request_)
    assert error.retryable
    assert b"hello".startswith(body)
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A17")
@pytest.mark.parametrize(
    "first",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 200_000,
    ],
)
async def test_what_answers_is_no_http_server(pool: HttpPool, first: bytes) -> None:
    """A head that is not HTTP, or has no end, is a connection error."""
    async with LoopbackServer([raw_answer(first)]) as server:
        error, _ = await failure(transport_to(server.url, pool))
    assert type(error) is ProviderConnectionError
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A24")
@pytest.mark.fault("A25")
@BOTH
@pytest.mark.parametrize("damage", ["garbage", "truncated", "checksum", "trailing"])
async def test_damaged_gzip(pool: HttpPool, request_: WireRequest, damage: GzipDamage) -> None:
    """Gzip that is none, ends early, fails its checksum or goes on after its end is noticed, and may be retried."""
    async with LoopbackServer([gzip_answer(b'{"text":"hello"}', damage=damage)]) as server:
        error, _ = await failure(transport_to(server.url, pool), request_)
    assert type(error) is broken(request_)
    assert error.retryable
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
async def test_packing_that_was_not_offered(pool: HttpPool, encoding: str) -> None:
    """An answer packed in another way is not of the protocol, and is not retried."""
    async with LoopbackServer([body_answer(b"abc", headers={"content-encoding": encoding})]) as server:
        error, _ = await failure(transport_to(server.url, pool))
    assert type(error) is ProtocolError
    assert not error.retryable
    assert repr(encoding) in str(error)


@BOTH
@pytest.mark.parametrize(
    "answer",
    [
        cut(json_answer({"error": {"message": "x" * 300}}, status=401), after=150, then=Close()),
        cut(json_answer({"error": {"message": "x" * 300}}, status=401), after=150, then=Reset()),
        gzip_answer(b'{"error":{}}', status=401, damage="checksum"),
        gzip_answer(b'{"error":{}}', status=401, damage="garbage"),
    ],
)
async def test_error_body_that_breaks_off_ends_there(pool: HttpPool, request_: WireRequest, answer: Answer) -> None:
    """The status of an error is what matters: a wrong key stays a wrong key when its explanation is cut off."""
    async with LoopbackServer([answer]) as server:
        status, _ = await call(transport_to(server.url, pool), request_)
    assert status == 401
    assert await left_in(pool) == (0, 0, 0)


async def test_idle_connection_that_the_server_closed_is_not_used(pool: HttpPool) -> None:
    """A connection that was closed between two calls is replaced without an error and without a second request."""
    async with LoopbackServer([[*json_answer({}), Close()], json_answer({})]) as server:
        transport = transport_to(server.url, pool)
        await call(transport)
        await soon(server.until_idle())
        assert await call(transport) == (200, b"{}")
        assert (len(server.requests), server.connections) == (2, 2)
