"""One conversation behind the command `chat`: opened, asked, carried on, closed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nodellm_orm.cli.database import missing, opened, option_for, refuse_unfit, stored_records
from nodellm_orm.client import create_chat, load_chat
from nodellm_orm.creating import create_llm
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.ports.statuses import OPEN_CALLS
from nodellm_orm.store.details import read_details
from nodellm_orm.store.engine import make_engine
from nodellm_orm.store.schema import migrate

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.chat import Chat
    from nodellm_orm.cli.screen import Screen
    from nodellm_orm.config import Environment
    from nodellm_orm.llm import LLM
    from nodellm_orm.runtime.stream import ReplyStream
    from nodellm_orm.store.details import ChatDetails, TurnDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was said on the command line about the conversation."""

    database: str
    records: str | None = None
    """`package.module:NAME` of an application's own."""
    environment: Environment
    chat_id: UUID | None = None
    """Carry this one on."""
    owner: str | None = None
    provider: str | None = None
    model: str | None = None
    title: str | None = None
    instructions: str | None = None
    thinking: str | None = None
    """A word, or a number of tokens."""

    @property
    def settings(self) -> dict[str, Any]:
        """What `create_chat` and `load_chat` both take, as far as it was said."""
        thinking = self.thinking
        given = {
            "instructions": self.instructions,
            "thinking": int(thinking) if thinking is not None and thinking.isdecimal() else thinking,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A last turn that has no answer."""

    turn: TurnDetails
    tools: tuple[str, ...]
    """Names of the tools whose calls are open; only the program that has them can carry the turn on."""

    @property
    def interrupted(self) -> bool:
        """Whether its process is gone, rather than that it ended without an answer."""
        return self.turn.status == "interrupted"

    @property
    def resumable(self) -> bool:
        """Whether it can and should be carried on here, before anything else is asked."""
        return self.interrupted and not self.tools


class Talk:
    """A conversation that is begun with its first question, or carried on.

    Args:
        wishes: what was said on the command line.
        screen: shows what arrives.
    """

    def __init__(self, wishes: Wishes, screen: Screen) -> None:
        """Prepare; nothing is opened yet."""
        self._wishes = wishes
        self._screen = screen
        self._stack = AsyncExitStack()
        self._engine: AsyncEngine | None = None
        self._llm: LLM | None = None
        self._chat: Chat | None = None
        self.unfinished: Unfinished | None = None
        """What the chat was left with, when it is carried on."""

    async def open(self) -> None:
        """Make sure that there are a model and a database to talk to.

        Raises:
            NodeLLMError: something is missing; says what.
        """
        if self._wishes.chat_id is None:
            await self._open_new()
        else:
            await self._open_stored(self._wishes.chat_id)

    async def _open_new(self) -> None:
        llm = await self._model(self._wishes.provider, self._wishes.model)
        if llm.default_model is None:
            msg = f"no model is named, and {llm.provider} has no default; give --model, or set NODELLM_MODEL"
            raise ConfigurationError(msg)
        wishes, stored = self._wishes, stored_records(self._wishes.records)
        engine = self._engine = make_engine(wishes.database)
        self._stack.push_async_callback(engine.dispose)
        # A file of our own making has nothing in it to lose; a database of somebody's is upgraded when he says so.
        if missing(engine.url):
            await migrate(engine, records=stored)
        else:
            await refuse_unfit(engine, stored, option_for(wishes.database, engine.url, wishes.records))

    async def _open_stored(self, chat_id: UUID) -> None:
        wishes = self._wishes
        engine, stored = await self._stack.enter_async_context(opened(wishes.database, wishes.records))
        self._engine = engine
        whose = ANY_OWNER if wishes.owner is None else wishes.owner
        details = await read_details(engine, chat_id, owner=whose, records=stored)
        self.unfinished = _unfinished(details)
        llm = await self._model(wishes.provider or details.head.provider, None)
        self._chat = await load_chat(
            engine,
            llm,
            chat_id,
            owner=details.head.owner,
            provider=wishes.provider,
            model=wishes.model,
            records=stored,
            **wishes.settings,
        )

    async def _model(self, provider: str | None, model: str | None) -> LLM:
        name = provider or self._wishes.environment.provider
        if name is None:
            msg = "no provider is named; give --provider (openai, anthropic, local …), or set NODELLM_PROVIDER"
            raise ConfigurationError(msg)
        self._llm = await self._stack.enter_async_context(create_llm(name, model=model))
        return self._llm

    async def close(self) -> None:
        """Let a turn under way end, and close everything."""
        await self._stack.aclose()

    @property
    def greeting(self) -> str:
        """Who is being talked to."""
        if self._chat is not None:
            return f"chat {self._chat.id} with {self._chat.provider}/{self._chat.model}"
        return "" if self._llm is None else f"a new chat with {self._llm.provider}/{self._llm.default_model}"

    @property
    def farewell(self) -> str:
        """How to carry on."""
        if self._chat is None or self._engine is None:
            return "nothing was asked, and nothing is kept"
        database = option_for(self._wishes.database, self._engine.url, self._wishes.records)
        return f"carry on with: nodellm-orm chat --id {self._chat.id}{database}"

    async def ask(self, question: str) -> bool:
        """Ask, and show the answer as it arrives.

        Args:
            question: what is asked.

        Returns:
            Whether the answer came to its end; cancelling this call (Ctrl-C) cancels the answer only.

        Raises:
            NodeLLMError: there is no answer; the question is kept.
        """
        chat = await self._begun()
        self.unfinished = None
        begun: ReplyStream[Any] | None = None
        try:
            async with chat.stream(question) as stream:
                begun = stream
                async for chunk in stream:
                    self._screen.chunk(chunk)
        except asyncio.CancelledError:
            if begun is not None:
                await begun.aclose()
                self._screen.reply(await begun.reply())
            return False
        self._screen.reply(await stream.reply())
        return True

    async def resume(self) -> bool:
        """Carry on the last turn.

        Returns:
            Whether it came to its end; cancelling this call cancels the turn.

        Raises:
            NodeLLMError: there is nothing to carry on, or no answer.
        """
        if self._chat is None:
            msg = "nothing was asked yet; type a question"
            raise ConfigurationError(msg)
        try:
            reply = await self._chat.resume()
        except asyncio.CancelledError:
            await self._chat.cancel()
            self._screen.note("cancelled; /resume carries it on")
            return False
        self.unfinished = None
        self._screen.whole(reply)
        return True

    async def _begun(self) -> Chat:
        if self._chat is None:
            if self._engine is None or self._llm is None:
                msg = "open the conversation before asking"
                raise ConfigurationError(msg)
            wishes = self._wishes
            self._chat = await create_chat(
                self._engine,
                self._llm,
                title=wishes.title,
                owner=wishes.owner,
                records=stored_records(wishes.records),
                **wishes.settings,
            )
        return self._chat


def _unfinished(details: ChatDetails) -> Unfinished | None:
    if not details.turns or details.turns[-1].status in {"completed", "running"}:
        return None
    turn = details.turns[-1]
    calls = (call for message in details.messages if message.turn_id == turn.id for call in message.calls)
    return Unfinished(turn=turn, tools=tuple(dict.fromkeys(c.name for c in calls if c.status in OPEN_CALLS)))
