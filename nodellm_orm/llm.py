"""The client of a provider: `create_llm`, and the models and connections behind it."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import httpx

from nodellm_orm.chat import Chat
from nodellm_orm.config import Environment
from nodellm_orm.domain.attachments import AttachmentPolicy
from nodellm_orm.domain.money import Price
from nodellm_orm.domain.policies import CircuitBreaker, RetryPolicy, Timeout
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.fluent import OPTION_NAMES
from nodellm_orm.opening import behaviour_of, check_names, names_of, new_head, opening_messages
from nodellm_orm.ports.wire import EmbeddingRequest
from nodellm_orm.providers.alternatives import fallbacks_of
from nodellm_orm.providers.catalogue import info_of
from nodellm_orm.providers.endpoint import resolve
from nodellm_orm.providers.prices import GenaiPrices
from nodellm_orm.providers.registry import find_provider, provider_names
from nodellm_orm.runtime.attachments import Files
from nodellm_orm.runtime.breaker import Circuits
from nodellm_orm.runtime.clock import SystemClock, new_id
from nodellm_orm.runtime.conversation import Conversation
from nodellm_orm.runtime.embedding import checked_dimensions, checked_texts, chosen_model, embeddings_of
from nodellm_orm.runtime.exchange import Engine
from nodellm_orm.runtime.fallback import Alternative
from nodellm_orm.runtime.foreign import API as FOREIGN
from nodellm_orm.runtime.host import Host
from nodellm_orm.runtime.inquiry import Desk
from nodellm_orm.runtime.memory import MemoryJournal
from nodellm_orm.runtime.model import HttpModel
from nodellm_orm.runtime.oneshot import complete
from nodellm_orm.runtime.prompted import PromptedModel
from nodellm_orm.runtime.refusals import refuse_params, refuse_unknown
from nodellm_orm.transport.fetching import GuardedFetcher
from nodellm_orm.transport.pool import HttpPool
from nodellm_orm.wire.ratelimits import rate_limits_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from nodellm_orm.domain.catalogue import ListedModel, ModelInfo
    from nodellm_orm.domain.embeddings import Embeddings
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.policies import Fallback
    from nodellm_orm.ports.llm import LLMCompleteResult, LLMMessage, LLMTool
    from nodellm_orm.ports.transport import Transport
    from nodellm_orm.providers.alternatives import FallbackSource
    from nodellm_orm.providers.endpoint import Endpoint
    from nodellm_orm.providers.profiles import ProfileOverrides
    from nodellm_orm.runtime.model import Model
    from nodellm_orm.runtime.options import Content
    from nodellm_orm.runtime.tools import ToolSource

    Database: TypeAlias = AsyncEngine | async_sessionmaker[AsyncSession] | AsyncSession
    """What names a database: an engine, a sessionmaker, or a session."""

Transactions: TypeAlias = Literal["own", "caller"]

_CLOSING_GRACE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What a client and the clients made from it share."""

    pool: HttpPool
    environment: Environment
    prices: GenaiPrices
    timeout: Timeout
    retry: RetryPolicy
    attachments: AttachmentPolicy
    circuits: Circuits | None
    clients: list[LLM] = field(default_factory=list)
    """All of them; what is under way in any is waited for before the connections are closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """How a client's own provider was asked for."""

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    api: str | None = None
    profiles: ProfileOverrides | None = None
    options: Mapping[str, object] = field(default_factory=dict)

    def resolve(self, provider: str, environment: Environment, model: str | None) -> Endpoint:
        """Where that provider is."""
        row = find_provider(provider)
        refuse_unknown(self.options, row.option_names | names_of(create_llm), what=f"{row.name} option")
        return resolve(
            row,
            environment=environment,
            model=model,
            api_key=self.api_key,
            base_url=self.base_url,
            api=self.api,
            profiles=self.profiles,
            options=self.options,
        )


class LLM:
    """A client of one provider, made by `create_llm`; immutable, and its ``repr`` shows no key.

    Example:
        >>> async with create_llm("openai") as llm:
        ...     chat = llm.chat(model="gpt-5-mini")
        ...     print(await chat.ask("Hello"))
    """

    def __init__(
        self,
        shared: _Shared,
        endpoint: Endpoint,
        given: _Given,
        *,
        model: str | None,
        owns_pool: bool,
        attachments: AttachmentPolicy | None = None,
        fallbacks: Sequence[Fallback] = (),
    ) -> None:
        """Wire the parts together; users call `create_llm`."""
        self._shared = shared
        self._endpoint = endpoint
        self._given = given
        self._owns_pool = owns_pool
        self._model = model
        self._closing: asyncio.Task[None] | None = None
        self._transports: dict[tuple[str, str], tuple[Endpoint, Transport]] = {}
        engine = Engine(
            clock=SystemClock(),
            new_id=new_id,
            chance=random.random,
            prices=shared.prices,
            retry=shared.retry,
            timeout=shared.timeout,
        )
        self._fallbacks = tuple(self._reached(fallback) for fallback in fallbacks)
        shared.clients.append(self)
        files = Files(attachments or shared.attachments, GuardedFetcher())
        self._host = Host(engine, self, None, files, self._alternatives)

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
        return self._endpoint.provider

    @property
    def default_model(self) -> str | None:
        """The model that is asked when none is named."""
        return self._model or self._endpoint.default_model

    def __repr__(self) -> str:
        """Provider, model and address."""
        return f"<LLM {self.provider}/{self.default_model or 'no default model'} at {self._endpoint.base_url}>"

    def __reduce__(self) -> str:
        """Clients hold keys and connections."""
        msg = "an LLM client cannot be pickled; create one in each process with create_llm()"
        raise TypeError(msg)

    def model(self, provider: str | None, model: str | None, api: str | None) -> Model:
        """The model to ask (see `ModelSource`); users name it in ``create_chat`` or ``llm.chat``.

        Raises:
            ConfigurationError: the provider is not known or not configured, or no model is named.
        """
        if api == FOREIGN:
            # Held with a client that is not here, under a name that may be nobody's: the client that is given answers.
            provider, api = provider if provider in provider_names() else None, None
        endpoint, transport = self._reach(provider or self.provider, api)
        name = model or (self.default_model if endpoint.provider == self.provider else endpoint.default_model)
        if name is None:
            msg = f"no model is named, and {endpoint.provider} has no default; pass model="
            raise ConfigurationError(msg)
        return self._model_at(endpoint, transport, name)

    def _model_at(self, endpoint: Endpoint, transport: Transport, name: str) -> Model:
        origin, circuits = endpoint.origin(name), self._shared.circuits
        reached = HttpModel(
            origin=origin,
            profile=endpoint.profile(name),
            wire=endpoint.wire,
            transport=transport,
            clock=self._host.engine.clock,
            circuit=circuits.of(origin) if circuits is not None else None,
            limits_of=rate_limits_of,
        )
        return PromptedModel(reached) if reached.profile.tools == "prompted" else reached

    def _reached(self, fallback: Fallback) -> tuple[Fallback, Endpoint, Transport, str]:
        """Where a fallback is; whatever is wrong with it is said when the client is made.

        Raises:
            ConfigurationError: its provider is not known or not configured, or it has no model.
        """
        provider, model = fallback.provider or self.provider, fallback.model
        own = (fallback.api_key, fallback.base_url, fallback.options) == (None, None, {})
        check_names(provider, model=model, api_key=fallback.api_key, base_url=fallback.base_url, api=fallback.api)
        if own:
            endpoint, transport = self._reach(provider, fallback.api)
        else:
            given = _Given(
                api_key=fallback.api_key, base_url=fallback.base_url, api=fallback.api, options=fallback.options
            )
            endpoint = given.resolve(provider, self._shared.environment, model)
            transport = endpoint.transport(self._shared.pool)
            self._transports[provider, f"fallback {len(self._transports)}"] = (endpoint, transport)
        name = model or endpoint.default_model
        if name is None:
            msg = f"the fallback to {provider} names no model, and {provider} has no default; name one"
            raise ConfigurationError(msg)
        return fallback, endpoint, transport, name

    def _alternatives(self) -> tuple[Alternative, ...]:
        """The models that may be asked when another cannot answer."""
        return tuple(
            Alternative(model=self._model_at(endpoint, transport, name), on=fallback.on)
            for fallback, endpoint, transport, name in self._fallbacks
        )

    def _reach(self, provider: str, api: str | None) -> tuple[Endpoint, Transport]:
        own = provider == self.provider
        key = (provider, api or (self._endpoint.api if own else ""))
        if key not in self._transports:
            endpoint = self._endpoint if own and api in {None, self._endpoint.api} else self._resolved(provider, api)
            self._transports[key] = (endpoint, endpoint.transport(self._shared.pool))
        return self._transports[key]

    def _resolved(self, provider: str, api: str | None) -> Endpoint:
        given = replace(self._given, api=api) if provider == self.provider else _Given(api=api)
        return given.resolve(provider, self._shared.environment, None)

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
        _refuse_policy(attachments)
        check_names(provider, model=model, api_key=api_key, base_url=base_url, api=api)
        given = _Given(api_key=api_key, base_url=base_url, api=api, options=provider_options)
        fallbacks = fallbacks_of(fallback)
        endpoint = given.resolve(provider, self._shared.environment, model)
        return LLM(
            self._shared,
            endpoint,
            given,
            model=model,
            owns_pool=False,
            attachments=attachments,
            fallbacks=fallbacks,
        )

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
        journal = MemoryJournal(self._host.engine.clock)
        opened = [(new_id(), message) for message in opening_messages(messages)]
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
            engine=self._host.engine,
            timeout=self.timeout,
            messages=messages,
            system=system,
            tools=tools,
            max_tokens=max_tokens,
            alternatives=self._alternatives(),
        )

    # ── about models ──────────────────────────────────────────────────────────────────────────────────────────────

    def model_info(self, model: str | None = None) -> ModelInfo:
        """What is known of a model, from its profile and the price list; nobody is asked.

        Args:
            model: its name at this provider; this client's own when omitted.

        Raises:
            ConfigurationError: no model is named, and there is no default.
        """
        check_names(None, model=model)
        reached = self.model(None, model, None)
        return info_of(reached.origin, reached.profile, self._shared.prices)

    async def list_models(self) -> tuple[ListedModel, ...]:
        """The models that the provider says it has, in its order.

        Raises:
            UnsupportedFeatureError: it has no such list.
            ProviderError: it did not answer.
        """
        endpoint, transport = self._reach(self.provider, None)
        desk = Desk(endpoint.provider, endpoint.wire, transport, self._host.engine, timeout=self.timeout)
        return await desk.models()

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

    # ── other than chats ──────────────────────────────────────────────────────────────────────────────────────────

    async def embed(
        self,
        texts: str | Sequence[str],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        timeout: Timeout | float | None = None,
        params: Mapping[str, object] | None = None,
    ) -> Embeddings:
        """Texts as vectors of numbers, in the order of the texts.

        As many requests are sent as the provider's limits ask for, a few at a time. Fallbacks have no part in it: the
        vectors of two models cannot be compared.

        Args:
            texts: one text, or a sequence of them; for an empty sequence nothing is sent.
            model: the model; by default the client's own, where its name has ``embed`` in it, or else the provider's.
            dimensions: the length that vectors should have, where the model has several.
            timeout: limits of each request, or seconds in total.
            params: raw members of every request.

        Raises:
            ConfigurationError: a text is empty or no text, or no model is named and there is no default.
            UnsupportedFeatureError: the provider has no embeddings, or the model no vectors of that length.
            ProviderError: it did not answer; a `ProtocolError` where what it answered is no vector for each text.

        Example:
            >>> found = await llm.embed(["one text", "another"])  # doctest: +SKIP
            >>> found.vectors[0][:2], found.usage.input_tokens  # doctest: +SKIP
            ((0.0192, -0.0645), 3)
        """
        given, length = checked_texts(texts), checked_dimensions(dimensions)
        check_names(None, model=model)
        if params is not None:
            refuse_params(params)
        endpoint, transport = self._reach(self.provider, None)
        if not endpoint.embeds:
            msg = f"{endpoint.provider} has no embeddings; use a provider that has, such as openai, gemini or mistral"
            raise UnsupportedFeatureError(msg)
        name = chosen_model(model, own=self._model, default=endpoint.embedding_model, provider=endpoint.provider)
        request = EmbeddingRequest(
            texts=given, model=name, profile=endpoint.profile(name), dimensions=length, params=dict(params or {})
        )
        limits = self.timeout if timeout is None else Timeout.of(timeout)
        desk = Desk(endpoint.provider, endpoint.wire, transport, self._host.engine, timeout=limits)
        return await embeddings_of(desk, request, self._shared.prices)

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

        Example:
            >>> asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, llm.close_soon)  # doctest: +SKIP
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(grace), name="closing of a client")

    async def aclose(self, *, grace: float = _CLOSING_GRACE) -> None:
        """Let turns under way end or let go of them, so that no chat is held any more, and close the connections.

        No new turn begins. In the first half of the grace turns go on as ever; in the second one each finishes the step
        it is at, an answer or a round of tools, and begins no other; then the rest is broken off, the text so far
        stored. A turn that has not ended is interrupted: another worker can `Chat.resume` it at once, and whoever waits
        for it here gets a `TurnInterruptedError`.

        Args:
            grace: seconds; 0 breaks everything off.
        """
        self.close_soon(grace)
        closing = self._closing
        if closing is not None and closing.get_loop() is asyncio.get_running_loop():
            await asyncio.shield(closing)

    async def _close(self, grace: float) -> None:
        mine = self._shared.clients if self._owns_pool else [self]
        await asyncio.gather(*(client._host.close(grace) for client in mine))  # noqa: SLF001 — of the same class
        for client in mine:
            for _, transport in client._transports.values():  # noqa: SLF001 — of the same class
                await transport.aclose()
        if self._owns_pool:
            await self._shared.pool.aclose()


def create_llm(
    provider: str | None = None,
    *,
    model: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    api: str | None = None,
    timeout: Timeout | float | None = None,
    retry: RetryPolicy | None = None,
    prices: Mapping[str, Price] | None = None,
    profiles: ProfileOverrides | None = None,
    attachments: AttachmentPolicy | None = None,
    fallback: FallbackSource | Iterable[FallbackSource] = (),
    breaker: CircuitBreaker | None = None,
    http_client: httpx.AsyncClient | None = None,
    environ: Mapping[str, str] | None = None,
    **provider_options: Any,
) -> LLM:
    """A client of one provider.

    Args:
        provider: its name; from ``NODELLM_PROVIDER`` when omitted.
        model: the model asked when none is named; from ``NODELLM_MODEL`` when both are omitted.
        api_key: its key; from the provider's environment variable when omitted.
        base_url: its address, as its official SDK takes it (OpenAI: with ``/v1``; Anthropic: without).
        api: the wire format, where a provider speaks several.
        timeout: limits, or seconds in total.
        retry: when an attempt is repeated.
        prices: US dollars per million tokens, by model; they win over the list that comes with the package.
        profiles: what models accept, by prefix of their names.
        attachments: what ``files=`` may name; by default no path is read and no URL fetched.
        fallback: models that are asked, in order, when the one before cannot answer: names of this provider's models,
            pairs ``("anthropic", "claude-haiku-4-5")``, or `Fallback` values.
        breaker: leaves a model alone for a while when it keeps failing; by default none is.
        http_client: an httpx client to use; it is not closed by us.
        environ: in place of ``os.environ``.
        provider_options: options of that provider.

    Raises:
        ConfigurationError: the provider, or one of a fallback, is not known, or its key is missing or malformed;
            names the variable.
    """
    environment = Environment.of(os.environ if environ is None else environ)
    name = provider or environment.provider
    if name is None:
        msg = "no provider is named: pass one, as in create_llm('openai'), or set NODELLM_PROVIDER"
        raise ConfigurationError(msg)
    if retry is not None and not isinstance(retry, RetryPolicy):
        msg = f"retry is a RetryPolicy(max_attempts=...), not {retry!r:.100}"
        raise ConfigurationError(msg)
    if http_client is not None and not isinstance(http_client, httpx.AsyncClient):
        msg = f"http_client is an httpx.AsyncClient, not {type(http_client).__name__}"
        raise ConfigurationError(msg)
    if any(not isinstance(price, Price) for price in (prices or {}).values()):
        msg = 'prices are Price values by model, such as {"my-model": Price(input=1, output=2)}'
        raise ConfigurationError(msg)
    if breaker is not None and not isinstance(breaker, CircuitBreaker):
        msg = f"breaker is a CircuitBreaker(failures=...), not {breaker!r:.100}"
        raise ConfigurationError(msg)
    _refuse_policy(attachments)
    fallbacks = fallbacks_of(fallback)
    check_names(name, model=model, api_key=api_key, base_url=base_url, api=api)
    given = _Given(api_key=api_key, base_url=base_url, api=api, profiles=profiles, options=provider_options)
    chosen = model or environment.model_for(name)
    endpoint = given.resolve(name, environment, chosen)
    shared = _Shared(
        pool=HttpPool(http_client),
        environment=environment,
        prices=GenaiPrices(prices or {}),
        timeout=Timeout.of(timeout),
        retry=retry or RetryPolicy(),
        attachments=attachments or AttachmentPolicy(),
        circuits=Circuits(breaker, SystemClock()) if breaker is not None else None,
    )
    return LLM(shared, endpoint, given, model=chosen, owns_pool=True, fallbacks=fallbacks)


def _refuse_policy(attachments: object) -> None:
    if attachments is not None and not isinstance(attachments, AttachmentPolicy):
        msg = f"attachments is an AttachmentPolicy(paths=[...]), not {attachments!r:.100}"
        raise ConfigurationError(msg)
