"""The integrity of a chat, or of all: `verify` reads, compares, and changes nothing."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

from sqlalchemy import literal, select

from nodellm_orm.errors import SchemaVersionError, StorageError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.runtime.chat_ids import chat_id_of
from nodellm_orm.runtime.refusals import refuse_limit, refuse_owner, refuse_uncallable
from nodellm_orm.store.access import open_access
from nodellm_orm.store.guard import not_found, state_of
from nodellm_orm.store.records import chosen_records
from nodellm_orm.upkeep import sweeps
from nodellm_orm.upkeep.findings import Notebook, Tally, VerifyProgress
from nodellm_orm.upkeep.rules.chat import check_chat
from nodellm_orm.upkeep.stored import count_chats, page_of_chats, read_batch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Records, Tables
    from nodellm_orm.store.encryption import Encryption
    from nodellm_orm.upkeep.findings import Stage, VerifyReport
    from nodellm_orm.upkeep.stored import StoredChat
    from nodellm_orm.upkeep.sweeps import Key

T = TypeVar("T")

_CHATS: Final = 100
"""Chats a batch."""
_MESSAGES: Final = 2000
"""Messages a batch, unless a single chat has more."""
_REQUESTS: Final = 1000
_DIGESTS: Final = 200
_PATIENCE: Final = 5
"""How often a chat that is written in while it is read is read again."""


async def verify(
    session: AsyncEngine | async_sessionmaker[AsyncSession] | AsyncSession,
    chat_id: UUID | str | None = None,
    *,
    owner: Owner = ANY_OWNER,
    records: Records | None = None,
    encryption: Encryption | None = None,
    limit: int = 1000,
    progress: Callable[[VerifyProgress], Awaitable[None] | None] | None = None,
) -> VerifyReport:
    """Check whether what is stored of a chat, or of all chats, agrees with itself; nothing is changed.

    Messages are replayed from ``parts``; everything else in the rows repeats or completes it, and is compared with it:
    places, texts, thinking, tool calls and their results, files and their bytes, turns and who works on them, the
    ledger. Chats may be in use meanwhile.

    Args:
        session: an `AsyncEngine`, an `async_sessionmaker`, or an `AsyncSession`.
        chat_id: one chat, its request rows, files and texts; all of them when omitted.
        owner: only what is this owner's, ``None``: what is nobody's; everybody's when omitted.
        records: own records, from `define_records`.
        encryption: the keys that content is encrypted with; without them only what is not encrypted is checked.
        limit: findings and notes to keep of each; further ones are only counted.
        progress: a function, plain or async, that is called after each batch that was looked at.

    Raises:
        ChatNotFoundError: there is no such chat for this owner.
        SchemaVersionError: the tables are missing or of another version.
        StorageError: the database failed.

    Example:
        >>> report = await verify(engine)                            # doctest: +SKIP
        >>> report.ok, [str(finding) for finding in report.findings]  # doctest: +SKIP
        (True, [])
    """
    refuse_owner(owner, anybody=ANY_OWNER)
    refuse_limit("limit", limit)
    refuse_uncallable("progress", progress)
    chosen = chosen_records(records, encryption)
    verification = _Verification(
        access=open_access(session, chosen),
        tables=chosen.tables,
        owner=owner,
        tally=Tally(limit=limit),
        progress=progress,
    )
    if chat_id is None:
        await verification.everything()
    else:
        await verification.one(chat_id_of(chat_id))
    return verification.tally.report()


@dataclass(slots=True, kw_only=True)
class _Verification:
    """One run, which never holds more than a batch."""

    access: Access
    tables: Tables
    owner: Owner
    tally: Tally
    progress: Callable[[VerifyProgress], Awaitable[None] | None] | None
    _done: dict[Stage, int] = field(default_factory=dict)
    _last: StoredChat | None = None
    """The chat that was looked at last."""

    async def everything(self) -> None:
        """All chats, then the ledger, the contents of files, and the texts."""
        await self._all_chats()
        await self._requests(None)
        await self._all_contents("files", self._files)
        await self._all_contents("texts", self._texts)

    async def one(self, chat_id: UUID) -> None:
        """One chat, with what is its own in the other tables."""

        def exists(connection: Connection) -> None:
            if state_of(connection, self.tables.chats, chat_id, self.owner) is None:
                not_found(chat_id)

        await self.access.read(exists)
        await self._batch([chat_id])
        await self._told("chats", 1, 1)
        await self._requests(chat_id)
        chat = self._last
        if chat is None:
            return
        owner = chat.row["owner"]
        for digest in chat.file_digests:
            await self._files([(owner, digest)])
            await self._told("files", 1, len(chat.file_digests))
        if texts := [(owner, digest) for digest in chat.text_digests]:
            await self._texts(texts)
            await self._told("texts", len(texts), len(texts))

    async def _told(self, stage: Stage, more: int, total: int) -> None:
        self._done[stage] = done = self._done.get(stage, 0) + more
        if self.progress is None:
            return
        told = self.progress(VerifyProgress(stage=stage, done=done, total=max(total, done)))
        if inspect.isawaitable(told):
            await told

    # ── chats ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _all_chats(self) -> None:
        total = await self.access.read(lambda c: count_chats(c, self.tables, self.owner))
        after: UUID | None = None
        while True:
            place = after
            page = await self.access.read(lambda c: page_of_chats(c, self.tables, self.owner, place, _CHATS))  # noqa: B023 — awaited before the next round
            readable = [(key, size) for key, size in page if isinstance(key, UUID)]
            self._unreadable_ids(len(page) - len(readable))
            for ids in _batches(readable):
                await self._batch(ids)
                await self._told("chats", len(ids), total)
            if len(page) < _CHATS or not readable:
                return
            after = readable[-1][0]

    def _unreadable_ids(self, number: int) -> None:
        for _ in range(number):
            book = Notebook(chat_id=None)
            book.damage(self.tables.chats.name, None, "unreadable", "id cannot be read")
            self.tally.add(book)

    async def _batch(self, ids: Sequence[UUID]) -> None:
        changed = await self._chats(ids)
        for chat_id in changed:
            for _ in range(_PATIENCE):
                if not await self._chats([chat_id]):
                    break
            else:
                book = Notebook(chat_id=chat_id)
                book.note(self.tables.chats.name, chat_id, "busy", "the chat kept changing; verify it again")
                self.tally.add(book)

    async def _chats(self, ids: Sequence[UUID]) -> Sequence[UUID]:
        """Check chats; those that have changed meanwhile are given back, and nothing is said of them."""
        try:
            batch = await self.access.read(lambda c: read_batch(c, self.tables, ids))
        except SchemaVersionError:
            raise
        except StorageError as error:
            return await self._one_by_one(ids, error)
        for chat in batch.chats:
            if chat.id not in batch.changed:
                self._take(chat)
        return batch.changed

    async def _one_by_one(self, ids: Sequence[UUID], error: StorageError) -> Sequence[UUID]:
        """Rows that the driver itself cannot read fail the whole batch: find the chat they belong to."""
        await self.access.read(lambda c: c.execute(select(literal(1))).scalar_one())  # it is not the database itself
        if len(ids) > 1:
            return [changed for key in ids for changed in await self._chats([key])]
        book = Notebook(chat_id=ids[0])
        book.damage(self.tables.chats.name, ids[0], "unreadable", f"rows of the chat cannot be read: {error}"[:300])
        self.tally.add(book)
        self.tally.count(chats=1)
        return []

    def _take(self, chat: StoredChat) -> None:
        self._last = chat
        self.tally.add(check_chat(self.tables, chat))
        self.tally.count(chats=1, messages=len(chat.messages), turns=len(chat.turns), calls=len(chat.calls))

    # ── what outlives chats, or is shared by them ─────────────────────────────────────────────────────────────────

    async def _requests(self, chat_id: UUID | None) -> None:
        owner = self.owner if chat_id is None else ANY_OWNER
        total = 0
        if chat_id is None:
            total = await self.access.read(lambda c: sweeps.count_rows(c, self.tables.requests, owner))
        after: UUID | None = None
        while True:
            place = after
            books, after = await self.access.read(
                lambda c: sweeps.page_of_requests(c, self.tables, owner, chat_id, place, _REQUESTS)  # noqa: B023 — awaited before the next round
            )
            for book in books:
                self.tally.add(book)
            self.tally.count(requests=len(books))
            await self._told("requests", len(books), total)
            if len(books) < _REQUESTS or after is None:
                return

    async def _all_contents(self, stage: Stage, check: Callable[[Sequence[Key]], Awaitable[None]]) -> None:
        table = self.tables.blobs if stage == "files" else self.tables.texts
        total = await self.access.read(lambda c: sweeps.count_rows(c, table, self.owner))
        after: Key | None = None
        while True:
            place = after
            page = await self.access.read(lambda c: sweeps.page_of_digests(c, table, self.owner, place, _DIGESTS))  # noqa: B023 — awaited before the next round
            for keys in sweeps.parcels(page):
                await check(keys)
                await self._told(stage, len(keys), total)
            if len(page) < _DIGESTS:
                return
            after = page[-1][0]

    async def _files(self, keys: Sequence[Key]) -> None:
        self.tally.add(await self.access.read(lambda c: sweeps.check_files(c, self.tables, keys)))
        self.tally.count(files=len(keys))

    async def _texts(self, keys: Sequence[Key]) -> None:
        self.tally.add(await self.access.read(lambda c: sweeps.check_texts(c, self.tables, keys)))
        self.tally.count(texts=len(keys))


def _batches(page: Sequence[tuple[UUID, int]]) -> list[list[UUID]]:
    """Ids in groups whose chats say to have not too many messages."""
    groups: list[list[UUID]] = []
    room = 0
    for key, size in page:
        if not groups or size > room:
            groups.append([])
            room = _MESSAGES
        groups[-1].append(key)
        room -= max(size, 0)
    return groups
