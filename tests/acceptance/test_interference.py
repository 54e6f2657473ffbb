"""Workers that act on one chat while another's model answers and its tools run, in any order that a search finds.

Workers that act one after the other never meet: what others do happens inside the provider's and the tools' callbacks.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from datetime import UTC, datetime
from itertools import count, groupby
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import update

from nodellm_orm import NodeLLMError, Tool, ToolContext, create_chat, load_chat, make_engine, tool
from nodellm_orm.models import ChatRecord
from nodellm_orm.testing import FakeCall, LoopbackServer
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.validity import check, check_history, last_words, stored

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

    from nodellm_orm import Chat
    from nodellm_orm.testing import Answer, ReceivedRequest

SPEAKER: Final = Speaker("openai_chat")
WORKERS: Final = 3
LONG_AGO: Final = datetime(2001, 1, 1, tzinfo=UTC)
ACTIONS: Final = (
    *("ask", "ask with tools", "stream", "stream and leave"),
    *("cancel", "expire", "expire and resume", "expire and ask", "rename", "add"),
)
deeds = st.lists(st.tuples(st.integers(0, WORKERS - 1), st.sampled_from(ACTIONS)), max_size=5)


class Interference(RuleBasedStateMachine):
    """One chat and several workers, each with a `Chat` object of its own that may lie behind."""

    url: str
    """Of a database with the tables in it."""

    @initialize()
    def open(self) -> None:
        """Start the provider, make the chat, and load it everywhere."""
        self.loop = asyncio.new_event_loop()
        self.numbers = count(1)
        self.inside: deque[tuple[int, str]] = deque()
        self.runs: Counter[str] = Counter()
        self.failures: list[str] = []
        self.lost: set[UUID] = set()
        """Turns that were taken from their worker while it was at work."""
        self._do(self._open())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(asyncio.wait_for(work, 60))

    async def _open(self) -> None:
        self.server = LoopbackServer(self._answer)
        await self.server.__aenter__()
        self.engines = [make_engine(self.url) for _ in range(WORKERS)]
        self.clients = [SPEAKER.llm(self.server) for _ in range(WORKERS)]
        self.tools = [self._tool()]
        first = await create_chat(self.engines[0], self.clients[0], tools=self.tools, instructions="Repeat.")
        self.chats = [first, *[await self._loaded(worker, first) for worker in range(1, WORKERS)]]

    async def _loaded(self, worker: int, chat: Chat) -> Chat:
        return await load_chat(self.engines[worker], self.clients[worker], chat.id, tools=self.tools)

    def _tool(self) -> Tool:
        @tool
        async def note(word: str, context: ToolContext) -> str:
            """Note a word."""
            self.runs[context.call_id] += 1
            await self._interfere()
            return f"noted {word}"

        return note

    async def _answer(self, request: ReceivedRequest) -> Answer:
        body: Any = request.json()
        check(body, SPEAKER.api)
        await self._interfere()
        words = last_words(body, SPEAKER.api)
        if words is not None and "tools" in words:
            line = Says(calls=[FakeCall("note", {"word": words}), FakeCall("note", {"word": "too"})])
        else:
            line = Says(text=f"answer to {words}")
        return SPEAKER.answer(line, stream=SPEAKER.streams(request))

    async def _interfere(self) -> None:
        if self.inside:
            await self._act(*self.inside.popleft())

    async def _act(self, worker: int, action: str) -> None:
        """What one worker does; it may be refused, but only in words of ours."""
        held = (await stored(self.engines[worker], self.chats[0].id)).chat.active_turn_id
        try:
            taken = await self._perform(self.chats[worker], action)
            if taken and held is not None:
                self.lost.add(held)
        except NodeLLMError:
            pass
        except Exception as error:  # noqa: BLE001 — told by the invariant, out of the callback's reach
            self.failures.append(f"{action}: {error!r}")

    async def _perform(self, chat: Chat, action: str) -> bool:
        """Do it; whether a turn that was running then is no longer its worker's."""
        match action:
            case "ask" | "ask with tools":
                words = f"{action} {next(self.numbers)}"
                reply = await chat.ask(words)
                if reply.turn_id in self.lost:
                    self.failures.append(f"a worker that had lost its turn has ended it {reply.finish_reason}")
                said = {f"answer to {words}", "answer to None"}
                if reply.finish_reason == "stop" and reply.content not in said:
                    self.failures.append(f"asked {words!r}, got {reply.content!r}")
            case "stream":
                async with chat.stream(f"ask {next(self.numbers)}") as stream:
                    pieces = [chunk.content async for chunk in stream]
                    reply = await stream.reply()
                if reply.finish_reason == "stop" and "".join(pieces) != reply.content:
                    self.failures.append(f"the pieces {pieces} are not {reply.content!r}")
            case "stream and leave":
                async for _ in chat.stream(f"ask {next(self.numbers)}"):
                    break
            case "cancel":
                return await chat.cancel()
            case "expire":
                await self._expire()
            case "expire and resume":
                await self._expire()
                await chat.resume()
                return True
            case "expire and ask":
                await self._expire()
                await chat.ask(f"ask {next(self.numbers)}")
                return True
            case "rename":
                await chat.update(title=f"title {next(self.numbers)}")
            case _:
                await chat.add_message("user", f"added {next(self.numbers)}")
        return False

    async def _expire(self) -> None:
        """The worker that holds the chat looks dead to everybody else, and is not."""
        async with self.engines[0].begin() as connection:
            held = ChatRecord.lease_until.is_not(None)
            await connection.execute(
                update(ChatRecord).where(ChatRecord.id == self.chats[0].id, held).values(lease_until=LONG_AGO)
            )

    @rule(worker=st.integers(0, WORKERS - 1), action=st.sampled_from(ACTIONS), inside=deeds)
    def act(self, worker: int, action: str, inside: list[tuple[int, str]]) -> None:
        """One worker does something; others interfere, each while the one before waits for its model or its tool."""
        self.inside.extend(inside)
        self._do(self._act(worker, action))
        self.inside.clear()
        self._do(self._quiet())

    async def _quiet(self) -> None:
        for chat in self.chats:
            drive = chat._drive
            if drive is not None:
                await drive.settled()

    @invariant()
    def rows_are_whole(self) -> None:
        """Whatever has happened, the rows are in order."""
        assert self.failures == []
        self._do(self._check_rows())

    async def _check_rows(self) -> None:
        rows = await stored(self.engines[0], self.chats[0].id)
        assert [message.position for message in rows.messages] == list(range(rows.chat.next_position))
        active = [turn.id for turn in rows.turns if turn.active_slot]
        assert active == ([rows.chat.active_turn_id] if rows.chat.active_turn_id else [])
        assert [turn.position for turn in rows.turns] == list(range(len(rows.turns)))
        blocks = [turn for turn, _ in groupby(m.turn_id for m in rows.messages) if turn is not None]
        assert len(blocks) == len(set(blocks))
        assert len(rows.requests) >= len(self.server.requests)
        if not active:
            assert all(request.status != "started" for request in rows.requests)
            assert all(call.status != "running" for call in rows.calls)
        for call in rows.calls:
            assert self.runs[call.call_id] <= max(call.attempts, 1)
            assert call.attempts <= 1
        assert sum(1 for request in rows.requests if request.status == "ok" and request.cost is None) == 0

    def teardown(self) -> None:
        """Whoever comes next can carry the chat on."""
        if hasattr(self, "loop"):
            try:
                self._do(self._carry_on())
            finally:
                self._do(self._close())
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
                self.loop.close()

    async def _carry_on(self) -> None:
        await self._expire()
        fresh = await self._loaded(1, self.chats[0])
        reply = await fresh.ask("ask at last")
        assert reply.content == "answer to ask at last"
        check_history([message for message in fresh.messages if message.status == "complete"])
        (await stored(self.engines[0], fresh.id)).check()
        again = await self._loaded(2, fresh)
        assert again.messages == fresh.messages

    async def _close(self) -> None:
        for client in self.clients:
            await client.aclose()
        for engine in self.engines:
            await engine.dispose()
        await self.server.__aexit__(None, None, None)


@pytest.mark.fault("C55")
async def test_workers_that_meet_leave_a_whole_chat(database: str, database_kind: str) -> None:
    """Whatever several workers do to one chat at the same time, its rows are whole, and it can be carried on."""
    machine = type("InterferenceHere", (Interference,), {"url": database})
    # In a thread, where it may have event loops of its own.
    await asyncio.to_thread(
        run_state_machine_as_test,
        machine,
        settings=settings(
            max_examples=40 if database_kind == "sqlite" else 15,
            stateful_step_count=8,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
