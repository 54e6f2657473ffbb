"""When the server of a local model starts and stops, with a loopback server in its place."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, cast

import pytest

from nodellm_orm.domain.jsontext import dumps
from nodellm_orm.domain.policies import Timeout
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.transport import WireRequest
from nodellm_orm.providers.local.server import LocalServer, ServerOptions
from nodellm_orm.providers.local.transport import LocalTransport
from nodellm_orm.providers.local.weights import Weights
from nodellm_orm.testing.answers import json_answer
from nodellm_orm.testing.loopback import LoopbackServer

if TYPE_CHECKING:
    from pathlib import Path


class Starts:
    """Counts servers, and makes them wait for permission."""

    def __init__(self, url: str) -> None:
        """Let servers start at once, until told otherwise."""
        self.url = f"{url}/v1"
        self.key = "local-test-key"
        self.files: list[Path] = []
        self.began = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.stopped = 0
        self.may_start = threading.Event()
        self.may_start.set()
        self.error: Exception | None = None

    def __call__(self, file: Path, options: ServerOptions) -> LocalServer:
        """Start a server."""
        del options
        self.files.append(file)
        self._loop.call_soon_threadsafe(self.began.set)
        assert self.may_start.wait(timeout=30)
        if self.error is not None:
            raise self.error
        return cast(LocalServer, self)

    def stop(self) -> None:
        """Stop a server."""
        self.stopped += 1


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two model files."""
    paths = [tmp_path / "a.gguf", tmp_path / "b.gguf"]
    for path in paths:
        path.write_bytes(b"GGUF")
    return paths


def request_for(model: Path | str) -> WireRequest:
    """A request that names a model."""
    return WireRequest(path="/chat/completions", body=dumps({"model": str(model)}).encode())


def transport_with(starts: Starts) -> LocalTransport:
    """A transport that starts nothing real."""
    return LocalTransport(weights=Weights(package="no_such_package"), options=ServerOptions(), start=starts)


async def ask(transport: LocalTransport, model: Path | str) -> int:
    """Send a request; give the status of the answer."""
    async with transport.open(request_for(model), timeout=Timeout()) as response:
        assert [chunk async for chunk in response.chunks()] == [b"{}"]
        return response.status


async def test_a_server_starts_once_a_file_and_on_first_use(files: list[Path]) -> None:
    """Nothing runs before the first request; requests for one file share one server, another file has its own."""
    async with LoopbackServer([json_answer({})] * 5) as server:
        starts = Starts(server.url)
        transport = transport_with(starts)
        assert starts.files == []
        assert await asyncio.gather(*(ask(transport, files[0]) for _ in range(3))) == [200, 200, 200]
        assert await ask(transport, files[1]) == 200
        assert starts.files == files
        await transport.aclose()
        assert starts.stopped == 2
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer local-test-key"}
        assert {request.path for request in server.requests} == {"/v1/chat/completions"}


async def test_a_connection_is_used_once(files: list[Path]) -> None:
    """The server hangs up behind each stream, unannounced: a second request on that connection would find no answer."""
    async with LoopbackServer([json_answer({})] * 3) as server:
        transport = transport_with(Starts(server.url))
        for _ in range(3):
            assert await ask(transport, files[0]) == 200
        assert [request.connection for request in server.requests] == [0, 1, 2]
        await transport.aclose()


async def test_its_endpoint_is_the_same_in_every_process(files: list[Path]) -> None:
    """The scope of answers does not change with the port."""
    async with LoopbackServer([json_answer({})]) as server:
        transport = transport_with(Starts(server.url))
        before = transport.endpoint
        await ask(transport, files[0])
        assert transport.endpoint == before == "local:in-process"
        await transport.aclose()


async def test_the_loop_goes_on_while_a_server_starts(files: list[Path]) -> None:
    """Starting happens in a thread: the loop is free, and whoever gives up waiting does not stop it for the others."""
    async with LoopbackServer([json_answer({})]) as server:
        starts = Starts(server.url)
        starts.may_start.clear()
        transport = transport_with(starts)
        impatient, patient = (asyncio.create_task(ask(transport, files[0])) for _ in range(2))
        await starts.began.wait()
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        starts.may_start.set()
        assert await patient == 200
        assert starts.files == [files[0]]
        await transport.aclose()


async def test_a_start_that_failed_is_tried_again(files: list[Path]) -> None:
    """An error while starting reaches whoever asked, and the next request starts anew."""
    async with LoopbackServer([json_answer({})]) as server:
        starts = Starts(server.url)
        starts.error = ConfigurationError("not a whole file")
        transport = transport_with(starts)
        with pytest.raises(ConfigurationError, match="not a whole file"):
            await ask(transport, files[0])
        starts.error = None
        assert await ask(transport, files[0]) == 200
        await transport.aclose()
        assert starts.stopped == 1


async def test_closing_stops_a_server_that_is_still_starting(files: list[Path]) -> None:
    """A client that is closed in the middle of a start leaves nothing running, and starts nothing more."""
    async with LoopbackServer() as server:
        starts = Starts(server.url)
        starts.may_start.clear()
        transport = transport_with(starts)
        waiting = asyncio.create_task(ask(transport, files[0]))
        await starts.began.wait()
        closing = asyncio.create_task(transport.aclose())
        await asyncio.sleep(0)
        starts.may_start.set()
        await closing
        assert starts.stopped == 1
        with pytest.raises(ConfigurationError, match="closed"):
            await waiting
        with pytest.raises(ConfigurationError, match="closed"):
            await ask(transport, files[1])


async def test_a_request_without_a_known_model_starts_nothing(files: list[Path]) -> None:
    """A model that is no file is refused."""
    starts = Starts("http://127.0.0.1:1")
    transport = transport_with(starts)
    with pytest.raises(ConfigurationError, match="no local model"):
        await ask(transport, "gpt-4o")
    assert starts.files == []
    await transport.aclose()
    assert files
