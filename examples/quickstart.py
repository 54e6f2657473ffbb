"""A conversation that is kept in a database.

    NODELLM_PROVIDER=openai OPENAI_API_KEY=... python examples/quickstart.py

Other providers: anthropic, local (a small model on this machine, without a key), openai_compatible …
The database is chats.db in this folder, or what NODELLM_DATABASE_URL names.
"""

import asyncio
import os

from nodellm_orm import create_chat, create_llm, make_engine, migrate


async def main() -> None:
    """Ask twice; the second question needs the first one's answer."""
    engine = make_engine(os.environ.get("NODELLM_DATABASE_URL", "sqlite:///chats.db"))
    await migrate(engine)
    async with create_llm() as llm:
        chat = await create_chat(engine, llm, instructions="Answer briefly.")

        reply = await chat.ask("What is an event loop?")
        print(reply.content)
        print(f"({reply.usage.input_tokens} tokens in, {reply.usage.output_tokens} out, cost {reply.cost})")

        reply = await chat.ask("And in one word?")
        print(reply.content)

        totals = await chat.usage()
        print(f"Chat {chat.id}: {len(chat.messages)} messages, {totals.requests} requests, cost {totals.cost}")
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
