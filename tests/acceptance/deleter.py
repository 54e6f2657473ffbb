"""A program that deletes a chat, or purges an owner, and dies at a commit that it is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import create_llm, load_chat, purge
from tests.acceptance.victim import Commits, Death

if TYPE_CHECKING:
    from tests.acceptance.victim import Where


async def work(url: str, what: str, name: str, where: Where, number: int) -> None:
    """Delete the chat of that id, or everything of that owner."""
    engine = create_async_engine(url)
    if what == "purge":
        Commits(engine, Death(where=where, number=number))
        await purge(engine, owner=name, batch=50)
    else:
        async with create_llm("openai", api_key="sk-1", model="gpt-5-mini") as llm:
            chat = await load_chat(engine, llm, name, owner="ada")
            Commits(engine, Death(where=where, number=number))
            await chat.delete()
    await engine.dispose()


def main(url: str, what: str, name: str, where: Where, number: int) -> None:
    """What the process runs."""
    asyncio.run(work(url, what, name, where, number))
