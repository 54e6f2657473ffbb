"""Every Python snippet of the README and the guides runs, in the order in which a reader meets them."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import types
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from nodellm_orm import create_chat, create_llm, make_engine
from tests.acceptance.obliging import obliging_server
from tests.integration.databases import migrated_file

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[str]:
    """The Python snippets of a page; lines before them are kept empty, so that errors point into the page."""
    text = page.read_text(encoding="utf-8")
    return ["\n" * text[: match.start(1)].count("\n") + match[1] for match in _BLOCK.finditer(text)]


async def run(snippet: str, page: Path, names: dict[str, Any]) -> None:
    """Run a snippet among the names of those before it; one with a loop of its own runs in a thread."""
    if "asyncio.run(" in snippet:
        program: dict[str, Any] = {"__name__": "__main__"}
        await asyncio.to_thread(exec, compile(snippet, str(page), "exec", dont_inherit=True), program)
        names.update({name: value for name, value in program.items() if name not in names})  # what it imported
        return
    code = compile(snippet, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    outcome = types.FunctionType(code, names)()
    if inspect.isawaitable(outcome):
        await outcome


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
async def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippets of a page run one after the other, against a server that answers anything sensibly."""
    monkeypatch.chdir(tmp_path)
    async with obliging_server() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-guide")
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-guide")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_COMPATIBLE_BASE_URL", f"{server.url}/v1")
        await migrated_file(tmp_path / "guide.db")
        engine = make_engine("sqlite:///guide.db")
        async with create_llm("openai", model="gpt-5-mini") as llm, AsyncSession(engine) as session:
            chat = await create_chat(engine, llm)
            owned = await create_chat(engine, llm, owner="ada")
            names: dict[str, Any] = {
                "engine": engine,
                "llm": llm,
                "session": session,
                "chat": chat,
                "chat_id": owned.id,
                "user": types.SimpleNamespace(id="ada"),
                "__name__": "guide",
            }
            for snippet in blocks(page):
                await run(snippet, page, names)
        await engine.dispose()


def test_every_page_has_snippets() -> None:
    """A page without any snippet that runs would not show its feature; pages made by tests are their own proof."""
    made = {"index.md", "faults.md", "clients-compared.md"}
    assert all(blocks(page) for page in PAGES if page.name not in made)
