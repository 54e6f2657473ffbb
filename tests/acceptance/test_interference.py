"""Workers that act on one chat while another's model answers and its tools run, in any order that a search finds."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from nodellm_orm import Tool, ToolContext, create_chat, load_chat, tool
from nodellm_orm.testing import FakeCall
from tests.acceptance.interfering import WORKERS, Interfering, check_whole, search
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.validity import check, check_history, last_words, stored

if TYPE_CHECKING:
    from nodellm_orm import LLM, Chat
    from nodellm_orm.testing import Answer, ReceivedRequest

SPEAKER: Final = Speaker("openai_chat")
ACTIONS: Final = (
    *("ask", "ask with tools", "stream", "stream and leave"),
    *("cancel", "expire", "expire and resume", "expire and ask", "rename", "add"),
)
deeds = st.lists(st.tuples(st.integers(0, WORKERS - 1), st.sampled_from(ACTIONS)), max_size=5)


class Interference(Interfering):
    """One chat and several workers, each with a `Chat` object of its own that may lie behind."""

    @initialize()
    def begin(self) -> None:
        """Start the provider, make the chat, and load it everywhere."""
        self.start()
        self.runs: Counter[str] = Counter()
        self.do(self._begin())

    async def _begin(self) -> None:
        await self.open()
        self.tools = [self._tool()]
        first = await create_chat(self.engines[0], self.clients[0], tools=self.tools, instructions="Repeat.")
        self.chats = [first, *[await self._loaded(worker, first) for worker in range(1, WORKERS)]]

    def client(self) -> LLM:
        """A worker's client."""
        return SPEAKER.llm(self.server)

    def objects(self) -> list[Chat]:
        """An object a worker."""
        return self.chats

    async def _loaded(self, worker: int, chat: Chat) -> Chat:
        return await load_chat(self.engines[worker], self.clients[worker], chat.id, tools=self.tools)

    def _tool(self) -> Tool:
        @tool
        async def note(word: str, context: ToolContext) -> str:
            """Note a word."""
            self.runs[context.call_id] += 1
            await self.interfere()
            return f"noted {word}"

        return note

    async def answer(self, request: ReceivedRequest) -> Answer:
        """Call tools when asked with tools, and answer otherwise."""
        body: Any = request.json()
        check(body, SPEAKER.api)
        await self.interfere()
        words = last_words(body, SPEAKER.api)
        if words is not None and "tools" in words:
            line = Says(calls=[FakeCall("note", {"word": words}), FakeCall("note", {"word": "too"})])
        else:
            line = Says(text=f"answer to {words}")
        return SPEAKER.answer(line, stream=SPEAKER.streams(request))

    async def act(self, *deed: Any) -> None:
        """What one worker does; whether it takes a turn from its worker is remembered."""
        worker, action = deed
        held = (await stored(self.engines[worker], self.chats[0].id)).chat.active_turn_id
        try:
            if await self._perform(self.chats[worker], action) and held is not None:
                self.lost.add(held)
        except Exception as error:  # noqa: BLE001 — told by the invariant, out of the callback's reach
            self.refused(action, error)

    async def _perform(self, chat: Chat, action: str) -> bool:
        """Do it; whether a turn that was running then is no longer its worker's."""
        match action:
            case "ask" | "ask with tools":
                words = f"{action} {next(self.numbers)}"
                reply = await chat.ask(words)
                if reply.turn_id in self.lost and reply.finish_reason != "cancelled":
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
                await self.expire(chat.id)
            case "expire and resume":
                await self.expire(chat.id)
                await chat.resume()
                return True
            case "expire and ask":
                await self.expire(chat.id)
                await chat.ask(f"ask {next(self.numbers)}")
                return True
            case "rename":
                await chat.update(title=f"title {next(self.numbers)}")
            case _:
                await chat.add_message("user", f"added {next(self.numbers)}")
        return False

    @rule(worker=st.integers(0, WORKERS - 1), action=st.sampled_from(ACTIONS), inside=deeds)
    def step(self, worker: int, action: str, inside: list[tuple[int, str]]) -> None:
        """One worker does something; others interfere, each while the one before waits for its model or its tool."""
        self.go((worker, action), list(inside))

    @invariant()
    def rows_are_whole(self) -> None:
        """Whatever has happened, the rows are in order."""
        assert self.failures == []
        self.do(self._check_rows())

    async def _check_rows(self) -> None:
        rows = await stored(self.engines[0], self.chats[0].id)
        check_whole(rows)
        assert len(rows.requests) >= len(self.server.requests)
        for call in rows.calls:
            assert self.runs[call.call_id] <= max(call.attempts, 1)
            assert call.attempts <= 1

    def teardown(self) -> None:
        """Whoever comes next can carry the chat on."""
        if hasattr(self, "chats"):
            self.end(self._carry_on())

    async def _carry_on(self) -> None:
        await self.expire(self.chats[0].id)
        fresh = await self._loaded(1, self.chats[0])
        reply = await fresh.ask("ask at last")
        assert reply.content == "answer to ask at last"
        check_history([message for message in fresh.messages if message.status == "complete"])
        (await stored(self.engines[0], fresh.id)).check()
        again = await self._loaded(2, fresh)
        assert again.messages == fresh.messages


@pytest.mark.fault("C55")
async def test_workers_that_meet_leave_a_whole_chat(database: str, database_kind: str) -> None:
    """Whatever several workers do to one chat at the same time, its rows are whole, and it can be carried on."""
    machine = type("InterferenceHere", (Interference,), {"url": database})
    await search(machine, examples=30 if database_kind == "sqlite" else 8)
