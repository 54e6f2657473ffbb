"""One request and its response, driven by a task of its own, so that leaving it is safe at any point.

httpcore cleans up after one cancellation, but not after a second one that arrives while it does, nor after one that
arrives while a connection is being made or given back: each leaves a connection that the pool counts for ever. So the
caller's cancellations never reach it. The caller waits for an event, within the limits of the attempt; the task does
the reading; and leaving picks, by the phase the task is in, the one way of ending it that leaves nothing behind.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from nodellm_orm.transport.failures import AbandonedError, Progress, abandoned, timed_out, translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    import httpx

    from nodellm_orm.transport.limits import Limits
    from nodellm_orm.transport.secrets import Secret

_CONNECT_GRACE = 0.05
"""Seconds that an abandoned connection attempt may take to succeed and be closed, before it is cancelled."""

_AHEAD = 16
"""Pieces (of 64 KiB at most) read before the caller asks: many small ones cost one change of tasks together."""


class _Phase(Enum):
    """What the task is doing."""

    WAITING = auto()
    """For a place in the pool; also throughout a transport that tells nothing."""
    CONNECTING = auto()
    CONNECTED = auto()
    """TLS and proxy handshakes."""
    SENT = auto()
    """From the first byte of the request to the last one of the response."""
    ENDING = auto()
    """The connection is being given back or closed."""


class Exchange:
    """Sends once and reads on demand.

    Args:
        client: what sends.
        request: what is sent.
        limits: the attempt's limits.
        endpoint: named in errors.
        stream: whether a stream was asked for.
        secrets: values that no error may repeat.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        request: httpx.Request,
        *,
        limits: Limits,
        endpoint: str,
        stream: bool,
        secrets: Sequence[Secret],
    ) -> None:
        """Begin at once."""
        self._limits = limits
        self._endpoint = endpoint
        self._stream = stream
        self._secrets = secrets
        self._phase = _Phase.WAITING
        self._sent = False
        self._abandoned = False
        self._fresh: Any = None
        """The network stream of a connection made for this request, while nothing has been sent on it."""
        self._response: httpx.Response | None = None
        self._arrived: list[bytes] = []
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()
        self._aborting: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        request.extensions = {**request.extensions, "trace": self._trace}
        self.task = self._loop.create_task(self._drive(client, request))
        """Ends when the connection has been given back or closed."""
        self.task.add_done_callback(self._done)

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        status = None if self._response is None else self._response.status_code
        sent = self._sent or status is not None
        return Progress(endpoint=self._endpoint, stream=self._stream, sent=sent, status=status)

    async def head(self) -> httpx.Response:
        """The response once its head has arrived; its body comes from `piece`.

        Raises:
            NodeLLMError: when a limit passes or the exchange fails.
        """
        while self._response is None:
            self._raise_failure()
            await self._wait()
        return self._response

    async def piece(self) -> bytes | None:
        """The next bytes of the body, still packed; ``None`` at its end, when the connection has been given back.

        Raises:
            NodeLLMError: when a limit passes or the exchange fails.
        """
        while not self._arrived:
            if self.task.done():
                self._raise_failure()
                return None
            await self._wait()
        piece = b"".join(self._arrived)
        self._arrived.clear()
        self._limits.body_began()
        self._check()
        self._taken.set()
        return piece

    async def close(self) -> None:
        """End it, wherever it is; a caller who is cancelled meanwhile need not wait."""
        await end_all([self])

    def abandon(self) -> None:
        """See to it that the task ends soon, with its connection closed unless the response was complete."""
        if self._abandoned or self.task.done():
            return
        self._abandoned = True
        match self._phase:
            case _Phase.WAITING | _Phase.SENT:
                self.task.cancel()
            case _Phase.CONNECTING:
                # A cancellation in the moment of success would lose the socket; `_trace` closes it instead.
                self._loop.call_later(_CONNECT_GRACE, self._cancel_connecting)
            case _Phase.CONNECTED:
                self._aborting = self._loop.create_task(self._fresh.aclose())
            case _Phase.ENDING:
                pass

    def _cancel_connecting(self) -> None:
        if self._phase is _Phase.CONNECTING:
            self.task.cancel()

    async def _drive(self, client: httpx.AsyncClient, request: httpx.Request) -> None:
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            pieces = _body(response)
            self._response = response
            self._changed.set()
            async for piece in pieces:
                if piece:
                    self._arrived.append(piece)
                    self._changed.set()
                    if len(self._arrived) >= _AHEAD:
                        self._taken.clear()
                        await self._taken.wait()
        finally:
            self._phase = _Phase.ENDING
            await response.aclose()

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow what httpcore reports; raising here ends the exchange in the way httpcore cleans up best."""
        match event.partition(".")[2]:
            case "connect_tcp.started" | "connect_unix_socket.started":
                self._enter(_Phase.CONNECTING)
                self._limits.connecting(self._loop.time())
            case "connect_tcp.complete" | "connect_unix_socket.complete":
                self._fresh = info["return_value"]
                self._enter(_Phase.CONNECTED)
            case "send_request_headers.started" if info["request"].method != b"CONNECT":
                if not self._abandoned:
                    self._fresh = None
                    self._sent = True
                    self._enter(_Phase.SENT)
                    self._limits.sending(self._loop.time())
            case (
                "connect_tcp.failed"
                | "connect_unix_socket.failed"
                | "start_tls.failed"
                | "receive_response_headers.failed"
                | "receive_response_body.failed"
                | "receive_response_body.complete"
            ):
                self._enter(_Phase.ENDING)
            case _:
                pass
        if self._abandoned and not self._sent and "response_closed" not in event:
            if self._fresh is not None:
                await self._fresh.aclose()
            raise AbandonedError

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._changed.set()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._changed.set()
        if not task.cancelled():
            task.exception()  # Read here, or asyncio reports it as never read when the caller has left.

    async def _wait(self) -> None:
        """Until something changes or a limit passes."""
        self._check()
        began = self._loop.time()
        limit = self._limits.nearest(began)
        self._changed.clear()
        try:
            async with asyncio.timeout_at(limit.at if limit else None):
                await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            self._limits.waited(self._loop.time() - began)
        self._check()

    def _check(self) -> None:
        limit = self._limits.passed(self._loop.time())
        if limit is not None:
            raise timed_out(limit, self.progress)

    def _raise_failure(self) -> None:
        if self.task.done() and (failure := self._failure()) is not None:
            raise failure

    def _failure(self) -> BaseException | None:
        """What the ended task failed with; made here, so that no frame of the traceback holds the foreign error."""
        if self._abandoned or self.task.cancelled():
            return abandoned(self.progress)
        error = self.task.exception()
        return translated(error, self.progress, self._secrets) if isinstance(error, Exception) else error


def _body(response: httpx.Response) -> AsyncIterator[bytes]:
    if not response.is_stream_consumed:
        return response.aiter_raw()
    # A hook of the user's client has read it already, or his transport made it whole; httpx has unpacked it then.
    response.headers.pop("content-encoding", None)
    return response.aiter_bytes()


async def end_all(exchanges: Iterable[Exchange]) -> None:
    """End exchanges of the running loop and wait until their connections have been closed or given back.

    Args:
        exchanges: any number of them.
    """
    ending = set()
    for exchange in exchanges:
        exchange.abandon()
        ending.add(exchange.task)
    if ending:
        await asyncio.wait(ending)
