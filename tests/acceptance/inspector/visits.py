"""Whoever looks at the inspector: a client without a token, one with its cookie, and what is in a page."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

HOST = "127.0.0.1:8765"
TOKEN = "a token that only the test knows"


@asynccontextmanager
async def stranger(app: ASGIApp, host: str = HOST) -> AsyncIterator[httpx.AsyncClient]:
    """A client that was given nothing."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        yield client


@asynccontextmanager
async def visitor(app: Any, root: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """A client that was let in."""
    async with stranger(app) as client:
        welcome = await client.get(f"{root}/", params={"token": TOKEN})
        assert welcome.status_code == 200
        yield client


@dataclass
class Page:
    """What a browser makes of a page: elements, their attributes, and the text between them."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""

    @classmethod
    def of(cls, response: httpx.Response) -> Page:
        """Read a page."""
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        page = cls()
        reader = _Reader(page)
        reader.feed(response.text)
        reader.close()
        return page

    def links(self) -> list[str]:
        """Where one can go from here."""
        return [attributes["href"] for name, attributes in self.elements if name == "a" and "href" in attributes]

    def named(self, name: str) -> list[dict[str, str]]:
        """The attributes of all elements of a name."""
        return [attributes for element, attributes in self.elements if element == name]

    @property
    def words(self) -> str:
        """The text, white space made one."""
        return " ".join(self.text.split())


class _Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__(convert_charrefs=True)
        self._page = page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._page.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self._page.text += data
