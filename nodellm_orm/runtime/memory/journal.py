"""A journal that lives in memory: for chats that need no database, and the reference the databases are held to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nodellm_orm.errors import ChatNotFoundError, ConfigurationError
from nodellm_orm.ports.branches import branch_of
from nodellm_orm.ports.entries import MessageAdded
from nodellm_orm.ports.ownership import Outdated
from nodellm_orm.runtime.memory.remembered import RememberedChat, moment
from nodellm_orm.runtime.memory.turns import MemoryTurns

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from uuid import UUID

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.branches import Cut
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.states import ChatHead, Snapshot


class MemoryJournal(MemoryTurns):
    """Chats kept in this process only; leases run on the given clock.

    Args:
        clock: measures the leases and dates the chats.

    Example:
        >>> from nodellm_orm.runtime.clock import SystemClock
        >>> journal = MemoryJournal(SystemClock())
    """

    @property
    def concurrent(self) -> bool:
        """See `Journal.concurrent`."""
        return True

    @property
    def database(self) -> Hashable:
        """See `Journal.database`."""
        return id(self)

    async def settle(self) -> None:
        """See `Journal.settle`; there is no session here."""

    async def create(
        self,
        head: ChatHead,
        messages: Sequence[tuple[UUID, Message]] = (),
        *,
        values: Mapping[str, object] | None = None,
    ) -> Snapshot:
        """See `Journal.create`."""
        if values:
            msg = "a chat in memory has no further columns; keep such values in its metadata"
            raise ConfigurationError(msg)
        return self.keep(head, messages)

    def keep(self, head: ChatHead, messages: Sequence[tuple[UUID, Message]] = ()) -> Snapshot:
        """As `create`, without an event loop: there is nothing to wait for.

        Args:
            head: the new chat.
            messages: what it begins with.
        """
        if head.id not in self._chats:
            now = moment(self._clock.monotonic())
            dated = replace(head, version=0, created_at=now, updated_at=now)
            self._chats[head.id] = RememberedChat(dated, _placed(messages, 0))
        return self._snapshot(self._find(head.id, head.owner))

    async def delete(self, chat_id: UUID, owner: Owner) -> bool:
        """See `Journal.delete`."""
        try:
            self._find(chat_id, owner)
        except ChatNotFoundError:
            return False
        del self._chats[chat_id]
        return True

    async def update(self, head: ChatHead) -> ChatHead:
        """See `Journal.update`."""
        chat = self._find(head.id, head.owner)
        if head.version != chat.head.version:
            raise Outdated
        chat.head = replace(head, version=chat.head.version + 1, created_at=chat.head.created_at)
        self._touch(chat)
        return chat.head

    async def append(self, head: ChatHead, fence: int, messages: Sequence[tuple[UUID, Message]]) -> Snapshot:
        """See `Journal.append`."""
        chat = self._find(head.id, head.owner)
        if chat.active is not None:
            raise self._busy(chat)
        if chat.fence != fence:
            raise Outdated
        chat.fence += 1
        chat.messages.extend(_placed(messages, len(chat.messages)))
        self._touch(chat)
        return self._snapshot(chat, None)

    async def fork(self, head: ChatHead, cut: Cut, closing: Sequence[Entry] = ()) -> Snapshot:
        """See `Journal.fork`."""
        if head.id in self._chats:
            return branch_of(self._snapshot(self._find(head.id, head.owner), None), cut.chat_id)
        parent = self._find(cut.chat_id, cut.owner)
        if (parent.fence, parent.step) != (cut.fence, cut.step):
            raise Outdated
        kept = parent.messages[: cut.length]
        added = [(entry.id, entry.message) for entry in closing if isinstance(entry, MessageAdded)]
        now = moment(self._clock.monotonic())
        dated = replace(head, version=0, created_at=now, updated_at=now)
        branch = RememberedChat(dated, [*kept, *_placed(added, len(kept))])
        branch.superseded = parent.superseded & {key for key, _ in kept}
        self._chats[head.id] = branch
        return self._snapshot(branch, None)


def _placed(messages: Sequence[tuple[UUID, Message]], first: int) -> list[tuple[UUID, Message]]:
    return [(key, replace(message, position=position)) for position, (key, message) in enumerate(messages, first)]
