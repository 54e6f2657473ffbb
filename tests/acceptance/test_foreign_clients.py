"""Chats over somebody else's client: everything a turn can go through, and the rows it leaves."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import (
    ConfigurationError,
    LLMCompleteResult,
    LLMMessage,
    LLMToolCall,
    LLMUsage,
    RateLimitError,
    create_chat,
    create_llm,
    load_chat,
    tool,
)
from nodellm_orm.models import ChatRecord, MessageRecord, RequestRecord, ToolCallRecord, TurnRecord
from nodellm_orm.testing import LoopbackServer, json_answer, openai_chat_body
from tests.integration.databases import migrated_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database of its own."""
    async with migrated_database("sqlite", tmp_path) as url:
        engine = create_async_engine(url)
        yield engine
        await engine.dispose()


@dataclass
class Gateway:
    """Somebody's client: it can be neither hashed nor told apart by value. An event is waited for, then the next."""

    script: list[Any]
    asked: list[dict[str, Any]] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    async def complete(self, **question: Any) -> LLMCompleteResult:
        """The next line of the script."""
        self.asked.append(question)
        self.called.set()
        line = self.script.pop(0)
        while isinstance(line, asyncio.Event):
            await line.wait()
            line = self.script.pop(0)
        if isinstance(line, BaseException):
            raise line
        answer: LLMCompleteResult = line
        return answer


def says(text: str, *calls: tuple[str, dict[str, Any]], usage: tuple[int, int] | None = (5, 3)) -> LLMCompleteResult:
    """An answer."""
    return LLMCompleteResult(
        text=text,
        tool_calls=[LLMToolCall(name=name, input=given) for name, given in calls],
        usage=LLMUsage(input_tokens=usage[0], output_tokens=usage[1]) if usage else None,
    )


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def rows(engine: AsyncEngine, record: Any) -> list[Any]:
    """All rows of a table in the order they were made."""
    async with engine.connect() as connection:
        return list((await connection.execute(select(record).order_by(record.id))).all())


async def test_rows_tell_who_answered(engine: AsyncEngine) -> None:
    """Chat, message and attempt name the client and the interface; unknown usage stays unknown."""
    chat = await create_chat(engine, Gateway([says("Hi", usage=None)]), model="m-1")
    reply = await chat.ask("Hello")
    (head,) = await rows(engine, ChatRecord)
    (attempt,) = await rows(engine, RequestRecord)
    question, answer = await rows(engine, MessageRecord)
    assert (head.provider, head.model, head.api) == ("Gateway", "m-1", "llm_client")
    assert (attempt.provider, attempt.status, attempt.input_tokens, attempt.cost) == ("Gateway", "ok", None, None)
    assert attempt.first_token_ms is not None
    assert (question.content, answer.content, answer.api) == ("Hello", "Hi", "llm_client")
    assert reply.usage.input_tokens is None
    assert (await chat.usage()).unpriced == 1


async def test_a_client_that_names_its_provider_has_that_ones_prices(engine: AsyncEngine) -> None:
    """The attribute ``provider`` is stored, and the price list looked up under it."""

    class Wrapper(Gateway):
        provider = "openai"

    chat = await create_chat(engine, Wrapper([says("Hi", usage=(1_000_000, 0))]), model="gpt-5-mini")
    reply = await chat.ask("Hello")
    assert (chat.provider, reply.cost) == ("openai", Decimal("0.25"))


async def test_errors_of_ours_are_retried_and_each_attempt_is_a_row(engine: AsyncEngine) -> None:
    """A client that raises our rate limit is asked again after the delay it names."""
    client = Gateway([RateLimitError("later", status=429, retry_after=0), says("Hi")])
    chat = await create_chat(engine, client, model="m")
    assert (await chat.ask("Hello")).content == "Hi"
    attempts = await rows(engine, RequestRecord)
    assert [(row.attempt, row.status, row.http_status, row.error_type) for row in attempts] == [
        (1, "failed", 429, "RateLimitError"),
        (2, "ok", None, None),
    ]


async def test_a_failure_after_a_tool_is_resumed_without_running_it_again(engine: AsyncEngine) -> None:
    """What is stored is not asked for again: the second process tells the result, and gets the answer."""
    first = Gateway([says("", ("add", {"a": 1, "b": 2})), OSError("gone")])
    chat = await create_chat(engine, first, model="m", tools=[add])
    with pytest.raises(OSError, match="gone"):
        await chat.ask("1 + 2?")
    (turn,) = await rows(engine, TurnRecord)
    assert (turn.status, turn.error_type) == ("failed", "OSError")

    second = Gateway([says("3")])
    reply = await (await load_chat(engine, second, chat.id, tools=[add])).resume()
    assert reply.content == "3"
    assert second.asked[0]["messages"] == [
        LLMMessage(role="user", content="1 + 2?"),
        LLMMessage(role="assistant", content='Calling the tool add with {"a":1,"b":2}.'),
        LLMMessage(role="user", content="The tool add returned: 3"),
    ]
    assert second.asked[0]["tools"] is None
    assert [call.status for call in await rows(engine, ToolCallRecord)] == ["succeeded"]
    assert [row.status for row in await rows(engine, RequestRecord)] == ["ok", "failed", "ok"]


async def test_a_turn_can_be_cancelled_and_the_chat_goes_on(engine: AsyncEngine) -> None:
    """Cancelling ends the call under way; the next question tells both."""
    client = Gateway([asyncio.Event(), says("Both.")])
    chat = await create_chat(engine, client, model="m")
    asking = asyncio.create_task(chat.ask("One?"))
    await client.called.wait()
    assert await chat.cancel()
    assert (await asking).finish_reason == "cancelled"
    assert (await chat.ask("Two?")).content == "Both."
    assert client.asked[1]["messages"] == [LLMMessage(role="user", content="One?\n\nTwo?")]
    assert [row.status for row in await rows(engine, RequestRecord)] == ["cancelled", "ok"]


async def test_a_cancellation_within_the_client_fails_the_turn(engine: AsyncEngine) -> None:
    """The caller is not cancelled with it, and the turn can be resumed."""
    client = Gateway([asyncio.CancelledError(), says("Hi")])
    chat = await create_chat(engine, client, model="m")
    with pytest.raises(Exception, match="inside Gateway"):
        await chat.ask("Hello")
    assert (await chat.resume()).content == "Hi"
    assert [row.status for row in await rows(engine, RequestRecord)] == ["failed", "ok"]


async def test_hooks_and_idempotency_keys_work_as_ever(engine: AsyncEngine) -> None:
    """A hook changes what is asked and what is recorded; a question under a used key is not asked again."""
    client = Gateway([says("Hi")])
    chat = await create_chat(engine, client, model="m")
    heard: list[str] = []
    chat.before_request(lambda asked: type(asked)(**{**_members(asked), "instructions": ("Hooked.",)}))
    chat.on_end_message(lambda message: heard.append(message.content))
    once = await chat.ask("Hello", idempotency_key="k")
    again = await chat.ask("Hello", idempotency_key="k")
    assert client.asked[0]["system"] == "Hooked."
    assert heard == ["Hi"]
    assert once.turn_id == again.turn_id
    assert len(client.asked) == 1


def _members(asked: Any) -> dict[str, Any]:
    return {name: getattr(asked, name) for name in type(asked).__dataclass_fields__}


async def test_wrong_arguments_are_told_and_a_named_tool_is_asked_for_again(engine: AsyncEngine) -> None:
    """A forced tool stays forced until it has run; then the client is free to answer."""
    client = Gateway([says("", ("add", {"a": "x"})), says("", ("add", {"a": 1, "b": 1})), says("2")])
    chat = await create_chat(engine, client, model="m", tools=[add])
    reply = await chat.ask("1 + 1?", tool_choice="add")
    assert reply.content == "2"
    assert [asked["tools"] is not None for asked in client.asked] == [True, True, False]
    assert "The tool add failed" in client.asked[1]["messages"][-1].content


async def test_chats_of_one_client_share_what_keeps_them_alive(engine: AsyncEngine) -> None:
    """They have one host as long as there is any, and nothing holds on to the client when they are gone."""
    client = Gateway([says("a"), says("b")])
    one, two = await create_chat(engine, client, model="m"), await create_chat(engine, client, model="m")
    assert one._host is two._host
    await asyncio.gather(one.ask("1"), two.ask("2"))
    gone = weakref.ref(client)
    del one, two, client
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None


async def test_a_client_of_create_llm_goes_on_with_its_chat(engine: AsyncEngine) -> None:
    """The client that is given answers, with the chat's model or another; the earlier words come along."""
    chat = await create_chat(engine, Gateway([says("One.")]), model="theirs")
    await chat.ask("1")
    async with (
        LoopbackServer([json_answer(openai_chat_body(text)) for text in ("Two.", "Three.")]) as server,
        create_llm("openai", api="chat", base_url=f"{server.url}/v1", api_key="k", model="own") as llm,
    ):
        assert (await (await load_chat(engine, llm, chat.id)).ask("2")).content == "Two."
        moved = await load_chat(engine, llm, chat.id, provider="openai", model="gpt-5-mini")
        reply = await moved.ask("3")
    first, second = (request.json() for request in server.requests)
    assert (first["model"], second["model"]) == ("theirs", "gpt-5-mini")
    assert [message["content"] for message in second["messages"]] == ["1", "One.", "2", "Two.", "3"]  # type: ignore[union-attr, index, call-overload]
    assert (reply.provider, moved.provider) == ("openai", "openai")
    (head,) = await rows(engine, ChatRecord)
    assert (head.provider, head.api) == ("openai", "openai_chat")


async def test_a_foreign_client_asks_nobody_else(engine: AsyncEngine) -> None:
    """Another provider that is asked for by name is refused, and its name is not stored."""
    client = Gateway([])
    with pytest.raises(ConfigurationError, match="all that this client can ask"):
        await create_chat(engine, client, model="m", provider="openai")
    chat = await create_chat(engine, client, model="m")
    with pytest.raises(ConfigurationError, match="all that this client can ask"):
        chat.with_provider("anthropic", model="claude-haiku-4-5")
    assert chat.provider == "Gateway"
