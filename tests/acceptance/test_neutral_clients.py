"""The neutral interface: the two clients that have it, and anything that has it behind a chat."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import (
    AnthropicLLMClient,
    BadRequestError,
    Chats,
    ConfigurationError,
    LLMCompleteResult,
    LLMMessage,
    LLMTool,
    LLMToolCall,
    LLMUsage,
    MediaPart,
    OpenAILLMClient,
    ProtocolError,
    ProviderTimeoutError,
    RateLimitError,
    Timeout,
    UnsupportedFeatureError,
    create_chat,
    create_llm,
    load_chat,
    tool,
)
from nodellm_orm.models import MessageRecord, RequestRecord, ToolCallRecord
from nodellm_orm.testing import (
    FakeCall,
    LoopbackServer,
    anthropic_body,
    anthropic_error,
    json_answer,
    openai_chat_body,
    openai_error,
)
from tests.integration.databases import migrated_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

HELLO = [LLMMessage(role="user", content="Hello")]
WEATHER = LLMTool(name="get_weather", description="The weather.", input_schema={"type": "object"})
CLOCK = LLMTool(name="get_time", description="The time.", input_schema={"type": "object"})


class Watch:
    """A clock whose sleepers wake at once, and which remembers how long they wanted to sleep."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """Time stands still."""
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """Remember."""
        self.slept.append(seconds)
        await asyncio.sleep(0)


@pytest.fixture(params=["anthropic", "openai"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each of the two clients."""
    found: str = request.param
    return found


def client_of(kind: str, server: LoopbackServer, **options: Any) -> AnthropicLLMClient | OpenAILLMClient:
    """One of the two clients, talking to the loopback server."""
    if kind == "anthropic":
        return AnthropicLLMClient("sk-x", base_url=server.url, **options)
    return OpenAILLMClient("sk-x", f"{server.url}/v1", **options)


def answer(kind: str, text: str | None = None, calls: Sequence[FakeCall] = (), **options: Any) -> Any:
    """A whole answer in the client's format."""
    body = anthropic_body if kind == "anthropic" else openai_chat_body
    return json_answer(body(text, tool_calls=calls, **options))


def refusal(kind: str, status: int) -> Any:
    """An error in the client's format."""
    return json_answer(anthropic_error("no") if kind == "anthropic" else openai_error("no"), status=status)


# ── the two clients ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_plain_answers(kind: str) -> None:
    """Text, usage and the provider's own stop reason come back; 4096 tokens are asked for unless told otherwise."""
    async with (
        LoopbackServer([answer(kind, "Hi", usage=(3, 2)), answer(kind, "Hi")]) as server,
        client_of(kind, server) as client,
    ):
        result = await client.complete(model="m", messages=HELLO, system="Be brief.")
        await client.complete(model="m", messages=HELLO, max_tokens=7)
    first, second = (request.json() for request in server.requests)
    stop = "end_turn" if kind == "anthropic" else "stop"
    assert result == LLMCompleteResult(
        text="Hi", tool_calls=None, usage=LLMUsage(input_tokens=3, output_tokens=2), stop_reason=stop
    )
    assert first["max_tokens"] == 4096
    assert second["max_tokens"] == 7
    assert "Be brief." in json.dumps(first)


async def test_a_single_tool_is_forced_and_several_are_not(kind: str) -> None:
    """One tool has to be called; of two the model chooses."""
    call = FakeCall("get_weather", {"city": "Oslo"})
    async with (
        LoopbackServer([answer(kind, calls=[call]), answer(kind, "no tool")]) as server,
        client_of(kind, server) as client,
    ):
        one = await client.complete(model="m", messages=HELLO, tools=[WEATHER])
        two = await client.complete(model="m", messages=HELLO, tools=[WEATHER, CLOCK])
    forced, free = (request.json() for request in server.requests)
    assert one.text == ""
    assert one.tool_calls == [LLMToolCall(name="get_weather", input={"city": "Oslo"})]
    assert "get_weather" in json.dumps(forced["tool_choice"])
    assert "tool_choice" not in free
    assert two.tool_calls is None


async def test_only_a_429_is_tried_again(kind: str) -> None:
    """The delay doubles from base_ms; at the last attempt the error is raised; other errors are raised at once."""
    watch = Watch()
    script = [refusal(kind, 429)] * 4 + [refusal(kind, 500), refusal(kind, 400)]
    async with LoopbackServer(script) as server, client_of(kind, server, clock=watch) as client:
        with pytest.raises(RateLimitError):
            await client.complete(model="m", messages=HELLO)
        assert watch.slept == [1.0, 2.0, 4.0]
        with pytest.raises(Exception, match="no") as failed:
            await client.complete(model="m", messages=HELLO)
        with pytest.raises(BadRequestError):
            await client.complete(model="m", messages=HELLO)
    assert getattr(failed.value, "status", None) == 500
    assert watch.slept == [1.0, 2.0, 4.0]
    assert len(server.requests) == 6


async def test_the_schedule_can_be_changed(kind: str) -> None:
    """A mapping or a RetryPolicy says how often, and how long at first."""
    watch = Watch()
    script = [refusal(kind, 429), refusal(kind, 429), answer(kind, "Hi")]
    async with LoopbackServer(script) as server:
        options = {"retry": {"max_attempts": 3, "base_ms": 10}, "clock": watch}
        async with client_of(kind, server, **options) as client:
            assert (await client.complete(model="m", messages=HELLO)).text == "Hi"
    assert watch.slept == [0.01, 0.02]
    wrong: Any = AnthropicLLMClient if kind == "anthropic" else OpenAILLMClient
    with pytest.raises(ConfigurationError, match="max_attempts and base_ms"):
        wrong("sk-x", retry={"attempts": 3})


@pytest.mark.parametrize("text", ['<think>so {"a": 1}</think>{"city": "Oslo"}', '  {"city": "Oslo"}'])
async def test_thoughts_before_arguments_are_left_out(text: str) -> None:
    """What some models think inside the arguments is no part of them."""
    async with (
        LoopbackServer([answer("openai", calls=[FakeCall("get_weather", text)])]) as server,
        client_of("openai", server) as client,
    ):
        result = await client.complete(model="m", messages=HELLO, tools=[WEATHER])
    assert result.tool_calls == [LLMToolCall(name="get_weather", input={"city": "Oslo"})]


async def test_arguments_that_are_no_object_are_an_error() -> None:
    """Broken JSON and other values are typed errors that name the tool."""
    calls = [[FakeCall("get_weather", "{")], [FakeCall("get_weather", "[1]")]]
    async with (
        LoopbackServer([answer("openai", calls=call) for call in calls]) as server,
        client_of("openai", server) as client,
    ):
        for _ in calls:
            with pytest.raises(ProtocolError, match="get_weather"):
                await client.complete(model="m", messages=HELLO, tools=[WEATHER])


async def test_no_usage_is_none() -> None:
    """A server that reports none has none."""
    async with LoopbackServer([answer("openai", "Hi", usage=None)]) as server, client_of("openai", server) as client:
        assert (await client.complete(model="m", messages=HELLO)).usage is None


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the clients are not made."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="ANTHROPIC_API_KEY"):
        AnthropicLLMClient()
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        OpenAILLMClient()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    assert "sk-env" not in repr(OpenAILLMClient())


async def test_wrong_messages_and_tools_are_named() -> None:
    """What is not of the interface's own types is refused before anything is sent."""
    client = OpenAILLMClient("sk-x", "http://127.0.0.1:9/v1")
    messages: Any = [{"role": "user", "content": "x"}]
    with pytest.raises(ConfigurationError, match="LLMMessage"):
        await client.complete(model="m", messages=messages)
    tools: Any = [{"name": "x"}]
    with pytest.raises(ConfigurationError, match="LLMTool"):
        await client.complete(model="m", messages=HELLO, tools=tools)


async def test_every_client_has_the_method() -> None:
    """A client of create_llm completes too, with its own model and its provider's own limits."""
    async with (
        LoopbackServer([json_answer(openai_chat_body("Hi"))]) as server,
        create_llm("openai_compatible", base_url=server.url, model="mine") as llm,
    ):
        result = await llm.complete(messages=HELLO)
    assert result.text == "Hi"
    assert server.requests[0].json()["model"] == "mine"
    assert "max_tokens" not in server.requests[0].json()


# ── behind a chat ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database of its own."""
    async with migrated_database("sqlite", tmp_path) as url:
        engine = create_async_engine(url)
        yield engine
        await engine.dispose()


@tool
async def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"21 degrees in {city}"


@tool
async def get_time(zone: str) -> str:
    """The time of a zone."""
    return f"12:00 {zone}"


class Scripted:
    """Somebody else's client: answers in turn, and remembers what it was asked."""

    def __init__(self, *answers: LLMCompleteResult | BaseException | Any) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def complete(self, **question: Any) -> LLMCompleteResult:
        """The next answer."""
        self.asked.append(question)
        found = self.answers.pop(0)
        if isinstance(found, BaseException):
            raise found
        result: LLMCompleteResult = found
        return result


def says(text: str, *calls: LLMToolCall, usage: tuple[int, int] | None = (5, 3), stop: str | None = None) -> Any:
    """An answer of a foreign client."""
    counts = LLMUsage(input_tokens=usage[0], output_tokens=usage[1]) if usage else None
    return LLMCompleteResult(text=text, tool_calls=list(calls) or None, usage=counts, stop_reason=stop)


OSLO = LLMToolCall(name="get_weather", input={"city": "Oslo"})


async def test_the_two_clients_run_as_their_providers_do(kind: str, engine: AsyncEngine) -> None:
    """Behind a chat tools go natively, and rows name provider and price."""
    script = [answer(kind, calls=[FakeCall("get_weather", {"city": "Oslo"})]), answer(kind, "Warm.")]
    async with LoopbackServer(script) as server, client_of(kind, server) as client:
        model = "claude-haiku-4-5" if kind == "anthropic" else "gpt-5-mini"
        chat = await create_chat(engine, client, model=model, tools=[get_weather])
        reply = await chat.ask("How is Oslo?")
    assert (reply.content, reply.provider) == ("Warm.", kind)
    assert reply.cost is not None
    assert "tool" in server.requests[1].body.decode()


async def test_a_foreign_client_holds_a_chat(engine: AsyncEngine) -> None:
    """A tool round works in words: rows, results and usage are those of any chat; a single tool is offered once."""
    client = Scripted(says("", OSLO, stop="tool_use"), says("21 degrees.", stop="end_turn"), says("Bye."))
    chat = await create_chat(engine, client, model="theirs", instructions=["A.", "B."], tools=[get_weather])
    reply = await chat.ask("How is Oslo?")
    first, second = client.asked
    assert (first["system"], [offered.name for offered in first["tools"]]) == ("A.\n\nB.", ["get_weather"])
    assert first["messages"] == [LLMMessage(role="user", content="How is Oslo?")]
    assert second["tools"] is None
    told = second["messages"]
    assert [message.role for message in told] == ["user", "assistant", "user"]
    assert "get_weather" in told[1].content
    assert "Oslo" in told[1].content
    assert "21 degrees in Oslo" in told[2].content
    assert (reply.content, reply.usage.input_tokens, reply.finish_reason, reply.cost) == (
        "21 degrees.",
        10,
        "stop",
        None,
    )
    loaded = await load_chat(engine, client, chat.id, tools=[get_weather])
    assert loaded.messages == chat.messages
    await loaded.ask("Thanks.")
    assert [offered.name for offered in client.asked[2]["tools"]] == ["get_weather"]
    async with engine.connect() as connection:
        rows = (await connection.execute(select(RequestRecord).order_by(RequestRecord.id))).all()
        calls = (await connection.execute(select(ToolCallRecord))).all()
    assert [(row.provider, row.status, row.input_tokens) for row in rows] == [("Scripted", "ok", 5)] * 3
    assert [(call.name, call.status) for call in calls] == [("get_weather", "succeeded")]


async def test_several_tools_stay_offered(engine: AsyncEngine) -> None:
    """Of several the client may go on to call; a forced one is offered alone, until it has run."""
    client = Scripted(says("", OSLO), says("ok"), says("", OSLO), says("ok"))
    chat = await create_chat(engine, client, model="m", tools=[get_weather, get_time])
    await chat.ask("one")
    await chat.ask("two", tool_choice="get_weather")
    offered = [[spec.name for spec in asked["tools"]] for asked in client.asked]
    both = ["get_weather", "get_time"]
    assert offered == [both, both, ["get_weather"], both]


async def test_a_stream_comes_in_one_piece(engine: AsyncEngine) -> None:
    """The answer is one chunk, and the reply is that of ask."""
    chat = await create_chat(engine, Scripted(says("All at once.")), model="m")
    async with chat.stream("Hi") as stream:
        pieces = [chunk.content async for chunk in stream if chunk.content]
        reply = await stream.reply()
    assert pieces == ["All at once."]
    assert reply.content == "All at once."


async def test_its_errors_reach_the_caller_as_they_are(engine: AsyncEngine) -> None:
    """A foreign exception is raised unchanged, its attempt is a row, and the chat goes on by resume."""
    client = Scripted(LookupError("theirs"), says("Better."))
    chat = await create_chat(engine, client, model="m")
    with pytest.raises(LookupError, match="theirs"):
        await chat.ask("Hi")
    reply = await chat.resume()
    assert reply.content == "Better."
    async with engine.connect() as connection:
        rows = (await connection.execute(select(RequestRecord).order_by(RequestRecord.id))).all()
    assert [(row.status, row.error_type) for row in rows] == [("failed", "LookupError"), ("ok", None)]


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        "text",
        {"text": "a dict"},
        LLMCompleteResult(text=None),  # type: ignore[arg-type]
        LLMCompleteResult(text="x", tool_calls="get_weather"),  # type: ignore[arg-type]
        LLMCompleteResult(text="x", tool_calls=[LLMToolCall(name="a", input=[1])]),  # type: ignore[arg-type]
        LLMCompleteResult(text="x", tool_calls=[LLMToolCall(name="a", input={"b": float("nan")})]),
        LLMCompleteResult(text="x", usage=LLMUsage(input_tokens=-1, output_tokens=0)),
        LLMCompleteResult(text="x", stop_reason=7),  # type: ignore[arg-type]
    ],
)
async def test_nonsense_is_named(engine: AsyncEngine, nonsense: object) -> None:
    """What is no result of the interface is a typed error that says what has to be returned; it is not asked again."""
    client = Scripted(nonsense, says("never"))
    chat = await create_chat(engine, client, model="m")
    with pytest.raises(ProtocolError, match="LLMCompleteResult"):
        await chat.ask("Hi")
    assert len(client.asked) == 1


async def test_it_is_not_waited_for_for_ever(engine: AsyncEngine) -> None:
    """The chat's time limit holds for a foreign client too."""

    class Silent:
        async def complete(self, **_: Any) -> LLMCompleteResult:
            await asyncio.Event().wait()
            raise AssertionError

    chat = await create_chat(engine, Silent(), model="m", timeout=Timeout(total=0.01))
    with pytest.raises(ProviderTimeoutError, match="Silent did not answer"):
        await chat.ask("Hi")


async def test_settings_it_cannot_say_are_left_out_with_a_warning(engine: AsyncEngine, caplog: Any) -> None:
    """A temperature has no place in the interface; a schema is asked for in words."""
    client = Scripted(says('{"n": 1}'))
    chat = await create_chat(engine, client, model="m", temperature=0.5)
    reply = await chat.ask("Hi", schema={"type": "object", "properties": {"n": {"type": "integer"}}})
    assert reply.parsed == {"n": 1}
    assert "JSON Schema" in client.asked[0]["system"]
    assert "temperature" in caplog.text


async def test_files_that_are_no_text_are_refused(engine: AsyncEngine) -> None:
    """A text goes along as words; an image is an error before anything is written."""
    client = Scripted(says("ok"))
    chat = await create_chat(engine, client, model="m")
    picture = MediaPart(media="image", media_type="image/png", data=b"\x89PNG\r\n\x1a\n123")
    with pytest.raises(UnsupportedFeatureError, match="texts only"):
        await chat.ask("What is it?", files=[picture])
    await chat.ask("Read it.", files=[("a.txt", b"the words")])
    assert "the words" in client.asked[0]["messages"][0].content
    async with engine.connect() as connection:
        assert len((await connection.execute(select(MessageRecord))).all()) == 2


async def test_a_chat_goes_on_with_another_kind_of_client(engine: AsyncEngine) -> None:
    """A chat of a provider is carried on by a foreign client, and back again."""
    async with (
        LoopbackServer([json_answer(openai_chat_body("One."))] * 2) as server,
        create_llm("openai", api="chat", base_url=f"{server.url}/v1", api_key="k", model="m") as llm,
    ):
        chat = await create_chat(engine, llm)
        await chat.ask("1")
        foreign = await load_chat(engine, Scripted(says("Two.")), chat.id)
        assert (await foreign.ask("2")).content == "Two."
        back = await load_chat(engine, llm, chat.id)
        assert (await back.ask("3")).content == "One."
    spoken = [message["content"] for message in server.requests[1].json()["messages"]]  # type: ignore[union-attr, index, call-overload]
    assert spoken == ["1", "One.", "2", "Two.", "3"]


async def test_chats_of_one_foreign_client_run_side_by_side(engine: AsyncEngine) -> None:
    """Two chats of one client are answered at the same time."""
    both = asyncio.Barrier(2)

    class Meeting:
        async def complete(self, **_: Any) -> LLMCompleteResult:
            await both.wait()
            return LLMCompleteResult(text="met")

    chats = Chats(engine, Meeting())
    one, two = await chats.create(model="m"), await chats.create(model="m")
    replies = await asyncio.gather(one.ask("a"), two.ask("b"))
    assert [reply.content for reply in replies] == ["met", "met"]


async def test_what_is_no_client_is_refused(engine: AsyncEngine) -> None:
    """An object without complete(), a class, and a model that is not named each have their own remedy."""
    wrong: Any
    for wrong, words in ((object(), "async complete"), (Scripted, "not its class"), ("openai", "create_llm")):
        with pytest.raises(ConfigurationError, match=words):
            await create_chat(engine, wrong, model="m")
    with pytest.raises(ConfigurationError, match="model="):
        await create_chat(engine, Scripted())
