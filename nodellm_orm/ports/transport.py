"""The transport seam: bytes out, bytes in, exactly one request each time."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from nodellm_orm.domain.policies import Timeout


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRequest:
    """What a wire format wants sent: no host and no key, the transport adds both."""

    path: str
    """Appended to the base URL, with a leading slash."""
    body: bytes
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Headers the format itself needs (content type, version); lower-case names."""
    stream: bool = False


class WireResponse(Protocol):
    """A response whose head has arrived."""

    @property
    def status(self) -> int:
        """HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Response headers, names in lower case."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The decoded body as it arrives; errors on the way are ours (`ProviderError`)."""
        ...

    def content_seen(self) -> None:
        """Restart the idle timer: the reader saw content, not just a comment or a ping."""
        ...


@runtime_checkable
class Redactor(Protocol):
    """A response that can take the keys of its request out of a text; one of `Transport`'s own is such a one."""

    def redacted(self, text: str) -> str:
        """A text made of the body, without the keys that went out with the request."""
        ...


class Transport(Protocol):
    """Sends one request to one endpoint; the only holder of its key."""

    @property
    def endpoint(self) -> str:
        """Base URL, without key or query: the scope in which opaque provider state is valid."""
        ...

    def open(
        self, request: WireRequest, *, timeout: Timeout, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[WireResponse]:
        """Send, and give the response once its head has arrived.

        Args:
            request: what to send.
            timeout: limits of this attempt; all of them are enforced here.
            headers: the caller's own headers for this call.

        Raises:
            ProviderTimeoutError: when a limit passes.
            ProviderConnectionError: when the endpoint cannot be reached or the connection breaks.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...
