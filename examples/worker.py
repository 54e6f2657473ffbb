"""A worker that stays: it carries on, again and again, what other processes have left unfinished.

    NODELLM_PROVIDER=openai OPENAI_API_KEY=... python examples/worker.py

Run as many side by side as you like: a turn is carried on by one of them. Told to end (SIGTERM, Ctrl-C) it begins
nothing new, finishes what it is at, and leaves the rest to the others. See resume.py for the same done once.
"""

import asyncio
import os
import random
import signal
from contextlib import suppress

from sqlalchemy.ext.asyncio import AsyncEngine

from nodellm_orm import (
    LLM,
    ChatBusyError,
    InterruptedTurn,
    NodeLLMError,
    StorageError,
    create_llm,
    interrupted_turns,
    load_chat,
    make_engine,
    migrate,
)

PAUSE = float(os.environ.get("WORKER_PAUSE", "5"))
"""Seconds between two looks."""
AT_ONCE = asyncio.Semaphore(8)


async def carry_on(engine: AsyncEngine, llm: LLM, turn: InterruptedTurn, stop: asyncio.Event) -> None:
    """Finish one turn, unless another worker was faster."""
    async with AT_ONCE:
        if stop.is_set():
            return
        try:
            # Give the tools of your application here (tools=[...]): they are code, and never stored.
            chat = await load_chat(engine, llm, turn.chat_id, owner=turn.owner)
            reply = await chat.resume(turn=turn)
        except ChatBusyError:
            return
        except NodeLLMError as error:  # of this turn: the others go on
            print(f"{turn.chat_id}: {error}", flush=True)
        else:
            print(f"{turn.chat_id}: {reply.content}", flush=True)


async def work(engine: AsyncEngine, llm: LLM, stop: asyncio.Event) -> None:
    """Look for interrupted turns until told to stop."""
    while not stop.is_set():
        try:
            turns = list(await interrupted_turns(engine))
        except StorageError as error:  # it may be back at the next look
            turns = []
            print(error, flush=True)
        random.shuffle(turns)  # so that workers side by side do not all begin with the same
        await asyncio.gather(*(carry_on(engine, llm, turn, stop) for turn in turns))
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), PAUSE)


async def main() -> None:
    """Work until a signal comes."""
    engine = make_engine(os.environ.get("NODELLM_DATABASE_URL", "sqlite:///chats.db"))
    await migrate(engine)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with create_llm() as llm:
        working = asyncio.create_task(work(engine, llm, stop))
        await stop.wait()
        # Leaving the block closes the client: turns under way have ten seconds, then they are anybody's again.
    await working
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
