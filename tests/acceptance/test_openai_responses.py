"""A chat with OpenAI as it is by default: the Responses format, from the question to the bytes of the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm import RateLimitError, RetryPolicy, create_chat, create_llm, load_chat
from nodellm_orm.testing import (
    FakeCall,
    FakeThinking,
    LoopbackServer,
    json_answer,
    openai_error,
    openai_responses_body,
    openai_responses_stream,
    sse_answer,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM
    from nodellm_orm.testing import Answer

KEY = "sk-canary-0123456789abcdef"
ONCE = RetryPolicy(max_attempts=1)
SEARCH: Any = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "n": 1.5}}
SENT_BACK = ("reasoning", "web_search_call", "message", "function_call")


def get_weather(city: str) -> str:
    """Tells the weather.

    Args:
        city: where.
    """
    return f"4 °C in {city}"


def client(server: LoopbackServer, **options: Any) -> LLM:
    return create_llm("openai", base_url=f"{server.url}/v1", api_key=KEY, retry=ONCE, **options)


def first(*, stream: bool) -> Answer:
    """The model thinks, searches, says something and asks for the weather."""
    options: dict[str, Any] = {
        "thinking": [FakeThinking("I look it up.", "gAAA-1")],
        "further": [SEARCH],
        "tool_calls": [FakeCall("get_weather", {"city": "Oslo"}, id="call_w")],
        "phase": "commentary",
        "usage": (40, 20),
        "reasoning_tokens": 8,
        "id": "resp_1",
    }
    if stream:
        return sse_answer(openai_responses_stream("One moment.", **options))
    return json_answer(openai_responses_body("One moment.", **options))


def second(*, stream: bool) -> Answer:
    """It answers."""
    options: dict[str, Any] = {
        "thinking": [FakeThinking("", "gAAA-2")],
        "phase": "final_answer",
        "usage": (90, 9),
        "cached_tokens": 40,
        "id": "resp_2",
    }
    if stream:
        return sse_answer(openai_responses_stream("It is 4 °C.", **options))
    return json_answer(openai_responses_body("It is 4 °C.", **options))


def third(*, stream: bool) -> Answer:
    """A plain answer."""
    if stream:
        return sse_answer(openai_responses_stream("You are welcome.", id="resp_3"))
    return json_answer(openai_responses_body("You are welcome.", id="resp_3"))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_with_a_tool_and_thinking(engine: AsyncEngine, *, stream: bool) -> None:
    """Each request is the one before it with what was said since: the items as they came, each with its id."""
    answers = [make(stream=stream) for make in (first, second, third)]
    async with LoopbackServer(answers) as server, client(server) as llm:
        chat = await create_chat(
            engine, llm, instructions="Be brief.", tools=[get_weather], thinking="low", model="gpt-5-mini"
        )
        heard = ""
        if stream:
            async with chat.stream("Weather in Oslo?") as chunks:
                heard = "".join([chunk.content or "" async for chunk in chunks])
            reply = await chunks.reply()
        else:
            reply = await chat.ask("Weather in Oslo?")
        again = await load_chat(engine, llm, chat.id, tools=[get_weather])
        thanked = await (again.stream("Thanks!").reply() if stream else again.ask("Thanks!"))

    assert (reply.content, thanked.content) == ("It is 4 °C.", "You are welcome.")
    assert heard == ("One moment.It is 4 °C." if stream else "")
    assert (reply.usage.input_tokens, reply.usage.cached_tokens, reply.usage.reasoning_tokens) == (130, 40, 8)
    assert [call.result for call in reply.tool_calls] == ["4 °C in Oslo"]
    assert [request.path for request in server.requests] == ["/v1/responses"] * 3

    bodies: list[Any] = [request.json() for request in server.requests]
    assert all((body["store"], body["include"]) == (False, ["reasoning.encrypted_content"]) for body in bodies)
    assert all(body["reasoning"] == {"effort": "low", "summary": "auto"} for body in bodies)
    output: Any = openai_responses_body(
        "One moment.",
        thinking=[FakeThinking("I look it up.", "gAAA-1")],
        further=[SEARCH],
        tool_calls=[FakeCall("get_weather", {"city": "Oslo"}, id="call_w")],
        phase="commentary",
    )["output"]
    [told, asked, *sent_back, result, thought, answer, thanks] = bodies[2]["input"]
    assert (told["role"], asked["content"], thanks["content"]) == ("developer", "Weather in Oslo?", "Thanks!")
    assert tuple(item["type"] for item in sent_back) == SENT_BACK
    for ours, theirs in zip(sent_back, output, strict=True):
        assert {name: theirs[name] for name in ours if name != "content"} == {
            name: value for name, value in ours.items() if name != "content"
        }
    assert result == {"type": "function_call_output", "call_id": "call_w", "output": "4 °C in Oslo"}
    assert (thought["id"], thought["summary"], thought["encrypted_content"]) == ("rs_2_0", [], "gAAA-2")
    assert (answer["id"], answer["phase"]) == ("msg_2", "final_answer")
    for before, after in zip(server.requests, server.requests[1:], strict=False):
        assert after.body.startswith(before.body.removesuffix(b"]}"))


async def test_an_answer_in_a_form(engine: AsyncEngine) -> None:
    """The schema goes out with its name, and the answer comes back as a value."""
    from pydantic import BaseModel  # noqa: PLC0415 — the model of this test alone

    class City(BaseModel):
        name: str

    async with (
        LoopbackServer([json_answer(openai_responses_body('{"name": "Oslo"}'))]) as server,
        client(server) as llm,
    ):
        chat = await create_chat(engine, llm)
        reply = await chat.ask("A city?", schema=City)

    assert reply.parsed == City(name="Oslo")
    body: Any = server.requests[0].json()
    form = body["text"]["format"]
    assert (form["type"], form["name"], form["strict"]) == ("json_schema", "City", True)


async def test_a_refused_request_is_told_with_its_id(engine: AsyncEngine) -> None:
    """The class of the code, the id of the request, and the rate limits in its headers."""
    headers = {"x-request-id": "req_7", "retry-after": "200"}
    answer = json_answer(openai_error("slow down", code="rate_limit_exceeded"), status=429, headers=headers)
    async with LoopbackServer([answer]) as server, client(server) as llm:
        chat = await create_chat(engine, llm)
        with pytest.raises(RateLimitError) as caught:
            await chat.ask("Hi")
    assert (caught.value.request_id, caught.value.retry_after) == ("req_7", 200)


async def test_tokens_are_counted_and_models_listed() -> None:
    """By the provider, at its own addresses."""
    listed = json_answer({"object": "list", "data": [{"id": "gpt-5-mini", "object": "model", "created": 1}]})
    counted = json_answer({"object": "response.input_tokens", "input_tokens": 42})
    async with LoopbackServer([counted, listed]) as server, client(server) as llm:
        chat = llm.chat(model="gpt-5-mini")
        assert await chat.count_tokens("How many?") == 42
        assert [model.id for model in await llm.list_models()] == ["gpt-5-mini"]
    assert [(request.method, request.path) for request in server.requests] == [
        ("POST", "/v1/responses/input_tokens"),
        ("GET", "/v1/models"),
    ]


async def test_the_older_format_is_one_word_away() -> None:
    """A client, or a chat that goes on, asks in Chat Completions when it is told to."""
    async with LoopbackServer([json_answer({"object": "nothing"})]) as server, client(server, api="chat") as llm:
        assert llm.chat(model="gpt-5-mini").render("Hi").path == "/chat/completions"
    assert server.requests == []
