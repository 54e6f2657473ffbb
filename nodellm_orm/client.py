"""Where everything is wired together: `create_llm`, `create_chat`, `load_chat`, `list_chats`, `Chats`."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, get_args
from uuid import UUID

import httpx

from nodellm_orm.chat import Chat, opening_messages
from nodellm_orm.config import Environment
from nodellm_orm.domain.money import Price
from nodellm_orm.domain.policies import RetryPolicy, Timeout
from nodellm_orm.domain.settings import Settings
from nodellm_orm.errors import ConfigurationError, UnsupportedFeatureError
from nodellm_orm.fluent import Behaviour, checked_headers
from nodellm_orm.ports.journal import ANY_OWNER, ChatHead
from nodellm_orm.providers.endpoint import resolve
from nodellm_orm.providers.prices import GenaiPrices
from nodellm_orm.providers.registry import find_provider
from nodellm_orm.runtime.clock import SystemClock, new_id
from nodellm_orm.runtime.conversation import Conversation
from nodellm_orm.runtime.exchange import Engine
from nodellm_orm.runtime.host import Host
from nodellm_orm.runtime.memory import MemoryJournal
from nodellm_orm.runtime.model import HttpModel
from nodellm_orm.runtime.options import Options, check_choice, frozen_metadata
from nodellm_orm.runtime.plan import Durability
from nodellm_orm.runtime.prompted import PromptedModel
from nodellm_orm.runtime.refusals import (
    refuse_key,
    refuse_owner,
    refuse_params,
    refuse_seconds,
    refuse_text,
    refuse_unknown,
    refuse_word,
)
from nodellm_orm.runtime.structured import StructuredSchema
from nodellm_orm.runtime.toolbox import Toolbox
from nodellm_orm.runtime.tools import collect
from nodellm_orm.store.access import open_access
from nodellm_orm.store.define import Records
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from nodellm_orm.transport.pool import HttpPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.pages import ChatSummary, InterruptedTurn, Page
    from nodellm_orm.ports.journal import Journal, Owner
    from nodellm_orm.ports.transport import Transport
    from nodellm_orm.providers.endpoint import Endpoint
    from nodellm_orm.providers.profiles import ProfileOverrides
    from nodellm_orm.runtime.model import Model
    from nodellm_orm.runtime.tools import ToolSource

    Database: TypeAlias = AsyncEngine | async_sessionmaker[AsyncSession] | AsyncSession
    """What names a database: an engine, a sessionmaker, or a session."""

Transactions: TypeAlias = Literal["own", "caller"]

_CLOSING_GRACE = 10.0
_DATABASE_TIMEOUT = 30.0
_LEASE = 60.0
_SETTINGS = frozenset(Options.__dataclass_fields__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What a client and the clients made from it share."""

    pool: HttpPool
    environment: Environment
    prices: GenaiPrices
    timeout: Timeout
    retry: RetryPolicy
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
        refuse_unknown(self.options, row.option_names | _names_of(create_llm), what=f"{row.name} option")
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
        self, shared: _Shared, endpoint: Endpoint, given: _Given, *, model: str | None, owns_pool: bool
    ) -> None:
        """Wire the parts together; users call `create_llm`."""
        self._shared = shared
        self._endpoint = endpoint
        self._given = given
        self._owns_pool = owns_pool
        self._model = model
        self._transports: dict[tuple[str, str], tuple[Endpoint, Transport]] = {}
        engine = Engine(
            clock=SystemClock(),
            new_id=new_id,
            chance=random.random,
            prices=shared.prices,
            retry=shared.retry,
            timeout=shared.timeout,
        )
        shared.clients.append(self)
        self._host = Host(engine, self, f"{socket.gethostname()[:80]}:{os.getpid()}:{new_id().hex[-12:]}")

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
        endpoint, transport = self._reach(provider or self.provider, api)
        name = model or (self.default_model if endpoint.provider == self.provider else endpoint.default_model)
        if name is None:
            msg = f"no model is named, and {endpoint.provider} has no default; pass model="
            raise ConfigurationError(msg)
        reached = HttpModel(
            origin=endpoint.origin(name),
            profile=endpoint.profile(name),
            wire=endpoint.wire,
            transport=transport,
            clock=self._host.engine.clock,
        )
        return PromptedModel(reached) if reached.profile.tools == "prompted" else reached

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
        **provider_options: Any,
    ) -> LLM:
        """A client of another provider beside this one; nothing here changes.

        It shares this client's connections and policies, and lives as long as this one.

        Args:
            provider: its name.
            model: the model asked when none is named.
            api_key: its key; from the environment when omitted.
            base_url: its address.
            api: the wire format.
            provider_options: options of that provider.
        """
        _check_names(provider, model=model, api_key=api_key, base_url=base_url, api=api)
        given = _Given(api_key=api_key, base_url=base_url, api=api, options=provider_options)
        endpoint = given.resolve(provider, self._shared.environment, model)
        return LLM(self._shared, endpoint, given, model=model, owns_pool=False)

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
        refuse_unknown(options, _SETTINGS, among=_names_of(LLM.chat))
        behaviour, settings = _behaviour(
            self, tools=tools, timeout=timeout, headers=headers, params=params, options=options
        )
        head = _new_head(self, model=model, instructions=instructions, metadata=metadata, settings=settings)
        journal = MemoryJournal(self._host.engine.clock)
        opened = [(new_id(), message) for message in opening_messages(messages)]
        return Chat(self._host, journal, Conversation.of(journal.keep(head, opened)), behaviour)

    async def __aenter__(self) -> Self:
        """Nothing to open: connections are made when they are needed."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.aclose()

    async def aclose(self, *, grace: float = _CLOSING_GRACE) -> None:
        """Let turns under way end, release their chats, and close the connections.

        Args:
            grace: seconds the turns are given; those that take longer are stopped, with their text so far stored.
        """
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
        http_client: an httpx client to use; it is not closed by us.
        environ: in place of ``os.environ``.
        provider_options: options of that provider.

    Raises:
        ConfigurationError: the provider is not known, or its key is missing or malformed; names the variable.
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
    _check_names(name, model=model, api_key=api_key, base_url=base_url, api=api)
    given = _Given(api_key=api_key, base_url=base_url, api=api, profiles=profiles, options=provider_options)
    chosen = model or environment.model_for(name)
    endpoint = given.resolve(name, environment, chosen)
    shared = _Shared(
        pool=HttpPool(http_client),
        environment=environment,
        prices=GenaiPrices(prices or {}),
        timeout=Timeout.of(timeout),
        retry=retry or RetryPolicy(),
    )
    return LLM(shared, endpoint, given, model=chosen, owns_pool=True)


async def create_chat(
    session: Database,
    llm: LLM,
    *,
    model: str | None = None,
    provider: str | None = None,
    instructions: str | Sequence[str] | None = None,
    tools: Iterable[ToolSource] = (),
    messages: Iterable[Message | Mapping[str, str]] = (),
    metadata: Mapping[str, object] | None = None,
    owner: str | None = None,
    title: str | None = None,
    id: UUID | str | None = None,  # noqa: A002 — the name users expect
    timeout: Timeout | float | None = None,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, object] | None = None,
    durability: Durability = "step",
    transactions: Transactions = "own",
    lease: float = _LEASE,
    records: Records | None = None,
    values: Mapping[str, object] | None = None,
    database_timeout: float = _DATABASE_TIMEOUT,
    **options: Any,
) -> Chat:
    """A new chat, kept in the database; with an ``id`` that is there already, the chat of that id.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        llm: the client that answers.
        model: the model to ask; the client's own when omitted.
        provider: its provider, when that is not the client's own.
        instructions: how the model should behave.
        tools: what it may call; not stored.
        messages: what was said before.
        metadata: the host's own JSON.
        owner: whose chat it is; every later call must name the same owner.
        title: a title for people.
        id: a UUID, to make a repeated call harmless.
        timeout: limits, or seconds in total; not stored.
        headers: further headers of every request; not stored.
        params: raw members of every request; not stored.
        durability: ``step`` writes as the turn runs; ``turn`` writes its beginning and its end.
        transactions: ``own`` (short ones of ours) or ``caller`` (only flushes; for tests and single-writer scripts).
        lease: seconds after which a silent worker's chat may be taken over.
        records: own records, from `define_records`.
        values: of the further columns that those have.
        database_timeout: seconds a database call may take.
        options: settings, stored with the chat: ``temperature``, ``max_tokens``, ``thinking``, ``schema``,
            ``tool_choice``, ``parallel_tool_calls``, ``cache``, ``max_tool_rounds``, ``max_cost``, ``history_window``.

    Raises:
        ConfigurationError: an option that cannot be meant.
        SessionStateError: the session is closed or inside an explicit transaction block.
        SchemaVersionError: the tables are missing; run ``await migrate(engine)``.
        ChatNotFoundError: the id belongs to another owner's chat.
    """
    client = _client(llm)
    refuse_unknown(options, _SETTINGS, among=_names_of(create_chat))
    refuse_owner(owner)
    refuse_text("title", title, empty=True)
    behaviour, settings = _behaviour(
        client,
        tools=tools,
        timeout=timeout,
        headers=headers,
        params=params,
        lease=lease,
        durability=durability,
        options=options,
    )
    head = _new_head(
        client,
        model=model,
        provider=provider,
        instructions=instructions,
        metadata=metadata,
        settings=settings,
        owner=owner,
        title=title,
        chat_id=new_id() if id is None else as_uuid(id),
    )
    opened = [(new_id(), message) for message in opening_messages(messages)]
    journal = _journal(session, records, transactions=transactions, deadline=database_timeout)
    await journal.settle()
    snapshot = await journal.create(head, opened, values=values)
    return Chat(client._host, journal, Conversation.of(snapshot), behaviour)  # noqa: SLF001 — assembly


async def load_chat(
    session: Database,
    llm: LLM,
    chat_id: UUID | str,
    *,
    owner: Owner = None,
    tools: Iterable[ToolSource] = (),
    model: str | None = None,
    provider: str | None = None,
    instructions: str | None = None,
    timeout: Timeout | float | None = None,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, object] | None = None,
    durability: Durability = "step",
    transactions: Transactions = "own",
    lease: float = _LEASE,
    records: Records | None = None,
    database_timeout: float = _DATABASE_TIMEOUT,
    **options: Any,
) -> Chat:
    """A stored chat, to be carried on exactly where it is.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        llm: the client that answers.
        chat_id: the chat's id, or its text.
        owner: must equal the stored one; omitted means a chat without owner, `ANY_OWNER` means anybody's.
        tools: what the model may call, given again in every process.
        model: ask another model from the next turn on; ``provider``, ``instructions`` and ``options`` likewise.
        provider: see ``model``.
        instructions: in place of the stored ones.
        timeout: as for `create_chat`.
        headers: as for `create_chat`.
        params: as for `create_chat`.
        durability: as for `create_chat`.
        transactions: as for `create_chat`.
        lease: as for `create_chat`.
        records: as for `create_chat`.
        database_timeout: as for `create_chat`.
        options: settings, as for `create_chat`.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
    """
    client = _client(llm)
    refuse_unknown(options, _SETTINGS, among=_names_of(load_chat))
    refuse_owner(owner, anybody=ANY_OWNER)
    behaviour, _ = _behaviour(
        client,
        tools=tools,
        timeout=timeout,
        headers=headers,
        params=params,
        lease=lease,
        durability=durability,
        options=options,
    )
    journal = _journal(session, records, transactions=transactions, deadline=database_timeout)
    snapshot = await journal.load(as_uuid(chat_id), owner)
    chat = Chat(client._host, journal, Conversation.of(snapshot), behaviour)  # noqa: SLF001 — assembly
    if provider is not None:
        chat.with_provider(provider, model=model)
    elif model is not None:
        chat.with_model(model)
    if instructions is not None:
        chat.with_instructions(instructions, replace=True)
    if options:
        chat.with_settings(**options)
    return chat


async def list_chats(
    session: Database,
    *,
    owner: Owner = None,
    metadata: Mapping[str, object] | None = None,
    limit: int = 50,
    after: str | None = None,
    records: Records | None = None,
) -> Page[ChatSummary]:
    """A page of chats, newest first.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        owner: whose; omitted means chats without owner, `ANY_OWNER` means everybody's.
        metadata: members that a chat's metadata must have.
        limit: chats a page.
        after: the ``next`` of the page before.
        records: own records.
    """
    refuse_owner(owner, anybody=ANY_OWNER)
    journal = _journal(session, records)
    wanted = None if metadata is None else frozen_metadata(metadata)
    return await journal.summaries(owner, metadata=wanted, limit=limit, after=after)


async def interrupted_turns(
    session: Database, *, limit: int = 100, records: Records | None = None
) -> tuple[InterruptedTurn, ...]:
    """Turns whose worker is gone, oldest first, of all owners: load each chat and ``resume()``.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        limit: turns at most.
        records: own records.
    """
    return await _journal(session, records).interrupted(limit=limit)


class Chats:
    """The chats of an application: made once at start-up, used in every request.

    Args:
        session: an `async_sessionmaker` or an `AsyncEngine`.
        llm: the client that answers.
        tools: what the model may call.
        options: what `create_chat` and `load_chat` take beyond these.

    Example:
        >>> chats = Chats(async_session, llm, tools=[get_weather])
        >>> chat = await chats.load(chat_id, owner=user.id)
    """

    def __init__(self, session: Database, llm: LLM, *, tools: Iterable[ToolSource] = (), **options: Any) -> None:
        """Keep the defaults."""
        self._session = session
        self._llm = llm
        self._options = {"tools": collect(tools), **options}

    async def create(self, **options: Any) -> Chat:
        """A new chat; see `create_chat`."""
        return await create_chat(self._session, self._llm, **{**self._options, **options})

    async def load(self, chat_id: UUID | str, *, owner: Owner = None, **options: Any) -> Chat:
        """A stored chat; see `load_chat`."""
        return await load_chat(self._session, self._llm, chat_id, owner=owner, **{**self._options, **options})

    async def list(
        self,
        *,
        owner: Owner = None,
        metadata: Mapping[str, object] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[ChatSummary]:
        """A page of chats; see `list_chats`."""
        records = self._options.get("records")
        return await list_chats(
            self._session, owner=owner, metadata=metadata, limit=limit, after=after, records=records
        )


def as_uuid(value: UUID | str) -> UUID:
    """An id from a UUID or its text.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        msg = f"a chat's id is a UUID or its text, not {value!r:.60}"
        raise ConfigurationError(msg) from None


def _names_of(function: Callable[..., object]) -> frozenset[str]:
    """The arguments that can be given to a function by name."""
    parameters = inspect.signature(function).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def _check_names(
    provider: str | None, *, model: str | None = None, api_key: str | None = None, **words: object
) -> None:
    """Refuse what cannot name a provider, a model, a key or an address."""
    refuse_key("provider", provider)
    refuse_key("model", model)
    if api_key is not None and not isinstance(api_key, str):
        msg = f"api_key is a text, not {type(api_key).__name__}; decode it, or read it from its Secret"
        raise ConfigurationError(msg)
    for name, word in words.items():
        refuse_text(name, word)


def _client(llm: object) -> LLM:
    if isinstance(llm, LLM):
        return llm
    if hasattr(llm, "complete"):
        msg = "only clients made by create_llm() can stand behind a chat yet"
        raise UnsupportedFeatureError(msg)
    msg = f"llm is a client made by create_llm(), not {type(llm).__name__}"
    raise ConfigurationError(msg)


def _journal(
    session: Database, records: Records | None, *, transactions: Transactions = "own", deadline: float = 30.0
) -> Journal:
    chosen = RECORDS if records is None else records
    if not isinstance(chosen, Records):
        msg = f"records is what define_records() gave, not {type(chosen).__name__}"
        raise ConfigurationError(msg)
    return SqlJournal(open_access(session, chosen, transactions=transactions, deadline=deadline), chosen)


def _behaviour(
    llm: LLM,
    *,
    tools: Iterable[ToolSource],
    timeout: Timeout | float | None,
    headers: Mapping[str, str] | None,
    params: Mapping[str, object] | None,
    options: Mapping[str, Any],
    lease: float = _LEASE,
    durability: Durability = "step",
) -> tuple[Behaviour, Settings]:
    refuse_seconds("lease", lease)
    refuse_word("durability", durability, get_args(Durability))
    if params is not None:
        refuse_params(params)
    limits = llm._shared.timeout if timeout is None else Timeout.of(timeout)  # noqa: SLF001 — assembly
    schema = options.get("schema")
    behaviour = Behaviour(
        toolbox=Toolbox(tools, timeout=limits.tool),
        timeout=limits,
        schema=None if schema is None else StructuredSchema.of(schema),
        headers=checked_headers(headers),
        params=dict(params or {}),
        lease=lease,
        durability=durability,
    )
    settings = Options(**options).over(Settings())
    check_choice(settings.tool_choice, [spec.name for spec in behaviour.toolbox.specs])
    return behaviour, settings


def _new_head(
    llm: LLM,
    *,
    model: str | None,
    instructions: str | Sequence[str] | None,
    metadata: Mapping[str, object] | None,
    settings: Settings,
    provider: str | None = None,
    owner: str | None = None,
    title: str | None = None,
    chat_id: UUID | None = None,
) -> ChatHead:
    _check_names(provider, model=model)
    origin = llm.model(provider, model, None).origin
    texts = [instructions] if isinstance(instructions, str) else instructions or []
    if not isinstance(texts, Sequence) or any(not isinstance(text, str) for text in texts):
        msg = "instructions are a text, or a list of texts"
        raise ConfigurationError(msg)
    return ChatHead(
        id=chat_id or new_id(),
        owner=owner,
        title=title,
        provider=origin.provider,
        model=origin.model,
        api=origin.api,
        instructions=tuple(texts),
        settings=replace(settings),
        metadata=frozen_metadata(metadata),
    )
