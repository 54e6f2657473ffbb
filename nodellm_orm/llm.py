"""The client of a provider: its chats, its single questions, and its end."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from nodellm_orm.chat import Chat
from nodellm_orm.domain.attachments import AttachmentPolicy
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.fluent import OPTION_NAMES
from nodellm_orm.inquiring import Inquiring
from nodellm_orm.opening import behaviour_of, check_names, names_of, new_head, opening_messages
from nodellm_orm.providers.alternatives import fallbacks_of
from nodellm_orm.reach import Given, Reach
from nodellm_orm.runtime.attachments import Files
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.runtime.conversation import Conversation
from nodellm_orm.runtime.exchange import Engine
from nodellm_orm.runtime.host import Host
from nodellm_orm.runtime.memory.journal import MemoryJournal
from nodellm_orm.runtime.oneshot import complete
from nodellm_orm.runtime.refusals import refuse_seconds, refuse_unknown
from nodellm_orm.transport.fetching import GuardedFetcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.policies import RetryPolicy, Timeout
    from nodellm_orm.ports.llm import LLMCompleteResult, LLMMessage, LLMTool
    from nodellm_orm.providers.alternatives import FallbackSource
    from nodellm_orm.providers.prices import GenaiPrices
    from nodellm_orm.reach import Means
    from nodellm_orm.runtime.model import Model
    from nodellm_orm.runtime.options import Content
    from nodellm_orm.runtime.tools import ToolSource

_CLOSING_GRACE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What a client and the clients made from it share."""

    means: Means
    prices: GenaiPrices
    timeout: Timeout
    retry: RetryPolicy
    attachments: AttachmentPolicy
    clients: list[LLM] = field(default_factory=list)
    """All of them; what is under way in any is waited for before the connections are closed."""


class LLM(Inquiring):
    """A client of one provider, made by `create_llm`; immutable, and its ``repr`` shows no key.

    Example:
        >>> async with create_llm("openai") as llm:
        ...     chat = llm.chat(model="gpt-5-mini")
        ...     print(await chat.ask("Hello"))
    """

    def __init__(
        self, shared: Shared, reach: Reach, *, owns_pool: bool, attachments: AttachmentPolicy | None = None
    ) -> None:
        """Wire the parts together; users call `create_llm`."""
        engine = Engine(
            clock=shared.means.clock,
            new_id=new_id,
            chance=random.random,
            prices=shared.prices,
            retry=shared.retry,
            timeout=shared.timeout,
        )
        super().__init__(reach, engine, shared.prices)
        self._shared = shared
        self._owns_pool = owns_pool
        self._closing: asyncio.Task[None] | None = None
        shared.clients.append(self)
        files = Files(attachments or shared.attachments, GuardedFetcher())
        self._host = Host(engine, self, None, files, reach.alternatives)

    @property
    def host(self) -> Host:
        """Runs the turns of this client's chats."""
        return self._host

    @property
    def timeout(self) -> Timeout:
        """Limits where a chat names none."""
        return self._shared.timeout

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self._reach.provider

    @property
    def default_model(self) -> str | None:
        """The model that is asked when none is named."""
        return self._reach.default_model

    def __repr__(self) -> str:
        """Provider, model and address."""
        return f"<LLM {self.provider}/{self.default_model or 'no default model'} at {self._reach.endpoint.base_url}>"

    def __reduce__(self) -> str:
        """Clients hold keys and connections."""
        msg = "an LLM client cannot be pickled; create one in each process with create_llm()"
        raise TypeError(msg)

    def model(self, provider: str | None, model: str | None, api: str | None) -> Model:
        """The model to ask (see `ModelSource`); users name it in ``create_chat`` or ``llm.chat``.

        Raises:
            ConfigurationError: the provider is not known or not configured, or no model is named.
        """
        return self._reach.model(provider, model, api)

    def with_provider(
        self,
        provider: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        api: str | None = None,
        attachments: AttachmentPolicy | None = None,
        fallback: FallbackSource | Iterable[FallbackSource] = (),
        **provider_options: Any,
    ) -> LLM:
        """A client of another provider beside this one; nothing here changes.

        It shares this client's connections, policies and circuits, and lives as long as this one. Keys, addresses,
        profiles and fallbacks are its own.

        Args:
            provider: its name.
            model: the model asked when none is named.
            api_key: its key; from the environment when omitted.
            base_url: its address.
            api: the wire format.
            attachments: what its chats' ``files=`` may name; this client's own policy when omitted.
            fallback: models that are asked when its own cannot answer, as `create_llm` takes them.
            provider_options: options of that provider.
        """
        refuse_policy(attachments)
        check_names(provider, model=model, api_key=api_key, base_url=base_url, api=api)
        given = Given(api_key=api_key, base_url=base_url, api=api, options=provider_options)
        reach = Reach(self._shared.means, provider, given, model=model, fallbacks=fallbacks_of(fallback))
        return LLM(self._shared, reach, owns_pool=False, attachments=attachments)

    def chat(
        self,
        model: str | None = None,
        *,
        instructions: str | Sequence[str] | None = None,
        tools: Iterable[ToolSource] = (),
        messages: Iterable[Message | Mapping[str, str]] = (),
        metadata: Mapping[str, object] | None = None,
        timeout: Timeout | float | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, object] | None = None,
        **options: Any,
    ) -> Chat:
        """A chat that lives in memory only: the same class and the same loop as one in a database.

        Args:
            model: the model to ask.
            instructions: how the model should behave.
            tools: what it may call.
            messages: what was said before.
            metadata: the host's own.
            timeout: limits, or seconds in total.
            headers: further headers.
            params: raw members of every request.
            options: settings, as `create_chat` takes them.
        """
        refuse_unknown(options, OPTION_NAMES, among=names_of(LLM.chat))
        behaviour, settings = behaviour_of(
            self.timeout, tools=tools, timeout=timeout, headers=headers, params=params, options=options
        )
        check_names(None, model=model)
        origin = self.model(None, model, None).origin
        head = new_head(origin, instructions=instructions, metadata=metadata, settings=settings)
        journal = MemoryJournal(self._engine.clock)
        opened = [(new_id(), message) for message in opening_messages(messages)]
        return Chat(self._host, journal, Conversation.of(journal.keep(head, opened)), behaviour)

    async def count_tokens(
        self,
        content: Content,
        *,
        model: str | None = None,
        instructions: str | Sequence[str] | None = None,
        tools: Iterable[ToolSource] = (),
    ) -> int:
        """The tokens of a question, as the provider counts them, with everything that goes out beside it.

        Args:
            content: text, or a list of texts and parts.
            model: the model that would be asked.
            instructions: its instructions.
            tools: what it might call.

        Raises:
            UnsupportedFeatureError: the provider does not count ahead.
            ProviderError: it did not answer.
        """
        return await self.chat(model, instructions=instructions, tools=tools).count_tokens(content)

    async def complete(
        self,
        *,
        model: str | None = None,
        messages: Sequence[LLMMessage],
        system: str | None = None,
        tools: Sequence[LLMTool] | None = None,
        max_tokens: int | None = None,
    ) -> LLMCompleteResult:
        """Answer once, without a chat and without a row (see `LLMClient`).

        Args:
            model: the model to ask; this client's own when omitted.
            messages: texts of user and assistant.
            system: how it should behave.
            tools: what it may call; a single one has to be called.
            max_tokens: of the answer.

        Raises:
            ConfigurationError: a message or a tool is malformed.
            ProviderError: the provider could not answer, and no fallback could.

        Example:
            >>> result = await llm.complete(model="gpt-5-mini", messages=[LLMMessage(role="user", content="Hi")])
            >>> result.text, result.stop_reason
            ('Hello!', 'completed')
        """
        check_names(None, model=model)
        return await complete(
            self.model(None, model, None),
            engine=self._engine,
            timeout=self.timeout,
            messages=messages,
            system=system,
            tools=tools,
            max_tokens=max_tokens,
            alternatives=self._reach.alternatives(),
        )

    async def __aenter__(self) -> Self:
        """Nothing to open: connections are made when they are needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.aclose()

    def close_soon(self, grace: float = _CLOSING_GRACE) -> None:
        """Begin to close, as `aclose` does, and return at once: what a program does when it is told to end.

        Whoever waits for a turn gets its reply, or a `TurnInterruptedError`, so that the program comes to its end by
        itself. Call it in the client's event loop, as a signal handler of the loop does.

        Args:
            grace: as for `aclose`.

        Raises:
            ConfigurationError: the grace is no number of seconds, or no event loop is running here.

        Example:
            >>> asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, llm.close_soon)  # doctest: +SKIP
        """
        refuse_seconds("grace", grace, zero=True)
        if self._closing is None:
            self._closing = _running_loop().create_task(self._close(grace), name="closing of a client")

    async def aclose(self, *, grace: float = _CLOSING_GRACE) -> None:
        """Let turns under way end or let go of them, so that no chat is held any more, and close the connections.

        No new turn begins. In the first half of the grace turns go on as ever; in the second one each finishes the step
        it is at, an answer or a round of tools, and begins no other; then the rest is broken off, the text so far
        stored. A turn that has not ended is interrupted: another worker can `Chat.resume` it at once, and whoever waits
        for it here gets a `TurnInterruptedError`.

        Args:
            grace: seconds; 0 breaks everything off.

        Raises:
            ConfigurationError: the grace is no number of seconds.
        """
        self.close_soon(grace)
        closing = self._closing
        if closing is not None and closing.get_loop() is asyncio.get_running_loop():
            await asyncio.shield(closing)

    async def _close(self, grace: float) -> None:
        mine = self._shared.clients if self._owns_pool else [self]
        await asyncio.gather(*(client._host.close(grace) for client in mine))  # noqa: SLF001 — of the same class
        for client in mine:
            await client._reach.aclose()  # noqa: SLF001 — of the same class
        if self._owns_pool:
            await self._shared.means.pool.aclose()


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        msg = "no event loop is running here; close the client in its own, as loop.add_signal_handler() does"
        raise ConfigurationError(msg) from None


def refuse_policy(attachments: object) -> None:
    """Refuse what is no policy.

    Args:
        attachments: as given.
    """
    if attachments is not None and not isinstance(attachments, AttachmentPolicy):
        msg = f"attachments is an AttachmentPolicy(paths=[...]), not {attachments!r:.100}"
        raise ConfigurationError(msg)
