"""``complete`` of every client: one answer without a chat, whatever it takes to get it."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm import (
    AuthenticationError,
    ConfigurationError,
    LLMMessage,
    LLMTool,
    OpenAILLMClient,
    OverloadedError,
    ProtocolError,
    RetryPolicy,
    create_llm,
)
from nodellm_orm.testing import (
    FakeCall,
    LoopbackServer,
    anthropic_body,
    anthropic_stream,
    json_answer,
    openai_chat_body,
    openai_error,
    sse_answer,
)

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonObject

HELLO = [LLMMessage(role="user", content="Hello")]
ADD = LLMTool(name="add", description="Adds.", input_schema={"type": "object"})
ONCE = RetryPolicy(max_attempts=1)


async def test_an_answer_that_may_be_long_is_streamed() -> None:
    """A connection that is silent for so long breaks: many tokens are asked for as a stream, and come as a whole."""
    async with (
        LoopbackServer([sse_answer(anthropic_stream("A long answer."))]) as server,
        create_llm("anthropic", base_url=server.url, api_key="k", model="claude-haiku-4-5") as llm,
    ):
        result = await llm.complete(messages=HELLO, max_tokens=60_000)
    assert server.requests[0].json()["stream"] is True
    assert (result.text, result.stop_reason) == ("A long answer.", "end_turn")


async def test_all_text_blocks_are_one_text() -> None:
    """Blocks of an answer are joined, and those that are no text left out."""
    body: JsonObject = anthropic_body("One. ") | {
        "content": [{"type": "text", "text": "One. "}, {"type": "text", "text": "Two."}]
    }
    async with (
        LoopbackServer([json_answer(body)]) as server,
        create_llm("anthropic", base_url=server.url, api_key="k", model="claude-haiku-4-5") as llm,
    ):
        assert (await llm.complete(messages=HELLO)).text == "One. Two."


async def test_a_model_that_forces_no_tool_while_it_thinks_is_told_not_to_think() -> None:
    """Forcing a single tool is the promise; thinking was not asked for."""
    script = [json_answer(openai_chat_body(tool_calls=[FakeCall("add", {})])), json_answer(openai_chat_body("Hi"))]
    async with LoopbackServer(script) as server, create_llm("deepseek", base_url=server.url, api_key="k") as llm:
        await llm.complete(messages=HELLO, tools=[ADD])
        await llm.complete(messages=HELLO)
    forced, free = (request.json() for request in server.requests)
    assert forced["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert forced["thinking"] == {"type": "disabled"}
    assert "thinking" not in free


async def test_a_tool_that_cannot_be_forced_is_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The newest models of Anthropic refuse a forced choice: the tool is offered, and the log says so."""
    async with (
        LoopbackServer([json_answer(anthropic_body("Hi"))]) as server,
        create_llm("anthropic", base_url=server.url, api_key="k", model="claude-opus-5-5") as llm,
    ):
        await llm.complete(messages=HELLO, tools=[ADD])
    assert "tool_choice" not in server.requests[0].json()
    assert "does not accept tool_choice" in caplog.text


async def test_another_model_is_asked_when_one_cannot_answer() -> None:
    """The client's fallbacks stand in; when they fail too, the first error says what became of them."""
    busy, wrong = (json_answer(openai_error("no"), status=status) for status in (503, 401))
    script = [busy, json_answer(openai_chat_body("Hi")), busy, wrong, wrong]
    async with (
        LoopbackServer(script) as server,
        create_llm(
            "openai", api="chat", base_url=f"{server.url}/v1", api_key="k", model="one", fallback="two", retry=ONCE
        ) as llm,
    ):
        assert (await llm.complete(messages=HELLO)).text == "Hi"
        with pytest.raises(OverloadedError) as caught:
            await llm.complete(messages=HELLO)
        with pytest.raises(AuthenticationError):
            await llm.complete(messages=HELLO)
    assert [request.json()["model"] for request in server.requests] == ["one", "two", "one", "two", "one"]
    assert "openai/two was asked next: AuthenticationError" in "".join(caught.value.__notes__)


async def test_arguments_that_were_cut_off_say_why() -> None:
    """A call that ends at the token limit names model, tool and remedy."""
    body = openai_chat_body(tool_calls=[FakeCall("add", '{"a": ')], finish_reason="length")
    async with (
        LoopbackServer([json_answer(body)]) as server,
        create_llm("openai", api="chat", base_url=f"{server.url}/v1", api_key="k", model="m") as llm,
    ):
        with pytest.raises(ProtocolError, match="'add'") as caught:
            await llm.complete(messages=HELLO, tools=[ADD])
    assert (caught.value.provider, caught.value.model) == ("openai", "m")
    assert "raise max_tokens" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"messages": []}, "no messages"),
        ({"messages": [LLMMessage(role="user", content=None)]}, "content='...'"),  # type: ignore[arg-type]
        ({"messages": [LLMMessage(role="system", content="x")]}, "'user' or 'assistant'"),  # type: ignore[arg-type]
        ({"system": 7}, "system is a text"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [LLMTool(name="a", description="", input_schema=[])]}, "JSON Schema of an object"),  # type: ignore[arg-type]
        ({"tools": [LLMTool(name="a", description="", input_schema={"x": {1}})]}, "JSON Schema of an object"),
    ],
)
async def test_what_cannot_be_meant_is_refused(given: dict[str, Any], words: str) -> None:
    """Malformed questions are errors that say what to give, and nothing is sent."""
    async with LoopbackServer() as server, create_llm("ollama", base_url=server.url, model="m") as llm:
        with pytest.raises(ConfigurationError, match=words):
            await llm.complete(**{"messages": HELLO, **given})
    assert server.requests == []


async def test_any_object_with_the_two_numbers_is_a_schedule() -> None:
    """A policy of another library serves: its attempts and its first delay count."""
    script = [json_answer(openai_error("slow down"), status=429), json_answer(openai_chat_body("Hi"))]
    policy: Any = SimpleNamespace(max_attempts=2, base_ms=0, jitter=True)
    async with LoopbackServer(script) as server, OpenAILLMClient("k", f"{server.url}/v1", policy) as client:
        assert (await client.complete(model="m", messages=HELLO)).text == "Hi"
    wrong: Any = SimpleNamespace(max_attempts="2", base_ms=0)
    with pytest.raises(ConfigurationError, match="max_attempts and base_ms"):
        OpenAILLMClient("k", retry=wrong)


async def test_a_client_may_be_left_open() -> None:
    """Without ``async with`` and ``aclose()`` its connections end with the event loop, and nothing warns."""
    async with LoopbackServer([json_answer(openai_chat_body("Hi"))]) as server:
        texts: list[str] = []

        async def ask() -> None:
            result = await OpenAILLMClient("k", f"{server.url}/v1").complete(model="m", messages=HELLO)
            texts.append(result.text)

        thread = threading.Thread(target=lambda: asyncio.run(ask()))
        thread.start()
        await asyncio.to_thread(thread.join)
        await server.until_idle()
    assert texts == ["Hi"]
