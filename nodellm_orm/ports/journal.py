"""The journal seam: what is written, when, and under whose ownership.

A durable point is a tuple of *entries* applied in one transaction. Every point but the first is guarded: it is
applied only while the writer still holds the chat (same turn, same worker, same fence), otherwise nothing is written
and `StaleChatError` is raised. Every point is re-executable: ids are chosen by the caller and the chat's ``step``
counter tells whether a point of unknown outcome has happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from nodellm_orm.domain.money import UNKNOWN_COST
from nodellm_orm.domain.usage import Usage
from nodellm_orm.domain.windows import EVERYTHING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable, Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonText, JsonValue
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.money import Cost
    from nodellm_orm.domain.pages import ChatSummary, InterruptedTurn, Page
    from nodellm_orm.domain.parts import ToolCallPart
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.domain.windows import Window
    from nodellm_orm.ports.approvals import Decision
    from nodellm_orm.ports.branches import Cut
    from nodellm_orm.ports.workspace import Workspace

TurnStatus: TypeAlias = Literal["running", "suspended", "completed", "failed", "cancelled"]
CallStatus: TypeAlias = Literal[
    "pending", "awaiting_approval", "running", "succeeded", "failed", "denied", "skipped", "halted", "unknown"
]
AttemptStatus: TypeAlias = Literal["started", "ok", "failed", "cancelled", "unknown"]
OPEN_CALLS: Final[frozenset[CallStatus]] = frozenset({"pending", "awaiting_approval", "running", "unknown"})


class AnyOwner:
    """The type of `ANY_OWNER`."""

    def __repr__(self) -> str:
        """Its public name."""
        return "ANY_OWNER"


ANY_OWNER: Final = AnyOwner()
"""Said explicitly where chats of every owner are meant (command line, reports)."""
Owner: TypeAlias = str | AnyOwner | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatHead:
    """What belongs to a chat beside its messages."""

    id: UUID
    owner: str | None = None
    title: str | None = None
    provider: str | None = None
    model: str | None = None
    api: str | None = None
    instructions: tuple[str, ...] = ()
    settings: Settings
    metadata: Mapping[str, JsonValue] = field(default_factory=lambda: MappingProxyType({}))
    parent_chat_id: UUID | None = None
    fork_position: int | None = None
    version: int = 0
    """Grows with every change of the above."""
    created_at: datetime | None = None
    updated_at: datetime | None = None


# ── entries: what one durable point writes ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOpened:
    """A turn begins; only in `Journal.begin`."""

    id: UUID
    settings: JsonText
    """Model, api, options and digests of instructions and tools: what replay compares."""
    texts: tuple[str, ...] = ()
    """Instructions and tool schemas whose digests are in ``settings``; each is stored once an owner."""
    idempotency_key: str | None = None
    request_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOpened:
    """A request is about to be sent; written before it is, so that a call of unknown outcome is visible."""

    id: UUID
    provider: str
    requested_model: str
    attempt: int
    """From 1 within one model round."""
    operation: str = "chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptClosed:
    """What came of an attempt, with its money."""

    id: UUID
    status: AttemptStatus
    http_status: int | None = None
    error_type: str | None = None
    request_id: str | None = None
    model: str | None = None
    message_id: UUID | None = None
    latency_ms: int | None = None
    first_token_ms: int | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Cost = UNKNOWN_COST


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageAdded:
    """A message enters the history; ``message.position`` is set and equals the chat's next free position."""

    id: UUID
    message: Message
    thinking_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRevised:
    """A message that was stored while it grew: it has more text now, or its final form; its place stays the same."""

    id: UUID
    message: Message
    thinking_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSuperseded:
    """Another message takes this one's place: it stays in the rows and is no longer replayed."""

    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySuperseded:
    """All messages from a place on that are there before this point: they stay in the rows, and are not replayed."""

    first: int
    """Position of the first message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOpened:
    """A call of the assistant message just added."""

    id: UUID
    message_id: UUID
    position: int
    """Place of the call within its message, from 0."""
    call: ToolCallPart
    status: CallStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted:
    """A pending call starts to run."""

    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFinished:
    """What came of a call: the text the model will read, and for people the error behind it."""

    id: UUID
    status: CallStatus
    result: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAnswered:
    """The message that carries a call's result was added in this point."""

    id: UUID
    result_message_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnded:
    """The turn reaches a final or suspended status; ownership of the chat is released."""

    status: TurnStatus
    reason: str | None = None
    """Why a turn is suspended (``approval``, ``tool_limit``, ``cost_limit``), or the finish reason."""
    error_type: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnReleased:
    """The worker lets go of a turn that goes on: it counts as interrupted at once, and whoever comes next takes it."""


RELEASED: Final = "released"
"""Reason of a running turn whose worker has let go of it: taking it over says nothing against it."""

Entry: TypeAlias = (
    AttemptOpened
    | AttemptClosed
    | MessageAdded
    | MessageRevised
    | MessageSuperseded
    | HistorySuperseded
    | CallOpened
    | CallStarted
    | CallFinished
    | CallAnswered
    | TurnEnded
    | TurnReleased
)


# ── ownership ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Proof of owning a chat for one turn; good for the next durable point only as long as nobody took over."""

    chat_id: UUID
    owner: str | None
    turn_id: UUID
    worker: str
    fence: int
    step: int
    """Number of the last durable point applied under this hold."""
    lease: float
    """Seconds each point and each heartbeat extends the lease by."""
    labels: Mapping[str, JsonValue] = field(default_factory=lambda: MappingProxyType({}))
    """The chat's metadata as of the turn's begin: ledger rows carry a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """What `Journal.begin` needs to take a chat: the state its caller believes it to be in."""

    chat_id: UUID
    owner: str | None
    worker: str
    lease: float
    fence: int
    """The fence the caller's copy was loaded with: if the chat moved on since, `Outdated` is raised."""
    version: int
    """The head's version the caller's copy has; likewise."""
    position: int | None = None
    """The chat's next free position in the caller's copy; likewise, where the turn begins without a message."""
    labels: Mapping[str, JsonValue] = field(default_factory=lambda: MappingProxyType({}))
    """The chat's metadata, which the ledger rows of the turn carry a copy of."""
    head: ChatHead | None = None
    """When given, the changed head is saved in the same transaction."""


class Repeated(Exception):  # noqa: N818 — a signal between journal and runtime, never seen by users
    """The idempotency key was used in this chat before; nothing was written.

    Args:
        turn: the turn that was begun with it.
    """

    def __init__(self, turn: TurnState) -> None:
        """Keep the turn."""
        super().__init__(f"turn {turn.id} has this idempotency key")
        self.turn = turn


class Exhausted(Exception):  # noqa: N818 — a signal between journal and runtime, never seen by users
    """The turn was taken over too often, its worker having died each time: it has failed instead, and the chat is free.

    Args:
        takeovers: how often it was.
    """

    def __init__(self, takeovers: int) -> None:
        """Keep the count."""
        super().__init__(f"taken over {takeovers} times")
        self.takeovers = takeovers


EXHAUSTED: Final = "TakeoverLimit"
"""Error type of a turn that has failed so."""


class Outdated(Exception):  # noqa: N818 — a signal between journal and runtime, never seen by users
    """The chat moved on since it was loaded; load it again before the next turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallState:
    """A stored call and how far it got."""

    id: UUID
    message_id: UUID
    position: int
    call: ToolCallPart
    status: CallStatus
    result: str | None = None
    error: str | None = None
    attempts: int = 0
    answered: bool = False
    decided_by: str | None = None
    """Who approved or denied it."""
    decided_at: datetime | None = None
    approved_sha256: str | None = None
    """What the approval is bound to, see `approval_digest`; ``None``: it is not approved."""
    altered: bool = False
    """Its row and the message that asks for it do not say the same: one of them was changed by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptState:
    """A stored attempt of a turn."""

    id: UUID
    status: AttemptStatus
    attempt: int
    request_id: str | None = None
    message_id: UUID | None = None
    model: str | None = None
    provider: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnState:
    """The last turn of a chat, with what `resume` needs to carry on."""

    id: UUID
    position: int
    status: TurnStatus
    reason: str | None = None
    settings: JsonText = "{}"
    takeovers: int = 0
    error_type: str | None = None
    error_message: str | None = None
    first_position: int = 0
    """Position of the turn's first message."""
    calls: tuple[CallState, ...] = ()
    attempts: tuple[AttemptState, ...] = ()
    lease_until: datetime | None = None
    expired: bool = False
    """Running, but its lease has ended: interrupted."""
    idempotency_key: str | None = None
    request_hash: str | None = None
    spoken: Mapping[UUID, Message] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    """The model's messages in the turn, superseded ones too; only where the turn was read without its chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A chat as stored: everything a process needs to carry on."""

    head: ChatHead
    messages: tuple[Message, ...]
    """In position order; superseded ones are left out, and so are those before ``since``, but for the last summary."""
    message_ids: tuple[UUID, ...]
    fence: int
    next_position: int
    last_turn: TurnState | None = None
    since: int = 0
    """Position from which on every message is there; 0: all are."""
    window: Window = EVERYTHING
    """What was asked for: what is sent under it, or under a narrower one, is there."""
    step: int = 0
    """Grows with every durable point under one fence."""
    retired_call_ids: frozenset[str] = frozenset()
    """Ids of calls whose messages are superseded: no call of the chat may have them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTotals:
    """Sums over the ledger rows of one chat."""

    requests: int = 0
    failures: int = 0
    unpriced: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: Decimal | None = None
    """The sum of the known costs; ``None`` only when none is known."""

    @property
    def input_tokens(self) -> int | None:
        """All prompt tokens."""
        return self.usage.input_tokens

    @property
    def cached_tokens(self) -> int | None:
        """Of these, read from a provider's cache."""
        return self.usage.cached_tokens

    @property
    def cache_write_tokens(self) -> int | None:
        """Of these, written to a cache."""
        return self.usage.cache_write_tokens

    @property
    def output_tokens(self) -> int | None:
        """All answer tokens."""
        return self.usage.output_tokens

    @property
    def reasoning_tokens(self) -> int | None:
        """Of these, reasoning."""
        return self.usage.reasoning_tokens


class Journal(Protocol):
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

    async def delete(self, chat_id: UUID, owner: Owner) -> bool:
        """Delete a chat with all its content, whoever holds it; its worker cannot write any more.

        The ledger stays; open attempts become ``unknown``. What an earlier deletion has begun is finished.

        Returns:
            Whether there was such a chat of this owner.

        Raises:
            ChatError: rows of the host refer to the chat.
        """
        ...

    async def renew(self, holds: Sequence[Hold]) -> frozenset[UUID]:
        """Extend the leases of all holds in one statement where possible.

        Returns:
            The turn ids whose hold is no longer valid.
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

    async def totals(self, chat_id: UUID, owner: Owner) -> ChatTotals:
        """Sums over the chat's ledger rows, exact."""
        ...
