"""The command `show` with files: a line for each, and never their bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm import MediaPart, create_chat, create_llm, make_engine, migrate
from nodellm_orm.testing import LoopbackServer, json_answer, openai_chat_body
from tests.integration.databases import empty_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.acceptance.cli.shell import Shell

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(1990)


@pytest.fixture
async def asked(tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """The URL of a database, and the id of a chat in it whose question had files."""
    async with empty_database("sqlite", tmp_path) as url:
        engine = make_engine(url)
        await migrate(engine)
        async with LoopbackServer([json_answer(openai_chat_body("A cat."))]) as server:
            options: dict[str, Any] = {
                "api_key": "k",
                "base_url": f"{server.url}/v1",
                "model": "gpt-5-mini",
                "api": "chat",
            }
            async with create_llm("openai", **options) as llm:
                chat = await create_chat(engine, llm)
                link = MediaPart(media="image", media_type="image/png", url="https://example.com/a.png")
                named = MediaPart(media="image", media_type="image/png", name="c\x1b[2Jat.png", data=PNG)
                await chat.ask("What is this?", files=[named, link])
        await engine.dispose()
        yield url, str(chat.id)


async def test_show_tells_each_file_in_a_line(shell: Shell, asked: tuple[str, str]) -> None:
    """Kind, name or address, type and size are told; no byte of it and no command for the terminal."""
    database, known = asked
    done = await shell.run("show", known, "-d", database)

    assert (done.code, done.err) == (0, "")
    assert "image · c" in done.out
    assert "image/png · 2,006 bytes" in done.out
    assert "image · https://example.com/a.png · image/png" in done.out
    assert "IHDR" not in done.out
    assert "\x1b[2J" not in done.out


async def test_programs_are_told_the_same(shell: Shell, asked: tuple[str, str]) -> None:
    """JSON has the members of each file's row."""
    database, known = asked
    done = await shell.run("show", known, "-d", database, "--json")

    first = json.loads(done.out)["messages"][0]
    assert [(file["kind"], file["size"], file["url"]) for file in first["attachments"]] == [
        ("image", 2006, None),
        ("image", None, "https://example.com/a.png"),
    ]
    assert first["attachments"][0]["sha256"] == first["parts"][0]["sha256"]
