"""A program that imports a file and kills itself at a commit that it is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import import_chats
from tests.acceptance.victim import Commits, Death

if TYPE_CHECKING:
    from tests.acceptance.victim import Where


async def work(url: str, path: str, where: Where, number: int) -> None:
    """Import the file."""
    engine = create_async_engine(url)
    Commits(engine, Death(where=where, number=number))
    await import_chats(engine, path)
    await engine.dispose()


def main(url: str, path: str, where: Where, number: int) -> None:
    """What the process runs."""
    asyncio.run(work(url, path, where, number))
