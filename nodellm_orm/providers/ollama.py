"""An Ollama server: one's own, which needs no key, or Ollama's cloud."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nodellm_orm.providers.addresses import address_of
from nodellm_orm.providers.endpoint import located
from nodellm_orm.providers.models_ollama import OLLAMA_CHAT_PROFILES, OLLAMA_PROFILES
from nodellm_orm.providers.row import Dialect, KeyRule, ProviderRow
from nodellm_orm.wire.ollama import Ollama
from nodellm_orm.wire.openai_chat import OpenAIChat

if TYPE_CHECKING:
    from nodellm_orm.providers.row import Inquiry, Place

_HOST: Final = "OLLAMA_HOST"
_PORT: Final = 11434
_LOCAL: Final = f"http://localhost:{_PORT}"
_CLOUD: Final = "ollama.com"
_OF_EITHER: Final = re.compile(r"/+(?:v1|api)/*$")
_AUTHORITY: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:/?#]*)(?::(?P<port>[0-9]*))?(?P<rest>[/?#].*)?", re.DOTALL)


def url_of(text: str) -> str:
    """The URL that an address stands for, as Ollama's own programs read it.

    A scheme and a port may be left out, and the host too; one that a server listens on everywhere is one's own
    machine. What is no such address comes back as it is.

    Args:
        text: ``host``, ``host:port``, ``:port`` or a URL.

    Example:
        >>> url_of("0.0.0.0"), url_of("gpu.example:8080"), url_of("https://ollama.example/team")
        ('http://127.0.0.1:11434', 'http://gpu.example:8080', 'https://ollama.example/team')
    """
    scheme, separator, rest = text.strip().strip("\"'").rpartition("://")
    if _is_bare_ipv6(rest):
        rest = f"[{rest}]"
    found = _AUTHORITY.fullmatch(rest)
    if found is None or "@" in rest.partition("/")[0]:
        return text
    host = _reachable(found["host"])
    if not separator and host.lower() == _CLOUD:
        scheme = "https"
    port = found["port"] or ("" if separator or scheme else str(_PORT))
    return f"{scheme or 'http'}://{host}{f':{port}' if port else ''}{found['rest'] or ''}"


def _is_bare_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6  # noqa: PLR2004 — the version of the protocol
    except ValueError:
        return False


def _reachable(host: str) -> str:
    """The host to connect to: a server may be told to listen on every address, but none can be called there."""
    match host.strip("[]"):
        case "" | "0.0.0.0":  # noqa: S104 — replaced here, nothing is bound to it
            return "127.0.0.1"
        case "::" | "0:0:0:0:0:0:0:0":
            return "[::1]"
        case _:
            return host


def _located(inquiry: Inquiry) -> Place:
    """The place of the row, its address in any of the forms that Ollama's own programs take.

    An address of either of the server's two interfaces is one of both: the end that tells them apart is put on here.
    """
    given = inquiry.base_url
    url = url_of(given if given is not None else inquiry.environment.word(_HOST) or _LOCAL)
    address_of(url, source="base_url" if given is not None else _HOST)
    place = located(replace(inquiry, base_url=url))
    plain = _OF_EITHER.sub("", place.base_url)
    return replace(place, base_url=f"{plain}/v1" if inquiry.api == OpenAIChat.name else plain)


OLLAMA: Final = ProviderRow(
    name="ollama",
    dialects=(
        Dialect(wire=Ollama(), profiles=OLLAMA_PROFILES, alias="native"),
        Dialect(wire=OpenAIChat(), profiles=OLLAMA_CHAT_PROFILES, alias="chat"),
    ),
    base_url=_LOCAL,
    base_url_env=_HOST,
    keys=(KeyRule(env="OLLAMA_API_KEY"),),
    key_required=False,
    locate=_located,
)
