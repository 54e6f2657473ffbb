"""An answer may not be larger than its cap, packed or unpacked, and is not read beyond it."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import ProtocolError
from nodellm_orm.testing import (
    LoopbackServer,
    Send,
    body_answer,
    endless_answer,
    gzip_bomb_answer,
    head,
    sse_answer,
)
from tests.integration.transport.calls import CHAT, STREAM, call, failure, left_in, soon, transport_to

if TYPE_CHECKING:
    from nodellm_orm.ports.transport import WireRequest
    from nodellm_orm.testing import Answer
    from nodellm_orm.transport import HttpPool

CAP = 100_000
UNTOLD = head(headers={"transfer-encoding": "chunked"})


@pytest.mark.fault("A26")
@pytest.mark.fault("A27")
@pytest.mark.parametrize("request_", [CHAT, STREAM], ids=["body", "stream"])
@pytest.mark.parametrize(
    "answer",
    [
        (Send(head(headers={"content-length": str(1 << 40)})), Send(bytes(1000), times=1 << 30)),
        (Send(head()), Send(bytes(1000), times=1 << 30)),
        endless_answer(b"data: x\n\n" * 1000),
    ],
    ids=["announced", "unannounced", "chunked"],
)
async def test_endless_answer(pool: HttpPool, request_: WireRequest, answer: Answer) -> None:
    """A body without an end is refused at its cap, not retried, and its connection closed."""
    async with LoopbackServer([answer]) as server:
        transport = transport_to(server.url, pool, max_body_bytes=CAP, max_stream_bytes=CAP)
        error, body = await failure(transport, request_)
        await soon(server.until_interrupted())
    assert type(error) is ProtocolError
    assert not error.retryable
    assert "larger than 100000 bytes" in str(error)
    assert len(body) <= CAP
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A26")
@pytest.mark.parametrize("request_", [CHAT, STREAM], ids=["body", "stream"])
async def test_gzip_bomb(pool: HttpPool, request_: WireRequest) -> None:
    """A small packed body that unpacks to 200 MB is refused at its cap, in bounded memory."""
    bomb = gzip_bomb_answer(200_000_000)
    async with LoopbackServer([bomb]) as server:
        transport = transport_to(server.url, pool, max_body_bytes=1 << 20, max_stream_bytes=1 << 20)
        tracemalloc.start()
        try:
            error, _ = await failure(transport, request_)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert type(error) is ProtocolError
    assert peak < 20_000_000
    assert await left_in(pool) == (0, 0, 0)


@pytest.mark.fault("A26")
async def test_gzip_bomb_as_an_error(pool: HttpPool) -> None:
    """The packed body of an error is unpacked up to 1 MiB and no further."""
    packed = gzip_bomb_answer(50_000_000)
    sent = b"".join(step.data for step in packed if isinstance(step, Send)).replace(b"200 OK", b"500 No")
    async with LoopbackServer([[Send(sent)]]) as server:
        status, body = await call(transport_to(server.url, pool))
    assert (status, body) == (500, bytes(1 << 20))


async def test_each_kind_of_answer_has_its_own_cap(pool: HttpPool) -> None:
    """A stream may be larger than a body; an answer of exactly the cap is accepted."""
    answers = [sse_answer([b"x" * 5000] * 4), body_answer(b"x" * 10_000), body_answer(b"x" * 10_001)]
    async with LoopbackServer(answers) as server:
        transport = transport_to(server.url, pool, max_body_bytes=10_000, max_stream_bytes=20_000)
        assert len((await call(transport, STREAM))[1]) == 20_000
        assert len((await call(transport))[1]) == 10_000
        error, body = await failure(transport, timeout=Timeout())
    assert type(error) is ProtocolError
    assert body == b""
