"""Who gets in: the Host, the method and the token of every request are looked at before anything else is."""

from __future__ import annotations

import hashlib
import hmac
import re
from html import escape
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, urlencode

from starlette.responses import HTMLResponse, PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PORT: Final = re.compile(r":[0-9]{1,5}$")
_READING: Final = ("GET", "HEAD")
_LONGEST: Final = 65_536
"""Bytes of an address: all filters at their longest fit, and nobody makes us take more apart before he is known."""
HEADERS: Final = (
    (
        b"content-security-policy",
        (
            b"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
            b"base-uri 'none'; frame-ancestors 'none'"
        ),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"x-robots-tag", b"noindex, nofollow"),
)
"""What every response says, unless it says something stricter itself."""
UNINVITED: Final = "Open the address with its token that the inspector printed when it was started."


class Gate:
    """Refuses foreign hosts, methods that change something, and whoever has not been given the token.

    Args:
        app: what is behind it.
        token: what opens it.
        hosts: names in ``Host`` that are ours; any other one is a name that somebody made lead here.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Iterable[str]) -> None:
        """Keep them."""
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset(bare(host) for host in hosts)
        # Named after the token, so that inspectors on several ports of one machine do not take each other's cookie.
        self._cookie = f"nodellm_inspector_{hashlib.sha256(self._token).hexdigest()[:8]}"
        self._pass = hmac.digest(self._token, b"cookie of the inspector", "sha256").hex()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(h for h in HEADERS if h[0] not in given)]
            await send(message)

        await (self._answer(scope) or self._app)(scope, receive, guarded)

    def _answer(self, scope: Scope) -> Response | None:
        """What is said instead of the page; ``None``: the page."""
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        named = [value for name, value in headers if name == b"host"]
        if len(named) != 1 or bare(named[0]) not in self._hosts:
            return PlainTextResponse("This inspector does not answer to that host name.\n", 421)
        if scope["method"] not in _READING:
            return PlainTextResponse("The inspector only reads.\n", 405, {"Allow": ", ".join(_READING)})
        if len(scope["query_string"]) + len(scope["path"]) > _LONGEST:
            return PlainTextResponse("This address is too long.\n", 414)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        tokens = [value for name, value in query if name == "token"]
        if tokens:
            return self._welcome(scope, query) if len(tokens) == 1 and self._opens(tokens[0]) else _refusal()
        return None if any(self._admits(value) for name, value in headers if name == b"cookie") else _refusal()

    def _opens(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(errors="surrogatepass"), self._token)

    def _admits(self, header: str) -> bool:
        try:
            cookie = SimpleCookie(header).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(
            cookie.value.encode(errors="surrogatepass"), self._pass.encode()
        )

    def _welcome(self, scope: Scope, query: list[tuple[str, str]]) -> Response:
        """A page that leads to the same address without the token.

        It is no redirect: one that was begun by a link elsewhere would not be given the cookie, which is Strict.
        """
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        address = "/" + quote(scope["path"]).lstrip("/") + (f"?{rest}" if rest else "")
        page = (
            "<!doctype html><html lang=en><meta charset=utf-8><title>Inspector</title>"
            f'<meta http-equiv=refresh content="0;url={escape(address)}"><p><a href="{escape(address)}">Go on</a></p>'
        )
        response = HTMLResponse(page)
        response.set_cookie(
            self._cookie,
            self._pass,
            path=scope.get("root_path") or "/",
            httponly=True,
            samesite="strict",
            secure=scope.get("scheme") == "https",
        )
        return response


def bare(host: str) -> str:
    """A host's name without its port and brackets, in small letters.

    Args:
        host: as in the header ``Host``.

    Example:
        >>> bare("LOCALHOST:8000"), bare("[::1]:80"), bare("::1")
        ('localhost', '::1', '::1')
    """
    host = host.strip().lower()
    if host.count(":") == 1 or host.startswith("["):
        host = _PORT.sub("", host)
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _refusal() -> Response:
    return PlainTextResponse(f"{UNINVITED}\n", 401)
