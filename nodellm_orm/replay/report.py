"""What a replay gives: each answer beside the one that was recorded, and what both have taken and cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from nodellm_orm.domain.money import add
from nodellm_orm.domain.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal
    from uuid import UUID

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.replies import ToolCall

Verdict: TypeAlias = Literal["same", "other", "missing", "added"]
"""``other``: another name, other arguments or another result; ``missing``: not made again; ``added``: not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayAnswer:
    """What one question came to, once."""

    turn_id: UUID | None
    content: str
    """All that the model wrote, in order."""
    finish_reason: str | None
    """``None``: the turn has not ended in good order."""
    error: str | None = None
    """The class of the error that the turn ended with, ``Cancelled`` among them; where none is stored, its status."""
    tool_calls: tuple[ToolCall, ...] = ()
    model: str | None = None
    provider: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost: Decimal | None = None
    """US dollars; the sum of what is known, ``None`` when nothing is."""
    latency_ms: int | None = None
    """Of all model calls, tools not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCall:
    """A call of the record beside the one of the replay."""

    verdict: Verdict
    original: ToolCall | None
    replayed: ToolCall | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayTurn:
    """One question, and both answers."""

    question: str
    original: ReplayAnswer
    replayed: ReplayAnswer
    difference: str
    """Of the texts, as a unified diff; empty where they are the same."""
    calls: tuple[ReplayCall, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether both say the same, call the same and end alike; tokens, cost and time may differ."""
        same = not self.difference and all(call.verdict == "same" for call in self.calls)
        was, now = self.original, self.replayed
        return same and (was.finish_reason, was.error) == (now.finish_reason, now.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayTotals:
    """Sums over the turns of one side."""

    usage: Usage = field(default_factory=Usage)
    cost: Decimal | None = None
    """US dollars; the sum of what is known, ``None`` when nothing is."""
    latency_ms: int | None = None

    @classmethod
    def of(cls, answers: Iterable[ReplayAnswer]) -> ReplayTotals:
        """The sums of some answers.

        Args:
            answers: of one side.
        """
        usage, cost, latency = Usage(), None, None
        for answer in answers:
            usage, cost = usage + answer.usage, add(cost, answer.cost)
            latency = answer.latency_ms if latency is None else latency + (answer.latency_ms or 0)
        return cls(usage=usage, cost=cost, latency_ms=latency)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """A conversation beside its replay.

    Example:
        >>> report = await replay_chat(engine, chat.id, llm, instructions="Answer in one sentence.")
        >>> report.equal, report.replayed.cost
        (False, Decimal('0.000412'))
        >>> print(report)
    """

    chat_id: UUID
    """The chat that was replayed."""
    replay_id: UUID
    """The new chat."""
    turns: tuple[ReplayTurn, ...] = ()
    unrecorded: int = 0
    """Calls of the replay that were not run, because they are not in the record or need an approval."""
    asked: int = 0
    """Questions that the record has."""
    error: str | None = None
    """What the replay broke off with: class and message; the same id goes on with what is missing."""

    @property
    def equal(self) -> bool:
        """Whether all was asked, and every answer is the same."""
        return self.complete and all(turn.equal for turn in self.turns)

    @property
    def complete(self) -> bool:
        """Whether every question was asked again."""
        return self.error is None and len(self.turns) == self.asked

    @property
    def original(self) -> ReplayTotals:
        """What the recorded answers have taken, of the turns that were asked again."""
        return ReplayTotals.of(turn.original for turn in self.turns)

    @property
    def replayed(self) -> ReplayTotals:
        """What the new answers have taken."""
        return ReplayTotals.of(turn.replayed for turn in self.turns)

    @property
    def cost_difference(self) -> Decimal | None:
        """US dollars that the replay cost more; ``None`` where one side is not known."""
        was, now = self.original.cost, self.replayed.cost
        return None if was is None or now is None else now - was

    @property
    def latency_difference_ms(self) -> int | None:
        """Milliseconds that the models of the replay took longer; ``None`` where one side is not known."""
        was, now = self.original.latency_ms, self.replayed.latency_ms
        return None if was is None or now is None else now - was

    def to_text(self) -> str:
        """The report for people: totals, and of each turn what differs."""
        from nodellm_orm.replay.rendering import as_text  # noqa: PLC0415 — it knows these values

        return as_text(self)

    def to_json(self) -> JsonText:
        """The whole report as JSON; money is text, so that no digit is lost."""
        from nodellm_orm.replay.rendering import as_json  # noqa: PLC0415 — it knows these values

        return as_json(self)

    def __str__(self) -> str:
        """See `to_text`."""
        return self.to_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProgress:
    """How far a replay has come."""

    chat_id: UUID
    """The chat whose turn, or which itself, was just done."""
    turn: int
    """Questions of it that were asked."""
    turns: int
    """All of its questions."""
    chats_done: int = 0
    chats: int = 1
