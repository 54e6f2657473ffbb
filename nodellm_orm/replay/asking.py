"""`replay_chat`: the questions of a stored chat asked again, into a new chat that is linked with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from nodellm_orm.client import journal_of
from nodellm_orm.errors import ConfigurationError, NodeLLMError
from nodellm_orm.fluent import OPTION_NAMES
from nodellm_orm.neutral import source_of
from nodellm_orm.opening import behaviour_of, check_names, names_of
from nodellm_orm.ports.keeping import keeping_of
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.replay.record import read_record
from nodellm_orm.replay.results import Results
from nodellm_orm.replay.running import Replay
from nodellm_orm.replay.target import Wanted
from nodellm_orm.runtime.chat_ids import chat_id_of
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.runtime.refusals import refuse_owner, refuse_seconds, refuse_unknown, refuse_word
from nodellm_orm.runtime.tools import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from uuid import UUID

    from nodellm_orm.client import Database
    from nodellm_orm.llm import LLM
    from nodellm_orm.ports.llm import LLMClient
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.replay.report import ReplayProgress, ReplayReport
    from nodellm_orm.runtime.tools import ToolSource
    from nodellm_orm.store.define import Records
    from nodellm_orm.store.encryption import Encryption

_BEHAVIOUR: Final = ("timeout", "headers", "params", "lease", "max_takeovers", "durability")
_STORED: Final = ("title", "metadata", "values", "persist", "redact", "database_timeout")
_OVERRIDES: Final = OPTION_NAMES | {*_BEHAVIOUR, *_STORED}


async def replay_chat(
    session: Database,
    chat_id: UUID | str,
    llm: LLM | LLMClient,
    *,
    owner: Owner = None,
    model: str | None = None,
    provider: str | None = None,
    instructions: str | Sequence[str] | None = None,
    tools: Iterable[ToolSource] = (),
    results: Results = "recorded",
    approved: bool = False,
    id: UUID | str | None = None,  # noqa: A002 — the name `create_chat` has for it
    wait: float = 0,
    progress: Callable[[ReplayProgress], object] | None = None,
    records: Records | None = None,
    encryption: Encryption | None = None,
    **overrides: Any,
) -> ReplayReport:
    """Ask the questions of a stored chat again, with another model, prompt or tools, and compare the answers.

    They go into a new chat of the same owner, whose ``parent_chat_id`` is the stored one and whose metadata names it as
    ``replay_of``; the stored chat is only read. Each question is asked with what its own turn was asked with, but for
    what is given here. Superseded messages are left out; messages that no turn asked or answered (opening messages,
    those from elsewhere, those that a branch was copied with) are copied; a summary is asked for again.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        chat_id: the stored chat's id, or its text.
        llm: the client that answers: made by `create_llm`, a `ReplayLLM`, or anything with an async ``complete``.
        owner: must equal the stored one; omitted means a chat without owner, `ANY_OWNER` means anybody's.
        model: the model to ask. Omitted: the one that was recorded, where ``llm`` is a client of that provider; else
            the client's own.
        provider: its provider, when that is not the client's own.
        instructions: in place of the recorded ones.
        tools: in place of the recorded ones. Omitted: the model is told of the same tools as before.
        results: ``recorded``: a call with a recorded name and arguments gets the recorded result, any other one an
            error that says so, and nothing runs. ``live``: ``tools`` run. ``recorded-or-live``: they run for calls that
            were not recorded.
        approved: run also tools that need approval, where tools run; otherwise such a call gets an error that says so.
        id: a UUID of the new chat: a replay of that id that was broken off goes on with the questions that are missing.
        wait: seconds to wait for a turn of that replay which another worker still holds.
        progress: told after each question; may be async.
        records: own records, from `define_records`.
        encryption: keys, where the content is encrypted.
        overrides: as `create_chat` takes them, for every question: settings such as ``temperature``, and ``timeout``,
            ``headers``, ``params``, ``lease``, ``max_takeovers``, ``durability``, ``title``, ``metadata``, ``values``,
            ``persist``, ``redact``, ``database_timeout``.

    Returns:
        The comparison. What a model makes of a question is in it also when that is an error: a request that it does not
        accept, an answer that does not fit the schema, and what the recorded turn had failed with as well.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
        ConfigurationError: an option cannot be meant, or the id is that of another chat, or of another replay.
        ProviderError: the provider could not answer; the error's notes have the id to go on with.

    Example:
        >>> report = await replay_chat(engine, chat.id, llm, model="gpt-5", temperature=0)
        >>> print(report.to_text())
    """
    replay = await started(
        session,
        chat_id,
        llm,
        owner=owner,
        wanted={"model": model, "provider": provider, "instructions": instructions},
        tools=tools,
        results=results,
        approved=approved,
        replay_id=new_id() if id is None else chat_id_of(id),
        wait=wait,
        told=progress or (lambda _: None),
        records=records,
        encryption=encryption,
        overrides=overrides,
    )
    try:
        await replay.run()
    except NodeLLMError as error:
        error.add_note(f"the replay broke off; replay_chat(..., id={str(replay.id)!r}) goes on with what is missing")
        raise
    return await replay.report()


async def started(
    session: Database,
    chat_id: UUID | str,
    llm: object,
    *,
    owner: Owner,
    wanted: Mapping[str, Any],
    tools: Iterable[ToolSource],
    results: Results,
    approved: bool,
    replay_id: UUID,
    wait: float,
    told: Callable[[ReplayProgress], object],
    records: Records | None,
    encryption: Encryption | None,
    overrides: Mapping[str, Any],
) -> Replay:
    """A replay that is ready to run: its chat is there, or was.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
        ConfigurationError: an option cannot be meant, or the id is that of another chat.
    """
    source = source_of(llm)
    refuse_unknown(overrides, _OVERRIDES, among=names_of(replay_chat))
    refuse_owner(owner, anybody=ANY_OWNER)
    refuse_word("results", results, get_args(Results))
    refuse_seconds("wait", wait, zero=True)
    check_names(wanted["provider"], model=wanted["model"])
    options = {name: value for name, value in overrides.items() if name in OPTION_NAMES and value is not None}
    given = {name: overrides[name] for name in _BEHAVIOUR if overrides.get(name) is not None}
    offered = collect(tools)
    behaviour, _ = behaviour_of(
        source.timeout,
        tools=offered,
        options=options,
        **{"timeout": None, "headers": None, "params": None, **given},
    )
    original = await read_record(session, chat_id_of(chat_id), owner=owner, records=records, encryption=encryption)
    if results == "live" and not offered and any(exchange.asked.tools for exchange in original.exchanges):
        msg = "results='live' runs tools, and none are given; pass tools=, or take the recorded results"
        raise ConfigurationError(msg)
    timeout = {} if overrides.get("database_timeout") is None else {"deadline": overrides["database_timeout"]}
    journal = journal_of(
        session, records, encryption, keeping_of(overrides.get("persist"), overrides.get("redact")), **timeout
    )
    await journal.settle()
    return await Replay(
        read=lambda found, whose: read_record(session, found, owner=whose, records=records, encryption=encryption),
        journal=journal,
        original=original,
        wanted=Wanted(source=source, options=options, **wanted),
        behaviour=behaviour,
        tools=offered,
        results=results,
        approved=approved,
        id=replay_id,
        wait=wait,
        told=told,
    ).opened(overrides)
