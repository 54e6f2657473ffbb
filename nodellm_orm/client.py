"""Where client and database are wired together: `create_chat`, `load_chat`, `list_chats`, `interrupted_turns`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nodellm_orm.chat import Chat
from nodellm_orm.fluent import OPTION_NAMES, overridden
from nodellm_orm.neutral import source_of
from nodellm_orm.opening import (
    LEASE,
    MAX_TAKEOVERS,
    behaviour_of,
    check_names,
    names_of,
    new_head,
    opening_messages,
)
from nodellm_orm.ports.keeping import KEEP_ALL, keeping_of
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.runtime.chat_ids import chat_id_of
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.runtime.conversation import Conversation
from nodellm_orm.runtime.options import frozen_metadata
from nodellm_orm.runtime.refusals import (
    refuse_limit,
    refuse_mapping,
    refuse_owner,
    refuse_text,
    refuse_unknown,
)
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import chosen_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.pages import ChatSummary, InterruptedTurn, Page
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.llm import LLM
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.keeping import Keeping, Persistence
    from nodellm_orm.ports.llm import LLMClient
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.runtime.plan import Durability
    from nodellm_orm.runtime.tools import ToolSource
    from nodellm_orm.store.define import Records
    from nodellm_orm.store.encryption import Encryption

    Database: TypeAlias = AsyncEngine | async_sessionmaker[AsyncSession] | AsyncSession
    """What names a database: an engine, a sessionmaker, or a session."""

Transactions: TypeAlias = Literal["own", "caller"]

_DATABASE_TIMEOUT = 30.0


async def create_chat(
    session: Database,
    llm: LLM | LLMClient,
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
    lease: float = LEASE,
    max_takeovers: int | None = MAX_TAKEOVERS,
    records: Records | None = None,
    encryption: Encryption | None = None,
    persist: Persistence | None = None,
    redact: Callable[[str], str] | None = None,
    values: Mapping[str, object] | None = None,
    database_timeout: float = _DATABASE_TIMEOUT,
    **options: Any,
) -> Chat:
    """A new chat, kept in the database; with an ``id`` that is there already, the chat of that id.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        llm: the client that answers: made by `create_llm`, or anything with an async ``complete`` (`LLMClient`).
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
        max_takeovers: how often a turn is taken over whose worker died; the next time it fails. ``None``: no limit.
        records: own records, from `define_records`.
        encryption: keys that the content is encrypted with before it is written; every later call needs them too.
        persist: what is written of what is said; not stored.
        redact: alters each text before it is written, not what goes to the provider; not stored.
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
    client = source_of(llm)
    refuse_unknown(options, OPTION_NAMES, among=names_of(create_chat))
    refuse_owner(owner)
    refuse_text("title", title, empty=True)
    refuse_mapping("values", values)
    behaviour, settings = behaviour_of(
        client.timeout,
        tools=tools,
        timeout=timeout,
        headers=headers,
        params=params,
        lease=lease,
        max_takeovers=max_takeovers,
        durability=durability,
        options=options,
    )
    check_names(provider, model=model)
    head = new_head(
        client.model(provider, model, None).origin,
        instructions=instructions,
        metadata=metadata,
        settings=settings,
        owner=owner,
        title=title,
        chat_id=new_id() if id is None else chat_id_of(id),
    )
    opened = [(new_id(), message) for message in opening_messages(messages)]
    journal = journal_of(
        session, records, encryption, keeping_of(persist, redact), transactions=transactions, deadline=database_timeout
    )
    await journal.settle()
    snapshot = await journal.create(head, opened, values=values)
    return Chat(client.host, journal, Conversation.of(snapshot), behaviour)


async def load_chat(
    session: Database,
    llm: LLM | LLMClient,
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
    lease: float = LEASE,
    max_takeovers: int | None = MAX_TAKEOVERS,
    records: Records | None = None,
    encryption: Encryption | None = None,
    persist: Persistence | None = None,
    redact: Callable[[str], str] | None = None,
    database_timeout: float = _DATABASE_TIMEOUT,
    **options: Any,
) -> Chat:
    """A stored chat, to be carried on exactly where it is.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        llm: the client that answers: made by `create_llm`, or anything with an async ``complete`` (`LLMClient`).
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
        max_takeovers: as for `create_chat`.
        records: as for `create_chat`.
        encryption: as for `create_chat`.
        persist: as for `create_chat`.
        redact: as for `create_chat`.
        database_timeout: as for `create_chat`.
        options: settings, as for `create_chat`.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
    """
    client = source_of(llm)
    refuse_unknown(options, OPTION_NAMES, among=names_of(load_chat))
    refuse_owner(owner, anybody=ANY_OWNER)
    behaviour, settings = behaviour_of(
        client.timeout,
        tools=tools,
        timeout=timeout,
        headers=headers,
        params=params,
        lease=lease,
        max_takeovers=max_takeovers,
        durability=durability,
        options=options,
    )
    journal = journal_of(
        session, records, encryption, keeping_of(persist, redact), transactions=transactions, deadline=database_timeout
    )
    snapshot = await journal.load(chat_id_of(chat_id), owner, window=settings.history_window)
    chat = Chat(client.host, journal, Conversation.of(snapshot), behaviour)
    return overridden(chat, provider=provider, model=model, instructions=instructions, settings=options)


async def list_chats(
    session: Database,
    *,
    owner: Owner = None,
    metadata: Mapping[str, object] | None = None,
    limit: int = 50,
    after: str | None = None,
    records: Records | None = None,
    encryption: Encryption | None = None,
) -> Page[ChatSummary]:
    """A page of chats, newest first.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        owner: whose; omitted means chats without owner, `ANY_OWNER` means everybody's.
        metadata: members that a chat's metadata must have.
        limit: chats a page.
        after: the ``next`` of the page before.
        records: own records.
        encryption: the keys, for titles that are encrypted.
    """
    refuse_owner(owner, anybody=ANY_OWNER)
    refuse_limit("limit", limit)
    refuse_text("after", after, empty=True)
    journal = journal_of(session, records, encryption)
    wanted = None if metadata is None else frozen_metadata(metadata)
    return await journal.summaries(owner, metadata=wanted, limit=limit, after=after)


async def interrupted_turns(
    session: Database, *, limit: int = 100, records: Records | None = None
) -> tuple[InterruptedTurn, ...]:
    """Turns whose worker is gone, oldest first, of all owners: load each chat and ``resume(turn=turn)``.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        limit: turns at most.
        records: own records.
    """
    refuse_limit("limit", limit)
    return await journal_of(session, records).interrupted(limit=limit)


def journal_of(
    session: Database,
    records: Records | None,
    encryption: Encryption | None = None,
    keeping: Keeping = KEEP_ALL,
    *,
    transactions: Transactions = "own",
    deadline: float = _DATABASE_TIMEOUT,
) -> Journal:
    """Where chats are kept.

    Args:
        session: as for `create_chat`.
        records: as for `create_chat`.
        encryption: as for `create_chat`.
        keeping: what is written of what is said.
        transactions: as for `create_chat`.
        deadline: seconds a database call may take.

    Raises:
        ConfigurationError: one of them is not what it should be.
    """
    chosen = chosen_records(records, encryption)
    if not keeping.everything:
        chosen = chosen.keeping(keeping)
    return SqlJournal(open_access(session, chosen, transactions=transactions, deadline=deadline), chosen)
