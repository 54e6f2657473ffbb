"""Chats, turns and entries to write in tests, and short ways to take a chat through its life."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from nodellm_orm.domain.messages import FinishReason, Message, Origin, user
from nodellm_orm.domain.money import Cost
from nodellm_orm.domain.parts import TextPart, ThinkingPart, ToolCallPart, ToolResultPart
from nodellm_orm.domain.settings import Settings
from nodellm_orm.domain.usage import Usage
from nodellm_orm.ports.entries import AttemptClosed, AttemptOpened, CallOpened, MessageAdded, TurnEnded, TurnOpened
from nodellm_orm.ports.ownership import Take
from nodellm_orm.ports.states import ChatHead
from nodellm_orm.runtime.clock import new_id

if TYPE_CHECKING:
    from uuid import UUID

    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.ownership import Hold
    from nodellm_orm.ports.states import Snapshot

LEASE = 60.0
ENDED = -1.0
"""A lease that has ended before it begins, by whatever clock."""
ORIGIN = Origin(provider="openai", api="openai-responses", endpoint="https://api.openai.com/v1", model="gpt-5-mini")
USAGE = Usage(
    input_tokens=10,
    cached_tokens=4,
    output_tokens=7,
    reasoning_tokens=3,
    other_tokens={"web_searches": 1},
    reported_cost=Decimal("0.001234567891"),
)
COST = Cost(
    total=Decimal("0.001234567891"), input=Decimal("0.001"), output=Decimal("0.000234567891"), source="provider"
)


def head(owner: str | None = "ada", **changes: object) -> ChatHead:
    """A chat's head with something in every member."""
    plain = ChatHead(
        id=new_id(),
        owner=owner,
        title="A title",
        provider="openai",
        model="gpt-5-mini",
        api="openai-responses",
        instructions=("Be brief.", "Be kind."),
        settings=Settings(temperature=0.5, max_cost=Decimal("1.5")),
        metadata={"team": "blue", "size": 3},
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # a test's own choice


def question(position: int, text: str = "What is the weather?") -> MessageAdded:
    """The user's message."""
    return MessageAdded(id=new_id(), message=replace(user(text), position=position))


def attempt(number: int = 1) -> AttemptOpened:
    """An attempt about to be made."""
    return AttemptOpened(id=new_id(), provider="openai", requested_model="gpt-5-mini", attempt=number)


def closed(opened: AttemptOpened, *, usage: Usage = USAGE, cost: Cost = COST) -> AttemptClosed:
    """An attempt that was answered."""
    return AttemptClosed(
        id=opened.id,
        status="ok",
        http_status=200,
        request_id="req_1",
        model="gpt-5-mini-2026",
        latency_ms=120,
        first_token_ms=30,
        usage=usage,
        cost=cost,
    )


def call(name: str = "get_weather") -> ToolCallPart:
    """A call the model asks for."""
    key = new_id().hex
    return ToolCallPart(call_id=f"call_{key}", name=name, arguments='{"city": "Rome"}', wire_id=f"w_{key}")


def answer(position: int, *calls: ToolCallPart, text: str = "Sunny.") -> MessageAdded:
    """The assistant's message, with thinking."""
    parts: tuple[Part, ...] = (ThinkingPart(text="hm", signature="sig"), TextPart(text=text), *calls)
    reason = FinishReason.TOOL_CALL if calls else FinishReason.STOP
    message = Message(
        role="assistant", parts=parts, position=position, finish_reason=reason, raw_finish_reason="end", origin=ORIGIN
    )
    return MessageAdded(id=new_id(), message=message, thinking_tokens=3)


def result(position: int, asked: ToolCallPart, content: str = "22 degrees") -> MessageAdded:
    """The message that carries a call's result."""
    part = ToolResultPart(call_id=asked.call_id, name=asked.name, content=content)
    return MessageAdded(id=new_id(), message=Message(role="tool", parts=(part,), position=position))


def opened_call(message: MessageAdded, asked: ToolCallPart, position: int = 0, status: str = "running") -> CallOpened:
    """A call of a message."""
    return CallOpened(
        id=new_id(),
        message_id=message.id,
        position=position,
        call=asked,
        status=status,  # type: ignore[arg-type]  # a test's own choice
    )


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that has begun."""

    hold: Hold
    opened: AttemptOpened
    asked: MessageAdded

    @property
    def turn_id(self) -> UUID:
        """The turn."""
        return self.hold.turn_id


def take(snapshot: Snapshot, *, worker: str = "w1", lease: float = LEASE, **changes: object) -> Take:
    """Take a chat as it was loaded."""
    plain = Take(
        chat_id=snapshot.head.id,
        owner=snapshot.head.owner,
        worker=worker,
        lease=lease,
        fence=snapshot.fence,
        step=snapshot.step,
        version=snapshot.head.version,
        labels=snapshot.head.metadata,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # a test's own choice


async def begin(
    journal: Journal,
    snapshot: Snapshot,
    *,
    worker: str = "w1",
    lease: float = LEASE,
    key: str | None = None,
    closing: tuple[Entry, ...] = (),
) -> Begun:
    """Begin a turn with a question and an attempt."""
    turn = TurnOpened(id=new_id(), settings='{"model":"gpt-5-mini"}', idempotency_key=key, request_hash=key)
    added = sum(isinstance(entry, MessageAdded) for entry in closing)
    asked, opened = question(snapshot.next_position + added), attempt()
    hold = await journal.begin(take(snapshot, worker=worker, lease=lease), turn, (asked, opened), closing=closing)
    return Begun(hold, opened, asked)


async def begun(journal: Journal, *, lease: float = LEASE, owner: str | None = "ada") -> Begun:
    """A new chat with a turn that has begun."""
    return await begin(journal, await journal.create(head(owner)), lease=lease)


async def completed(journal: Journal, snapshot: Snapshot) -> Snapshot:
    """A plain turn from its beginning to its end."""
    turn = await begin(journal, snapshot)
    position = turn.asked.message.position or 0
    entries = (closed(turn.opened), answer(position + 1), TurnEnded(status="completed", reason="stop"))
    await journal.record(turn.hold, entries)
    return await journal.load(snapshot.head.id, snapshot.head.owner)


async def with_call(journal: Journal, *, lease: float = LEASE) -> tuple[Begun, MessageAdded, CallOpened]:
    """A turn whose model has asked for a call that runs."""
    turn = await begun(journal, lease=lease)
    asked = call()
    message = answer(1, asked)
    opened = opened_call(message, asked)
    hold = await journal.record(turn.hold, (closed(turn.opened), message, opened))
    return replace(turn, hold=hold), message, opened
