"""What a turn costs in statements and commits, counted at the engine; a change of these numbers is a decision."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from nodellm_orm import create_chat, load_chat, tool
from nodellm_orm.testing import FakeCall
from tests.acceptance.speakers import Fails, Says, Speaker

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat


class Counted:
    """Commits, and statements by verb, of one engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._counts: Counter[str] = Counter()
        event.listen(engine.sync_engine, "commit", self._commit)
        event.listen(engine.sync_engine, "before_cursor_execute", self._statement)

    def _commit(self, _: Any) -> None:
        self._counts["COMMIT"] += 1

    def _statement(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self._counts[statement.split(maxsplit=1)[0].upper()] += 1

    def take(self) -> dict[str, int]:
        """The counts since the last time, without the settings that a driver may make of its own."""
        counts, self._counts = self._counts, Counter()
        return {verb: counts[verb] for verb in ("SELECT", "INSERT", "UPDATE", "DELETE", "COMMIT") if counts[verb]}


@tool
def double(x: int) -> int:
    """Double a number."""
    return 2 * x


async def plain(chat: Chat) -> None:
    await chat.ask("go")


async def streamed(chat: Chat) -> None:
    async with chat.stream("go") as stream:
        async for _ in stream:
            pass


CALL = FakeCall("double", {"x": 1})
TURNS: list[tuple[str, list[Says | Fails], dict[str, int]]] = [
    ("plain", [Says(text="a")], {"INSERT": 4, "UPDATE": 4, "COMMIT": 2}),
    ("one tool", [Says(calls=[CALL]), Says(text="a")], {"INSERT": 8, "UPDATE": 9, "COMMIT": 4}),
    ("two tools", [Says(calls=[CALL, CALL]), Says(text="a")], {"INSERT": 8, "UPDATE": 11, "COMMIT": 5}),
    ("two rounds", [Says(calls=[CALL]), Says(calls=[CALL]), Says(text="a")], {"INSERT": 12, "UPDATE": 14, "COMMIT": 6}),
    ("a retry", [Fails(status=503), Says(text="a")], {"INSERT": 5, "UPDATE": 6, "COMMIT": 3}),
]


@pytest.mark.parametrize("how", [plain, streamed])
@pytest.mark.parametrize(("name", "script", "expected"), TURNS, ids=[name for name, _, _ in TURNS])
async def test_statements_and_commits_of_a_turn(
    engine: AsyncEngine,
    name: str,
    script: list[Says | Fails],
    expected: dict[str, int],
    how: Callable[[Chat], Any],
) -> None:
    """A plain turn is 2 commits, a one-tool turn 4; each further call and each retry adds one; nothing is read."""
    del name
    speaker = Speaker("openai_chat")
    async with speaker.server(Says(text="first"), *script) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm, instructions="Be brief.", tools=[double])
        await chat.ask("the first turn stores the instructions and schemas it refers to, once")
        counted = Counted(engine)

        await how(chat)

        assert counted.take() == expected


async def test_a_turn_costs_the_same_however_long_the_chat_is(engine: AsyncEngine) -> None:
    """Once loaded, a turn reads nothing and writes the same number of rows in a chat of any length."""
    speaker = Speaker("openai_chat")
    history = [{"role": ("user", "assistant")[n % 2], "content": f"message {n}"} for n in range(200)]
    async with speaker.server(Says(text="a"), Says(text="b")) as server, speaker.llm(server) as llm:
        short = await create_chat(engine, llm)
        long = await create_chat(engine, llm, messages=history)
        counted = Counted(engine)

        await short.ask("go")
        first = counted.take()
        await long.ask("go")

        assert counted.take() == first


async def test_loading_takes_a_constant_number_of_queries(engine: AsyncEngine) -> None:
    """Loading a chat of 2 messages and one of 400 takes the same queries, and no commit."""
    speaker = Speaker("openai_chat")
    history = [{"role": ("user", "assistant")[n % 2], "content": f"message {n}"} for n in range(400)]
    script = [Says(text="a"), Says(calls=[CALL]), Says(text="b")]
    async with speaker.server(*script) as server, speaker.llm(server) as llm:
        short = await create_chat(engine, llm)
        await short.ask("go")
        long = await create_chat(engine, llm, messages=history, tools=[double])
        await long.ask("go")
        counted = Counted(engine)

        await load_chat(engine, llm, short.id)
        first = counted.take()
        await load_chat(engine, llm, long.id)

        assert counted.take() == first == {"SELECT": 4}
