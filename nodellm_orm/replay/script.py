"""What each call of the model has to be asked with, and what it answers: a stored conversation as a script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.messages import Completion, FinishReason, user
from nodellm_orm.domain.money import UNKNOWN_COST, Cost
from nodellm_orm.domain.parts import SummaryPart, TextPart
from nodellm_orm.domain.usage import Usage
from nodellm_orm.domain.windows import is_summary, sent
from nodellm_orm.replay.differences import shown
from nodellm_orm.replay.record import Compacted, Copied, Exchange
from nodellm_orm.runtime.compaction import WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.replay.record import AskedWith, Record
    from nodellm_orm.store.details import MessageDetails, RequestDetails, TurnDetails

_SHOWN: Final = 40
"""Characters of a question that say which one is meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One call of the model: what it was asked, and what it said."""

    place: str
    """For people: which call of which question."""
    asked: AskedWith
    before: int
    """How many messages of the conversation came before it."""
    first: bool
    """It is the first of its turn: from the second on, a forced choice of a tool may have been let go."""
    answer: Completion | None
    """``None``: the provider failed."""
    request: RequestDetails | None = None
    """Of the ledger, where it has one."""
    turn: TurnDetails | None = None

    @property
    def broken(self) -> bool:
        """Whether the answer broke off."""
        return self.request is not None and self.request.status != "ok"

    @property
    def cost(self) -> Cost:
        """What it cost."""
        request = self.request
        if request is None:
            return UNKNOWN_COST
        return Cost(
            total=request.cost,
            input=request.input_cost,
            output=request.output_cost,
            prices=request.prices,
            source=request.price_source,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A stored conversation, call by call."""

    messages: tuple[Message, ...]
    lines: tuple[Line, ...]

    def sent(self, line: Line) -> tuple[Message, ...]:
        """The messages that a call was asked with.

        Args:
            line: one of this script.
        """
        before, asked = self.messages[: line.before], line.asked
        if not asked.compacts:
            return sent(before, asked.settings.history_window)
        until = -1 if asked.until is None else asked.until
        covered = [m for m in before if is_summary(m) or (m.position or 0) <= until]
        return (*sent(covered), user(asked.words or WORDS))


def script_of(record: Record) -> Script:
    """The calls of the model in a stored conversation, in order.

    Args:
        record: the chat.
    """
    messages: list[Message] = []
    lines: list[Line] = []
    number = 0
    for step in record.steps:
        match step:
            case Copied():
                messages.append(step.message)
            case Compacted():
                lines.append(_summarised(step, len(messages)))
                messages.append(step.summary.message)
            case Exchange():
                number += 1
                messages.append(step.question)
                lines += _answers(step, messages, number)
    return Script(messages=tuple(messages), lines=tuple(lines))


def _summarised(step: Compacted, before: int) -> Line:
    message = step.summary.message
    texts = tuple(TextPart(text=part.text) for part in message.parts if isinstance(part, SummaryPart))
    request = _request_of(step.summary, step.requests)
    answer = Completion(
        parts=texts,
        finish_reason=FinishReason.STOP,
        raw_finish_reason=message.raw_finish_reason,
        usage=request.usage if request is not None else Usage(),
        model=request.model if request is not None else None,
    )
    return Line(
        place="the summary", asked=step.asked, before=before, first=True, answer=answer, request=request, turn=step.turn
    )


def _answers(step: Exchange, messages: list[Message], number: int) -> list[Line]:
    """The calls of one question; ``messages`` grows by what came of them."""
    lines: list[Line] = []
    for said in step.said:
        if said.message.role == "assistant":
            request = _request_of(said, step.requests)
            lines.append(_line(step, messages, number, lines, _completion(said.message, request), request))
        messages.append(said.message)
    last = step.unanswered
    if last is not None and last.status == "ok":
        finish = FinishReason(step.turn.reason) if step.turn and step.turn.reason in set(FinishReason) else None
        silent = Completion(parts=(), finish_reason=finish or FinishReason.STOP, usage=last.usage, model=last.model)
        lines.append(_line(step, messages, number, lines, silent, last))
    elif last is not None and last.status == "failed":
        lines.append(_line(step, messages, number, lines, None, last))
    return lines


def _line(
    step: Exchange,
    messages: Sequence[Message],
    number: int,
    lines: Sequence[Line],
    answer: Completion | None,
    request: RequestDetails | None,
) -> Line:
    return Line(
        place=f"call {len(lines) + 1} of question {number}, {shown(step.question.content, _SHOWN)}",
        asked=step.asked,
        before=len(messages),
        first=not lines,
        answer=answer,
        request=request,
        turn=step.turn,
    )


def _completion(message: Message, request: RequestDetails | None) -> Completion:
    return Completion(
        parts=message.parts,
        finish_reason=message.finish_reason or FinishReason.UNKNOWN,
        raw_finish_reason=message.raw_finish_reason,
        usage=request.usage if request is not None else Usage(),
        model=request.model if request is not None else None,
        complete=request is None or request.status == "ok",
    )


def _request_of(said: MessageDetails, requests: Sequence[RequestDetails]) -> RequestDetails | None:
    """The attempt that a message came of."""
    return next((request for request in requests if request.message_id == said.id), None)
