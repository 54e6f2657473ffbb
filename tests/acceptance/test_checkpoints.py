"""A growing answer that is stored as it grows can be seen by others, and is there after its process is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from nodellm_orm import create_chat, load_chat
from nodellm_orm.models import MessageRecord, ThinkingRecord
from nodellm_orm.testing import FakeThinking, Hold, LoopbackServer, sse_answer
from tests.acceptance.speakers import Says, Speaker
from tests.acceptance.validity import last_words

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.testing import Answer, ReceivedRequest


async def test_growing_answer_can_be_seen_by_another_process(engine: AsyncEngine) -> None:
    """While an answer arrives, another process loads its text so far; in the end it is one complete message."""
    speaker = Speaker("anthropic")
    gate = asyncio.Event()
    events = speaker.events(Says(text="Hello, world", thinking=[FakeThinking("Let me think")]))
    half = next(at for at, event in enumerate(events) if b"Hello" in event) + 2

    async def handle(_: ReceivedRequest) -> Answer:
        return sse_answer([*events[:half], Hold(gate), *events[half:]])

    async with LoopbackServer(handle) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm)
        async with chat.stream("Hi", checkpoint=0) as stream:
            pieces = 0
            async for chunk in stream:
                pieces += bool(chunk.content)
                if pieces > 1:  # the piece before it has been stored by now
                    break
            elsewhere = await load_chat(engine, llm, chat.id)
            seen = elsewhere.messages[-1]
            gate.set()
            async for _ in stream:
                pass

    assert (seen.status, seen.thinking) == ("partial", "Let me think")
    assert seen.content in {"Hello", "Hello, wor"}
    async with engine.connect() as connection:
        rows = (await connection.execute(select(MessageRecord.content, MessageRecord.status))).all()
        thoughts = (await connection.execute(select(ThinkingRecord.text, ThinkingRecord.signature))).all()
    assert sorted(map(tuple, rows)) == [("Hello, world", "complete"), ("Hi", "complete")]
    assert list(map(tuple, thoughts)) == [("Let me think", "c2lnbmF0dXJl")]


async def test_a_copy_that_was_loaded_while_an_answer_grew_sends_all_of_it(engine: AsyncEngine) -> None:
    """Who has loaded half an answer asks with the whole one, once it is there: half of it is not what was said."""
    speaker = Speaker("openai_chat")
    gate = asyncio.Event()
    events = speaker.events(Says(text="Hello, world"))
    half = next(at for at, event in enumerate(events) if b"Hello" in event) + 2

    async def handle(request: ReceivedRequest) -> Answer:
        if last_words(request.json(), speaker.api) == "Hi":
            return sse_answer([*events[:half], Hold(gate), *events[half:]])
        return speaker.answer(Says(text="ok"), stream=False)

    async with LoopbackServer(handle) as server, speaker.llm(server) as llm:
        chat = await create_chat(engine, llm)
        async with chat.stream("Hi", checkpoint=0) as stream:
            pieces = 0
            async for chunk in stream:
                pieces += bool(chunk.content)
                if pieces > 1:
                    break
            elsewhere = await load_chat(engine, llm, chat.id)
            assert elsewhere.messages[-1].status == "partial"
            gate.set()
            async for _ in stream:
                pass
        await elsewhere.ask("And?")

    body: Any = server.requests[-1].json()
    assert [message["content"] for message in body["messages"]] == ["Hi", "Hello, world", "And?"]
