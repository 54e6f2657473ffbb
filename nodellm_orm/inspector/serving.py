"""The server behind `nodellm-orm inspect`: it ends when it is told to, and leaves the rest of the program in peace."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import uvicorn

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator

    from starlette.types import ASGIApp

_PATIENCE: Final = 2
"""Seconds that answers have to be finished in at the end."""


async def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Answer on a socket until a signal comes.

    Args:
        app: the inspector.
        listener: a socket that listens already.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        proxy_headers=False,
        # Somebody who takes in his answer slowly, or never, cannot hold up the end.
        timeout_graceful_shutdown=_PATIENCE,
    )
    await _Server(config).serve(sockets=[listener])


class _Server(uvicorn.Server):
    """Takes a signal for its end; the original sends it on, which would break off what is closed afterwards."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Listen to Ctrl-C and to a request to stop while the server runs."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
