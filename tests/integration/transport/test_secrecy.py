"""The key comes out nowhere: not in a log, an error, its causes, its frames, nor in what an endpoint echoes."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import ConfigurationError, ProviderConnectionError
from nodellm_orm.testing import (
    Close,
    LoopbackServer,
    Reset,
    Stall,
    body_answer,
    cut,
    gzip_answer,
    json_answer,
    raw_answer,
    sse_answer,
)
from nodellm_orm.transport import HttpPool, HttpTransport
from tests.integration.transport.calls import CHAT, KEY, STREAM, Everything, call, failure, transport_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nodellm_orm.errors import NodeLLMError
    from nodellm_orm.testing import Answer

FAULTS: dict[str, Answer] = {
    "reset": [Reset()],
    "closed": [Close()],
    "stall": [Stall()],
    "stall in body": sse_answer([b"data: 1\n\n", Stall()]),
    "cut": cut(json_answer({"text": "x" * 100}), after=100),
    "gzip": gzip_answer(b"{}", damage="checksum"),
    "bad head": raw_answer(f"HTTP/1.1 200 OK\r\nauthorization Bearer {KEY}\r\n\r\n".encode()),
    "bad status line": raw_answer(f"Bearer {KEY}\r\n\r\n".encode()),
    "redirect": body_answer(b"", status=307, headers={"location": f"http://127.0.0.2/?key={KEY}"}),
    "bad redirect": body_answer(b"", status=307, headers={"location": f"http://[{KEY}/"}),
    "odd encoding": body_answer(b"x", headers={"content-encoding": "br"}),
    "too large": body_answer(b"x" * 2_000_000),
}


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    """Every record of every logger while the block runs."""
    handler, root = Everything(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield handler.lines
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


def shown_by(error: BaseException) -> str:
    """All that people and tools may show of an error: texts, arguments, attributes, causes, frames with locals."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and link not in seen:
            seen.append(link)
            waiting += [link.__cause__, link.__context__]
    texts = [f"{link} {link!r} {link.args!r} {_attributes(link)}" for link in seen]
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "\n".join([*texts, *report.format()])


def _attributes(error: BaseException) -> str:
    request = error.request if isinstance(error, httpx.RequestError) else None
    carried = f"{request.url} {request.headers.raw!r} {request.content!r}" if request else ""
    return f"{vars(error)!r} {carried}"


@pytest.mark.fault("E01")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
async def test_no_failure_shows_the_key(pool: HttpPool, fault: str, *, stream: bool) -> None:
    """Whatever goes wrong, neither the error with its causes and frames nor any log record holds the key."""
    with everything_logged() as lines:
        async with LoopbackServer([FAULTS[fault]]) as server:
            transport = HttpTransport(
                server.url.replace("://", f"://user:{KEY}@"),
                secret_headers={"x-api-key": KEY},
                query={"key": KEY},
                pool=pool,
                max_body_bytes=1 << 20,
                max_stream_bytes=1 << 20,
            )
            error, _ = await failure(transport, STREAM if stream else CHAT, timeout=Timeout(total=0.8))
            assert f"key={KEY}" in server.requests[0].path
            assert server.requests[0].headers["x-api-key"] == KEY
    assert KEY not in shown_by(error)
    assert KEY.encode() not in pickle.dumps(error)
    assert KEY not in repr(transport)
    assert KEY not in repr(pool)
    assert KEY not in transport.endpoint
    _free_of_key(lines)


def _free_of_key(lines: list[str]) -> None:
    # What the server itself sends is logged by httpcore at DEBUG as received; only these lines may repeat it.
    ours = [line for line in lines if " receive_response_headers." not in line]
    assert [line for line in ours if KEY in line] == []
    assert any(line.startswith("httpcore") for line in ours)
    assert any(line.startswith("nodellm_orm.transport ") for line in ours)


@pytest.mark.fault("E01")
async def test_success_is_logged_without_the_key(pool: HttpPool) -> None:
    """Our own log says method, path, status and time; httpx's says no query."""
    with everything_logged() as lines:
        async with LoopbackServer([json_answer({})]) as server:
            transport = HttpTransport(
                f"{server.url}/v1", secret_headers={"authorization": f"Bearer {KEY}"}, query={"key": KEY}, pool=pool
            )
            await call(transport)
    _free_of_key(lines)
    (ours,) = [line for line in lines if line.startswith("nodellm_orm.transport ")]
    assert ours.startswith("nodellm_orm.transport POST /v1/chat 200 in ")
    assert any(f'POST {server_url(transport)}/chat "HTTP/1.1 200 OK"' in line for line in lines)


def server_url(transport: HttpTransport) -> str:
    """Where the transport sends to, as a log may show it."""
    return transport.endpoint


@pytest.mark.fault("E01")
async def test_unreachable_endpoint_does_not_show_the_key(pool: HttpPool) -> None:
    """A name that cannot be resolved is chained without the request that was to be sent."""
    error, _ = await failure(transport_to("http://nowhere.invalid/v1", pool))
    assert type(error) is ProviderConnectionError
    assert isinstance(error.__cause__, httpx.ConnectError)
    assert KEY not in shown_by(error)


@pytest.mark.fault("E01")
async def test_failure_below_is_chained_unless_it_repeats_the_key(pool: HttpPool) -> None:
    """The cause is there for whoever looks for it; one whose own text echoes the key is not."""
    async with LoopbackServer([[Reset()], FAULTS["bad head"]]) as server:
        plain, _ = await failure(transport_to(server.url, pool))
        echoing, _ = await failure(transport_to(server.url, pool))
    assert isinstance(plain.__cause__, httpx.HTTPError)
    assert echoing.__cause__ is None
    assert echoing.__context__ is None


@pytest.mark.fault("E01")
async def test_header_that_a_users_hook_spoils(pool: HttpPool) -> None:
    """An illegal header value that got past our checks is refused without its text, which the error below shows."""

    async def spoil(request: httpx.Request) -> None:
        request.headers["x-trace"] = f"a\r\n{KEY}"

    async with (
        LoopbackServer() as server,
        httpx.AsyncClient(event_hooks={"request": [spoil]}, trust_env=False) as client,
    ):
        with pytest.raises(ConfigurationError, match="check the headers") as caught:
            await call(transport_to(server.url, HttpPool(client)))
        assert server.requests == []
    assert caught.value.__cause__ is None
    assert KEY not in _told(caught.value)
    assert pool.in_flight == 0


async def test_error_of_a_users_hook_is_the_users(pool: HttpPool) -> None:
    """What a hook of the user's own client raises comes out as it is."""

    async def refuse(_: httpx.Response) -> None:
        raise LookupError

    async with (
        LoopbackServer([json_answer({})]) as server,
        httpx.AsyncClient(event_hooks={"response": [refuse]}, trust_env=False) as client,
    ):
        with pytest.raises(LookupError):
            await call(transport_to(server.url, HttpPool(client)))
    assert pool.in_flight == 0


def _told(error: NodeLLMError) -> str:
    return f"{error} {error!r} {error.args!r} {error.__context__!r}"


@pytest.mark.fault("A33")
@pytest.mark.fault("E01")
@pytest.mark.parametrize("status", [400, 401, 500])
async def test_endpoint_that_echoes_the_key(pool: HttpPool, status: int) -> None:
    """A key in the body of an error is taken out before anybody sees it, and the body stays JSON."""
    body = {"error": {"message": f"Incorrect API key: {KEY}", "sent": f"Bearer {KEY}", "token": 5, "code": "bad_key"}}
    async with LoopbackServer([json_answer(body, status=status)]) as server:
        _, received = await call(transport_to(server.url, pool))
    assert KEY.encode() not in received
    error = json.loads(received)["error"]
    assert error["message"] == "Incorrect API key: [redacted]"
    assert (error["token"], error["code"]) == (5, "bad_key")


@pytest.mark.parametrize("spelling", ["ab/cd+ef/gh==", "ab\\/cd+ef\\/gh==", "ab%2Fcd%2Bef%2Fgh%3D%3D"])
async def test_endpoint_that_echoes_the_key_in_another_spelling(pool: HttpPool, spelling: str) -> None:
    """Escaped as in JSON or in a URL the key is recognised, too."""
    async with LoopbackServer([body_answer(f"({spelling})".encode(), status=403)]) as server:
        transport = HttpTransport(server.url, secret_headers={"x-api-key": "ab/cd+ef/gh=="}, pool=pool)
        assert await call(transport) == (403, b"([redacted])")


async def test_answers_that_are_no_errors_are_left_alone(pool: HttpPool) -> None:
    """A model may well speak of things that look like keys."""
    said = b'{"text":"sk-aaaaaaaaaaaaaaaaaaaaaaaa, password: correcthorse1"}'
    async with LoopbackServer([body_answer(said)]) as server:
        assert await call(transport_to(server.url, pool)) == (200, said)


@pytest.mark.fault("E02")
@pytest.mark.parametrize("value", [f"{KEY}\r\nx-evil: 1", f"{KEY}\n", f"{KEY}\x00", f"{KEY}é", f"{KEY}\x7f"])
async def test_header_that_cannot_be_sent(pool: HttpPool, value: str) -> None:
    """A caller's header with line breaks or other bytes is refused by its name alone, before anything is sent."""
    async with LoopbackServer() as server:
        with pytest.raises(ConfigurationError, match="x-note") as caught:
            await call(transport_to(server.url, pool), headers={"x-note": value})
        assert server.connections == 0
    assert KEY not in _told(caught.value)


@pytest.mark.fault("E02")
@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "accept-encoding"])
async def test_header_that_frames_the_message(pool: HttpPool, name: str) -> None:
    """A caller cannot say how the message is framed or packed."""
    with pytest.raises(ConfigurationError, match="belongs to the transport"):
        await call(transport_to("http://127.0.0.1:9", pool), headers={name: "1"})


async def test_proxy_password_stays_out_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable proxy is reported without its credentials."""
    monkeypatch.setenv("HTTP_PROXY", f"http://me:{KEY}@127.0.0.1:9")
    pool = HttpPool()
    with everything_logged() as lines:
        error, _ = await failure(transport_to("http://model.invalid", pool))
    await pool.aclose()
    assert KEY not in shown_by(error)
    assert [line for line in lines if KEY in line] == []
