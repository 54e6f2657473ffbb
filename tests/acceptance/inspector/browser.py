"""A headless Chromium, spoken to over its debugging pipe: opens pages, looks into them, takes pictures of them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
_PATIENCE: Final = 30
"""Seconds after which a browser that says nothing is taken for stuck."""
_OPTIONS: Final = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers; the pages are our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--remote-debugging-pipe",
)


class Browser:
    """A page of a running Chromium."""

    def __init__(self, reader: asyncio.StreamReader, writer: int) -> None:
        """Speak over a pipe; `opened` makes them."""
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        """What the page told since it was opened: console, network, dialogs, violations of its policy."""

    async def attach(self) -> None:
        """Open an empty page, and listen to what it tells."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.setLifecycleEventsEnabled", enabled=True)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol, and keep the events that come before its answer."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        await asyncio.to_thread(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = await self._read()
            if found.get("id") == number:
                if "error" in found:
                    msg = f"{method}: {found['error']}"
                    raise RuntimeError(msg)
                result: dict[str, Any] = found["result"]
                return result
            self.events.append(found)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._writer, data) :]

    async def _read(self) -> dict[str, Any]:
        async with asyncio.timeout(_PATIENCE):
            line = await self._reader.readuntil(b"\0")
        message: dict[str, Any] = json.loads(line[:-1])
        return message

    async def open(self, url: str) -> str:
        """Go to an address, and wait until everything of it is loaded; what was told before is forgotten.

        Returns:
            The name of the document that is shown now.
        """
        self.events.clear()
        gone = await self.call("Page.navigate", url=url)
        if gone.get("errorText"):
            msg = f"{url}: {gone['errorText']}"
            raise RuntimeError(msg)
        document: str = gone["loaderId"]
        await self._loaded(lambda other: other == document)
        return document

    async def enter(self, url: str) -> None:
        """Go to an address with a token, and wait for the page that it leads to."""
        welcome = await self.open(url)
        await self._loaded(lambda other: other != welcome)

    async def _loaded(self, wanted: Callable[[str], bool]) -> None:
        """Wait until a document is loaded."""
        told = 0
        while True:
            while told < len(self.events):
                event = self.events[told]
                told += 1
                params = event.get("params", {})
                loaded = event.get("method") == "Page.lifecycleEvent" and params["name"] == "load"
                if loaded and wanted(params["loaderId"]):
                    return
            self.events.append(await self._read())

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression within the page; a promise is waited for."""
        found = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    async def screen(self, width: int, height: int, scheme: str = "light") -> None:
        """Set the size of the window, and whether it is light or dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def picture(self) -> bytes:
        """What the window shows, as PNG."""
        found = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(found["data"])


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Browser]:
    """A browser with an empty profile; it is ended on leaving the block.

    Args:
        folder: for the profile.
    """
    assert CHROMIUM is not None
    their_in, our_out = os.pipe()
    our_in, their_out = os.pipe()
    # The browser reads from 3 and writes to 4; the shell puts the pipes there, whatever their numbers are here.
    command = f'exec "$@" 3<&{their_in} 4>&{their_out}'
    process = await asyncio.create_subprocess_exec(
        "/bin/bash", "-c", command, "chromium", CHROMIUM, *_OPTIONS, f"--user-data-dir={folder}", "about:blank",
        pass_fds=(their_in, their_out),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "LANG": "C.UTF-8"},
        start_new_session=True,
    )  # fmt: skip
    os.close(their_in)
    os.close(their_out)
    reader = asyncio.StreamReader(limit=1 << 28)
    pipe = os.fdopen(our_in, "rb", 0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        browser = Browser(reader, our_out)
        await browser.attach()
        yield browser
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        transport.close()
        os.close(our_out)
