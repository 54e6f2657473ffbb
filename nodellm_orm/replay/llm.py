"""`ReplayLLM`: a client that answers from a stored conversation, and refuses a request that was not recorded."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final, Self, get_args

from nodellm_orm.chat import Chat
from nodellm_orm.domain.messages import Origin
from nodellm_orm.domain.policies import RetryPolicy, Timeout
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.fluent import OPTION_NAMES
from nodellm_orm.neutral import ChatSource
from nodellm_orm.opening import behaviour_of, names_of, new_head, opening_messages
from nodellm_orm.replay.deviations import COMPARED, Compared
from nodellm_orm.replay.player import PlayedModel, Playing
from nodellm_orm.replay.record import read_record
from nodellm_orm.replay.script import script_of
from nodellm_orm.runtime.chat_ids import chat_id_of
from nodellm_orm.runtime.clock import SystemClock, new_id
from nodellm_orm.runtime.conversation import Conversation
from nodellm_orm.runtime.exchange import Engine
from nodellm_orm.runtime.host import Host
from nodellm_orm.runtime.memory.journal import MemoryJournal
from nodellm_orm.runtime.oneshot import complete
from nodellm_orm.runtime.refusals import refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from uuid import UUID

    from nodellm_orm.client import Database
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.llm import LLMCompleteResult, LLMMessage, LLMTool
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.replay.record import Record
    from nodellm_orm.runtime.model import Model
    from nodellm_orm.runtime.tools import ToolSource
    from nodellm_orm.store.define import Records
    from nodellm_orm.store.encryption import Encryption

_NOBODY: Final = "replay"
_GRACE: Final = 10.0


class ReplayLLM(ChatSource):
    """A client that answers from a stored conversation, offline: for regression tests of prompts and tools.

    It is given to `create_chat`, `load_chat` and `Chats` in place of a client, or gives chats in memory itself. Each
    request is compared with what the stored conversation was asked with at that place; one that differs raises a
    `ConfigurationError` that shows where, for the first call of a turn before anything is written. Answers are given as
    they were: parts, thinking, calls, finish reason, usage, cost, and errors of the provider. One player plays one
    conversation.

    Made by `from_chat`.

    Example:
        >>> player = await ReplayLLM.from_chat(engine, chat_id)
        >>> chat = player.chat(instructions="Answer briefly.", tools=[get_weather])
        >>> reply = await chat.ask("Do I need a coat?")
        >>> player.remaining
        0
    """

    def __init__(self, record: Record, *, compare: Iterable[Compared] = COMPARED) -> None:
        """Wire the parts together; users call `from_chat`."""
        self._record = record
        self._playing = Playing(script_of(record), checked_compare(compare), str(record.head.id))
        self._timeout = Timeout()
        self._clock = SystemClock()
        engine = Engine(
            clock=self._clock,
            new_id=new_id,
            chance=random.random,
            prices=self._playing,
            retry=RetryPolicy(),
            timeout=self._timeout,
        )
        self._host = Host(engine, self)

    @classmethod
    async def from_chat(
        cls,
        session: Database,
        chat_id: UUID | str,
        *,
        owner: Owner = None,
        compare: Iterable[Compared] = COMPARED,
        records: Records | None = None,
        encryption: Encryption | None = None,
    ) -> Self:
        """A player of a stored chat; the database is read once, now.

        Args:
            session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
            chat_id: the chat's id, or its text.
            owner: must equal the stored one; omitted means a chat without owner, `ANY_OWNER` means anybody's.
            compare: what of a request must be as recorded: ``instructions``, ``messages``, ``tools``, ``settings``.
            records: own records.
            encryption: keys, where the content is encrypted.

        Raises:
            ChatNotFoundError: there is no such chat for this owner.
            ChatError: what was said in it was not stored.
            ConfigurationError: there is nothing of that name to compare.
        """
        checked = checked_compare(compare)
        record = await read_record(session, chat_id_of(chat_id), owner=owner, records=records, encryption=encryption)
        return cls(record, compare=checked)

    @property
    def host(self) -> Host:
        """Runs the turns of its chats."""
        return self._host

    @property
    def timeout(self) -> Timeout:
        """Limits where a chat names none."""
        return self._timeout

    @property
    def remaining(self) -> int:
        """How many answers were not played yet."""
        return len(self._playing.script.lines) - self._playing.at

    def skip(self, answers: int = 1) -> None:
        """Leave answers out, as a chat that goes on in the middle of the record wants it.

        Args:
            answers: how many.

        Raises:
            ConfigurationError: there are not as many.
        """
        if isinstance(answers, bool) or not isinstance(answers, int) or not 0 <= answers <= self.remaining:
            msg = f"skip takes a number of answers up to the {self.remaining} that remain, not {answers!r:.100}"
            raise ConfigurationError(msg)
        self._playing.at += answers

    @property
    def questions(self) -> tuple[Message, ...]:
        """The user's messages that the record has, in order: ``chat.ask(question.parts)`` asks one again."""
        return tuple(exchange.question for exchange in self._record.exchanges)

    def __repr__(self) -> str:
        """The chat and how much of it is left, and no content."""
        return f"<ReplayLLM of chat {self._record.head.id}, {self.remaining} answers left>"

    def model(self, provider: str | None, model: str | None, api: str | None) -> Model:
        """The model of the next answer (see `ModelSource`); another name is compared when it is asked.

        Args:
            provider: the chat's; the recorded one when omitted.
            model: the chat's; the recorded one when omitted.
            api: what the chat is held in.
        """
        lines, at = self._playing.script.lines, self._playing.at
        asked = (lines[min(at, len(lines) - 1)] if lines else None) and lines[min(at, len(lines) - 1)].asked
        head = self._record.head
        named = (asked.provider if asked else None) or head.provider or _NOBODY
        held = (asked.api if asked else None) or head.api or _NOBODY
        origin = Origin(
            provider=provider or named,
            api=api or held,
            endpoint=self._endpoint(provider or named),
            model=model or (asked.model if asked else None) or head.model or _NOBODY,
        )
        return PlayedModel(origin, self._playing, self._clock)

    def _endpoint(self, provider: str) -> str:
        """Where the answers of a provider came from."""
        origins = (message.origin for message in self._playing.script.messages if message.role == "assistant")
        return next((one.endpoint for one in origins if one is not None and one.provider == provider), _NOBODY)

    def chat(
        self,
        model: str | None = None,
        *,
        instructions: str | Sequence[str] | None = None,
        tools: Iterable[ToolSource] = (),
        messages: Iterable[Message | Mapping[str, str]] | None = None,
        metadata: Mapping[str, object] | None = None,
        timeout: Timeout | float | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, object] | None = None,
        **options: Any,
    ) -> Chat:
        """A chat that lives in memory only.

        Args:
            model: the model to ask; the recorded one when omitted.
            instructions: how the model should behave.
            tools: what it may call.
            messages: what was said before; what the record begins with when omitted.
            metadata: the host's own.
            timeout: limits, or seconds in total.
            headers: not sent to anybody.
            params: not sent to anybody.
            options: settings, as `create_chat` takes them.
        """
        refuse_unknown(options, OPTION_NAMES, among=names_of(ReplayLLM.chat))
        behaviour, settings = behaviour_of(
            self._timeout, tools=tools, timeout=timeout, headers=headers, params=params, options=options
        )
        origin = self.model(None, model, None).origin
        head = new_head(origin, instructions=instructions, metadata=metadata, settings=settings)
        journal = MemoryJournal(self._clock)
        opening = [step.message for step in self._record.opening] if messages is None else messages
        opened = [(new_id(), message) for message in opening_messages(opening)]
        return Chat(self._host, journal, Conversation.of(journal.keep(head, opened)), behaviour)

    async def complete(
        self,
        *,
        model: str | None = None,
        messages: Sequence[LLMMessage],
        system: str | None = None,
        tools: Sequence[LLMTool] | None = None,
        max_tokens: int | None = None,
    ) -> LLMCompleteResult:
        """The next answer, without a chat (see `LLMClient`).

        Args:
            model: the model; the recorded one when omitted.
            messages: texts of user and assistant.
            system: how it should behave.
            tools: what it may call.
            max_tokens: of the answer.

        Raises:
            ConfigurationError: the request differs from the recorded one.
        """
        return await complete(
            self.model(None, model, None),
            engine=self._host.engine,
            timeout=self._timeout,
            messages=messages,
            system=system,
            tools=tools,
            max_tokens=max_tokens,
        )

    async def aclose(self, *, grace: float = _GRACE) -> None:
        """Let turns under way end; there is nothing else to close.

        Args:
            grace: seconds.
        """
        await self._host.close(grace)

    async def __aenter__(self) -> Self:
        """Nothing to open."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """See `aclose`."""
        await self.aclose()


def checked_compare(compare: Iterable[Compared]) -> tuple[Compared, ...]:
    """What is compared, as a caller names it.

    Args:
        compare: names.

    Raises:
        ConfigurationError: there is nothing of that name.
    """
    names: tuple[Any, ...] = (compare,) if isinstance(compare, str) else tuple(compare)
    if unknown := [name for name in names if name not in get_args(Compared)]:
        msg = f"compare names {', '.join(map(repr, unknown))[:100]}; it is any of {', '.join(get_args(Compared))}"
        raise ConfigurationError(msg)
    return names
