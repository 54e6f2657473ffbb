"""Scripted conversations with chats on a database, or in memory, for tests of what is said in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from nodellm_orm import create_chat, load_chat, tool
from nodellm_orm.testing import FakeCall
from tests.acceptance.speakers import Speaker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat, Message
    from tests.acceptance.speakers import Api, Line


@tool
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


def calls(*numbers: int) -> list[FakeCall]:
    return [FakeCall("double", {"x": number}, f"id_{number}") for number in numbers]


def said(messages: Sequence[Message]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


def words(body: Any) -> list[str]:
    """What a request says, message by message."""
    return [str(message.get("content")) for message in body["messages"]]


class Talk:
    """A scripted conversation with a chat on a database.

    Args:
        engine: where the chat is kept.
        script: what the model says.
    """

    def __init__(self, engine: AsyncEngine | None, *script: Line, api: Api = "openai_chat") -> None:
        self._engine = engine
        self.speaker = Speaker(api)
        self.server = self.speaker.server(*script)

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        self.llm = self.speaker.llm(self.server)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.llm.aclose()
        await self.server.__aexit__(None, None, None)

    async def chat(self, **options: Any) -> Chat:
        """A new chat."""
        if self._engine is None:
            options.pop("owner", None)
            return self.llm.chat(**options)
        return await create_chat(self._engine, self.llm, **options)

    async def elsewhere(self, chat: Chat, **options: Any) -> Chat:
        """The chat as another process has it."""
        assert self._engine is not None
        return await load_chat(self._engine, self.llm, chat.id, owner=chat.owner, **options)

    @property
    def last(self) -> Any:
        """The body of the last request."""
        return self.server.requests[-1].json()
