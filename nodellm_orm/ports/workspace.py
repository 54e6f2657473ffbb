"""The seam of `ToolContext.session`: a tool's own transaction, which ends with the point that records its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from nodellm_orm.errors import UnsupportedFeatureError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncSession

    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.ownership import Hold

OWN_SESSION: Final = (
    "open a session of your own engine in the tool and store context.idempotency_key with what you write, so that a "
    "repeated call finds it done"
)
"""What a tool does that has no workspace."""


class Withdrawn(Exception):  # noqa: N818 — a signal between journal and runtime, never seen by users
    """A workspace was not committed, and that is certain: nothing that its tool wrote is there, nor is its result.

    The cause is the database's error. The hold is as it was: another outcome can be recorded under it.
    """


class Workspace(Protocol):
    """One call's transaction on the chat's database.

    It is connected by the first statement of its session and by nothing else. From there on to its end it has the
    *floor* of its round: the lock that it was made with. Whoever writes a durable point of the same round takes the
    floor first, so that nothing waits in the database for what can only come after it.
    """

    @property
    def session(self) -> AsyncSession:
        """The session that the tool works with, always the same.

        Raises:
            UnsupportedFeatureError: there is none.
            SessionStateError: the call is over.
        """
        ...

    @property
    def used(self) -> bool:
        """Whether it has the floor, and possibly a transaction."""
        ...

    async def complete(self) -> None:
        """The tool has returned: send what is pending in its session, and let nothing follow.

        Raises:
            Exception: whatever the database says of the tool's rows.
        """
        ...

    async def record(self, hold: Hold, entries: Sequence[Entry], *, again: bool = False) -> Hold:
        """Write one durable point in the workspace's transaction and commit it; or neither that nor the tool's rows.

        However it ends, the workspace is closed.

        Args:
            hold: as for `Journal.record`.
            entries: as for `Journal.record`.
            again: an earlier try of this very point was broken off, and may have been committed.

        Raises:
            Withdrawn: the transaction failed, and is known to have been rolled back.
            StaleChatError: the hold is no longer valid; everything was rolled back.
            StorageError: nobody can say yet what came of it.
        """
        ...

    async def discard(self) -> None:
        """Roll back and close, unless that has been done; never raises but when it is cancelled."""
        ...


class NoWorkspace:
    """A workspace that is not to be had.

    Args:
        why: what the tool is told, with what to do instead.
    """

    def __init__(self, why: str) -> None:
        """Keep the words."""
        self._why = why

    def _refuse(self) -> NoReturn:
        raise UnsupportedFeatureError(self._why)

    @property
    def session(self) -> AsyncSession:
        """See `Workspace.session`; always refused."""
        self._refuse()

    @property
    def used(self) -> bool:
        """See `Workspace.used`."""
        return False

    async def complete(self) -> None:
        """See `Workspace.complete`; there is nothing to send."""

    async def record(self, hold: Hold, entries: Sequence[Entry], *, again: bool = False) -> Hold:
        """See `Workspace.record`; always refused."""
        del hold, entries, again
        self._refuse()

    async def discard(self) -> None:
        """See `Workspace.discard`; there is nothing to roll back."""
