"""Two records side by side: question by question, text by text, call by call."""

from __future__ import annotations

from difflib import SequenceMatcher, unified_diff
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.money import add
from nodellm_orm.domain.replies import ToolCall
from nodellm_orm.domain.usage import Usage
from nodellm_orm.replay.report import ReplayAnswer, ReplayCall, ReplayReport, ReplayTurn
from nodellm_orm.replay.results import APPROVAL, WAITING, key_of, unrecorded, waited

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from nodellm_orm.domain.parts import ToolResultPart
    from nodellm_orm.replay.record import Exchange, Record
    from nodellm_orm.store.details import CallDetails

KEY: Final = "replay:"
"""How the idempotency key of a replayed question begins; the id of the question that was recorded follows."""


def key_for(exchange: Exchange) -> str:
    """The idempotency key that a question is asked again with.

    Args:
        exchange: of the record.
    """
    return f"{KEY}{exchange.id}"


def replayed_by_key(replay: Record) -> Mapping[str, Exchange]:
    """The questions of a replay by the keys that they were asked with.

    Args:
        replay: the new chat.
    """
    keys = {turn.id: turn.idempotency_key for turn in replay.turns}
    found: dict[str, Exchange] = {}
    for exchange in replay.exchanges:
        key = keys.get(exchange.turn.id) if exchange.turn is not None else None
        if key is not None:
            found[key] = exchange
    return found


def compared(original: Record, replay: Record, replay_id: UUID, *, error: str | None = None) -> ReplayReport:
    """The report on a replay, as far as it went.

    Args:
        original: the chat that was recorded.
        replay: the new one.
        replay_id: its id.
        error: what it broke off with.
    """
    again = replayed_by_key(replay)
    pairs = [(exchange, again.get(key_for(exchange))) for exchange in original.exchanges]
    return ReplayReport(
        chat_id=original.head.id,
        replay_id=replay_id,
        turns=tuple(_turn(was, now) for was, now in pairs if now is not None),
        unrecorded=unrecorded(replay.exchanges),
        asked=len(pairs),
        error=error,
    )


def _turn(was: Exchange, now: Exchange) -> ReplayTurn:
    original, replayed = answer_of(was), answer_of(now)
    return ReplayTurn(
        question=was.question.content,
        original=original,
        replayed=replayed,
        difference=_difference(original.content, replayed.content),
        calls=tuple(_calls(original.tool_calls, replayed.tool_calls)),
    )


def answer_of(exchange: Exchange) -> ReplayAnswer:
    """What a question came to.

    Args:
        exchange: of either chat.
    """
    spoken = [said.message for said in exchange.said if said.message.role == "assistant"]
    texts = [message.content or message.refusal for message in spoken]
    turn, usage, cost, latency = exchange.turn, Usage(), None, None
    for request in exchange.requests:
        usage, cost = usage + request.usage, add(cost, request.cost)
        if request.latency_ms is not None:
            latency = (latency or 0) + request.latency_ms
    last = exchange.requests[-1] if exchange.requests else None
    reason, error = _end_of(exchange)
    return ReplayAnswer(
        turn_id=turn.id if turn is not None else None,
        content="\n\n".join(text for text in texts if text),
        finish_reason=reason,
        error=error,
        tool_calls=tuple(_call_of(call, result) for call, result in _calls_of(exchange)),
        model=(last.model or last.requested_model) if last is not None else None,
        provider=last.provider if last is not None else None,
        usage=usage,
        cost=cost,
        latency_ms=latency,
    )


def _end_of(exchange: Exchange) -> tuple[str | None, str | None]:
    """Why a turn has ended, or what it broke off with."""
    turn = exchange.turn
    if turn is None:
        return None, None
    if turn.status not in {"completed", "suspended"}:
        return None, turn.error_type or turn.status
    if any(result is not None and waited(call, result) for call, result in _calls_of(exchange)):
        return APPROVAL, None
    return turn.reason, None


def _calls_of(exchange: Exchange) -> Iterator[tuple[CallDetails, ToolResultPart | None]]:
    """The calls, each with what the model was told of it."""
    told = {result.call_id: result for said in exchange.said for result in said.message.tool_results}
    for call in exchange.calls:
        yield call, told.get(call.call_id)


def _call_of(call: CallDetails, result: ToolResultPart | None) -> ToolCall:
    told = None if result is not None and result.content == WAITING else result
    return ToolCall(
        call_id=call.call_id,
        name=call.name,
        arguments=call.arguments,
        result=told.content if told is not None else None if result is not None else call.result,
        is_error=told is not None and told.is_error,
        status=call.status,
    )


def _difference(was: str, now: str) -> str:
    if was == now:
        return ""
    return "\n".join(unified_diff(was.splitlines(), now.splitlines(), "recorded", "replayed", lineterm=""))


def _calls(was: Sequence[ToolCall], now: Sequence[ToolCall]) -> list[ReplayCall]:
    """The calls side by side: those of the same name and arguments meet, in order; what lies between is paired off."""
    one, two = ([key_of(call.name, call.arguments) for call in calls] for calls in (was, now))
    found: list[ReplayCall] = []
    for kind, start, end, first, last in SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        for offset in range(max(end - start, last - first)):
            old = was[start + offset] if start + offset < end else None
            new = now[first + offset] if first + offset < last else None
            if old is None or new is None:
                found.append(ReplayCall(verdict="added" if old is None else "missing", original=old, replayed=new))
                continue
            same = kind == "equal" and (old.result, old.is_error) == (new.result, new.is_error)
            found.append(ReplayCall(verdict="same" if same else "other", original=old, replayed=new))
    return found
