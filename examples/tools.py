"""Functions that the model may call.

NODELLM_PROVIDER=openai OPENAI_API_KEY=... python examples/tools.py
"""

import asyncio
import os
from typing import Literal

from nodellm_orm import ToolContext, ToolError, create_chat, create_llm, make_engine, migrate, tool

PRICES = {"espresso": 2.5, "latte": 4.0}


@tool(idempotent=True)
def price_of(drink: str, size: Literal["small", "large"] = "small") -> float:
    """Price of a drink in euros.

    Args:
        drink: for instance espresso.
        size: large costs one euro more.
    """
    if drink.lower() not in PRICES:
        msg = f"we have {', '.join(PRICES)}"
        raise ToolError(msg)  # the model reads this, and can correct itself
    return PRICES[drink.lower()] + (size == "large")


@tool
async def order(drink: str, context: ToolContext) -> dict[str, str]:
    """Order a drink.

    Args:
        drink: what is ordered.
        context: filled in by the library; the model never sees it.
    """
    # The key is the same when the call is repeated after a crash: pass it on to whoever must not do it twice.
    return {"ordered": drink, "receipt": context.idempotency_key}


async def main() -> None:
    """Force one tool, then leave the choice to the model."""
    engine = make_engine(os.environ.get("NODELLM_DATABASE_URL", "sqlite:///chats.db"))
    await migrate(engine)
    async with create_llm() as llm:
        chat = await create_chat(engine, llm, tools=[price_of, order], instructions="You are a barista.")
        chat.on_tool_call_end(lambda call, result: print(f"  {call.name}({call.arguments}) -> {result.content}"))

        print(await chat.ask("How much is a small espresso?", tool_choice="price_of"))
        print(await chat.ask("One of those, please.", tool_choice="order"))
        print(await chat.ask("What did I order?"))
        print(f"Chat {chat.id}; look at it with: nodellm-orm show {chat.id}")
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
