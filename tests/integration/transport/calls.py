"""How the transport's tests send requests and look at what is left behind."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import httpx
import pytest

from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import ProviderError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from nodellm_orm.ports.transport import Transport
    from nodellm_orm.transport import HttpPool

KEY = "canary-4f9b1c77e0d2"
"""The key of every test here; it must come out nowhere."""

SAFETY = 10.0
"""Seconds after which a test fails rather than hangs; nothing is expected to come near."""

CHAT = WireRequest(path="/chat", body=b'{"stream":false}', headers={"content-type": "application/json"})
STREAM = WireRequest(path="/chat", body=b'{"stream":true}', headers={"content-type": "application/json"}, stream=True)
PATIENT = Timeout()


def transport_to(
    url: str, pool: HttpPool, *, max_body_bytes: int = 1 << 20, max_stream_bytes: int = 1 << 20
) -> Transport:
    """A transport with the canary for a key."""
    return HttpTransport(
        url,
        secret_headers={"authorization": f"Bearer {KEY}"},
        pool=pool,
        max_body_bytes=max_body_bytes,
        max_stream_bytes=max_stream_bytes,
    )


async def call(
    transport: Transport,
    request: WireRequest = CHAT,
    *,
    timeout: Timeout = PATIENT,
    headers: Mapping[str, str] | None = None,
    content: bytes = b"",
) -> tuple[int, bytes]:
    """Send and read everything; pieces that hold ``content`` are reported as content."""
    async with asyncio.timeout(SAFETY), transport.open(request, timeout=timeout, headers=headers) as response:
        body = bytearray()
        async for chunk in response.chunks():
            body += chunk
            if content in chunk:
                response.content_seen()
        return response.status, bytes(body)


async def failure(
    transport: Transport, request: WireRequest = CHAT, *, timeout: Timeout = PATIENT, content: bytes = b""
) -> tuple[ProviderError, bytes]:
    """The provider's error that a call ends with, and what had come of the body; any other end fails the test."""
    body = bytearray()
    try:
        async with asyncio.timeout(SAFETY), transport.open(request, timeout=timeout) as response:
            async for chunk in response.chunks():
                body += chunk
                if content in chunk:
                    response.content_seen()
    except ProviderError as error:
        return error, bytes(body)
    pytest.fail(f"the call ended well, with {bytes(body[:80])!r}")


async def soon(awaitable: Awaitable[object]) -> None:
    """Wait for what has to happen, and fail rather than hang."""
    async with asyncio.timeout(SAFETY):
        await awaitable


async def left_in(pool: HttpPool) -> tuple[int, int, int]:
    """Requests queued or running, connections not idle, and requests followed, once all endings have run."""
    client = await pool.client()
    transport = client._transport
    assert isinstance(transport, httpx.AsyncHTTPTransport)
    inner = transport._pool
    busy = [connection for connection in inner.connections if not (connection.is_idle() or connection.is_closed())]
    return len(inner._requests), len(busy), pool.in_flight


class Everything(logging.Handler):
    """Keeps every record of every logger, as text."""

    def __init__(self) -> None:
        """Listen to everything."""
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message and the representation of its arguments."""
        self.lines.append(f"{record.name} {record.getMessage()} {record.args!r} {vars(record)!r}")
