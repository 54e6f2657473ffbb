"""Texts that try to become markup stay texts, wherever they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nodellm_orm import ToolError, create_chat, make_engine, tool
from nodellm_orm.inspector import create_inspector
from nodellm_orm.testing import FakeCall, FakeThinking
from tests.acceptance.inspector.hostile import attacks
from tests.acceptance.inspector.visits import TOKEN, Page, visitor
from tests.acceptance.speakers import Fails, Says, Speaker
from tests.integration.databases import migrated_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat

CANARY = "http://127.0.0.1:9"
OURS = {"html", "head", "meta", "title", "link", "script", "body", "a", "header", "nav", "span", "main", "h1", "h2"}
OURS |= {"h3", "h4", "h5", "dl", "div", "dt", "dd", "time", "bdi", "details", "summary", "section", "article", "code"}
OURS |= {"table", "thead", "tbody", "tr", "th", "td", "p", "form", "label", "input", "select", "option", "button"}
OURS |= {"figure", "figcaption", "img", "b", "ul", "li", "svg", "rect", "line", "text", "polyline", "circle"}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database with the tables in it."""
    await migrated_file(tmp_path / "chats.db")
    engine = make_engine(f"sqlite:///{tmp_path}/chats.db")
    yield engine
    await engine.dispose()


async def hostile_chat(engine: AsyncEngine, canary: str) -> Chat:
    """A chat that says every attack in every place there is for a text."""
    texts = attacks(canary)
    everything = "\n".join(texts)

    @tool
    def look(text: str) -> str:
        """Look."""
        return text

    @tool
    def fail(text: str) -> str:
        """Fail."""
        raise ToolError(text)

    thinking = [FakeThinking(everything)]
    script: list[Says | Fails] = []
    for text in texts:
        calls = [FakeCall("look", {"text": text, text: 1}), FakeCall("fail", {"text": text}), FakeCall(text, {})]
        script += [Says(text=text, calls=calls, thinking=thinking), Says(text=text)]
    script.append(Fails(status=400, message=everything))
    speaker = Speaker("anthropic")
    safe = everything.replace("\ud800", "")
    async with speaker.server(*script) as server, speaker.llm(server) as llm:
        chat = await create_chat(
            engine,
            llm,
            title=everything,
            owner=texts[0],
            metadata={texts[1]: texts[3], "more": [*texts]},
            instructions=everything,
            tools=[look, fail],
        )
        for text in texts:
            await chat.ask(text)
        with pytest.raises(Exception, match="400"):
            await chat.ask(safe)
    return chat


@pytest.mark.fault("E20")
@pytest.mark.fault("E18")
async def test_no_text_becomes_markup(engine: AsyncEngine) -> None:
    """Scripts, handlers, links, SVG, closing tags, template syntax and control characters are shown as they are."""
    chat = await hostile_chat(engine, CANARY)

    async with visitor(create_inspector(engine, token=TOKEN)) as client:
        paths = [f"/chats/{chat.id}", "/", "/overview", "/?title=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&owner=%3Cb%3E"]
        pages = [Page.of(await client.get(path)) for path in paths]

    for page in pages:
        assert {name for name, _ in page.elements} <= OURS
        assert [attributes["src"] for attributes in page.named("script")] == ["/static/inspector.js"]
        assert len(page.named("meta")) == 3
        assert len(page.named("link")) == 2
        for name, attributes in page.elements:
            assert not [key for key in attributes if key.startswith("on") or key == "style"]
            for key in ("href", "src", "action", "formaction", "data", "xlink:href"):
                target = attributes.get(key, "")
                assert name == "link" or not target or target.startswith(("/", "#")), (name, attributes)
                assert not target.startswith("//")
        assert not set("\u202e\u2066\u2069\x1b\x07\x00\u200b") & set(page.text)
    shown = pages[0].text
    for text in attacks(CANARY)[:12]:
        assert shown.count(text) >= 4
    assert "\\u202eexe.txt" in shown
    assert "\\ud800" in shown
    assert "&lt;script&gt;already escaped" in shown


@pytest.mark.fault("E20")
async def test_whole_texts_are_plain_and_cannot_run(engine: AsyncEngine) -> None:
    """A message by itself is plain text in a sandbox, which a browser may not take for anything else."""
    chat = await hostile_chat(engine, CANARY)

    async with visitor(create_inspector(engine, token=TOKEN)) as client:
        answer = await client.get(f"/chats/{chat.id}/messages/0")

    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"
