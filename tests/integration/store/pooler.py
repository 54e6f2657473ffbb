"""A pooler in transaction mode, as PgBouncer is: every transaction of a client may run on another server connection."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import URL

_SSL: Final = 80877103
_CANCEL: Final = 80877102
_ASKS: Final = frozenset(b"QS")
"""Messages that the server answers with "ready for query"."""
_READY: Final = ord("Z")
_TERMINATE: Final = ord("X")


@dataclass(slots=True, eq=False)
class _Server:
    """A connection to the server, with a session that nobody owns."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


@dataclass(slots=True)
class Pooler:
    """Hands server connections out for one transaction each, to a client never its last one if another is free.

    Each client brings the connection that its own handshake was made on, so that no password is needed here.
    """

    host: str
    port: int
    _free: list[_Server] = field(default_factory=list)
    _number: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    changes: int = 0
    """How often a client's transaction ran on another connection than its one before."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it goes."""
        if (startup := await _startup(reader, writer)) is None:
            return
        server = _Server(*await asyncio.open_connection(self.host, self.port))
        server.writer.write(startup)
        await self._authenticate(reader, writer, server)
        self.give_back(server)
        await _Client(self, reader, writer, last=server).relay()

    async def _authenticate(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: _Server) -> None:
        answering = asyncio.create_task(_forward(reader, server.writer))
        try:
            while (message := await _message(server.reader)) and message[0] != _READY:
                writer.write(message)
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
        writer.write(message)

    async def take(self, last: _Server) -> _Server:
        """A free connection, another than the last one if there is one."""
        await self._number.acquire()
        chosen = next((server for server in self._free if server is not last), last)
        self._free.remove(chosen)
        self.changes += chosen is not last
        return chosen

    def give_back(self, server: _Server) -> None:
        """Let anybody have a connection."""
        self._free.append(server)
        self._number.release()

    def close(self) -> None:
        """End the connections to the server."""
        for server in self._free:
            server.writer.transport.abort()


@dataclass(slots=True)
class _Client:
    """One client and the connection that its transaction runs on, if it is in one."""

    pooler: Pooler
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    last: _Server
    server: _Server | None = None
    asked: int = 0
    pump: asyncio.Task[None] | None = None

    async def relay(self) -> None:
        try:
            while True:
                message = await _message(self.reader)
                if message[0] == _TERMINATE:
                    return
                if self.server is None:
                    self.server = self.last = await self.pooler.take(self.last)
                    self.pump = asyncio.create_task(self._pump(self.server))
                self.asked += message[0] in _ASKS
                self.server.writer.write(message)
        finally:
            if self.server is not None:  # broken off within a transaction: the session is of no use to anybody
                self.server.writer.transport.abort()
            if self.pump is not None:
                self.pump.cancel()

    async def _pump(self, server: _Server) -> None:
        while True:
            message = await _message(server.reader)
            self.writer.write(message)
            if message[0] == _READY:
                self.asked -= 1
                if message[-1:] == b"I" and not self.asked:
                    self.server = None
                    self.pooler.give_back(server)
                    return


async def _startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """The packet that begins a session; ``None`` for one that cancels another's statement."""
    while True:
        head = await reader.readexactly(8)
        size, code = int.from_bytes(head[:4]), int.from_bytes(head[4:])
        if code == _SSL:
            writer.write(b"N")
            continue
        rest = await reader.readexactly(size - 8)
        return None if code == _CANCEL else head + rest


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(await _message(reader))


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


@asynccontextmanager
async def pooled(url: URL) -> AsyncIterator[tuple[Pooler, URL]]:
    """A pooler in front of a PostgreSQL server, and the database's URL through it.

    Args:
        url: the database's URL.
    """
    pooler = Pooler(url.host or "127.0.0.1", url.port or 5432)
    serving: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            serving.add(task)
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
            await pooler.serve(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield pooler, url.set(host=host, port=port)
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        pooler.close()
        await server.wait_closed()
