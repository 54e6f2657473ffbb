"""The transport of ``local``: starts the server of a model when it is first asked for, then speaks HTTP to it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import loads
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.providers.local.server import LocalServer, ServerOptions
from nodellm_orm.transport import HttpPool, HttpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from pathlib import Path

    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.ports.transport import WireRequest, WireResponse
    from nodellm_orm.providers.local.weights import Weights

ENDPOINT: Final = "local:in-process"
"""The same in every process, whatever the port."""
_EMBEDDINGS: Final = "/embeddings"
_CLOSED: Final = "this client is closed; create another one with create_llm('local')"


class LocalTransport:
    """Runs at most one server a model file, and one more for its embeddings.

    Args:
        weights: finds the file of a model.
        options: how models are run.
        start: makes a server.
    """

    def __init__(
        self,
        *,
        weights: Weights,
        options: ServerOptions,
        start: Callable[[Path, ServerOptions], LocalServer] = LocalServer,
    ) -> None:
        """Prepare; nothing is started yet."""
        self._weights = weights
        # Connections of its own: neither a proxy from the environment nor the user's client reaches into the process.
        # Each is used once: this server hangs up behind a stream without announcing it, and the next request on the
        # same connection would meet that.
        self._pool = HttpPool(trust_env=False, keep_alive=False)
        self._options = options
        self._start = start
        self._servers: dict[tuple[Path, bool], asyncio.Task[LocalServer]] = {}
        self._closed = False

    @property
    def endpoint(self) -> str:
        """The scope of answers: this machine's own model, not the port it happens to have."""
        return ENDPOINT

    @asynccontextmanager
    async def open(
        self, request: WireRequest, *, timeout: Timeout, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[WireResponse]:
        """Send, and give the response once its head has arrived; the time limits begin when the server is there.

        Args:
            request: what to send; its member ``model`` says which file is meant.
            timeout: limits of this attempt.
            headers: the caller's own headers.

        Raises:
            ConfigurationError: the model's file is missing or cannot be run.
        """
        server = await self._server(self._weights.file(_model(request)), embeddings=request.path == _EMBEDDINGS)
        http = HttpTransport(server.url, secret_headers={"authorization": f"Bearer {server.key}"}, pool=self._pool)
        async with http.open(request, timeout=timeout, headers=headers) as response:
            yield response

    async def _server(self, file: Path, *, embeddings: bool) -> LocalServer:
        if self._closed:
            raise ConfigurationError(_CLOSED)
        task = self._servers.get((file, embeddings))
        if task is None or _failed(task):
            options = replace(self._options, embeddings=embeddings)
            task = asyncio.create_task(asyncio.to_thread(self._start, file, options))
            self._servers[file, embeddings] = task
        # Whoever gives up waiting must not stop the start for the others.
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Stop every server, also one that is still starting."""
        self._closed = True
        await self._pool.aclose()
        servers = await asyncio.gather(*self._servers.values(), return_exceptions=True)
        self._servers.clear()
        for server in servers:
            if not isinstance(server, BaseException):
                await asyncio.to_thread(server.stop)


def _failed(task: asyncio.Task[LocalServer]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _model(request: WireRequest) -> str:
    # One client may hold chats with several models, and a transport is told nothing but the bytes.
    body = loads(request.body)
    model = body.get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) else ""
