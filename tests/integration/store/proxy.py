"""A wire between a client and a database server that can be cut at a COMMIT."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy import URL

Cut: TypeAlias = Literal["before", "after", "swallow", "mute"]
"""Cut the wire before the COMMIT arrives, or when it has been answered; or let it stand and say nothing: keep the
COMMIT from the server, or the answer from the client."""


@dataclass(slots=True)
class Wire:
    """Passes everything on until it is told to cut."""

    host: str
    port: int
    cut: Cut | None = None
    """What to do at the next COMMIT."""
    meanwhile: Callable[[], Awaitable[None]] | None = None
    """Called once when the wire has been cut, before the client notices."""
    cuts: int = 0

    async def serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it or it is cut."""
        from_server, to_server = await asyncio.open_connection(self.host, self.port)
        line = _Line(self, from_client, to_client, from_server, to_server)
        directions = {asyncio.create_task(line.upward()), asyncio.create_task(line.downward())}
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in directions:
                task.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            to_server.transport.abort()
            if line.cut is not None and self.meanwhile is not None:
                told, self.meanwhile = self.meanwhile, None
                await told()
            to_client.transport.abort()


@dataclass(slots=True)
class _Line:
    wire: Wire
    from_client: asyncio.StreamReader
    to_client: asyncio.StreamWriter
    from_server: asyncio.StreamReader
    to_server: asyncio.StreamWriter
    cut: Cut | None = None

    async def upward(self) -> None:
        """From the client to the server."""
        while data := await self.from_client.read(65536):
            if self.wire.cut is not None and b"COMMIT" in data.replace(b"COMMITTED", b""):
                self.cut, self.wire.cut = self.wire.cut, None
                self.wire.cuts += 1
                if self.cut == "before":
                    return
            if self.cut != "swallow":
                self.to_server.write(data)
                await self.to_server.drain()

    async def downward(self) -> None:
        """From the server to the client."""
        while data := await self.from_server.read(65536):
            if self.cut == "after":
                return
            if self.cut is None:
                self.to_client.write(data)
                await self.to_client.drain()


@asynccontextmanager
async def wire_to(url: URL) -> AsyncIterator[tuple[Wire, URL]]:
    """A wire to a database server, and the database's URL through it.

    Args:
        url: the database's URL.
    """
    wire = Wire(url.host or "127.0.0.1", url.port or 0)
    serving: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            serving.add(task)
        try:
            await wire.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield wire, url.set(host=host, port=port)
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()
