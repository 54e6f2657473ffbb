"""What the transport sends, and what it gives back when nothing goes wrong."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import ProviderError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.testing import (
    LoopbackServer,
    Send,
    Stall,
    body_answer,
    gzip_answer,
    head,
    json_answer,
    slowly,
    sse_answer,
)
from nodellm_orm.transport import HttpPool, HttpTransport
from tests.integration.transport.calls import CHAT, KEY, PATIENT, STREAM, call, left_in, soon, transport_to

if TYPE_CHECKING:
    from nodellm_orm.ports.transport import Transport


async def test_request_goes_out_once_with_host_key_and_the_formats_headers(pool: HttpPool) -> None:
    """Exactly one request arrives, with the body's bytes, the key, the format's headers and our name."""
    async with LoopbackServer([json_answer({"ok": True})]) as server:
        status, body = await call(transport_to(f"{server.url}/v1/", pool))
        (request,) = server.requests
        host = f"127.0.0.1:{server.port}"
    assert (status, body) == (200, b'{"ok":true}')
    assert (request.method, request.path, request.body) == ("POST", "/v1/chat", CHAT.body)
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == f"nodellm_orm/{version('nodellm_orm')}"
    assert request.headers["host"] == host


async def test_query_of_url_format_and_options_all_arrive(pool: HttpPool) -> None:
    """Parameters from the base URL, the endpoint's own and the request's path are sent together."""
    async with LoopbackServer([json_answer({})]) as server:
        transport = HttpTransport(f"{server.url}/v1?api-version=1&mode=a", query={"mode": "b"}, pool=pool)
        await call(transport, WireRequest(path="/models/m:ask?alt=sse", body=b"{}"))
        assert server.requests[0].path == "/v1/models/m:ask?alt=sse&api-version=1&mode=b"


async def test_user_and_password_of_the_url_become_a_header(pool: HttpPool) -> None:
    """Credentials in the base URL are sent as basic authentication and are no part of the endpoint."""
    async with LoopbackServer([json_answer({})]) as server:
        transport = HttpTransport(f"http://me:pass@127.0.0.1:{server.port}/v1", pool=pool)
        await call(transport)
        assert server.requests[0].headers["authorization"] == "Basic bWU6cGFzcw=="
        assert transport.endpoint == f"{server.url}/v1"


async def test_callers_headers_win_over_the_keys(pool: HttpPool) -> None:
    """A caller's header replaces the endpoint's header of the same name, whatever its case."""
    async with LoopbackServer([json_answer({})]) as server:
        await call(transport_to(server.url, pool), headers={"Authorization": "Bearer other", "X-Team": " blue "})
        (request,) = server.requests
    assert request.headers["authorization"] == "Bearer other"
    assert request.headers["x-team"] == "blue"


@pytest.mark.parametrize(("request_", "offered"), [(CHAT, "gzip, deflate"), (STREAM, "identity")])
async def test_only_what_can_be_checked_is_offered(pool: HttpPool, request_: WireRequest, offered: str) -> None:
    """Bodies may be packed with gzip or deflate, streams not at all."""
    async with LoopbackServer([json_answer({})]) as server:
        await call(transport_to(server.url, pool), request_)
        assert server.requests[0].headers["accept-encoding"] == offered


async def test_get_request_has_no_body(pool: HttpPool) -> None:
    """A request without a body announces none."""
    async with LoopbackServer([json_answer({"data": []})]) as server:
        await call(transport_to(server.url, pool), WireRequest(path="/models", body=b"", method="GET"))
        (request,) = server.requests
    assert (request.method, request.body) == ("GET", b"")
    assert "content-length" not in request.headers


async def test_consecutive_calls_share_one_connection(pool: HttpPool) -> None:
    """A connection whose answer was read to its end serves the next call of any endpoint on that host."""
    async with LoopbackServer([json_answer({}), sse_answer([b"data: 1\n\n"]), json_answer({}, status=500)]) as server:
        first, second = transport_to(f"{server.url}/a", pool), transport_to(f"{server.url}/b", pool)
        await call(first)
        await call(second, STREAM)
        await call(first)
        assert server.connections == 1
        assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A16")
async def test_stream_gives_the_same_bytes_however_they_are_cut(pool: HttpPool) -> None:
    """Cuts inside characters and lines on the wire change nothing about the bytes handed on."""
    text = 'data: {"t":"é€😀"}\r\n\r\n'.encode()
    whole = sse_answer([text] * 3)
    async with LoopbackServer([whole, slowly(whole, pause=0, size=3)]) as server:
        transport = transport_to(server.url, pool)
        bodies = {(await call(transport, STREAM))[1] for _ in range(2)}
    assert bodies == {text * 3}


@pytest.mark.fault("A11")
async def test_clean_end_of_a_stream_is_left_to_its_reader(pool: HttpPool) -> None:
    """A stream that ends by the rules of HTTP ends without an error: only its parser knows the terminal event."""
    async with LoopbackServer([sse_answer([b"data: partial\n\n"])]) as server:
        assert await call(transport_to(server.url, pool), STREAM) == (200, b"data: partial\n\n")


@pytest.mark.fault("A22")
@pytest.mark.parametrize("request_", [CHAT, STREAM])
async def test_empty_body_is_an_empty_body(pool: HttpPool, request_: WireRequest) -> None:
    """No byte is made up for an answer without any, also when it claims to be packed."""
    answers = [body_answer(b""), body_answer(b"", headers={"content-encoding": "gzip"})]
    async with LoopbackServer(answers) as server:
        transport = transport_to(server.url, pool)
        assert [await call(transport, request_) for _ in answers] == [(200, b"")] * 2


@pytest.mark.parametrize("request_", [CHAT, STREAM])
async def test_packed_body_is_unpacked(pool: HttpPool, request_: WireRequest) -> None:
    """Sound gzip gives the body, also where it was not asked for."""
    async with LoopbackServer([gzip_answer(b'{"text":"' + b"x" * 100_000 + b'"}')]) as server:
        _, body = await call(transport_to(server.url, pool), request_)
    assert body == b'{"text":"' + b"x" * 100_000 + b'"}'


@pytest.mark.fault("A31")
@pytest.mark.fault("A32")
@pytest.mark.fault("A33")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529])
async def test_error_statuses_are_answers_with_head_and_body(pool: HttpPool, status: int) -> None:
    """A status from 400 on is no error of the transport: the wire format reads its headers and body."""
    answer = json_answer({"error": {"message": "no"}}, status=status, headers={"Retry-After": "7"})
    async with (
        LoopbackServer([answer]) as server,
        transport_to(server.url, pool).open(CHAT, timeout=PATIENT) as response,
    ):
        assert (response.status, response.headers["retry-after"]) == (status, "7")
        assert b"".join([chunk async for chunk in response.chunks()]) == b'{"error":{"message":"no"}}'


@pytest.mark.fault("A31")
async def test_error_page_is_kept_up_to_one_mebibyte(pool: HttpPool) -> None:
    """A huge error page is cut, not refused, and the connection is not read to its end."""
    endless = [Send(head(502, content_type="text/html")), Send(b"<p>down</p>" * 1000, times=1 << 30)]
    async with LoopbackServer([endless]) as server:
        status, body = await call(transport_to(server.url, pool))
        await soon(server.until_interrupted())
    assert (status, len(body)) == (502, 1 << 20)


@pytest.mark.fault("E19")
async def test_cookies_are_neither_shown_nor_sent_back(pool: HttpPool) -> None:
    """What the provider's balancer wants remembered is forgotten."""
    answer = json_answer({}, headers={"Set-Cookie": "balancer=7; Path=/", "X-Request-Id": "req_1"})
    async with LoopbackServer([answer, answer]) as server:
        transport = transport_to(server.url, pool)
        for _ in range(2):
            async with transport.open(CHAT, timeout=PATIENT) as response:
                assert "set-cookie" not in response.headers
                assert response.headers["x-request-id"] == "req_1"
                assert [chunk async for chunk in response.chunks()] == [b"{}"]
        assert all("cookie" not in request.headers for request in server.requests)


async def test_errors_of_the_reader_pass_unchanged(pool: HttpPool) -> None:
    """What is raised inside the block comes out of it as it is, and the connection is closed."""
    mistake = KeyError("mine")

    async def read(transport: Transport) -> None:
        async with transport.open(STREAM, timeout=Timeout()) as response:
            async for _ in response.chunks():
                raise mistake

    async with LoopbackServer([sse_answer([b"data: 1\n\n", Stall()])]) as server:
        with pytest.raises(KeyError) as caught:
            await read(transport_to(server.url, pool))
        await soon(server.until_idle())
    assert caught.value is mistake
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A35")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("request_", [CHAT, STREAM])
async def test_redirects_are_refused_and_nothing_is_forwarded(
    pool: HttpPool, status: int, request_: WireRequest
) -> None:
    """A redirect is an error that is not retried and names the other host; that host receives nothing."""
    async with LoopbackServer() as other:
        target = {"location": f"http://user:{KEY}@localhost:{other.port}/v1/chat?key={KEY}"}
        async with LoopbackServer([body_answer(b"", status=status, headers=target)]) as server:
            with pytest.raises(ProviderError, match=f"redirect \\({status}\\) to localhost") as caught:
                await call(transport_to(server.url, pool), request_)
        assert other.connections == 0
    assert type(caught.value) is ProviderError
    assert (caught.value.status, caught.value.retryable) == (status, False)
    assert KEY not in str(caught.value)


@pytest.mark.fault("A35")
@pytest.mark.parametrize("location", ["", "/v2/chat", "http://h:port/", f"http://{KEY}.example/", "http://h%0aost/"])
async def test_redirect_to_nowhere_in_particular(pool: HttpPool, location: str) -> None:
    """An address that is none, or that holds the key, is not repeated."""
    async with LoopbackServer([body_answer(b"", status=300, headers={"location": location})]) as server:
        with pytest.raises(ProviderError, match="redirect") as caught:
            await call(transport_to(server.url, pool))
    assert type(caught.value) is ProviderError
    assert KEY not in str(caught.value)
    assert ("another address" in str(caught.value)) is (KEY not in location)
