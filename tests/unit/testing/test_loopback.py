"""The loopback server: what it remembers of requests, and that it does each step of an answer as written."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from nodellm_orm.testing import (
    Close,
    Hold,
    LoopbackServer,
    Pause,
    ReceivedRequest,
    Reset,
    Send,
    Stall,
    body_answer,
    cut,
    endless_answer,
    json_answer,
    raw_answer,
    slowly,
    sse_answer,
    text_answer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nodellm_orm.testing import Answer

OK = json_answer({"ok": True})


@contextlib.asynccontextmanager
async def connection(
    server: LoopbackServer, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of a client that writes bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


GET = b"GET /path?q=1 HTTP/1.1\r\nhost: x\r\n\r\n"


async def test_what_was_sent_is_remembered() -> None:
    """Method, target with query, headers as sent and by lower-case name, body, and the connection."""
    async with LoopbackServer([OK]) as server, httpx.AsyncClient() as client:
        response = await client.post(
            f"{server.url}/v1/chat?a=%20b", json={"model": "m"}, headers=[("X-One", "1"), ("x-one", "2")]
        )
        assert response.json() == {"ok": True}
        (request,) = server.requests
    assert (request.method, request.path, request.connection) == ("POST", "/v1/chat?a=%20b", 0)
    assert request.headers["x-one"] == "1, 2"
    assert ("X-One", "1") in request.raw_headers
    assert request.json() == {"model": "m"}


async def test_a_body_that_is_no_object_is_an_error_of_the_test() -> None:
    """It shows the beginning of what was sent."""
    request = ReceivedRequest(method="POST", path="/", headers={}, raw_headers=(), body=b"[1]", connection=0)
    with pytest.raises(TypeError, match=r"not a JSON object: b'\[1\]'"):
        request.json()


async def test_chunked_bodies_are_put_together() -> None:
    """Chunk extensions are skipped, and the next request on the connection is read after them."""
    async with LoopbackServer([OK, OK]) as server, connection(server) as (reader, writer):
        writer.write(
            b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n" + GET
        )
        await reader.readuntil(b'{"ok":true}')
        await reader.readuntil(b'{"ok":true}')
        assert [(r.path, r.body) for r in server.requests] == [("/a", b"abc0123456789"), ("/path?q=1", b"")]


async def test_a_request_may_arrive_byte_by_byte() -> None:
    """However it is cut, it is the same request."""
    async with LoopbackServer([OK]) as server, connection(server) as (reader, writer):
        for byte in b"PUT / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        await reader.readuntil(b'{"ok":true}')
        assert server.requests[0].body == b"abc"


async def test_connections_are_kept_and_numbered() -> None:
    """Equal numbers share one connection; ``connection: close`` ends it."""
    async with LoopbackServer([OK] * 4) as server:
        async with connection(server) as (reader, writer):
            for _ in range(2):
                writer.write(GET)
                await reader.readuntil(b"}")
            writer.write(GET.replace(b"host: x", b"Connection: Close"))
            await reader.readuntil(b"}")
            assert await reader.read() == b""
        async with connection(server) as (reader, writer):
            writer.write(GET)
            await reader.readuntil(b"}")
            assert server.open_connections == 1
        await server.until_idle()
        assert [request.connection for request in server.requests] == [0, 0, 0, 1]
        assert (server.connections, server.open_connections, server.interrupted) == (2, 0, 0)


async def test_a_script_without_answers_left_says_so() -> None:
    """A request too many gets a 501 in words."""
    async with LoopbackServer([OK]) as server, httpx.AsyncClient() as client:
        await client.get(server.url)
        beyond = await client.get(server.url)
    assert beyond.status_code == 501
    assert "no answer left" in beyond.text


async def test_a_function_answers_by_request() -> None:
    """It may look at what was asked, and wait."""

    async def handler(request: ReceivedRequest) -> Answer:
        await asyncio.sleep(0)
        return text_answer(request.path)

    async with LoopbackServer(handler) as server, httpx.AsyncClient() as client:
        assert (await client.get(f"{server.url}/x")).text == "/x"
        assert (await client.get(f"{server.url}/y")).text == "/y"


async def test_a_handler_that_fails_is_heard_of() -> None:
    """The client gets a 500, and leaving the block raises the first error."""

    async def handler(request: ReceivedRequest) -> Answer:
        raise LookupError(request.path)

    async def use() -> None:
        async with LoopbackServer(handler) as server, httpx.AsyncClient() as client:
            assert (await client.get(f"{server.url}/first")).status_code == 500
            await client.get(f"{server.url}/second")

    with pytest.raises(LookupError, match="/first"):
        await use()


async def test_an_error_of_the_test_itself_is_not_covered_up() -> None:
    """What the block raises outranks what the handler raised."""

    async def handler(_: ReceivedRequest) -> Answer:
        raise LookupError

    async def use() -> None:
        async with LoopbackServer(handler) as server, httpx.AsyncClient() as client:
            await client.get(server.url)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
    ],
)
async def test_bytes_that_are_no_request_are_heard_of(garbage: bytes) -> None:
    """The connection is closed, and leaving the block says what was sent."""

    async def use() -> None:
        async with LoopbackServer([OK]) as server, connection(server) as (reader, writer):
            writer.write(garbage)
            assert await reader.read() == b""

    with pytest.raises(ValueError, match=r"not an HTTP/1\.1 request|invalid literal"):
        await use()


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET / HT",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nabc",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5",
    ],
)
async def test_a_client_that_leaves_within_its_request_is_no_request(beginning: bytes) -> None:
    """What did not arrive whole was not received."""
    async with LoopbackServer([OK]) as server:
        async with connection(server) as (_, writer):
            writer.write(beginning)
            await writer.drain()
        while server.connections == 0:  # noqa: ASYNC110 — the server has no event for a mere connection
            await asyncio.sleep(0)
        await server.until_idle()
        assert server.requests == []


async def test_an_answer_waits_for_its_gate() -> None:
    """What stands before the gate arrives, what stands behind it does not until it opens."""
    gate = asyncio.Event()
    async with LoopbackServer([sse_answer([b"one", Hold(gate), b"two"])]) as server, httpx.AsyncClient() as client:
        async with client.stream("GET", server.url) as response:
            pieces = response.aiter_raw()
            assert await anext(pieces) == b"one"
            later = asyncio.ensure_future(anext(pieces))
            await asyncio.sleep(0)
            assert not later.done()
            gate.set()
            assert await later == b"two"
            assert [piece async for piece in pieces] == []
        assert server.interrupted == 0


async def test_answers_meet_at_a_barrier() -> None:
    """Both requests are under way at once, or neither would be answered."""
    barrier = asyncio.Barrier(2)
    script = [(Hold(barrier), *OK), (Hold(barrier), *OK)]
    async with LoopbackServer(script) as server, httpx.AsyncClient() as client:
        answers = await asyncio.gather(client.get(server.url), client.get(server.url))
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_pauses_and_slow_answers_lose_nothing() -> None:
    """The bytes are the same, however slowly they come."""
    script = [(Pause(0), *OK), slowly(OK, pause=0, size=7)]
    async with LoopbackServer(script) as server, httpx.AsyncClient() as client:
        for _ in range(2):
            assert (await client.get(server.url)).json() == {"ok": True}


@pytest.mark.fault("A06")
async def test_close_is_an_ordinary_end_in_the_middle() -> None:
    """The client reads what was sent, and then the end."""
    async with LoopbackServer([cut(OK, after=20)]) as server, connection(server) as (reader, writer):
        writer.write(GET)
        assert await reader.read() == b"HTTP/1.1 200 OK\r\ncontent-type: application/json"[:20]
        await server.until_idle()
        assert server.interrupted == 0


@pytest.mark.fault("A05")
async def test_reset_breaks_the_connection_off() -> None:
    """What was sent before it has left; then the client sees a reset, not an end."""
    async with LoopbackServer([raw_answer(b"HTTP/1.1 200", then=Reset())]) as server:
        async with connection(server) as (reader, writer):
            writer.write(GET)
            assert await reader.readexactly(12) == b"HTTP/1.1 200"
            with pytest.raises(ConnectionResetError):
                await reader.read()
        await server.until_idle()


@pytest.mark.fault("A08")
@pytest.mark.parametrize("step", [Stall(), Hold(asyncio.Event()), Pause(3_600)], ids=["stall", "hold", "pause"])
async def test_a_client_that_leaves_is_noticed_while_the_server_waits(step: Stall | Hold | Pause) -> None:
    """Whatever it was waiting for, the answer counts as interrupted and nothing more is sent."""
    async with LoopbackServer([(Send(b"HTTP/1.1 200 OK\r\n\r\n"), step, Send(b"never"))]) as server:
        async with connection(server) as (reader, writer):
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n")
            await server.until_received(1)
            assert server.open_connections == 1
        await server.until_interrupted()
        await server.until_idle()
        assert server.interrupted == 1


@pytest.mark.fault("A27")
async def test_an_endless_answer_ends_with_the_client() -> None:
    """It is sent until nobody reads it any more."""
    async with LoopbackServer([endless_answer(b"x" * 1000)]) as server:
        async with connection(server) as (reader, writer):
            writer.write(GET)
            await reader.readexactly(100_000)
        await server.until_interrupted()
        await server.until_idle()


async def test_a_client_that_resets_between_requests_is_within_its_rights() -> None:
    """It is no error of the server, and leaves nothing open."""
    async with LoopbackServer([OK]) as server:
        async with connection(server) as (reader, writer):
            writer.write(GET)
            await reader.readuntil(b"}")
            writer.transport.abort()
        await server.until_idle()
        assert server.interrupted == 0


async def test_leaving_the_block_ends_what_is_under_way() -> None:
    """A stalled answer holds nothing up; its client sees the end of the connection."""
    async with contextlib.AsyncExitStack() as stack:
        async with LoopbackServer([(Stall(),)]) as server:
            reader, writer = await stack.enter_async_context(connection(server))
            writer.write(GET)
            await server.until_received(1)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        assert server.open_connections == 0


async def test_waiting_returns_at_once_for_what_has_happened() -> None:
    """The waits are for totals."""
    async with LoopbackServer([OK]) as server, httpx.AsyncClient() as client:
        await client.get(server.url)
        await server.until_received(1)
        await server.until_received(0)
        await server.until_interrupted(0)


async def test_it_listens_only_inside_of_its_block() -> None:
    """Asking for its port before is told so; it has a free one of 127.0.0.1."""
    server = LoopbackServer()
    with pytest.raises(RuntimeError, match="only inside its `async with` block"):
        _ = server.port
    await server.__aexit__(None, None, None)
    async with server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.port > 0


def certificate(folder: Path) -> Path:
    """A file with a key, and a certificate which says that whoever holds it is 127.0.0.1."""
    file = folder / "both.pem"
    subprocess.run(  # noqa: S603 — a fixed command on files of the test
        ("openssl", "req",  # noqa: S607 — wherever it is installed
          "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "1", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(file), "-out", str(folder / "signed.pem")),
        check=True,
        capture_output=True,
    )  # fmt: skip
    file.write_bytes(file.read_bytes() + (folder / "signed.pem").read_bytes())
    return file


@pytest.mark.fault("A03")
async def test_it_speaks_tls_with_a_context_of_its_own(tmp_path: Path) -> None:
    """A client that trusts its certificate is answered on a kept connection, and each step happens; others are not."""
    file = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    trusting = ssl.create_default_context(cafile=str(file))
    script = [OK, body_answer(b"over TLS"), raw_answer(b"HTTP/1.1 200", then=Reset()), raw_answer(b"x", then=Close())]
    async with LoopbackServer(script, ssl=context) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(verify=trusting) as client:
            assert (await client.get(server.url)).json() == {"ok": True}
            assert (await client.get(server.url)).text == "over TLS"
            assert server.connections == 1
            with pytest.raises(httpx.ReadError):
                await client.get(server.url)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(server.url)
        async with httpx.AsyncClient() as doubting:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await doubting.get(server.url)
        assert len(server.requests) == 4
