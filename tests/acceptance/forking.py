"""A program that makes its client, its engine and a chat, uses them, and forks: as servers with ``preload`` do.

    python -m tests.acceptance.forking DATABASE_URL SERVER_URL

Each process prints what it has asked and under which name, as a line of JSON; the first one once more when the others
have ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import Chats
from nodellm_orm.runtime.clock import new_id
from tests.acceptance.speakers import Speaker
from tests.acceptance.victim import Elsewhere

if TYPE_CHECKING:
    from nodellm_orm import LLM, Chat

CHILDREN = 3


def tell(**words: object) -> None:
    """A line, written at once and whole."""
    os.write(1, (json.dumps(words) + "\n").encode())


async def talk(chats: Chats, llm: LLM, shared: Chat, name: str) -> None:
    """Hold a chat of this process's own, and say something in the one that all have."""
    chat = await chats.create()
    reply = await chat.ask(f"{name} alone")
    again = await shared.ask(f"{name} together", wait=60)
    tell(
        name=name,
        chat=str(chat.id),
        next=str(new_id()),
        worker=llm.host.worker,
        said=[reply.content, again.content],
        shared=str(shared.id),
    )


def main(database: str, server: str) -> None:
    """Talk, fork, talk."""
    engine = create_async_engine(database)
    llm = Speaker("openai_chat").llm(Elsewhere(server))
    chats = Chats(engine, llm)
    loop = asyncio.new_event_loop()
    shared = loop.run_until_complete(chats.create())
    loop.run_until_complete(talk(chats, llm, shared, "parent"))
    children = []
    for number in range(CHILDREN):
        child = os.fork()
        if not child:
            status = 1
            try:
                asyncio.run(talk(chats, llm, shared, f"child {number}"))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    for child in children:
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"a child ended with status {status}")
    loop.run_until_complete(talk(chats, llm, shared, "parent again"))
    loop.run_until_complete(llm.aclose())
    loop.run_until_complete(engine.dispose())
    loop.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
