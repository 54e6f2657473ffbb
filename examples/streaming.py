"""Show an answer while it is being written, and leave it when there is enough of it.

NODELLM_PROVIDER=openai OPENAI_API_KEY=... python examples/streaming.py
"""

import asyncio
import os

from nodellm_orm import create_chat, create_llm, make_engine, migrate

ENOUGH = 200
"""Characters after which the second answer is left."""


async def main() -> None:
    """Read one answer to its end, and another one in part."""
    engine = make_engine(os.environ.get("NODELLM_DATABASE_URL", "sqlite:///chats.db"))
    await migrate(engine)
    async with create_llm() as llm:
        chat = await create_chat(engine, llm)

        async with chat.stream("Write a haiku about databases.") as stream:
            async for chunk in stream:
                print(chunk.content, end="", flush=True)
        reply = await stream.reply()
        print(f"\n({reply.finish_reason}, {reply.usage.output_tokens} tokens)")

        read = ""
        async with chat.stream("Now tell me a very long story about one.") as stream:
            async for chunk in stream:
                read += chunk.content
                if len(read) > ENOUGH:
                    break  # the turn ends as cancelled, and the text so far is stored
        reply = await stream.reply()
        print(f"{reply.content[:ENOUGH]}\n({reply.finish_reason})")

        await chat.ask("Thank you!")  # the chat goes on as if nothing had happened
        print(f"Chat {chat.id}: {[message.status for message in chat.messages]}")
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
