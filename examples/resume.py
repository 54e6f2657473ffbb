"""A worker that finishes what other processes have left unfinished, for instance because they were killed.

    NODELLM_PROVIDER=openai OPENAI_API_KEY=... python examples/resume.py

Run it now and then, or in a loop: a turn whose process is gone is there for the taking when its lease has ended (a
minute by default). Nothing that is stored is asked for again, and no finished tool runs again.
"""

import asyncio
import os

from nodellm_orm import (
    ANY_OWNER,
    ChatBusyError,
    NodeLLMError,
    create_llm,
    interrupted_turns,
    load_chat,
    make_engine,
    migrate,
)


async def main() -> None:
    """Resume every interrupted turn once."""
    engine = make_engine(os.environ.get("NODELLM_DATABASE_URL", "sqlite:///chats.db"))
    await migrate(engine)
    async with create_llm() as llm:
        turns = await interrupted_turns(engine)
        print(f"{len(turns)} interrupted")
        for turn in turns:
            try:
                # Give the tools of your application here (tools=[...]): they are code, and never stored.
                chat = await load_chat(engine, llm, turn.chat_id, owner=ANY_OWNER)
                reply = await chat.resume(turn=turn, unknown="report")
            except ChatBusyError:
                print(f"{turn.chat_id}: another worker was faster")
            except NodeLLMError as error:
                print(f"{turn.chat_id}: {error}")
            else:
                print(f"{turn.chat_id}: {reply.content}")
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
