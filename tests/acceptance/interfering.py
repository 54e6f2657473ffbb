"""Workers that act inside each other's model calls and tools: what every search for interference is made of.

Workers that act one after the other never meet: what others do happens inside the provider's and the tools' callbacks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from datetime import UTC, datetime
from itertools import count, groupby
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from sqlalchemy import update

from nodellm_orm import NodeLLMError, make_engine
from nodellm_orm.models import ChatRecord
from nodellm_orm.testing import LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM, Chat
    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.validity import Rows

WORKERS: Final = 3
LONG_AGO: Final = datetime(2001, 1, 1, tzinfo=UTC)


class Interfering(RuleBasedStateMachine):
    """Workers with engines and clients of their own, and the provider that they ask.

    A deed is what one worker does; those in `inside` are done one by one, each while the one before waits.
    """

    url: str
    """Of a database with the tables in it."""

    def start(self) -> None:
        """Have a loop, and nothing done yet."""
        self.loop = asyncio.new_event_loop()
        self.numbers = count(1)
        self.inside: deque[tuple[Any, ...]] = deque()
        self.deeds: set[asyncio.Task[None]] = set()
        self.failures: list[str] = []
        self.lost: set[UUID] = set()
        """Turns that were taken from their worker while it was at work."""

    async def open(self) -> None:
        """Start the provider, and connect the workers."""
        self.server = LoopbackServer(self.answer)
        await self.server.__aenter__()
        self.engines: list[AsyncEngine] = [make_engine(self.url) for _ in range(WORKERS)]
        self.clients: list[LLM] = [self.client() for _ in range(WORKERS)]

    def client(self) -> LLM:
        """A worker's client."""
        raise NotImplementedError

    async def answer(self, request: ReceivedRequest) -> Answer:
        """What the model says, once others have interfered."""
        raise NotImplementedError

    async def act(self, *deed: Any) -> None:
        """What one worker does; it may be refused, but only in words of ours."""
        raise NotImplementedError

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the loop; whatever hangs is an error."""
        self.loop.run_until_complete(asyncio.wait_for(work, 60))

    def go(self, deed: tuple[Any, ...], inside: list[tuple[Any, ...]]) -> None:
        """Do one thing, and others inside of it; then let everything come to its end."""
        self.inside.extend(inside)
        self.do(self.act(*deed))
        self.inside.clear()
        self.do(self.quiet())

    async def interfere(self) -> None:
        """Have the next one act, as somebody who knows nothing of the turn in which this happens."""
        if self.inside:
            task = self.loop.create_task(self.act(*self.inside.popleft()), context=Context())
            self.deeds.add(task)
            task.add_done_callback(self.deeds.discard)
            await asyncio.shield(task)  # it goes on when the turn in which it happens is cancelled

    def refused(self, told: str, error: Exception) -> None:
        """Take down an error that is none of ours; it is told by the invariant, out of the callback's reach."""
        if not isinstance(error, NodeLLMError):
            self.failures.append(f"{told}: {error!r}")

    def objects(self) -> list[Chat]:
        """All `Chat` objects of all workers."""
        raise NotImplementedError

    async def quiet(self) -> None:
        """Wait for the turns whose callers have left, and for deeds whose turn was cancelled."""
        while self.deeds:
            await asyncio.wait(self.deeds)
        for chat in self.objects():
            drive = chat._drive
            if drive is not None:
                await drive.settled()

    async def expire(self, chat_id: UUID) -> None:
        """The worker that holds the chat looks dead to everybody else, and is not."""
        async with self.engines[0].begin() as connection:
            held = ChatRecord.lease_until.is_not(None)
            await connection.execute(
                update(ChatRecord).where(ChatRecord.id == chat_id, held).values(lease_until=LONG_AGO)
            )

    async def close(self) -> None:
        """Leave nothing open."""
        for client in self.clients:
            await client.aclose()
        for engine in self.engines:
            await engine.dispose()
        await self.server.__aexit__(None, None, None)

    def end(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what comes last, and close everything."""
        try:
            self.do(work)
        finally:
            self.do(self.close())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


def check_whole(rows: Rows) -> None:
    """Whatever has happened to a chat, its rows are in order.

    Args:
        rows: of the chat, while nobody works on it; a turn may be interrupted.
    """
    assert [message.position for message in rows.messages] == list(range(rows.chat.next_position))
    active = [turn.id for turn in rows.turns if turn.active_slot]
    assert active == ([rows.chat.active_turn_id] if rows.chat.active_turn_id else [])
    assert [turn.position for turn in rows.turns] == list(range(len(rows.turns)))
    # Messages that were added behind a turn that failed lie among its own once it is resumed.
    blocks = [turn for turn, _ in groupby(m.turn_id for m in rows.messages if m.turn_id is not None)]
    assert len(blocks) == len(set(blocks))
    if not active:
        assert all(request.status != "started" for request in rows.requests)
        assert all(call.status != "running" for call in rows.calls)
    assert not [request for request in rows.requests if request.status == "ok" and request.cost is None]


async def search(machine: type[Interfering], *, examples: int, steps: int = 8) -> None:
    """Let hypothesis look for a sequence of deeds that breaks something.

    Args:
        machine: what it may do.
        examples: sequences to try.
        steps: outermost deeds of each.
    """
    # In a thread, where it may have event loops of its own.
    await asyncio.to_thread(
        run_state_machine_as_test,
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
