"""Rows to values and values to rows: the only place that knows how a message, a chat or a turn is laid out."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid5

from nodellm_orm.domain.codec import decode_parts, encode_parts
from nodellm_orm.domain.jsontext import dumps, loads
from nodellm_orm.domain.messages import FinishReason, Message, Origin
from nodellm_orm.domain.parts import ThinkingPart, ToolCallPart
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.usage import Usage
from nodellm_orm.ports.states import AttemptState, CallState, ChatHead, TurnState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal
    from uuid import UUID

    from nodellm_orm.ports.entries import AttemptClosed, AttemptOpened, CallOpened, MessageAdded, MessageRevised

    Row = dict[str, Any]
    """Values by column."""
    Stored = Mapping[Any, Any]
    """A row as it was read, its content opened."""

PROVIDER_SOURCE: Final = "provider"
"""The price source that says that the provider itself reported the cost."""


# ── chats ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def head_row(head: ChatHead) -> Row:
    """The columns of a chat that belong to its head, apart from id, owner, version and times."""
    return {
        "title": head.title,
        "model": head.model,
        "provider": head.provider,
        "api": head.api,
        "instructions": dumps(list(head.instructions)),
        "settings": head.settings.to_json(),
        "metadata": dict(head.metadata),
        "parent_chat_id": head.parent_chat_id,
        "fork_position": head.fork_position,
    }


def head_of(row: Stored) -> ChatHead:
    """The head of a chat's row."""
    instructions = loads(row["instructions"])
    return ChatHead(
        id=row["id"],
        owner=row["owner"],
        title=row["title"],
        provider=row["provider"],
        model=row["model"],
        api=row["api"],
        instructions=tuple(str(text) for text in instructions) if isinstance(instructions, list) else (),
        settings=Settings.from_json(row["settings"]),
        metadata=MappingProxyType(row["metadata"]),
        parent_chat_id=row["parent_chat_id"],
        fork_position=row["fork_position"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


# ── messages ──────────────────────────────────────────────────────────────────────────────────────────────────────


def message_row(chat_id: UUID, turn_id: UUID | None, message_id: UUID, message: Message) -> Row:
    """A message's row, without its time; ``content`` is a projection of ``parts``."""
    origin = message.origin
    return {
        "chat_id": chat_id,
        "position": message.position,
        "id": message_id,
        "turn_id": turn_id,
        "role": message.role,
        "content": message.content,
        "parts": encode_parts(message.parts),
        "status": message.status,
        "finish_reason": message.finish_reason.value if message.finish_reason else None,
        "raw_finish_reason": message.raw_finish_reason,
        "model": origin.model if origin else None,
        "provider": origin.provider if origin else None,
        "api": origin.api if origin else None,
        "endpoint": origin.endpoint if origin else None,
    }


def message_of(row: Stored) -> Message:
    """The message of a row."""
    reason = row["finish_reason"]
    return Message(
        role=row["role"],
        parts=decode_parts(row["parts"]),
        status=row["status"],
        position=row["position"],
        finish_reason=_finish_reason(reason) if reason is not None else None,
        raw_finish_reason=row["raw_finish_reason"],
        origin=_origin(row),
    )


def _origin(row: Stored) -> Origin | None:
    if row["provider"] is None:
        return None
    return Origin(
        provider=row["provider"], api=row["api"] or "", endpoint=row["endpoint"] or "", model=row["model"] or ""
    )


def _finish_reason(word: str) -> FinishReason:
    """A word of a later version is kept in the row, and unknown here."""
    try:
        return FinishReason(word)
    except ValueError:
        return FinishReason.UNKNOWN


def thinking_rows(chat_id: UUID, entry: MessageAdded | MessageRevised) -> list[Row]:
    """One row for each thinking trace of a message; ids follow from the message, so that writing again is the same."""
    traces = [(place, part) for place, part in enumerate(entry.message.parts) if isinstance(part, ThinkingPart)]
    return [
        {
            "chat_id": chat_id,
            "id": uuid5(entry.id, f"thinking:{place}"),
            "message_id": entry.id,
            "position": place,
            "text": part.text,
            "signature": part.signature,
            "redacted": part.redacted,
            "opaque": part.opaque,
            # The provider counts them all together.
            "tokens": entry.thinking_tokens if number == 0 else None,
        }
        for number, (place, part) in enumerate(traces)
    ]


# ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def call_row(chat_id: UUID, turn_id: UUID, entry: CallOpened) -> Row:
    """The row of a call, without its times."""
    running = entry.status == "running"
    return {
        "chat_id": chat_id,
        "id": entry.id,
        "turn_id": turn_id,
        "message_id": entry.message_id,
        "position": entry.position,
        "call_id": entry.call.call_id,
        "wire_id": entry.call.wire_id,
        "name": entry.call.name,
        "arguments": entry.call.arguments,
        "status": entry.status,
        "attempts": int(running),
        "b_running": int(running),
    }


CALL_COLUMNS: Final = (
    *("id", "message_id", "position", "call_id", "wire_id", "name", "arguments", "status"),
    *("result", "error", "attempts", "result_message_id", "decided_by", "decided_at", "approved_sha256"),
)
"""What `call_of` reads."""


def call_of(row: Stored, calls: Mapping[str, ToolCallPart]) -> CallState:
    """The state of a call's row.

    Args:
        row: the row.
        calls: the parts the calls come from by ``call_id``, which know more than the row; the row is enough without.
    """
    plain = ToolCallPart(call_id=row["call_id"], name=row["name"], arguments=row["arguments"], wire_id=row["wire_id"])
    asked = calls.get(row["call_id"], plain)
    return CallState(
        id=row["id"],
        message_id=row["message_id"],
        position=row["position"],
        call=asked,
        status=row["status"],
        result=row["result"],
        error=row["error"],
        attempts=row["attempts"],
        answered=row["result_message_id"] is not None,
        decided_by=row["decided_by"],
        decided_at=row["decided_at"],
        approved_sha256=row["approved_sha256"],
        altered=(asked.name, asked.arguments) != (plain.name, plain.arguments),
    )


# ── the ledger ────────────────────────────────────────────────────────────────────────────────────────────────────


def attempt_row(entry: AttemptOpened) -> Row:
    """The columns of an attempt about to be made, apart from what it was made for."""
    return {
        "id": entry.id,
        "operation": entry.operation,
        "provider": entry.provider,
        "requested_model": entry.requested_model,
        "status": "started",
        "attempt": entry.attempt,
    }


def closing_row(entry: AttemptClosed) -> Row:
    """The columns that change when an attempt is closed."""
    usage, cost = entry.usage, entry.cost
    return {
        "status": entry.status,
        "http_status": entry.http_status,
        "error_type": entry.error_type,
        "request_id": entry.request_id,
        "model": entry.model,
        "message_id": entry.message_id,
        "latency_ms": entry.latency_ms,
        "first_token_ms": entry.first_token_ms,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "other_tokens": dict(usage.other_tokens),
        "cost": cost.total,
        "input_cost": cost.input,
        "output_cost": cost.output,
        "prices": cost.prices,
        "price_source": cost.source,
    }


def usage_of(row: Stored, other_tokens: Mapping[str, Any], reported_cost: Decimal | None) -> Usage:
    """The usage in a row, or in sums over rows."""
    return Usage(
        input_tokens=row["input_tokens"],
        cached_tokens=row["cached_tokens"],
        cache_write_tokens=row["cache_write_tokens"],
        output_tokens=row["output_tokens"],
        reasoning_tokens=row["reasoning_tokens"],
        other_tokens=MappingProxyType({name: int(count) for name, count in other_tokens.items()}),
        reported_cost=reported_cost,
    )


def attempt_of(row: Stored) -> AttemptState:
    """The state of an attempt's row."""
    reported = row["cost"] if row["price_source"] == PROVIDER_SOURCE else None
    return AttemptState(
        id=row["id"],
        status=row["status"],
        attempt=row["attempt"],
        request_id=row["request_id"],
        message_id=row["message_id"],
        model=row["model"],
        provider=row["provider"],
        usage=usage_of(row, row["other_tokens"], reported),
        cost=row["cost"],
    )


# ── turns ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def turn_of(row: Stored, calls: tuple[CallState, ...], attempts: tuple[AttemptState, ...]) -> TurnState:
    """The state of a turn.

    Args:
        row: its columns, each with the prefix ``turn_``, and the lease of its chat.
        calls: its calls.
        attempts: its attempts.
    """
    running = row["turn_status"] == "running"
    return TurnState(
        id=row["turn_id"],
        position=row["turn_position"],
        status=row["turn_status"],
        reason=row["turn_reason"],
        settings=row["turn_settings"],
        takeovers=row["turn_takeovers"],
        error_type=row["turn_error_type"],
        error_message=row["turn_error_message"],
        first_position=row["first_position"],
        calls=calls,
        attempts=attempts,
        lease_until=row["lease_until"] if running else None,
        expired=running and bool(row["lease_expired"]),
        idempotency_key=row["turn_idempotency_key"],
        request_hash=row["turn_request_hash"],
    )
