"""Chats to be searched, made without a model."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from nodellm_orm import create_chat, create_llm, search_messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat, FoundMessage


@asynccontextmanager
async def saying(engine: AsyncEngine) -> AsyncIterator[Callable[..., Awaitable[Chat]]]:
    """Makes chats in which texts have been said, by user and assistant in turn."""
    async with create_llm("openai", api_key="sk-never-used", model="gpt-5-mini") as llm:

        async def say(*texts: str, **options: Any) -> Chat:
            roles = ("user", "assistant")
            messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
            return await create_chat(engine, llm, messages=messages, **options)

        yield say


async def found(engine: AsyncEngine, text: str, **options: Any) -> list[FoundMessage]:
    """Everything that is found, page by page."""
    page = await search_messages(engine, text, **options)
    messages = list(page)
    while page.next is not None:
        page = await search_messages(engine, text, after=page.next, **options)
        messages += page
    return messages


async def places(engine: AsyncEngine, text: str, **options: Any) -> Sequence[tuple[UUID, int]]:
    """Where it is found."""
    return [(message.chat_id, message.position) for message in await found(engine, text, **options)]
