"""TLS: certificates are verified, always, and a refusal is not retried."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from nodellm_orm.errors import ProviderConnectionError
from nodellm_orm.testing import LoopbackServer, json_answer, sse_answer
from nodellm_orm.transport import HttpPool
from tests.integration.transport.calls import CHAT, STREAM, call, failure, left_in, transport_to

if TYPE_CHECKING:
    from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def certificate(folder: Path, *, name: str, days: int) -> Path:
    """A file with a key and a self-signed certificate for a subject such as ``IP:127.0.0.1``."""
    key, request, signed = folder / "key.pem", folder / "request.pem", folder / "signed.pem"
    subject = ("-subj", "/CN=test", "-addext", f"subjectAltName={name}")
    for command in (
        ("openssl", "req", "-new", *_NEW_KEY, "-keyout", str(key), "-out", str(request), *subject),
        ("openssl", "x509", "-req", "-in", str(request), "-signkey", str(key), "-days", str(days), "-copy_extensions",
         "copy", "-out", str(signed)),
    ):  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 — a fixed command on files of the test
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + signed.read_bytes())
    return both


def serving(file: Path) -> ssl.SSLContext:
    """What a server with that certificate speaks."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    return context


def trusting(file: Path) -> httpx.AsyncClient:
    """A client that accepts certificates signed by that one."""
    return httpx.AsyncClient(verify=ssl.create_default_context(cafile=file), trust_env=False)


async def test_trusted_server_is_spoken_to(tmp_path: Path) -> None:
    """A certificate of a trusted authority for the right host is accepted, bodies and streams alike."""
    file = certificate(tmp_path, name="IP:127.0.0.1", days=1)
    answers = [json_answer({}), sse_answer([b"data: 1\n\n"])]
    async with LoopbackServer(answers, ssl=serving(file)) as server, trusting(file) as client:
        pool = HttpPool(client)
        transport = transport_to(server.url, pool)
        assert await call(transport) == (200, b"{}")
        assert await call(transport, STREAM) == (200, b"data: 1\n\n")
        assert server.connections == 1
        assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A03")
async def test_self_signed_certificate(pool: HttpPool, tmp_path: Path) -> None:
    """A certificate that nobody vouches for is refused before anything is sent, and not retried."""
    file = certificate(tmp_path, name="IP:127.0.0.1", days=1)
    async with LoopbackServer([json_answer({})], ssl=serving(file)) as server:
        error, _ = await failure(transport_to(server.url, pool))
        assert server.requests == []
    assert type(error) is ProviderConnectionError
    assert not error.retryable
    assert "self-signed certificate" in str(error)
    assert "nothing was sent" in str(error)
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A03")
@pytest.mark.parametrize(
    ("name", "days", "reason"),
    [("IP:127.0.0.1", -1, "has expired"), ("DNS:api.example.com", 1, "not valid for '127.0.0.1'")],
)
async def test_wrong_certificate(tmp_path: Path, name: str, days: int, reason: str) -> None:
    """A certificate that has expired, or is another host's, is refused although its authority is trusted."""
    file = certificate(tmp_path, name=name, days=days)
    async with LoopbackServer([json_answer({})], ssl=serving(file)) as server, trusting(file) as client:
        pool = HttpPool(client)
        error, _ = await failure(transport_to(server.url, pool))
        assert server.requests == []
        assert await left_in(pool) == (0, 0, 0)
    assert type(error) is ProviderConnectionError
    assert not error.retryable
    assert reason in str(error)


@pytest.mark.fault("A03")
async def test_server_without_tls(pool: HttpPool) -> None:
    """A server that answers the handshake with something else gets no request in clear text."""
    received: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1 << 16))
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        error, _ = await failure(transport_to(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", pool))
    assert type(error) is ProviderConnectionError
    assert "TLS with" in str(error)
    assert "nothing was sent" in str(error)
    assert all(CHAT.body not in data for data in received)
    assert await left_in(pool) == (0, 0, 0)
