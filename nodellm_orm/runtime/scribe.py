"""Durable writes of one turn: shielded from cancellation, applied to the conversation once they are committed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from nodellm_orm.ports.entries import AttemptClosed, CallStarted, TurnEnded, TurnReleased

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from uuid import UUID

    from nodellm_orm.ports.ambient import Clock
    from nodellm_orm.ports.entries import Entry, TurnOpened
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.ownership import Hold, Take
    from nodellm_orm.ports.workspace import Workspace
    from nodellm_orm.runtime.conversation import Conversation, HeadChange
    from nodellm_orm.runtime.plan import Durability

T = TypeVar("T")

_TRIES = 3
"""How often a write is made again that the end of the event loop has cancelled."""


async def durably(make: Callable[[bool], Coroutine[None, None, T]], then: Callable[[T], None] | None = None) -> T:
    """Run work to its end even if the caller is cancelled meanwhile; then let the cancellation go on.

    When the event loop is closing down it cancels every task, also the one that writes: the work is then made again,
    and told that an earlier attempt may have been committed.

    Args:
        make: makes a database transaction; its argument says whether an earlier attempt may have happened.
        then: applied to its result before a cancellation is passed on, so that memory and rows agree.
    """
    cancelled: asyncio.CancelledError | None = None
    tries = 0
    while True:
        task = asyncio.ensure_future(make(tries > 0))
        tries += 1
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                own = asyncio.current_task()
                # It is ours unless it is only that of the task that writes.
                if not task.cancelled() or (own is not None and own.cancelling()):
                    cancelled = error
            except Exception:  # noqa: BLE001, S110 — the task keeps it; task.result() raises it below
                pass
        if not task.cancelled() or tries >= _TRIES:
            break
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
        clock: Clock,
        committed: Callable[[Sequence[Entry]], None],
        durability: Durability = "step",
    ) -> None:
        """Prepare; nothing is held yet.

        Args:
            journal: where it is written.
            conversation: the chat as this process knows it.
            clock: tells when the lease was last extended.
            committed: told of every batch of entries of the turn once it is committed.
            durability: with ``turn``, points are kept back and written with the turn's end.
        """
        self._journal = journal
        self._conversation = conversation
        self._clock = clock
        self._told = committed
        self._keep_back = durability == "turn"
        self._kept: list[Entry] = []
        self.hold: Hold | None = None
        self.extended_at = 0.0
        """When the lease was last extended, on the process's clock."""

    def extended(self) -> None:
        """The lease was extended just now."""
        self.extended_at = self._clock.monotonic()

    def _holds(self, hold: Hold) -> None:
        self.hold = hold
        self._conversation.fence, self._conversation.step = hold.fence, hold.step
        self.extended()

    async def begin(
        self,
        take: Take,
        turn: TurnOpened,
        entries: Sequence[Entry],
        closing: Sequence[Entry],
        changes: Sequence[HeadChange] = (),
    ) -> None:
        """Write the first point and take the chat.

        Args:
            take: who takes it, and its head when that is to be saved.
            turn: the new turn.
            entries: what is written with it.
            closing: what first closes the last turn.
            changes: those that are in the head.
        """

        def then(hold: Hold) -> None:
            self._holds(hold)
            if take.head is not None:
                self._conversation.saved(replace(take.head, version=take.version + 1), changes)
            self._conversation.last_turn = None
            self._conversation.committed([*closing, *entries])
            self._told(entries)

        def make(again: bool) -> Coroutine[None, None, Hold]:  # noqa: FBT001 — the shape `durably` asks for
            return self._journal.begin(take, turn, entries, closing=closing, again=again)

        await durably(make, then)

    async def take_over(
        self, turn_id: UUID, *, worker: str, lease: float, limit: int | None = None, interrupted: bool = False
    ) -> None:
        """Take a turn that was left unfinished.

        Args:
            turn_id: the turn.
            worker: who takes it.
            lease: seconds.
            limit: take-overs at most, see `Journal.take_over`.
            interrupted: take it only while it is running.
        """
        head = self._conversation.head

        def make(again: bool) -> Coroutine[None, None, Hold]:  # noqa: FBT001 — the shape `durably` asks for
            return self._journal.take_over(
                *(head.id, head.owner, turn_id),
                worker=worker,
                lease=lease,
                limit=limit,
                interrupted=interrupted,
                again=again,
            )

        await durably(make, self._holds)

    def workspace(self, floor: asyncio.Lock) -> Workspace:
        """Room for a tool to write in the transaction that records its result, see `Journal.workspace`."""
        return self._journal.workspace(floor)

    async def write(self, *entries: Entry, within: Workspace | None = None) -> None:
        """Write one durable point.

        Args:
            entries: what happened, in order.
            within: the workspace whose transaction it ends; the point is then written at once, with what was kept back.

        Raises:
            Withdrawn: that transaction was rolled back, and the point with it.
        """
        hold = self.hold
        if hold is None:
            msg = "nothing is held; begin or take over first"
            raise AssertionError(msg)
        ends = isinstance(entries[-1], TurnEnded | TurnReleased)
        # A stored call that runs unsaid would run again when its worker dies.
        at_once = ends or within is not None or any(isinstance(entry, CallStarted) for entry in entries)
        if self._keep_back and not at_once:
            self._kept += entries
            self._conversation.committed(entries)
            self._told(entries)
            return
        point = [*self._kept, *entries]

        def then(renewed: Hold) -> None:
            self._kept.clear()
            self._holds(renewed)
            if ends:
                self.hold = None
            self._conversation.committed(entries)
            self._told(entries)

        def make(again: bool) -> Coroutine[None, None, Hold]:  # noqa: FBT001 — the shape `durably` asks for
            record = self._journal.record if within is None else within.record
            return record(hold, point, again=again)

        await durably(make, then)

    async def account(self, closed: AttemptClosed | None) -> None:
        """The chat is lost; if it was deleted, close the ledger rows of its calls, and write nothing else.

        Args:
            closed: what is known of the attempt still open.
        """
        hold = self.hold
        paid = [entry for entry in (*self._kept, closed) if isinstance(entry, AttemptClosed)]
        if hold is not None and paid:
            await durably(lambda _: self._journal.account(hold, paid))
