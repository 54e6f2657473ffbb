"""What a provider demands of a conversation, checked on the requests that arrive, and what must hold of stored rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from nodellm_orm.models import ChatRecord, MessageRecord, RequestRecord, ToolCallRecord, TurnRecord
from tests.acceptance.wire_rules import check_request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Message
    from tests.acceptance.speakers import Api

# ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────


def check(body: Any, api: Api, *, provider: str = "", model: str = "") -> None:
    """Refuse what a provider refuses, see `wire_rules`; above all calls that are not answered at once and in full.

    Args:
        body: a request.
        api: its format.
        provider: who is asked, where that is not the home of the format.
        model: the model's name, where the body does not say it.
    """
    check_request(body, api, provider=provider, model=model)


def last_words(body: Any, api: Api) -> str | None:
    """What the user said last; ``None`` when the request ends with results of tools.

    Args:
        body: a request.
        api: its format.
    """
    last = body["messages"][-1]
    if last["role"] == "tool":
        return None
    content = last["content"]
    if isinstance(content, str):
        return content
    assert api == "anthropic" or content[-1]["type"] == "text"
    words: str | None = content[-1].get("text")
    return words


# ── rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Rows:
    """What is stored of a chat."""

    chat: ChatRecord
    turns: Sequence[TurnRecord]
    messages: Sequence[MessageRecord]
    calls: Sequence[ToolCallRecord]
    requests: Sequence[RequestRecord]

    def check(self) -> None:
        """Nobody holds the chat, its last turn is completed, its messages follow each other without a gap."""
        assert (self.chat.active_turn_id, self.chat.lease_owner, self.chat.lease_until) == (None, None, None)
        assert [turn.active_slot for turn in self.turns] == [None] * len(self.turns)
        assert [turn.position for turn in self.turns] == list(range(len(self.turns)))
        assert self.turns[-1].status == "completed"
        assert [message.position for message in self.messages] == list(range(len(self.messages)))
        assert self.chat.next_position == len(self.messages)

    def values(self) -> list[dict[str, Any]]:
        """Every column of every row, to be compared."""
        rows = [self.chat, *self.turns, *self.messages, *self.calls, *self.requests]
        return [{key: value for key, value in vars(row).items() if not key.startswith("_")} for row in rows]


async def stored(engine: AsyncEngine, chat_id: UUID) -> Rows:
    """All rows of a chat.

    Args:
        engine: where.
        chat_id: the chat.
    """
    async with AsyncSession(engine) as session:

        async def rows(record: Any, *order: Any) -> Sequence[Any]:
            return (await session.scalars(select(record).where(record.chat_id == chat_id).order_by(*order))).all()

        return Rows(
            await session.get_one(ChatRecord, chat_id),
            await rows(TurnRecord, TurnRecord.position),
            await rows(MessageRecord, MessageRecord.position),
            await rows(ToolCallRecord, ToolCallRecord.position),
            await rows(RequestRecord, RequestRecord.created_at, RequestRecord.id),
        )


def check_history(messages: Sequence[Message]) -> None:
    """Every call is answered once, in order, before anybody speaks again.

    Args:
        messages: of a chat, in order.
    """
    wanted: list[str] = []
    for message in messages:
        results = [result.call_id for result in message.tool_results]
        if results:
            assert results == wanted[: len(results)]
            wanted = wanted[len(results) :]
        else:
            assert wanted == []
            wanted = [call.call_id for call in message.tool_calls]
    assert wanted == []
