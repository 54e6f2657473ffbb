"""A response whose head has arrived: its body unpacked, capped and, when it reports an error, freed of keys."""

from __future__ import annotations

import math
import zlib
from contextlib import aclosing, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

from nodellm_orm.errors import ProtocolError, ProviderConnectionError
from nodellm_orm.transport.decoding import decoder_for
from nodellm_orm.transport.failures import too_large, translated, unknown_encoding
from nodellm_orm.transport.secrets import redact, redact_cut

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    import httpx

    from nodellm_orm.transport.exchange import Exchange
    from nodellm_orm.transport.limits import Limits
    from nodellm_orm.transport.secrets import Secret

_FIRST_ERROR = 400
_MAX_ERROR_BYTES = 1 << 20
_WITHHELD = frozenset({"set-cookie", "set-cookie2"})
"""State of the connection's other end; nothing above the transport may store or replay it."""


class HttpResponse:
    """What `HttpTransport.open` gives.

    Args:
        exchange: where the bytes come from.
        head: status and headers.
        limits: told when the reader sees content.
        cap: bytes that the body may have, packed or unpacked.
        secrets: values that an error body may not repeat.
    """

    def __init__(
        self, exchange: Exchange, head: httpx.Response, *, limits: Limits, cap: int, secrets: Sequence[Secret]
    ) -> None:
        """Keep the head; the body is read on demand."""
        self._exchange = exchange
        self._limits = limits
        self._cap = cap if head.status_code < _FIRST_ERROR else math.inf  # An error's body is cut, not refused.
        self._secrets = secrets
        self._status = head.status_code
        self._headers = MappingProxyType({k: v for k, v in head.headers.items() if k not in _WITHHELD})

    @property
    def status(self) -> int:
        """HTTP status."""
        return self._status

    @property
    def headers(self) -> Mapping[str, str]:
        """Response headers, names in lower case, without cookies."""
        return self._headers

    def content_seen(self) -> None:
        """Restart the idle timer: the reader saw content, not just a comment or a ping."""
        self._limits.content()

    def redacted(self, text: str) -> str:
        """A text made of the body, without the keys that went out with the request.

        Args:
            text: such as the words of an error inside an answer, which may repeat what was sent.
        """
        return redact_cut(text, self._secrets)

    def chunks(self) -> AsyncIterator[bytes]:
        """The body, unpacked, as it arrives; to be read once.

        The body of an error (status 400 and above) comes in one piece: no more than 1 MiB of it, without keys, and
        ending where the connection broke off if it did, because its status says what matters.

        Raises:
            ProviderTimeoutError: when a limit passes.
            StreamInterruptedError: when a stream was asked for and breaks off.
            ProviderConnectionError: when any other body breaks off.
            ProtocolError: when it is too large, or packed in a way that was not offered.
        """
        return self._error_body() if self._status >= _FIRST_ERROR else self._unpacked()

    async def _unpacked(self) -> AsyncGenerator[bytes]:
        encoding = self._headers.get("content-encoding", "")
        decoder = decoder_for(encoding)
        if decoder is None:
            raise unknown_encoding(encoding, self._exchange.progress)
        announced = self._headers.get("content-length", "")
        self._check_size(int(announced) if announced.isdecimal() else 0)
        packed = unpacked = 0
        try:
            while (piece := await self._exchange.piece()) is not None:
                packed += len(piece)
                self._check_size(packed)
                for data in decoder.feed(piece):
                    unpacked += len(data)
                    self._check_size(unpacked)
                    yield data
            decoder.finish()
        except zlib.error as error:
            raise translated(error, self._exchange.progress, self._secrets) from error

    async def _error_body(self) -> AsyncGenerator[bytes]:
        kept = bytearray()
        async with aclosing(self._unpacked()) as pieces:
            with suppress(ProviderConnectionError, ProtocolError):
                async for data in pieces:
                    kept += data
                    if len(kept) >= _MAX_ERROR_BYTES:
                        break
        if kept:
            # Latin-1 maps every byte to one character and back, whatever the body's encoding; keys are ASCII.
            text = kept[:_MAX_ERROR_BYTES].decode("latin-1")
            yield redact(text, self._secrets).encode("latin-1")

    def _check_size(self, size: int) -> None:
        if size > self._cap:
            raise too_large(self._cap, self._exchange.progress)
