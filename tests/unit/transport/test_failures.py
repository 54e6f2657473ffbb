"""The table of failures: which error of ours stands for which foreign one."""

from __future__ import annotations

import socket
import ssl
import zlib

import anyio
import httpcore
import httpx
import pytest

from nodellm_orm.errors import (
    ConfigurationError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    StreamInterruptedError,
)
from nodellm_orm.transport import Secret
from nodellm_orm.transport.failures import Progress, translated

KEY = "canary-4f9b1c77e0d2"
SENT = Progress(endpoint="https://h/v1", stream=False, sent=True)
UNSENT = Progress(endpoint="https://h/v1", stream=False, sent=False)
STREAMING = Progress(endpoint="https://h/v1", stream=True, sent=True, status=200)
FAILED_STREAM = Progress(endpoint="https://h/v1", stream=True, sent=True, status=500)

EVERY_HTTPX_ERROR = [
    getattr(httpx, name)
    for name in sorted(httpx.__all__)
    if isinstance(getattr(httpx, name), type) and issubclass(getattr(httpx, name), httpx.TransportError)
]


def below(outer: Exception, inner: Exception, *, hidden: bool = False) -> Exception:
    """The outer error as raised because of the inner one; ``hidden`` cuts the cause off as httpcore does."""
    outer.__context__ = inner
    outer.__cause__ = None if hidden else inner
    return outer


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    ("inner", "words", "retryable"),
    [
        (socket.gaierror(-2, "Name or service not known"), "cannot be resolved", True),
        (ConnectionRefusedError(111, "refused"), "nothing listens", True),
        (ssl.SSLCertVerificationError(1, "bad"), "certificate", False),
        (ssl.SSLError(1, "wrong version"), "TLS with", True),
        (OSError(113, "no route"), "cannot be reached", True),
    ],
)
def test_a_connection_that_does_not_come_about(inner: OSError, words: str, *, retryable: bool, hidden: bool) -> None:
    """The first cause in the chain decides, also where httpcore has cut the chain."""
    if isinstance(inner, ssl.SSLCertVerificationError):
        inner.verify_message = "self-signed certificate"
    error = translated(below(httpx.ConnectError("failed"), inner, hidden=hidden), UNSENT, [])
    assert type(error) is ProviderConnectionError
    assert words in str(error)
    assert "nothing was sent" in str(error)
    assert error.retryable is retryable


def test_several_attempts_to_connect_are_looked_into() -> None:
    """When every address of a host refuses, the group of errors says so."""
    group = ExceptionGroup("several", [ConnectionRefusedError(111, "refused"), ConnectionRefusedError(111, "refused")])
    error = translated(below(httpx.ConnectError("failed"), below(OSError("all failed"), group)), UNSENT, [])
    assert "nothing listens" in str(error)


@pytest.mark.parametrize("progress", [SENT, UNSENT, STREAMING, FAILED_STREAM])
@pytest.mark.parametrize("kind", EVERY_HTTPX_ERROR)
def test_no_error_of_httpx_stays_bare(kind: type[httpx.TransportError], progress: Progress) -> None:
    """Whatever httpx can raise in a transport becomes an error of ours."""
    error = translated(kind("text"), progress, [])
    assert isinstance(error, ProviderError | ConfigurationError)
    assert "text" not in str(error)


@pytest.mark.parametrize(
    "foreign",
    [
        httpx.ReadError("x"),
        httpx.RemoteProtocolError("x"),
        ssl.SSLError(1, "bad record"),
        ConnectionResetError(104, "reset"),
        anyio.ClosedResourceError(),
        anyio.BrokenResourceError(),
        httpcore.ReadError("x"),
        httpx.StreamClosed(),
        zlib.error("x"),
    ],
)
def test_a_break_in_the_middle_has_the_name_of_what_broke(foreign: Exception) -> None:
    """A stream is interrupted; a body, and the explanation of an error, is a broken connection; both may be retried."""
    streaming, body = translated(foreign, STREAMING, []), translated(foreign, SENT, [])
    failed = translated(foreign, FAILED_STREAM, [])
    assert isinstance(streaming, StreamInterruptedError)
    assert type(body) is ProviderConnectionError
    assert type(failed) is ProviderConnectionError
    assert streaming.retryable
    assert body.retryable
    assert (streaming.status, failed.status) == (200, 500)
    assert body.__cause__ is foreign


def test_time_limits_of_a_users_client_are_time_outs() -> None:
    """A limit that is not ours keeps its kind."""
    error = translated(httpx.ReadTimeout("x"), SENT, [])
    assert type(error) is ProviderTimeoutError
    assert error.retryable


@pytest.mark.fault("E01")
def test_cause_is_chained_without_its_request() -> None:
    """The request that an error of httpx carries, headers and all, is replaced by a bare one."""
    foreign = httpx.ReadError("x", request=httpx.Request("POST", f"https://h/?k={KEY}", headers={"x-api-key": KEY}))
    try:
        raise foreign
    except httpx.ReadError:
        error = translated(foreign, SENT, [Secret(KEY)])
    assert error.__cause__ is foreign
    assert str(foreign.request.url) == "https://h/v1"
    assert KEY not in f"{foreign.request.headers.raw!r}"
    assert foreign.__traceback__ is None


@pytest.mark.fault("E01")
@pytest.mark.parametrize("spelling", [f"header Bearer {KEY}", f"b'{KEY}'"])
def test_cause_that_repeats_a_key_is_not_chained(spelling: str) -> None:
    """Neither the error nor one below it may hold the key in its text."""
    secrets = [Secret(f"Bearer {KEY}")]
    assert translated(httpx.RemoteProtocolError(spelling), SENT, secrets).__cause__ is None
    inner = below(httpx.RemoteProtocolError("x"), httpcore.RemoteProtocolError(spelling), hidden=True)
    assert translated(inner, SENT, secrets).__cause__ is None


def test_request_that_cannot_be_written_has_no_cause() -> None:
    """The text below would show the header's value, which may be a secret nobody named."""
    error = translated(httpx.LocalProtocolError("Illegal header value b'unknown'"), UNSENT, [])
    assert type(error) is ConfigurationError
    assert error.__cause__ is None


def test_errors_of_other_code_are_left_alone() -> None:
    """What a hook of the user's client raises is not ours to rename."""
    mine = KeyError("mine")
    assert translated(mine, SENT, []) is mine
