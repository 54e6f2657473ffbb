"""The headers of a request: whose word counts, and what is never written to a connection."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.transport.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_CREDENTIAL = re.compile(r"auth|key|token|secret|password|cookie|session|credential|organi[sz]ation", re.IGNORECASE)
_OURS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""How a message is framed and packed is agreed between the transport and the server."""


def _user_agent() -> str:
    try:
        return f"nodellm_orm/{version('nodellm_orm')}"
    except PackageNotFoundError:  # A source tree that was never installed.
        return "nodellm_orm/0"


USER_AGENT = _user_agent()


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The same headers with names in lower case and without surrounding blanks.

    Args:
        headers: as a user or a provider's row gives them.

    Raises:
        ConfigurationError: when a name or a value cannot be sent; it names the header and never shows the value.
    """
    checked: dict[str, str] = {}
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            msg = f"{name!r} is not a header name; use letters, digits and hyphens"
            raise ConfigurationError(msg)
        if not _VALUE.fullmatch(value):
            msg = (
                f"the value of the header {name!r} holds a line break, a control character or a character beyond "
                f"ASCII; send it encoded, or leave it out"
            )
            raise ConfigurationError(msg)
        checked[name.lower()] = value.strip(" \t")
    return checked


def credentials_among(headers: Mapping[str, str]) -> list[Secret]:
    """The values of a caller's own headers that no error may repeat.

    Args:
        headers: as the caller gives them.
    """
    return [Secret(value.strip()) for name, value in headers.items() if _CREDENTIAL.search(name)]


def request_headers(
    usual: Mapping[str, str], secret: Mapping[str, Secret], own: Mapping[str, str], *, stream: bool
) -> dict[str, str]:
    """All headers of one request.

    The caller's own headers win over everything, the key's header included: a gateway may want another one. They may
    not contain line breaks, nor replace the headers that frame and pack the message.

    Args:
        usual: what the endpoint and the wire format need.
        secret: what carries the key.
        own: the caller's, for this call.
        stream: a stream is asked for unpacked, so that each event arrives when it is sent.

    Raises:
        ConfigurationError: when a header cannot be sent.
    """
    mine = check_headers(own)
    if refused := sorted(_OURS & mine.keys()):
        msg = f"the header {refused[0]!r} belongs to the transport; leave it out"
        raise ConfigurationError(msg)
    return {
        "accept-encoding": "identity" if stream else "gzip, deflate",
        "user-agent": USER_AGENT,
        **check_headers(usual),
        **{name: value.reveal() for name, value in secret.items()},
        **mine,
    }
