"""Chats in which about everything has happened that can happen, for whoever looks at whole databases."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nodellm_orm import Message, NodeLLMError, RetryPolicy, TextPart, ToolCallPart, ToolResultPart, create_chat, tool
from nodellm_orm.domain.parts import OpaquePart
from nodellm_orm.store.access import open_access
from nodellm_orm.store.journal import SqlJournal
from nodellm_orm.store.records import RECORDS
from nodellm_orm.testing import FakeCall, FakeThinking, body_answer
from tests.acceptance.speakers import Fails, Says, Speaker
from tests.integration.store.samples import ENDED, with_call

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import Chat

PNG: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 8
HOSTILE: Final = "NUL \x00, half a pair \ud83d, whole \U0001f600, \ufdd0, trailing space "
OWNER: Final = "ada"
SPEAKER: Final = Speaker("anthropic")
_CALL: Final = FakeCall("get_weather", {"city": "Rome"})
_THOUGHT: Final = FakeThinking("Let me think")


@tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"{city}: sunny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """Ids of the chats that tests work on."""

    full: UUID
    """Of `OWNER`: a question with two files, thinking, two calls and their results, the answer; then one more turn."""
    running: UUID
    """Of `OWNER`: a turn with a call that runs; its worker has it."""
    interrupted: UUID
    """The same, its worker being gone."""
    chats: int
    """Number of all chats."""


async def healthy(engine: AsyncEngine) -> Healthy:
    """Fill a database that has the tables."""
    journal = SqlJournal(open_access(engine, RECORDS), RECORDS)
    full = await _full(engine)
    for number, owner in enumerate((None, OWNER, "bob")):
        await _ended(engine, owner, number)
    running, _, _ = await with_call(journal)
    gone, _, _ = await with_call(journal, lease=ENDED)
    async with SPEAKER.server() as server, SPEAKER.llm(server) as llm:
        await create_chat(engine, llm, messages=_imported(), metadata={"team": HOSTILE}, title=HOSTILE)
        await create_chat(engine, llm, owner="nobody has asked yet")
    return Healthy(full=full.id, running=running.hold.chat_id, interrupted=gone.hold.chat_id, chats=8)


async def _full(engine: AsyncEngine) -> Chat:
    script = (Says(thinking=[_THOUGHT], calls=[_CALL, _CALL]), Says(text="Sunny."), Says(text="You are welcome."))
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server) as llm:
        chat = await create_chat(
            engine, llm, owner=OWNER, instructions="Be brief.", tools=[get_weather], temperature=0.5, max_cost="1.5"
        )
        await chat.ask(HOSTILE, files=[("cat.png", PNG), b"plain text"])
        await chat.ask("Thanks", idempotency_key="k")
    return chat


async def _ended(engine: AsyncEngine, owner: str | None, number: int) -> None:
    """A chat of turns that ended otherwise than with an answer, and one that is suspended at its end."""
    cut = SPEAKER.answer(Says(text="half an answer", thinking=[_THOUGHT]), stream=True)
    script = (
        Fails(status=400),
        Says(text="whole"),
        Says(text="cut off", finish="max_tokens", calls=[_CALL]),
        body_answer(b"no JSON"),
        cut,
        Says(calls=[_CALL]),
        Says(text="after the limit"),
        Says(calls=[_CALL]),
    )
    async with SPEAKER.server(*script) as server, SPEAKER.llm(server, retry=RetryPolicy(max_attempts=1)) as llm:
        chat = await create_chat(engine, llm, owner=owner, tools=[get_weather], title=f"chat {number}")
        for question in ("refused", "again", "long", "garbled"):
            with contextlib.suppress(NodeLLMError):
                await chat.ask(question)
        async with chat.stream("left", checkpoint=0) as stream:
            async for chunk in stream:
                if chunk.content:
                    break
        await asyncio.sleep(0)
        await chat.ask("limited", max_tool_rounds=0)
        await chat.ask("beyond it")
        await chat.ask("limited again", max_tool_rounds=0)


def _imported() -> list[Message]:
    """A conversation held elsewhere, with a part of a later release's in it."""
    call = ToolCallPart(call_id="call_1", name="get_weather", arguments='{"city":  "Rome"}', wire_id="w1")
    result = ToolResultPart(call_id="call_1", name="get_weather", content="sunny")
    return [
        Message(role="user", parts=(TextPart(text="Weather?"),)),
        Message(role="assistant", parts=(OpaquePart(payload='{"type":"new","digits":1.50}'), call)),
        Message(role="tool", parts=(result,)),
        Message(role="assistant", parts=(TextPart(text="Sunny."),)),
    ]
