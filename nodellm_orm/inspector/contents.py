"""What is not a page: whole texts, files of messages, and the inspector's own style and script.

A file is shown only if it is a picture made of pixels; everything else, SVG and HTML above all, can only be saved.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import quote
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from nodellm_orm.domain.printable import one_line
from nodellm_orm.store.extracts import read_file, read_message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

    from nodellm_orm.inspector.source import Source
    from nodellm_orm.inspector.templates import Templates
    from nodellm_orm.store.details import MessageDetails

SAFE: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""What a browser may show: pixels, in which nothing can run."""
_INERT: Final = {"Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'"}
_OWN: Final = {
    "inspector.css": "text/css; charset=utf-8",
    "inspector.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_DIGITS: Final = 15


class Contents:
    """Answers with things that are not pages.

    Args:
        source: where they are read.
        templates: give pages for what is not there.
    """

    def __init__(self, source: Source, templates: Templates) -> None:
        """Read the inspector's own files."""
        self._source = source
        self._templates = templates
        folder = files(__package__) / "static"
        self._own = {name: (folder / name).read_bytes() for name in _OWN}

    async def static(self, request: Request) -> Response:
        """Style, script or icon."""
        name = request.path_params["name"]
        if name not in _OWN:
            raise HTTPException(404)
        return Response(self._own[name], media_type=_OWN[name])

    async def message(self, request: Request) -> Response:
        """Everything of one message as plain text, however long."""
        found = await read_message(
            self._source.session,
            identified(request, "chat_id"),
            number(request.path_params["position"]),
            owner=self._source.owner,
            records=self._source.records,
        )
        if found is None:
            raise HTTPException(404)
        text = "\n\n".join(_sections(found)) + "\n"
        return PlainTextResponse(text.encode("utf-8", "backslashreplace"), headers=_INERT)

    async def file(self, request: Request) -> Response:
        """A file of a message: a picture to look at, anything else to be saved."""
        found = await read_file(
            self._source.session,
            identified(request, "chat_id"),
            identified(request, "file_id"),
            owner=self._source.owner,
            records=self._source.records,
        )
        if found is None:
            raise HTTPException(404)
        if found.media_type in SAFE:
            return Response(found.data, media_type=found.media_type, headers=_INERT)
        name = one_line(found.name or "file", 100).replace("/", "_").replace("\\", "_")
        disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        return Response(
            found.data, media_type="application/octet-stream", headers={**_INERT, "Content-Disposition": disposition}
        )


def identified(request: Request, name: str) -> UUID:
    """An id in the address.

    Raises:
        HTTPException: 404, it is none.
    """
    try:
        return UUID(request.path_params[name])
    except ValueError:
        raise HTTPException(404) from None


def number(text: str) -> int:
    """A whole number in the address, from 0.

    Raises:
        HTTPException: 404, it is none.
    """
    if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS:
        raise HTTPException(404)
    return int(text)


def _sections(details: MessageDetails) -> Iterator[str]:
    message = details.message
    for trace in details.thinking:
        if trace.text:
            yield f"[thinking]\n{trace.text}"
    yield f"[{message.role}]\n{message.content}"
    if message.refusal:
        yield f"[refusal]\n{message.refusal}"
    for call in details.calls:
        yield f"[call] {call.name}\n{call.arguments}"
        if call.result is not None:
            yield f"[result] {call.status}\n{call.result}"
        if call.error is not None:
            yield f"[error]\n{call.error}"
