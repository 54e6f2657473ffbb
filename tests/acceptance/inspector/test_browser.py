"""The inspector in a real browser: nothing of a hostile chat runs, and its pages can be used."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from nodellm_orm import BadRequestError, create_chat, create_llm, make_engine, migrate
from nodellm_orm.inspector import create_inspector
from nodellm_orm.store.records import RECORDS
from nodellm_orm.testing import FakeThinking
from tests.acceptance.inspector.browser import CHROMIUM, opened
from tests.acceptance.inspector.hostile import PNG, SVG, attacks
from tests.acceptance.inspector.test_hostile import hostile_chat
from tests.acceptance.inspector.test_long_chats import long_chat
from tests.acceptance.inspector.visits import TOKEN
from tests.acceptance.speakers import Fails, Says, Speaker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.acceptance.inspector.browser import Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; install Debian's `chromium`")


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database with the tables in it."""
    engine = make_engine(f"sqlite:///{tmp_path}/chats.db")
    await migrate(engine)
    yield engine
    await engine.dispose()


@pytest.fixture
async def address(engine: AsyncEngine) -> AsyncIterator[str]:
    """Where an inspector on that database listens."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_inspector(engine, token=TOKEN), log_level="critical", access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)
    # A server of the tests leaves the signals of the test runner alone.
    serving = asyncio.create_task(server._serve([listener]))
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await serving
    listener.close()


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    """A browser with an empty profile."""
    async with opened(tmp_path / "profile") as browser:
        yield browser


class Canary:
    """A server that nobody may ask for anything."""

    def __init__(self) -> None:
        """Nobody has."""
        self.asked: list[str] = []
        self.url = ""

    async def heard(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep what was asked for."""
        self.asked.append((await reader.readline()).decode(errors="replace"))
        writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Canary]:
    """A canary on a port of loopback."""
    canary = Canary()
    server = await asyncio.start_server(canary.heard, "127.0.0.1", 0)
    canary.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield canary


async def enter(browser: Browser, address: str) -> None:
    """Be let in."""
    await browser.enter(f"{address}/?token={TOKEN.replace(' ', '%20')}")


async def settled(browser: Browser) -> None:
    """Let the page do whatever it would: it has been drawn twice when this is over."""
    for _ in range(2):
        await browser.picture()


def complaints(browser: Browser) -> list[Any]:
    """Errors, dialogs and violations of the page's policy since it was opened."""
    wanted = {"Log.entryAdded", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"}
    return [event for event in browser.events if event.get("method") in wanted]


@pytest.mark.fault("E20")
async def test_nothing_of_a_hostile_chat_runs(engine: AsyncEngine, address: str, browser: Browser) -> None:
    """A chat full of scripts, links, SVG and frames is shown: the title stays, and no other server is asked."""
    async with listening() as canary:
        chat = await hostile_chat(engine, canary.url)
        await enter(browser, address)
        for path in (f"/chats/{chat.id}", "/", "/overview", f"/chats/{chat.id}/messages/1"):
            await browser.open(address + path)
            before = await browser.evaluate("document.title")
            await browser.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
            await settled(browser)

            assert await browser.evaluate("document.title") == before != "owned"
            assert before.endswith(" · nodellm-orm") or path.endswith("/messages/1")
            assert await browser.evaluate("document.querySelectorAll('script').length") <= 1
            assert (
                await browser.evaluate("document.querySelectorAll('main iframe, main object, main style').length") == 0
            )
            assert complaints(browser) == []
        asked = canary.asked

    assert asked == []


@pytest.mark.fault("E20")
async def test_the_policy_stops_what_escaping_would_not(address: str, browser: Browser) -> None:
    """Were a text to become markup by a mistake of ours, the browser would run and fetch nothing of it all the same."""
    async with listening() as canary:
        await enter(browser, address)
        await browser.evaluate("document.title = 'before'")
        passive = [text for text in attacks(canary.url) if "http-equiv" not in text and "\x00" not in text]
        for text in passive:
            await browser.evaluate(f"document.querySelector('main').insertAdjacentHTML('beforeend', {text!r})")
        await browser.evaluate("document.querySelectorAll('main a, main button').forEach(one => one.focus())")
        added = "const one = document.createElement('script'); one.textContent = \"document.title='owned'\"; "
        await browser.evaluate(f"{added} document.body.append(one)")
        await settled(browser)

        assert await browser.evaluate("document.title") == "before"
        assert canary.asked == []


@pytest.mark.fault("E20")
async def test_a_picture_is_shown_and_svg_is_not(engine: AsyncEngine, address: str, browser: Browser) -> None:
    """A PNG is drawn on the page; going to an SVG's address ends in a download, on no page."""
    speaker = Speaker("anthropic")
    async with speaker.server(Says(text="ok")) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await chat.ask("look", files=[PNG, b"%PDF-1.4 x"])
    attachments, blobs = RECORDS.tables.attachments, RECORDS.tables.blobs
    async with engine.begin() as connection:
        svg = {"media_type": "image/svg+xml", "kind": "image"}
        document = attachments.c.kind == "document"
        sha256 = await connection.scalar(attachments.select().with_only_columns(attachments.c.sha256).where(document))
        await connection.execute(attachments.update().where(document).values(svg))
        await connection.execute(blobs.update().where(blobs.c.sha256 == sha256).values(data=SVG.encode()))
    await enter(browser, address)
    await browser.open(f"{address}/chats/{chat.id}")

    drawn = await browser.evaluate("[...document.images].map(one => one.decode().then(() => one.naturalWidth))[0]")
    links = await browser.evaluate("[...document.querySelectorAll('a[download]')].map(one => one.href)")

    assert drawn == 1
    assert len(links) == 1
    with pytest.raises(RuntimeError, match="ERR_ABORTED"):
        await browser.open(links[0])
    assert await browser.evaluate("document.images.length") == 1


async def test_a_long_chat_is_drawn_page_by_page(engine: AsyncEngine, address: str, browser: Browser) -> None:
    """Of 10,000 messages a hundred are drawn, nothing moves while they are, and nothing is wider than the window."""
    chat = await long_chat(engine)
    await enter(browser, address)
    shifts = (
        "(() => { const seen = new PerformanceObserver(() => {}); "
        "seen.observe({type: 'layout-shift', buffered: true}); "
        "return seen.takeRecords().reduce((sum, one) => sum + one.value, 0) })()"
    )
    for width, height, scheme in ((1280, 900, "light"), (390, 844, "light"), (1280, 900, "dark")):
        await browser.screen(width, height, scheme)
        for path in (f"/chats/{chat}", "/overview", "/"):
            await browser.open(address + path)
            await settled(browser)
            assert await browser.evaluate(shifts) == 0
            assert await browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert complaints(browser) == []
    await browser.open(f"{address}/chats/{chat}?turn=2000")

    assert await browser.evaluate("document.querySelectorAll('article').length") == 100
    assert await browser.evaluate("document.activeElement.id") == "turn-2000"


# Texts whose colour is too close to what is behind them: below 4.5 to 1 (WCAG 2, AA).
FAINT = """(() => {
  const numbers = (text) => { const found = text.match(/[\\d.]+/g).map(Number); return [...found, 1].slice(0, 4); };
  const light = ([r, g, b]) => [r, g, b]
    .map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const said = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!said || element.closest("svg") || !element.getClientRects().length) continue;
    let behind = null;
    let shown = 1;
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      shown *= Number(style.opacity);
      if (behind === null && numbers(style.backgroundColor)[3] === 1) behind = numbers(style.backgroundColor);
    }
    const colour = numbers(getComputedStyle(element).color).map((v, place) => v * shown + behind[place] * (1 - shown));
    const [low, high] = [light(colour), light(behind)].sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) < 4.5) faint.push(`${element.className || element.tagName}`);
  }
  return [...new Set(faint)];
})()"""


async def test_every_text_can_be_read(engine: AsyncEngine, address: str, browser: Browser) -> None:
    """In light and dark each text stands out (WCAG AA), also superseded ones and buttons; nothing is too wide."""
    speaker = Speaker("anthropic")
    script: list[Says | Fails] = [
        Says(text="first", thinking=[FakeThinking("hm")]),
        Says(text="second"),
        Fails(status=400, message="odd"),
    ]
    async with speaker.server(*script) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, title="x" * 300, owner="o" * 200, metadata={"m": "m" * 300})
        await chat.ask("n" * 5_000)
        await chat.regenerate()
        with pytest.raises(BadRequestError):
            await chat.ask("שלום")
    await enter(browser, address)
    for width, scheme in ((400, "light"), (1280, "dark")):
        await browser.screen(width, 900, scheme)
        for path in (f"/chats/{chat.id}", "/", "/overview", "/?state=failed&title=none", "/nowhere"):
            await browser.open(address + path)
            await browser.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")

            assert await browser.evaluate(FAINT) == []
            assert await browser.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_light_and_dark_follow_the_browser(address: str, browser: Browser) -> None:
    """The page is light or dark as the system is."""
    await enter(browser, address)
    found = {}
    for scheme in ("light", "dark"):
        await browser.screen(1280, 900, scheme)
        found[scheme] = await browser.evaluate("getComputedStyle(document.body).backgroundColor")

    assert found["light"] != found["dark"]


async def test_times_tell_the_local_time_and_keys_work(engine: AsyncEngine, address: str, browser: Browser) -> None:
    """A time in UTC has the browser's own as its tooltip; `/` goes to the filters, `j` and `k` from turn to turn."""
    chat = await long_chat(engine)
    async with create_llm("openai", model="m", api_key="sk-inspector-test") as llm:
        await create_chat(engine, llm, title="another")
    await enter(browser, address)

    async def press(key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            await browser.call("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "")

    titles = await browser.evaluate("[...document.querySelectorAll('time')].map(one => one.title)")
    await press("/")
    focused = await browser.evaluate("document.activeElement.name")
    await browser.open(f"{address}/chats/{chat}")
    await press("j")
    first = await browser.evaluate("document.activeElement.id")
    await press("j")
    second = await browser.evaluate("document.activeElement.id")
    await press("k")
    third = await browser.evaluate("document.activeElement.id")

    assert len(titles) == 2
    assert all(title.endswith(" here") for title in titles)
    assert focused == "title"
    assert [first, second, third] == ["turn-1", "turn-2", "turn-1"]


async def test_without_the_token_a_browser_sees_one_sentence(address: str, browser: Browser) -> None:
    """Without the address that was printed there is nothing to see, and afterwards the token is in no address."""
    await browser.open(address)
    refused = await browser.evaluate("document.body.innerText")
    await enter(browser, address)

    assert refused.strip().startswith("Open the address with its token")
    assert "token" not in await browser.evaluate("location.href + document.cookie")
    assert await browser.evaluate("document.querySelector('h1').innerText") == "Chats"
