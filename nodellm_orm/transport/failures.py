"""The one table from errors of httpx, httpcore, anyio, ssl and zlib to ours.

Nothing of a foreign error is shown but its kind. It is chained as the cause after the request it carries has been
replaced by a bare one and its frames, whose locals hold headers, have been dropped; a cause that repeats a key in its
own text (an illegal header value does) is not chained at all.
"""

from __future__ import annotations

import re
import socket
import ssl
import zlib
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, assert_never

import httpx

from nodellm_orm.errors import (
    ConfigurationError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    StreamInterruptedError,
)
from nodellm_orm.transport.secrets import holds_secret, redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nodellm_orm.errors import NodeLLMError
    from nodellm_orm.transport.limits import Limit
    from nodellm_orm.transport.secrets import Secret

_FIRST_ERROR = 400
_HOST = re.compile(r"[a-z0-9.:-]{1,253}")
_FINAL_PROXY_ANSWERS = ("403", "407")


class Kind(Enum):
    """What went wrong, as far as it decides what to tell and whether to try again."""

    DNS = auto()
    CERTIFICATE = auto()
    TLS = auto()
    REFUSED = auto()
    UNREACHABLE = auto()
    PROXY = auto()
    TIMEOUT = auto()
    REQUEST = auto()
    HTTP = auto()
    ENCODING = auto()
    BROKEN = auto()


_TABLE: tuple[tuple[type[Exception], Kind], ...] = (
    (socket.gaierror, Kind.DNS),
    (ssl.SSLCertVerificationError, Kind.CERTIFICATE),
    (ssl.SSLError, Kind.TLS),
    (ConnectionRefusedError, Kind.REFUSED),
    (httpx.ProxyError, Kind.PROXY),
    (httpx.TimeoutException, Kind.TIMEOUT),
    (httpx.LocalProtocolError, Kind.REQUEST),
    (httpx.UnsupportedProtocol, Kind.REQUEST),
    (httpx.RemoteProtocolError, Kind.HTTP),
    (httpx.DecodingError, Kind.ENCODING),
    (zlib.error, Kind.ENCODING),
    (httpx.ConnectError, Kind.UNREACHABLE),
    (httpx.TransportError, Kind.BROKEN),
    (httpx.StreamError, Kind.BROKEN),
    (OSError, Kind.BROKEN),
)
"""Read from the top; the first class that occurs anywhere in an error's chain decides."""

_BELOW_HTTPX = frozenset({"anyio", "h11", "h2", "httpcore", "socksio"})
"""Libraries under httpx; a few of their errors pass through it unmapped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an exchange had come when it failed."""

    endpoint: str
    stream: bool
    """Whether a stream was asked for."""
    sent: bool
    """Whether any byte of the request may have left."""
    status: int | None = None
    """The status, once the head had arrived."""

    @property
    def aftermath(self) -> str:
        """What the failure means for the request."""
        return "the request may have been processed" if self.sent else "nothing was sent"


class AbandonedError(Exception):
    """Raised inside an exchange that nobody waits for any more."""


def translated(error: Exception, progress: Progress, secrets: Sequence[Secret]) -> Exception:
    """The error to raise in place of a foreign one; an error of somebody else's code (a hook's) is returned as it is.

    Args:
        error: as caught.
        progress: how far the exchange had come.
        secrets: values that no message may repeat.
    """
    chain = list(_chain(error))
    kind = next((kind for cls, kind in _TABLE for link in chain if isinstance(link, cls)), None)
    if kind is None and type(error).__module__.partition(".")[0] in _BELOW_HTTPX:
        kind = Kind.BROKEN
    if kind is None:
        return error
    ours = _told(kind, chain, progress)
    # Text of these says nothing about a key only if it was looked at: a server may echo what it was sent.
    if kind is not Kind.REQUEST and not any(holds_secret(f"{link} {link.args!r}", secrets) for link in chain):
        ours.__cause__ = _cleaned(error, chain, progress)
    return ours


def timed_out(limit: Limit, progress: Progress) -> ProviderTimeoutError:
    """The error for a limit that has passed.

    Args:
        limit: which one.
        progress: how far the exchange had come.
    """
    match limit.name:
        case "connect":
            what = f"no connection to {progress.endpoint} within {limit.seconds:g} s; check base_url and the network"
        case "first_byte":
            what = f"{progress.endpoint} sent no byte of its answer within {limit.seconds:g} s"
        case "idle":
            what = f"{progress.endpoint} sent no content for {limit.seconds:g} s"
        case "total":
            what = f"{progress.endpoint} did not complete its answer within {limit.seconds:g} s"
        case _:
            assert_never(limit.name)
    msg = f"{what}; {progress.aftermath}; try again, or raise Timeout({limit.name}=)"
    return ProviderTimeoutError(msg, status=progress.status)


def abandoned(progress: Progress) -> ProviderConnectionError:
    """The error for a request whose client was closed under it.

    Args:
        progress: how far the exchange had come.
    """
    msg = f"the client was closed while {progress.endpoint} was answering; {progress.aftermath}; close it later"
    return ProviderConnectionError(msg, status=progress.status, retryable=False)


def redirected(response: httpx.Response, endpoint: str, secrets: Sequence[Secret]) -> ProviderError:
    """The error for a redirect.

    Args:
        response: the answer with a status from 300 to 399.
        endpoint: where the request went.
        secrets: values that no message may repeat.
    """
    try:
        host = httpx.URL(response.headers.get("location", "")).host
    except httpx.InvalidURL:
        host = ""
    shown = redact(host, secrets) if _HOST.fullmatch(host) else "another address"
    msg = (
        f"{endpoint} answered with a redirect ({response.status_code}) to {shown}; redirects are refused, so that no "
        f"key goes to an address it was not meant for; set base_url to the final address"
    )
    return ProviderError(msg, status=response.status_code)


def too_large(limit: float, progress: Progress) -> ProtocolError:
    """The error for a body beyond its cap.

    Args:
        limit: the cap in bytes.
        progress: how far the exchange had come.
    """
    msg = f"the answer of {progress.endpoint} is larger than {limit:.0f} bytes; the rest was not read; ask for less"
    return ProtocolError(msg, status=progress.status)


def unknown_encoding(encoding: str, progress: Progress) -> ProtocolError:
    """The error for a packing that was never offered.

    Args:
        encoding: value of ``content-encoding``.
        progress: how far the exchange had come.
    """
    shown = "".join(c for c in encoding[:40] if c.isprintable())
    msg = f"{progress.endpoint} answered in the encoding {shown!r}, which was not offered; check any proxy in between"
    return ProtocolError(msg, status=progress.status)


def _told(kind: Kind, chain: list[BaseException], progress: Progress) -> NodeLLMError:
    """Our error for a kind of failure."""
    at, after = progress.endpoint, progress.aftermath
    retryable = True
    match kind:
        case Kind.DNS:
            what = f"the host name in {at} cannot be resolved; {after}; check base_url and the network, then try again"
        case Kind.CERTIFICATE:
            reason = next(link.verify_message for link in chain if isinstance(link, ssl.SSLCertVerificationError))
            retryable = False
            what = (
                f"the TLS certificate of {at} is not accepted ({reason}); {after}; check base_url and this machine's "
                f"clock, or name the authority's certificate in SSL_CERT_FILE"
            )
        case Kind.TLS:
            what = f"TLS with {at} failed; {after}; check that base_url has the right scheme and port, then try again"
        case Kind.REFUSED:
            what = f"nothing listens at {at}; {after}; check base_url and that the server runs, then try again"
        case Kind.UNREACHABLE:
            what = f"{at} cannot be reached; {after}; check base_url and the network, then try again"
        case Kind.PROXY:
            retryable = not any(str(link).startswith(_FINAL_PROXY_ANSWERS) for link in chain)
            what = f"the proxy on the way to {at} refused; {after}; check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY"
        case Kind.REQUEST:
            return ConfigurationError(f"the request to {at} cannot be written as HTTP; check the headers and base_url")
        case Kind.TIMEOUT:
            msg = f"the http_client's own time limit passed at {at}; {after}; try again, or raise that limit"
            return ProviderTimeoutError(msg, status=progress.status)
        case Kind.HTTP:
            what = f"{at} hung up, or broke the rules of HTTP, before its answer was complete; {after}; try again"
        case Kind.ENCODING:
            what = f"the packed answer of {at} is damaged or incomplete; {after}; try again"
        case Kind.BROKEN:
            what = f"the connection to {at} broke before the answer was complete; {after}; try again"
        case _:
            assert_never(kind)
    if progress.stream and progress.status is not None and progress.status < _FIRST_ERROR:
        return StreamInterruptedError(what, status=progress.status)
    return ProviderConnectionError(what, status=progress.status, retryable=retryable)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes, contexts and members, each once. Contexts too: httpcore cuts causes off."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        link = waiting.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        waiting += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            waiting += link.exceptions


def _cleaned(error: Exception, chain: list[BaseException], progress: Progress) -> Exception:
    for link in chain:
        link.__traceback__ = None
        if isinstance(link, httpx.RequestError):
            link.request = httpx.Request("POST", progress.endpoint)
    return error
