"""`replay_chats`: many chats asked again, side by side within a limit, each of them by itself."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid5

from nodellm_orm.client import list_chats
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.neutral import source_of
from nodellm_orm.replay.asking import started
from nodellm_orm.replay.report import ReplayProgress, ReplayReport
from nodellm_orm.replay.running import REPLAY_OF
from nodellm_orm.runtime.chat_ids import chat_id_of
from nodellm_orm.runtime.clock import new_id
from nodellm_orm.runtime.refusals import refuse_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from nodellm_orm.client import Database
    from nodellm_orm.llm import LLM
    from nodellm_orm.ports.llm import LLMClient
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.replay.results import Results
    from nodellm_orm.replay.running import Replay
    from nodellm_orm.runtime.tools import ToolSource
    from nodellm_orm.store.define import Records
    from nodellm_orm.store.encryption import Encryption


async def replay_chats(
    session: Database,
    chats: Iterable[UUID | str] | Mapping[str, object],
    llm: LLM | LLMClient,
    *,
    owner: Owner = None,
    concurrency: int = 4,
    run: str | None = None,
    progress: Callable[[ReplayProgress], object] | None = None,
    model: str | None = None,
    provider: str | None = None,
    instructions: str | Sequence[str] | None = None,
    tools: Iterable[ToolSource] = (),
    results: Results = "recorded",
    approved: bool = False,
    wait: float = 0,
    records: Records | None = None,
    encryption: Encryption | None = None,
    **overrides: Any,
) -> AsyncIterator[ReplayReport]:
    """Replay many chats, a few at a time, and give each report as it is ready.

    A chat whose replay breaks off is no end: its report says with what, and has the turns that were asked.

    Args:
        session: an `AsyncEngine` or an `async_sessionmaker`; an `AsyncSession` works as well.
        chats: ids, or members that a chat's metadata must have, as for `list_chats`; ``{}`` means all chats of the
            owner. Chats that are replays themselves are left out of a search.
        llm: as for `replay_chat`.
        owner: of all these chats; `ANY_OWNER` means anybody's.
        concurrency: chats at a time.
        run: a name of the whole: a run of the same name that was broken off goes on, and asks nothing twice.
        progress: told after each question and each chat; may be async.
        model: as for `replay_chat`, and so are all others.
        provider: see ``model``.
        instructions: see ``model``.
        tools: see ``model``.
        results: see ``model``.
        approved: see ``model``.
        wait: see ``model``.
        records: see ``model``.
        encryption: see ``model``.
        overrides: see ``model``.

    Raises:
        ConfigurationError: an option cannot be meant.

    Example:
        >>> async for report in replay_chats(engine, {"team": "blue"}, llm, model="gpt-5", run="gpt-5 in March"):
        ...     print(report.chat_id, report.equal, report.cost_difference)
    """
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        msg = f"concurrency is a number of chats, 1 or more, not {concurrency!r:.100}"
        raise ConfigurationError(msg)
    refuse_text("run", run)
    source = source_of(llm)  # one for all of them
    ids = await _found(session, chats, owner=owner, records=records, encryption=encryption)
    crowd = _Crowd(len(ids), progress or (lambda _: None))
    settings: dict[str, Any] = {
        "owner": owner,
        "wanted": {"model": model, "provider": provider, "instructions": instructions},
        "tools": tuple(tools),
        "results": results,
        "approved": approved,
        "wait": wait,
        "told": crowd.turn,
        "records": records,
        "encryption": encryption,
        "overrides": overrides,
    }

    async def one(chat_id: UUID) -> ReplayReport:
        replay_id = new_id() if run is None else replay_id_of(chat_id, run)
        report = await _replayed(
            chat_id, replay_id, lambda: started(session, chat_id, source, replay_id=replay_id, **settings)
        )
        await crowd.chat(report)
        return report

    waiting, under_way = iter(ids), set[asyncio.Task[ReplayReport]]()
    try:
        while True:
            while len(under_way) < concurrency and (chat_id := next(waiting, None)) is not None:
                under_way.add(asyncio.create_task(one(chat_id), name=f"replay of chat {chat_id}"))
            if not under_way:
                return
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)


def replay_id_of(chat_id: UUID, run: str) -> UUID:
    """The id of a chat's replay in a run.

    Args:
        chat_id: the chat that is replayed.
        run: the name of the run.
    """
    return uuid5(chat_id, f"{REPLAY_OF}:{run}")


async def _replayed(chat_id: UUID, replay_id: UUID, start: Callable[[], Any]) -> ReplayReport:
    """One chat, whatever comes of it."""
    replay: Replay | None = None
    try:
        replay = cast("Replay", await start())
        await replay.run()
        return await replay.report()
    except Exception as error:  # noqa: BLE001 — one chat that fails is told of, and stops no other
        told = f"{type(error).__name__}: {error}"
        if replay is not None:
            try:
                return await replay.report(told)
            except Exception as further:  # noqa: BLE001 — then there is only the error to tell of
                told = f"{told}; then {type(further).__name__}: {further}"
        return ReplayReport(chat_id=chat_id, replay_id=replay_id, error=told)


class _Crowd:
    """Counts chats for whoever watches."""

    def __init__(self, chats: int, told: Callable[[ReplayProgress], object]) -> None:
        self._chats, self._done, self._told = chats, 0, told

    async def turn(self, progress: ReplayProgress) -> None:
        """A question was asked."""
        await self._tell(replace(progress, chats_done=self._done, chats=self._chats))

    async def chat(self, report: ReplayReport) -> None:
        """A chat is done."""
        self._done += 1
        await self._tell(
            ReplayProgress(
                chat_id=report.chat_id,
                turn=len(report.turns),
                turns=report.asked,
                chats_done=self._done,
                chats=self._chats,
            )
        )

    async def _tell(self, progress: ReplayProgress) -> None:
        outcome = self._told(progress)
        if inspect.isawaitable(outcome):
            await outcome


async def _found(
    session: Database,
    chats: Iterable[UUID | str] | Mapping[str, object],
    *,
    owner: Owner,
    records: Records | None,
    encryption: Encryption | None,
) -> list[UUID]:
    """The chats that are meant, each once."""
    if isinstance(chats, str) or not isinstance(chats, Iterable):
        msg = f"chats are ids, or members of their metadata, not {chats!r:.100}"
        raise ConfigurationError(msg)
    if not isinstance(chats, Mapping):
        return list(dict.fromkeys(chat_id_of(chat_id) for chat_id in chats))
    found: list[UUID] = []
    after: str | None = None
    while True:
        page = await list_chats(
            session, owner=owner, metadata=chats, after=after, records=records, encryption=encryption
        )
        found += [chat.id for chat in page if REPLAY_OF not in chat.metadata]
        if page.next is None:
            return found
        after = page.next
