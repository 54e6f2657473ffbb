"""Chats of a file on their way into the database: written where they are not there, compared where they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Final

from nodellm_orm.errors import ChatBusyError, ChatError, StorageError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.store.access import open_access
from nodellm_orm.transfer.chatlines import ChatLines
from nodellm_orm.transfer.exporting import PER_MESSAGE
from nodellm_orm.transfer.inserting import ChatInsertion, ContentsInsertion, chat_owners

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from nodellm_orm.store.access import Access
    from nodellm_orm.store.define import Records
    from nodellm_orm.transfer.inserting import Target
    from nodellm_orm.transfer.reports import Counts
    from nodellm_orm.transfer.segments import Segment

_PATIENCE: Final = 5
"""How often a chat that is written in while it is compared is read again."""


@dataclass(slots=True, kw_only=True)
class Placing:
    """Puts chats in their place, several in one transaction; what they do not do together each does alone.

    Args:
        session: the database, as it was given.
        records: the records.
        access: the database.
        target: where to.
        counts: is told of each chat that is in its place.
    """

    session: object
    records: Records
    access: Access
    target: Target
    counts: Counts
    written: int = 0
    """Chats that were written."""
    unchanged: int = 0
    """Chats that were there, with the same in them."""
    kept: list[UUID] = field(default_factory=list)
    """Chats that were there with something else in them."""
    kept_requests: int = 0

    async def __call__(self, segments: Sequence[Segment]) -> None:
        """Put chats in their place, one after another.

        Args:
            segments: the chats in their order.

        Raises:
            ChatError: a chat is there with something else in it; those before it are in their place.
            StorageError: likewise, when the database failed.
        """
        there = await self._there(segments)
        for known, run in groupby(segments, key=lambda segment: segment.id in there):
            await (self._compare if known else self._insert)(list(run))

    async def _there(self, segments: Sequence[Segment]) -> dict[UUID, str | None]:
        ids = [segment.id for segment in segments]
        return await self.access.read(lambda c: chat_owners(c, self.target.tables, ids))

    def _patient(self, segments: Sequence[Segment]) -> Access:
        """The same database, with the time that so many lines may take."""
        lines = sum(segment.last - segment.first for segment in segments)
        return open_access(self.session, self.records, deadline=self.access.deadline + PER_MESSAGE * lines)

    # ── chats that are not there ──────────────────────────────────────────────────────────────────────────────────

    async def _insert(self, segments: list[Segment]) -> None:
        insertion = ChatInsertion(target=self.target, segments=segments)
        try:
            rows = await self._patient(segments).run(insertion, confirm=insertion.confirm)
        except (ChatError, StorageError) as error:
            if len(segments) == 1:
                await self._refused(segments[0], error)
                return
        else:
            self.written += len(segments)
            self.kept_requests += insertion.kept
            self.counts.rows += rows
            self._tell(len(segments))
            return
        # Nothing of them was written. One by one, it is told which of them it is, and those before it stay.
        for segment in segments:
            await self([segment])

    async def _refused(self, segment: Segment, error: ChatError | StorageError) -> None:
        """A chat could not be written: perhaps because somebody else has just done so."""
        if isinstance(error, ChatError) or not await self._there([segment]):
            raise _told(segment, error) from error
        await self._compare([segment])

    # ── chats that are there ──────────────────────────────────────────────────────────────────────────────────────

    async def _compare(self, segments: list[Segment]) -> None:
        """Chats that are there: with the same in them, or with something else."""
        digests = await self._digests(segments)
        if digests is None:
            for segment in segments:
                await self._compare([segment])
            return
        passed: list[Segment] = []
        try:
            for segment in segments:
                if digests.get(segment.id) == segment.digest:
                    self.unchanged += 1
                elif self.target.keep:
                    self.kept.append(segment.id)
                else:
                    raise _conflict(segment)
                passed.append(segment)
        finally:
            await self._bring([segment for segment in passed if segment.rows["texts"] or segment.rows["blobs"]])
            self._tell(len(passed))

    async def _digests(self, segments: Sequence[Segment]) -> dict[UUID, str] | None:
        """What is stored of chats that belong to whom they have to; ``None``: they change, take each alone."""
        lines = ChatLines(tables=self.target.tables, layout=self.target.layout, owner=ANY_OWNER)
        there = await self._there(segments)
        same = {
            segment.id: segment.owner
            for segment in segments
            if segment.id in there and there[segment.id] == self.target.owner_of(segment.owner)
        }
        access = self._patient(segments)
        for _ in range(_PATIENCE if len(segments) == 1 else 1):
            found, moved = await access.read(lambda c: lines.digests(c, same))
            if not moved:
                return found
        if len(segments) > 1:
            return None
        chat_id = segments[0].id
        msg = f"chat {chat_id} is stored already, and kept changing while it was compared; import again when it rests"
        raise ChatBusyError(msg)

    async def _bring(self, segments: list[Segment]) -> None:
        """Files and texts that come with chats that stay as they are, for chats that follow in the file."""
        if segments:
            await self._patient(segments).run(ContentsInsertion(target=self.target, segments=segments))

    def _tell(self, chats: int) -> None:
        for _ in range(chats):
            self.counts.seen += 1
            self.counts.tell("chats")


def _conflict(segment: Segment) -> ChatError:
    return ChatError(
        f"chat {segment.id} (line {segment.first} of the file) is stored already, with something else in it or "
        'for another owner; on_conflict="skip" leaves such chats as they are; to have the one of the file, '
        "delete the stored one first"
    )


def _told(segment: Segment, error: ChatError | StorageError) -> ChatError | StorageError:
    """The same error, with the lines that it is about."""
    where = f"chat {segment.id} (lines {segment.first} to {segment.last} of the file) could not be imported: {error}"
    if isinstance(error, StorageError):
        return type(error)(where, details={**error.details, "line": segment.first})
    return ChatError(where)
