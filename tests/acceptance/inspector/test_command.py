"""The command `inspect`: what it prints, whom it answers, how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from nodellm_orm import create_chat, create_llm, make_engine, migrate
from tests.acceptance.cli.shell import COMMAND, Shell

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
async def shell(tmp_path: Path) -> Shell:
    """A shell in a folder with a database in it."""
    engine = make_engine(f"sqlite:///{tmp_path}/chats.db")
    await migrate(engine)
    async with create_llm("openai", model="m", api_key="sk-inspector-test") as llm:
        await create_chat(engine, llm, title="from the command line", owner="ada")
    await engine.dispose()
    return Shell.at(tmp_path)


@pytest.mark.fault("E20")
async def test_it_prints_an_address_on_loopback_and_serves_until_it_is_interrupted(shell: Shell) -> None:
    """One line with a random token; nothing without it; Ctrl-C is a success, and nothing of the token is in a log."""
    process = await shell.start(*COMMAND, "inspect", "--port", "0", "--no-browser")
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    root, _, token = address.partition("/?token=")
    async with httpx.AsyncClient(base_url=root) as client:
        refused = await client.get("/")
        await client.get(f"/?token={token}")
        page = await client.get("/")
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()

    assert root.startswith("http://127.0.0.1:")
    assert len(token) >= 40
    assert refused.status_code == 401
    assert "from the command line" in page.text
    assert "server" not in page.headers
    assert process.returncode == 0
    assert out == b""
    assert err.decode().strip() == "Ctrl-C ends it."


async def test_slow_clients_hold_up_nobody(shell: Shell) -> None:
    """While clients dawdle over their questions and answers others are answered, and Ctrl-C still ends it."""
    engine = make_engine(f"sqlite:///{shell.folder}/chats.db")
    async with create_llm("openai", model="m", api_key="sk-inspector-test") as llm:
        chat = await create_chat(engine, llm, messages=[{"role": "user", "content": "long " * 4_000_000}])
    await engine.dispose()
    process = await shell.start(*COMMAND, "inspect", "--port", "0", "--no-browser")
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    root, _, token = address.partition("/?token=")
    async with httpx.AsyncClient(base_url=root, timeout=60) as client:
        await client.get(f"/?token={token}")
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        host = root.removeprefix("http://")
        begun = f"GET /chats/{chat.id}/messages/0 HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n"
        slow = [await asyncio.open_connection(*host.split(":"), limit=1) for _ in range(20)]
        for number, (_, writer) in enumerate(slow):
            writer.write(begun.encode() + (b"\r\n" if number == 0 else b"X-Slow: "))
        (reader, _) = slow[0]
        status = await reader.read(8)
        page = await client.get("/")
    process.send_signal(signal.SIGINT)
    try:
        async with asyncio.timeout(60):
            code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        for _, writer in slow:
            writer.close()

    assert status == b"HTTP/1.1"
    assert page.status_code == 200
    assert code == 0


async def test_a_port_that_is_taken_is_told(shell: Shell) -> None:
    """A port of somebody else's is one line that says what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finished = await shell.run("inspect", "--no-browser", "--port", str(port))

    assert finished.code == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in finished.err


@pytest.mark.fault("E20")
async def test_every_address_needs_a_name(shell: Shell) -> None:
    """To listen on all addresses one has to say by which names it is meant."""
    finished = await shell.run("inspect", "--no-browser", "--host", "0.0.0.0")  # noqa: S104 — it is refused

    assert finished.code == 1
    assert "--allow-host" in finished.err


async def test_a_missing_extra_is_named(shell: Shell) -> None:
    """Without the packages of the extra, the command and the function say how to install them."""
    (shell.folder / "jinja2.py").write_text("raise ModuleNotFoundError('no', name='jinja2')", encoding="utf-8")
    without = shell.with_environment(PYTHONPATH=str(shell.folder))

    finished = await without.run("inspect", "--no-browser")
    program = await without.program(sys.executable, "-c", "import nodellm_orm.inspector")

    assert finished.code == 1
    assert finished.err.strip().endswith("pip install 'nodellm_orm[inspector]'")
    assert program.code == 1
    assert "UnsupportedFeatureError: the inspector needs jinja2: pip install" in program.err
