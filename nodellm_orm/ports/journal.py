"""The journal seam: what is written, when, and under whose ownership.

A durable point is a tuple of *entries* applied in one transaction. Every point but the first is guarded: it is
applied only while the writer still holds the chat (same turn, same worker, same fence), otherwise nothing is written
and `StaleChatError` is raised. Every point is re-executable: ids are chosen by the caller and the chat's ``step``
counter tells whether a point of unknown outcome has happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from nodellm_orm.domain.windows import EVERYTHING
from nodellm_orm.ports.turns import TurnJournal

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.pages import ChatSummary, InterruptedTurn, Page
    from nodellm_orm.domain.windows import Window
    from nodellm_orm.ports.branches import Cut
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.owners import Owner
    from nodellm_orm.ports.states import ChatHead, ChatTotals, Snapshot, TurnState


class Journal(TurnJournal, Protocol):
    """Where chats are kept: a database, or memory. Both pass the same conformance suite."""

    @property
    def concurrent(self) -> bool:
        """Whether a second task may use the journal beside a turn; if not, only durable points renew its lease."""
        ...

    @property
    def database(self) -> Hashable:
        """Equal for journals that write to the same tables: leases under all of them are renewed together."""
        ...

    async def settle(self) -> None:
        """Come to terms with the caller's own session before a turn; called in the caller's task, not the turn's.

        His pending work is committed, alone and once, without expiring his objects; after that his session is not
        touched. A journal that was not given a session has nothing to do.

        Raises:
            SessionStateError: the session is closed, or inside an explicit ``begin()`` or ``begin_nested()`` block.
        """
        ...

    # ── a chat's life beside its turns ────────────────────────────────────────────────────────────────────────────────

    async def create(
        self,
        head: ChatHead,
        messages: Sequence[tuple[UUID, Message]] = (),
        *,
        values: Mapping[str, object] | None = None,
    ) -> Snapshot:
        """Store a new chat; a chat of that id and owner that is already there is returned as it is.

        Args:
            head: the chat.
            messages: what it begins with, with their ids.
            values: of further columns that a host's records have.

        Raises:
            ConfigurationError: a value is for a column that there is not, or that is ours.
            ChatNotFoundError: the id is taken by a chat of another owner (told in the same words as not found).
        """
        ...

    async def update(self, head: ChatHead) -> ChatHead:
        """Save the head now.

        Args:
            head: with the version that its changes are based on.

        Raises:
            ChatNotFoundError: no such chat for its owner.
            Outdated: the head was changed since that version.
        """
        ...

    async def append(self, head: ChatHead, fence: int, messages: Sequence[tuple[UUID, Message]]) -> Snapshot:
        """Add messages from elsewhere to a chat without an active turn.

        Raises:
            ChatBusyError: a turn is running.
            Outdated: the chat moved on since the caller loaded it.
        """
        ...

    async def fork(self, head: ChatHead, cut: Cut, closing: Sequence[Entry] = ()) -> Snapshot:
        """Store a new chat that begins with a copy of another one's messages, superseded ones included.

        Ids and positions stay what they are; files' contents are shared; turns and ledger rows are not copied. A branch
        of that id and parent that is already there is returned as it is.

        Args:
            head: the branch, of the parent's owner; its ``parent_chat_id`` names the parent.
            cut: where the parent is cut, and the state it is believed to be in.
            closing: results for calls that the parent has left open; they are written to the branch only.

        Raises:
            ChatNotFoundError: the parent is not there, or the id is taken by a chat of another owner.
            ConfigurationError: the id is taken by another chat of this owner.
            Outdated: the parent moved on since the caller loaded it.
        """
        ...

    async def delete(self, chat_id: UUID, owner: Owner) -> bool:
        """Delete a chat with all its content, whoever holds it; its worker cannot write any more.

        The ledger stays; open attempts become ``unknown``. What an earlier deletion has begun is finished.

        Returns:
            Whether there was such a chat of this owner.

        Raises:
            ChatError: rows of the host refer to the chat.
        """
        ...

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def load(self, chat_id: UUID, owner: Owner, *, window: Window | None = EVERYTHING) -> Snapshot:
        """Read a chat in a constant number of queries.

        Args:
            chat_id: the chat.
            owner: whose it is.
            window: how much of it: whole turns, those of its last turn in any case, and the last summary; ``None``:
                as much as its own settings say.

        Raises:
            ChatNotFoundError: no such chat for this owner.
        """
        ...

    async def history(
        self, chat_id: UUID, owner: Owner, *, limit: int, before: int | None = None, after: int | None = None
    ) -> tuple[Message, ...]:
        """A page of the stored messages in position order (keyset: by position)."""
        ...

    async def summaries(
        self,
        owner: Owner,
        *,
        metadata: Mapping[str, JsonValue] | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[ChatSummary]:
        """A page of chats, newest first.

        Args:
            owner: whose chats.
            metadata: members that a chat's metadata must have with exactly these values.
            limit: chats a page.
            after: the cursor of the page before.

        Raises:
            ConfigurationError: for a cursor that is none, or a limit below 1.
        """
        ...

    async def interrupted(self, *, limit: int) -> tuple[InterruptedTurn, ...]:
        """Running turns whose lease has ended, oldest first, of all owners."""
        ...

    async def turn(self, chat_id: UUID, owner: Owner, turn_id: UUID) -> TurnState:
        """One turn with its calls and attempts.

        Raises:
            ChatNotFoundError: no such chat or turn for this owner.
        """
        ...

    async def turn_by_key(self, chat_id: UUID, owner: Owner, key: str) -> TurnState | None:
        """The turn of a chat that was begun with an idempotency key, if there is one."""
        ...

    async def totals(self, chat_id: UUID, owner: Owner) -> ChatTotals:
        """Sums over the chat's ledger rows, exact."""
        ...
