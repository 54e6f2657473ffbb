"""A program that imports a file and kills itself at a commit that it is told."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, cast

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


if __name__ == "__main__":
    url, path, where, number = sys.argv[1:]
    asyncio.run(work(url, path, cast("Where", where), int(number)))
