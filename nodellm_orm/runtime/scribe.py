"""Durable writes of one turn: shielded from cancellation, applied to the conversation once they are committed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from nodellm_orm.ports.journal import TurnEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from uuid import UUID

    from nodellm_orm.ports.journal import Entry, Hold, Journal, Take, TurnOpened
    from nodellm_orm.runtime.conversation import Conversation
    from nodellm_orm.runtime.plan import Durability

T = TypeVar("T")


async def durably(work: Coroutine[None, None, T], then: Callable[[T], None] | None = None) -> T:
    """Run work to its end even if the caller is cancelled meanwhile; then let the cancellation go on.

    Args:
        work: a database transaction.
        then: applied to its result before a cancellation is passed on, so that memory and rows agree.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if not task.done():
                cancelled = error
        except Exception:  # noqa: BLE001, S110 — the task keeps it; task.result() raises it below
            pass
    result = task.result()
    if then is not None:
        then(result)
    if cancelled is not None:
        raise cancelled
    return result


class Scribe:
    """Writes the durable points of one turn and keeps the hold that proves its ownership."""

    def __init__(
        self,
        journal: Journal,
        conversation: Conversation,
        committed: Callable[[Sequence[Entry]], None],
        durability: Durability = "step",
    ) -> None:
        """Prepare; nothing is held yet.

        Args:
            journal: where it is written.
            conversation: the chat as this process knows it.
            committed: told of every batch of entries of the turn once it is committed.
            durability: with ``turn``, points are kept back and written with the turn's end.
        """
        self._journal = journal
        self._conversation = conversation
        self._told = committed
        self._keep_back = durability == "turn"
        self._kept: list[Entry] = []
        self.hold: Hold | None = None

    async def begin(self, take: Take, turn: TurnOpened, entries: Sequence[Entry], closing: Sequence[Entry]) -> None:
        """Write the first point and take the chat."""

        def then(hold: Hold) -> None:
            self.hold = hold
            self._conversation.fence = hold.fence
            self._conversation.committed([*closing, *entries])
            self._told(entries)

        await durably(self._journal.begin(take, turn, entries, closing=closing), then)

    async def take_over(self, turn_id: UUID, *, worker: str, lease: float) -> None:
        """Take a turn that was left unfinished."""
        head = self._conversation.head

        def then(hold: Hold) -> None:
            self.hold = hold
            self._conversation.fence = hold.fence

        await durably(self._journal.take_over(head.id, head.owner, turn_id, worker=worker, lease=lease), then)

    async def write(self, *entries: Entry) -> None:
        """Write one durable point.

        Args:
            entries: what happened, in order.
        """
        hold = self.hold
        if hold is None:
            msg = "nothing is held; begin or take over first"
            raise AssertionError(msg)
        if self._keep_back and not isinstance(entries[-1], TurnEnded):
            self._kept += entries
            self._conversation.committed(entries)
            self._told(entries)
            return
        kept, self._kept = self._kept, []

        def committed(renewed: Hold) -> None:
            self.hold = None if isinstance(entries[-1], TurnEnded) else renewed
            self._conversation.committed(entries)
            self._told(entries)

        await durably(self._journal.record(hold, [*kept, *entries]), committed)
