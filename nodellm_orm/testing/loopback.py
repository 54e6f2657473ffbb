"""A real HTTP/1.1 server on 127.0.0.1 that answers as scripted and remembers what it was sent.

Example:
    >>> async with LoopbackServer([json_answer({"ok": True})]) as server:
    ...     llm = create_llm("openai_compatible", base_url=server.url, api_key="test-key")
    ...     ...
    >>> server.requests[0].json()["model"]
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias, assert_never, cast

from nodellm_orm.domain.jsontext import loads
from nodellm_orm.testing.answers import Answer, Close, Hold, Pause, Reset, Send, Stall, Step, json_answer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from types import TracebackType

    from nodellm_orm.domain.jsontext import JsonObject

_END_OF_HEAD = b"\r\n\r\n"
_NO_LINGER = struct.pack("ii", 1, 0)
_EXHAUSTED = "the loopback server's script has no answer left for this request"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """One request as it arrived."""

    method: str
    path: str
    """The target of the request line, query included."""
    headers: Mapping[str, str]
    """Names in lower case; repeated headers are joined with a comma."""
    raw_headers: tuple[tuple[str, str], ...]
    """Headers in the order and with the names received."""
    body: bytes
    connection: int
    """Number of the connection it came in on, from 0: equal numbers share one connection."""

    def json(self) -> JsonObject:
        """The body, parsed as a JSON object."""
        value = loads(self.body)
        if not isinstance(value, dict):
            msg = f"the request body is not a JSON object: {self.body[:80]!r}"
            raise TypeError(msg)
        return value


Handler: TypeAlias = "Callable[[ReceivedRequest], Awaitable[Answer]]"


class LoopbackServer:
    """Listens on 127.0.0.1, on a free port, while its ``async with`` block runs.

    Args:
        script: an async function from request to answer, or answers that are given in turn, whatever the
            connection; a request beyond the last one gets a 501 that says so.
        ssl: a server-side context makes it speak TLS.

    Raises:
        Exception: on leaving the block, the first error of the handler, so that it cannot go unnoticed; a
            `ValueError` for bytes that are not an HTTP/1.1 request.
    """

    def __init__(self, script: Handler | Iterable[Answer] = (), *, ssl: ssl.SSLContext | None = None) -> None:
        """Prepare; nothing listens yet."""
        self.requests: list[ReceivedRequest] = []
        """Everything received, in order of arrival."""
        self.connections = 0
        """How many connections were opened in all."""
        self.interrupted = 0
        """How many answers the client did not wait for."""
        self._handler: Handler = script if callable(script) else _in_turn(script)
        self._ssl = ssl
        self._server: asyncio.Server | None = None
        self._live: set[asyncio.Task[None]] = set()
        self._failures: list[Exception] = []
        self._changed = asyncio.Condition()

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._server is None or not self._server.sockets:
            msg = "the loopback server listens only inside its `async with` block"
            raise RuntimeError(msg)
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address[1]

    @property
    def url(self) -> str:
        """Its base URL, without a trailing slash."""
        return f"{'https' if self._ssl else 'http'}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._live)

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._ssl)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close everything; raise what the handler raised."""
        if self._server is not None:
            self._server.close()
        live = list(self._live)
        for task in live:
            task.cancel()
        await asyncio.gather(*live, return_exceptions=True)
        if self._failures and error is None:
            raise self._failures[0]

    async def until_received(self, count: int) -> None:
        """Wait until that many requests have arrived in all."""
        await self._until(lambda: len(self.requests) >= count)

    async def until_interrupted(self, count: int = 1) -> None:
        """Wait until the client has left that many answers before their end."""
        await self._until(lambda: self.interrupted >= count)

    async def until_idle(self) -> None:
        """Wait until no connection is open."""
        await self._until(lambda: not self._live)

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(reached)

    async def _note(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())  # start_server gives each connection a task
        self._live.add(task)
        number, self.connections = self.connections, self.connections + 1
        # Nothing may wait in asyncio's own buffer: a reset must not swallow what was sent before it. A TLS transport
        # would take 0 for a limit that is always reached, and no write would ever end.
        writer.transport.set_write_buffer_limits(high=1 if self._ssl else 0)
        line = _Line(reader, writer)
        try:
            while (request := await line.receive(number)) is not None:
                self.requests.append(request)
                await self._note()
                if not await self._answer(request, line):
                    break
        except ValueError as error:
            self._failures.append(error)
        except asyncio.CancelledError:
            writer.transport.abort()  # The server is being left; its block waits for this task.
        finally:
            self._live.discard(task)
            with contextlib.suppress(asyncio.CancelledError):  # left just now: there is nothing more to do anyway
                await line.hang_up()
            await self._note()

    async def _answer(self, request: ReceivedRequest, line: _Line) -> bool:
        try:
            answer = await self._handler(request)
        except Exception as error:  # noqa: BLE001 — a boundary: raised again when the server's block is left
            self._failures.append(error)
            answer = json_answer({"error": {"message": "the loopback server's handler failed"}}, status=500)
        try:
            for step in answer:
                if not await line.perform(step):
                    return False
        except OSError:
            line.gone.set()
        if line.gone.is_set():
            self.interrupted += 1
            return False
        return request.headers.get("connection", "").lower() != "close"


def _in_turn(answers: Iterable[Answer]) -> Handler:
    remaining = iter(answers)

    async def handle(_: ReceivedRequest) -> Answer:
        return next(remaining, None) or json_answer({"error": {"message": _EXHAUSTED}}, status=501)

    return handle


class _Line:
    """One connection: parses what comes in, performs steps, notices when the client leaves."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = bytearray()
        self._fresh = asyncio.Event()
        self.gone = asyncio.Event()
        self._pump = asyncio.create_task(self._read())

    async def _read(self) -> None:
        # Reading all the time, also while an answer is written, is what notices a client that leaves.
        with contextlib.suppress(OSError):
            while data := await self._reader.read(1 << 16):
                self._buffer += data
                self._fresh.set()
        self.gone.set()
        self._fresh.set()

    async def hang_up(self) -> None:
        self._pump.cancel()
        self._writer.close()
        await asyncio.gather(self._pump, self._writer.wait_closed(), return_exceptions=True)

    async def _more(self) -> bool:
        if self.gone.is_set():
            return False
        self._fresh.clear()
        await self._fresh.wait()
        return True

    async def _until(self, mark: bytes) -> bytes | None:
        while (at := self._buffer.find(mark)) < 0:
            if not await self._more():
                return None
        return self._take(at + len(mark))

    async def _exactly(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            if not await self._more():
                return None
        return self._take(size)

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def receive(self, connection: int) -> ReceivedRequest | None:
        """The next request, or ``None`` when the client has left."""
        raw = await self._until(_END_OF_HEAD)
        if raw is None:
            return None
        request_line, *lines = raw[: -len(_END_OF_HEAD)].decode("latin-1").split("\r\n")
        method, path, version = [*request_line.split(" ", 2), "", ""][:3]
        if not version.startswith("HTTP/1."):
            msg = f"the loopback server was sent {raw[:80]!r}, which is not an HTTP/1.1 request"
            raise ValueError(msg)
        pairs = tuple((name, value.strip()) for name, _, value in (line.partition(":") for line in lines))
        headers: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        body = await self._body(headers)
        if body is None:
            return None
        return ReceivedRequest(
            method=method, path=path, headers=headers, raw_headers=pairs, body=body, connection=connection
        )

    async def _body(self, headers: Mapping[str, str]) -> bytes | None:
        if "chunked" not in headers.get("transfer-encoding", ""):
            return await self._exactly(int(headers.get("content-length", "0")))
        body = bytearray()
        while (size_line := await self._until(b"\r\n")) is not None:
            size = int(size_line.partition(b";")[0], 16)
            piece = await self._exactly(size + 2)
            if piece is None:
                return None
            if size == 0:
                return bytes(body)
            body += piece[:-2]
        return None

    async def perform(self, step: Step) -> bool:
        """Do one step; whether another may follow."""
        match step:
            case Send(data=data, times=times):
                for _ in range(times):
                    if self.gone.is_set():
                        break
                    self._writer.write(data)
                    await self._writer.drain()
                    if times > 1:
                        await asyncio.sleep(0)  # Draining waits for a full socket only; a flood must let others run.
            case Hold(gate=gate):
                await self._while_connected(gate.wait())
            case Pause(seconds=seconds):
                await self._while_connected(asyncio.sleep(seconds))
            case Stall():
                await self.gone.wait()
            case Close():
                return False
            case Reset():
                sock: socket.socket = self._writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                self._writer.transport.abort()
                return False
            case _:
                assert_never(step)
        return True

    async def _while_connected(self, waiting: Awaitable[object]) -> None:
        waits = {asyncio.ensure_future(waiting), asyncio.create_task(self.gone.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
