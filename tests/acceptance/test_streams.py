"""A stream gives what ``ask`` would have given; however its consumer leaves, the turn ends and its text is stored."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from nodellm_orm import (
    Chunk,
    StreamInterruptedError,
    TurnInterruptedError,
    create_chat,
    load_chat,
    migrate,
    tool,
)
from nodellm_orm.models import MessageRecord, RequestRecord, TurnRecord
from nodellm_orm.testing import FakeCall, FakeThinking, Hold, LoopbackServer, Reset, sse_answer
from tests.acceptance.speakers import Says, Speaker
from tests.integration.databases import empty_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat
    from nodellm_orm.testing import Answer, ReceivedRequest, Step

TEXT = "Hello, wörld 🚀"


@tool
async def double(x: int) -> int:
    """Double a number."""
    return 2 * x


def held(speaker: Speaker, gate: Callable[[], asyncio.Event], letters: int) -> LoopbackServer:
    """A server whose first answer falls silent after some pieces of text, and whose later ones are whole."""
    events = speaker.events(Says(text=TEXT))
    before = next(at for at, event in enumerate(events) if b"Hello" in event)
    first = [True]

    async def handle(request: ReceivedRequest) -> Answer:
        if first.pop() if first else False:
            at = before + letters
            return sse_answer([*events[:at], Hold(gate()), *events[at:]])
        return speaker.answer(Says(text="later"), stream=bool(request.json().get("stream")))

    return LoopbackServer(handle)


async def read(chat: Chat, how: str, pieces: int) -> None:
    """Begin a stream, and leave it after some pieces of text."""
    stream = chat.stream("Hi")

    async def some(reached: asyncio.Event | None = None) -> None:
        seen = 0
        async for chunk in stream:
            seen += bool(chunk.content)
            if seen == pieces:
                if reached is None:
                    return
                reached.set()

    match how:
        case "break":
            seen = 0
            async for chunk in chat.stream("Hi"):
                seen += bool(chunk.content)
                if seen == pieces:
                    break
        case "exit":
            async with stream:
                await some()
        case "cancel":
            reached = asyncio.Event()
            task = asyncio.create_task(some(reached))
            await reached.wait()
            task.cancel()
            await asyncio.wait({task})
        case "drop":
            await some()
            del stream
            gc.collect()
        case _:
            await some()


@pytest.mark.fault("C54")
@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("how", ["break", "exit", "cancel", "drop", "named"])
async def test_left_stream_is_stored_and_the_next_question_works(
    engine: AsyncEngine, speaker: Speaker, how: str, pieces: int
) -> None:
    """After a consumer left, the rows hold the text it saw, a cancelled turn and attempt; asking on works."""
    never = asyncio.Event()
    async with held(speaker, lambda: never, pieces) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm)
        await read(chat, how, pieces)
        reply = await chat.ask("again")

        assert reply.content == "later"
        async with engine.connect() as connection:
            messages = (
                await connection.execute(
                    select(MessageRecord.content, MessageRecord.status).order_by(MessageRecord.position)
                )
            ).all()
            turns = (await connection.scalars(select(TurnRecord.status).order_by(TurnRecord.position))).all()
            attempts = (await connection.scalars(select(RequestRecord.status).order_by(RequestRecord.id))).all()
        seen = TEXT[: 5 * pieces]
        assert messages == [
            ("Hi", "complete"),
            (seen, "partial"),
            ("again", "complete"),
            ("later", "complete"),
        ]
        assert (turns, attempts) == (["cancelled", "completed"], ["cancelled", "ok"])
        await server.until_interrupted()
        # The broken-off text is replayed as the assistant's words.
        body = server.requests[1].body.decode()
        assert seen in body


async def test_stream_equals_ask(engine: AsyncEngine, speaker: Speaker) -> None:
    """The same script asked and streamed gives equal replies, equal messages, and chunks that add up."""
    script = [
        Says(text="Let me see. ", calls=[FakeCall("double", {"x": 21})], thinking=[FakeThinking("hm")]),
        Says(text=TEXT, thinking=[FakeThinking("so")], usage=(30, 9)),
    ]
    async with speaker.server(*script, *script) as server, speaker.llm(server) as llm:
        one = await create_chat(engine, llm, tools=[double])
        two = await create_chat(engine, llm, tools=[double])
        asked = await one.ask("go")
        async with two.stream("go") as stream:
            chunks: list[Chunk] = [chunk async for chunk in stream]
        streamed = await stream.reply()

    def comparable(reply: Any) -> Any:
        return replace(reply, turn_id=None, request_ids=())

    assert comparable(streamed) == comparable(asked)
    assert two.messages == one.messages
    assert (await load_chat(engine, llm, two.id)).messages == (await load_chat(engine, llm, one.id)).messages
    assert "".join(chunk.content for chunk in chunks) == "Let me see. " + TEXT
    assert "".join(chunk.thinking for chunk in chunks) == ("hmso" if speaker.api == "anthropic" else "")
    assert [(c.tool_call.name, c.tool_call.status) for c in chunks if c.tool_call] == [("double", "running")]
    assert [c.tool_result.content for c in chunks if c.tool_result] == ["42"]
    assert [c.finish_reason for c in chunks if c.finish_reason] == ["stop"]
    assert asked.usage.output_tokens == 16


@pytest.mark.parametrize("end", ["reset", "clean"])
async def test_broken_stream_is_an_error_with_its_text_stored(engine: AsyncEngine, speaker: Speaker, end: str) -> None:
    """A stream that breaks off after text was given is not repeated: the text is partial, the attempt failed."""
    events = speaker.events(Says(text=TEXT))
    at = next(at for at, event in enumerate(events) if b"Hello" in event) + 1
    last: list[bytes | Step] = [Reset()] if end == "reset" else []
    script = sse_answer([*events[:at], *last])
    async with speaker.server(script, Says(text="fine")) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm)
        stream = chat.stream("go")
        assert (await anext(stream)).content == "Hello"
        with pytest.raises(StreamInterruptedError):
            await anext(stream)
        messages = (await load_chat(engine, llm, chat.id)).messages
        assert [(m.content, m.status) for m in messages] == [("go", "complete"), ("Hello", "partial")]
        assert (await chat.usage()).failures == 1
        assert (await chat.ask("again")).content == "fine"


@pytest.mark.fault("C53")
def test_loop_that_ends_under_a_stream_leaves_a_terminal_turn(tmp_path: Path) -> None:
    """When ``asyncio.run`` ends under a stream, the turn is cancelled with its text; a new loop carries on."""
    speaker = Speaker("openai_chat")
    kept: list[Any] = []

    async def first() -> tuple[str, Any]:
        url = f"sqlite+aiosqlite:///{tmp_path / 'loop.db'}"
        engine = create_async_engine(url, poolclass=NullPool)  # nobody is left to close a pool
        await migrate(engine)
        server = held(speaker, asyncio.Event, 2)
        async with server:
            llm = speaker.llm(server)
            chat = await create_chat(engine, llm)
            stream = chat.stream("Hi")
            kept.append((stream, engine, llm))
            await stream.__anext__()
            await stream.__anext__()
        return url, chat.id

    async def second(url: str, chat_id: Any) -> None:
        engine = create_async_engine(url)
        async with speaker.server(Says(text="later")) as server, speaker.llm(server) as llm:
            chat = await load_chat(engine, llm, chat_id)
            await chat.ask("again")
            assert [(m.role, m.content) for m in chat.messages] == [
                ("user", "Hi"),
                ("assistant", "Hello, wör"),
                ("user", "again"),
                ("assistant", "later"),
            ]
        await engine.dispose()

    url, chat_id = asyncio.run(first())
    asyncio.run(second(url, chat_id))
    kept.clear()


@pytest.mark.fault("C44")
async def test_closing_the_client_ends_turns_and_frees_their_chats(tmp_path: Path) -> None:
    """``aclose`` breaks off what does not end in time; its text is stored and the chat is free at once."""
    speaker = Speaker("openai_chat")
    async with empty_database("sqlite", tmp_path) as url:
        engine = create_async_engine(url)
        await migrate(engine)
        never = asyncio.Event()
        async with held(speaker, lambda: never, 2) as server:
            llm = speaker.llm(server)
            chat = await create_chat(engine, llm)
            stream = chat.stream("Hi")
            await stream.__anext__()
            await llm.aclose(grace=0)
            with pytest.raises(TurnInterruptedError) as caught:
                await stream.reply()
            partial: Any = caught.value.reply
            assert partial.content == "Hello, wör"
            async with speaker.llm(server) as other:
                again = await load_chat(engine, other, chat.id)
                assert again.messages[-1].content == "Hello, wör"
                assert (await again.ask("again")).content == "later"
        await engine.dispose()
