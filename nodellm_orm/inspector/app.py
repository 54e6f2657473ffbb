"""The inspector as an application: its addresses, its errors, and the gate before all of them."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from nodellm_orm.config import ENCRYPTION_KEYS
from nodellm_orm.errors import (
    ChatNotFoundError,
    ConfigurationError,
    EncryptionError,
    NodeLLMError,
    TamperedValueError,
)
from nodellm_orm.inspector.contents import Contents
from nodellm_orm.inspector.gate import HEADERS, Gate, bare
from nodellm_orm.inspector.pages import Pages
from nodellm_orm.inspector.source import Source
from nodellm_orm.inspector.templates import Templates
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.runtime.refusals import refuse_owner
from nodellm_orm.store.access import open_access
from nodellm_orm.store.define import Records
from nodellm_orm.store.records import RECORDS
from nodellm_orm.store.types import ValueRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
    from starlette.requests import Request
    from starlette.responses import Response

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.encryption import Encryption

    Database: TypeAlias = AsyncEngine | async_sessionmaker[AsyncSession] | AsyncSession
    """What names a database: an engine, a sessionmaker, or a session."""

_SHORTEST: Final = 16
LOCAL: Final = ("127.0.0.1", "localhost")


def create_inspector(
    session: Database,
    *,
    token: str | None = None,
    records: Records | None = None,
    encryption: Encryption | None = None,
    owner: Owner = ANY_OWNER,
    allowed_hosts: Iterable[str] = LOCAL,
) -> Starlette:
    """An ASGI application that shows what is stored, and changes nothing.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        token: what opens it, given once as ``?token=``; a random one when omitted. It is in ``app.state.token``.
        records: own records, from `define_records`.
        encryption: the keys, for content that is encrypted.
        owner: only this owner's chats and costs; ``None`` means those without owner, `ANY_OWNER` means everybody's.
        allowed_hosts: names that the header ``Host`` may have, without ports.

    Raises:
        ConfigurationError: an argument that cannot be meant.

    Example:
        >>> app = create_inspector(engine, owner="ada")
        >>> print(f"http://127.0.0.1:8000/?token={app.state.token}")
    """
    chosen = RECORDS if records is None else records
    if not isinstance(chosen, Records):
        msg = f"records is what define_records() gave, not {type(chosen).__name__}"
        raise ConfigurationError(msg)
    refuse_owner(owner, anybody=ANY_OWNER)
    opening = secrets.token_urlsafe(32) if token is None else _token(token)
    hosts = _hosts(allowed_hosts)
    if encryption is not None:
        chosen = chosen.encrypted(encryption)
    open_access(session, chosen)  # says at once what is no session
    source = Source(session=session, records=chosen, owner=owner)
    templates = Templates()
    pages, contents = Pages(source, templates), Contents(source, templates)
    app = Starlette(
        routes=[
            Route("/", pages.chats),
            Route("/overview", pages.overview),
            Route("/chats/{chat_id}", pages.chat),
            Route("/chats/{chat_id}/messages/{position}", contents.message),
            Route("/chats/{chat_id}/files/{file_id}", contents.file),
            Route("/static/{name}", contents.static),
        ],
        middleware=[Middleware(Gate, token=opening, hosts=hosts)],
        exception_handlers={
            NodeLLMError: _Problems(templates).ours,
            HTTPException: _Problems(templates).http,
            Exception: _unexpected,
        },
    )
    app.state.token = opening
    return app


class _Problems:
    """Pages for what cannot be shown."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    async def ours(self, request: Request, error: Exception) -> Response:
        """An error of ours: its message says what to do."""
        # What no column can hold has come from the address: nothing else is given to a statement here.
        wrong = isinstance(error, ConfigurationError | ValueRefusedError)
        status = 404 if isinstance(error, ChatNotFoundError) else 400 if wrong else 503
        keys = isinstance(error, EncryptionError) and not isinstance(error, TamperedValueError)
        hint = f"; the command takes keys from the variable {ENCRYPTION_KEYS}" if keys else ""
        return self._page(request, status, f"{error}{hint}")

    async def http(self, request: Request, error: Exception) -> Response:
        """An address that leads nowhere."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        text = "There is nothing at this address." if status == 404 else "That cannot be done here."  # noqa: PLR2004
        return self._page(request, status, text)

    def _page(self, request: Request, status: int, text: str) -> Response:
        phrase = HTTPStatus(status).phrase
        return self._templates.response(
            request, "problem.html", status, status=status, phrase=phrase.capitalize(), text=text
        )


async def _unexpected(request: Request, error: Exception) -> Response:
    """A mistake of ours; outside of the gate, so that it brings the gate's headers itself."""
    del request, error
    headers = {name.decode(): value.decode() for name, value in HEADERS}
    return PlainTextResponse("The inspector failed; its log says why.\n", 500, headers)


def _token(token: object) -> str:
    if not isinstance(token, str) or len(token) < _SHORTEST or not token.isascii() or not token.isprintable():
        msg = f"token has at least {_SHORTEST} printable ASCII characters; leave it out for a random one"
        raise ConfigurationError(msg)
    return token


def _hosts(hosts: object) -> tuple[str, ...]:
    if isinstance(hosts, str) or not isinstance(hosts, (list, tuple, set, frozenset)) or not hosts:
        msg = "allowed_hosts is a list of names, such as ['127.0.0.1', 'localhost']"
        raise ConfigurationError(msg)
    for host in hosts:
        if not isinstance(host, str) or not bare(host) or "*" in host:
            msg = f"allowed_hosts has {host!r:.80} in it; name each host: a pattern would let every name in"
            raise ConfigurationError(msg)
    return tuple(hosts)
