"""Who may write to a chat: the proof of it, what it takes to get one, and why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.ports.states import ChatHead, TurnState


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
    step: int
    """The number of the last durable point in the caller's copy; likewise: it may have been loaded while a turn ran."""
    version: int
    """The head's version the caller's copy has; likewise."""
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


class Outdated(Exception):  # noqa: N818 — a signal between journal and runtime, never seen by users
    """The chat moved on since it was loaded; load it again before the next turn."""
