"""The journal's part in turns: durable points, and the ownership that they are written under."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from uuid import UUID

    from nodellm_orm.ports.approvals import Decision
    from nodellm_orm.ports.entries import AttemptClosed, Entry, TurnOpened
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.ownership import Hold, Take
    from nodellm_orm.ports.states import CallState
    from nodellm_orm.ports.workspace import Workspace


class TurnJournal(Protocol):
    """Where turns are written."""

    async def begin(
        self,
        take: Take,
        turn: TurnOpened,
        entries: Sequence[Entry],
        *,
        closing: Sequence[Entry] = (),
        again: bool = False,
    ) -> Hold:
        """Take the chat and write the first durable point of a turn.

        Args:
            take: who takes it and what he believes its state to be.
            turn: the new turn.
            entries: written with it (the user message, the first attempt).
            closing: entries that first close what the last turn left open (an interrupted or suspended one): results
                for its open calls, and nothing else. An interrupted turn becomes ``failed``, its open attempts
                ``unknown``.
            again: an earlier try of this very point may have been committed: then its hold is given.

        Raises:
            ChatNotFoundError: no such chat for this owner.
            Repeated: a turn with this idempotency key is there already; looked for before anything else.
            ChatBusyError: another turn holds it and its lease has not ended.
            Outdated: the chat moved on since the caller loaded it.
        """
        ...

    async def record(self, hold: Hold, entries: Sequence[Entry], *, again: bool = False) -> Hold:
        """Write one durable point under a hold, and extend its lease.

        Args:
            hold: proof of ownership, as the point before left it.
            entries: what happened.
            again: an earlier try of this very point may have been committed: then its hold is given.

        Raises:
            StaleChatError: the hold is no longer valid; nothing was written.
        """
        ...

    def workspace(self, floor: asyncio.Lock) -> Workspace:
        """Room for the tool of one call to write in the transaction that records its result; nothing is connected yet.

        Args:
            floor: of the call's round; the workspace has it from its first statement to its end.
        """
        ...

    async def take_over(
        self,
        chat_id: UUID,
        owner: str | None,
        turn_id: UUID,
        *,
        worker: str,
        lease: float,
        limit: int | None = None,
        interrupted: bool = False,
        again: bool = False,
    ) -> Hold:
        """Take a running turn whose lease has ended, or a suspended, failed or cancelled last turn, to carry it on.

        Open attempts become ``unknown``; running calls become ``unknown``. Only a running turn whose worker has not let
        go of it counts one take-over more.

        Args:
            chat_id: the chat.
            owner: whose it is.
            turn_id: its last turn.
            worker: who takes it.
            lease: seconds.
            limit: take-overs that are counted at most; the turn fails at the next one. ``None``: any number.
            interrupted: take it only while it is running.
            again: an earlier try of this very take-over may have been committed: then its hold is given.

        Raises:
            ChatBusyError: its lease has not ended, or another turn runs.
            ChatNotFoundError: no such chat for this owner.
            Exhausted: the limit was reached; the turn has failed with that.
            Outdated: it is not, or no longer, the last unfinished turn, or does not run; load the chat again.
        """
        ...

    async def cancel(self, chat_id: UUID, owner: Owner) -> bool:
        """End the running turn of a chat, whoever holds it: it becomes ``cancelled``, its worker cannot write any more.

        Open attempts and running calls become ``unknown``.

        Returns:
            Whether a turn was running.

        Raises:
            ChatNotFoundError: no such chat for this owner.
        """
        ...

    async def decide(self, chat_id: UUID, owner: Owner, decision: Decision) -> CallState:
        """Approve or deny a call that waits, while no turn runs; the same decision again changes nothing.

        Args:
            chat_id: the chat.
            owner: whose it is.
            decision: on one of its calls.

        Returns:
            The call as it is then: an approved one is ``pending``, and bound to its name and arguments.

        Raises:
            ChatNotFoundError: no such chat for this owner, or no such call in it.
            ChatError: the other decision was made, or the call does not wait for one.
            ChatBusyError: a turn is running, and the call is still undecided.
        """
        ...

    async def account(self, hold: Hold, closed: Sequence[AttemptClosed]) -> None:
        """Close the ledger rows of attempts whose chat was deleted: their answer is not stored, and was paid for.

        Nothing is done while the chat is there (then it is somebody else's, and so are its rows), and nothing but
        attempts of unknown outcome is changed.

        Args:
            hold: as it was when the attempts were made.
            closed: what came of them.
        """
        ...

    async def renew(self, holds: Sequence[Hold]) -> frozenset[UUID]:
        """Extend the leases of all holds in one statement where possible.

        Returns:
            The turn ids whose hold is no longer valid.
        """
        ...
