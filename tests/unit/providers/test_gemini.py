"""Google's Gemini as a provider: its row, its models, and a conversation with it over a loopback server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm import RetryPolicy, create_llm
from nodellm_orm.config import Environment
from nodellm_orm.errors import (
    AuthenticationError,
    ConfigurationError,
    ContextWindowError,
    ProviderError,
    QuotaExceededError,
    StreamInterruptedError,
)
from nodellm_orm.providers.endpoint import Endpoint, resolve
from nodellm_orm.providers.gemini import GEMINI
from nodellm_orm.providers.models_gemini import GEMINI_PROFILES
from nodellm_orm.providers.registry import find_provider
from nodellm_orm.testing import (
    FakeCall,
    FakeThinking,
    LoopbackServer,
    gemini_body,
    gemini_error,
    gemini_stream,
    json_answer,
    sse_answer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodellm_orm import LLM
    from nodellm_orm.testing import Answer, ReceivedRequest

KEY = "AIzaSy-canary-0123456789abcdefghijk"
_ADDRESS = "https://generativelanguage.googleapis.com/v1beta"


def reached(variables: dict[str, str] | None = None, **given: Any) -> Endpoint:
    """The endpoint that the row gives in an environment."""
    return resolve(GEMINI, environment=Environment.of(variables or {}), **given)


def test_a_key_is_all_it_takes() -> None:
    """With a key, the row gives Google's address, the format and a model; the key has a header of its own."""
    endpoint = reached(api_key=KEY)
    assert find_provider("gemini") is GEMINI
    assert (endpoint.base_url, endpoint.api, endpoint.default_model) == (_ADDRESS, "gemini", "gemini-3.5-flash")
    assert {name: secret.reveal() for name, secret in endpoint.secret_headers.items()} == {"x-goog-api-key": KEY}
    assert endpoint.query == {}


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"GOOGLE_API_KEY": "a"}, "a"),
        ({"GEMINI_API_KEY": "b"}, "b"),
        ({"GOOGLE_API_KEY": "a", "GEMINI_API_KEY": "b"}, "a"),
    ],
)
def test_keys_of_the_environment(variables: dict[str, str], key: str) -> None:
    """Google's own clients prefer the one variable to the other, and so do we."""
    assert reached(variables).secret_headers["x-goog-api-key"].reveal() == key


def test_a_missing_key_is_named() -> None:
    """Without a key the message names both variables."""
    with pytest.raises(ConfigurationError, match="set GOOGLE_API_KEY or GEMINI_API_KEY, or pass api_key"):
        reached()


@pytest.mark.parametrize(
    ("given", "variable", "expected"),
    [
        (None, "https://proxy.example", "https://proxy.example/v1beta"),
        (None, "https://proxy.example/google/v1alpha/", "https://proxy.example/google/v1alpha"),
        ("https://generativelanguage.googleapis.com", None, _ADDRESS),
        ("https://generativelanguage.googleapis.com/v1", None, "https://generativelanguage.googleapis.com/v1"),
        ("https://proxy.example/gemini", None, "https://proxy.example/gemini"),
    ],
)
def test_addresses(given: str | None, variable: str | None, expected: str) -> None:
    """The variable of Google's clients has no version in it; an address that is given is taken as it is."""
    variables = {"GOOGLE_GEMINI_BASE_URL": variable} if variable else {}
    assert reached(variables, base_url=given, api_key=KEY).base_url == expected


def test_generations() -> None:
    """What each generation takes, by the prefix of its name, with or without ``models/``."""

    def of(name: str, field: str) -> object:
        plain, prefixed = GEMINI_PROFILES.find(name), GEMINI_PROFILES.find(f"models/{name}")
        assert plain == prefixed
        return getattr(plain, field)

    assert [of(f"gemini-{name}", "thinking") for name in ("1.5-pro", "2.0-flash", "2.5-pro", "3-flash-preview")] == [
        "none", "none", "budget", "effort",
    ]  # fmt: skip
    assert [of(f"gemini-{name}", "call_signatures") for name in ("2.5-flash", "3-pro-preview", "4-argon")] == [
        False, True, True,
    ]  # fmt: skip
    assert of("gemini-2.5-flash-preview-09-2025", "thinking_off") == "disabled"
    assert of("gemini-2.5-flash-lite", "thinking_min_budget") == 512
    assert of("gemini-2.5-pro-preview-06-05", "thinking_off") == "never"
    assert of("gemini-2.5-flash-image", "thinking") == "none"
    assert of("gemini-3-pro-preview", "efforts") == ("low", "high")
    assert of("gemini-3.1-pro-preview", "efforts") == ("low", "medium", "high")
    assert of("gemini-3.1-flash-lite", "efforts") == ("minimal", "low", "medium", "high")
    assert of("gemini-3.1-flash-lite-image", "efforts") == ("minimal", "high")
    assert of("gemini-3.6-flash", "efforts") == ("minimal", "low", "medium", "high")
    assert of("gemini-5-neon", "efforts") == of("gemini-4-carbon", "efforts") == ("low", "medium", "high")
    assert of("gemini-2.0-flash", "structured_with_tools") is False
    assert of("gemini-3.8-flash", "structured_with_tools") is True
    assert (of("gemma-3-27b-it", "tools"), of("gemma-3n-e4b-it", "system_role")) == ("prompted", "user")
    assert (of("gemma-4-31b-it", "thinking"), of("gemma-4-31b-it", "system_role")) == ("none", "system")
    assert of("somebody-elses", "thinking") == "effort"


class Script:
    """Answers in turn; each is made for a stream or for a whole body, as the path asks."""

    def __init__(self, *lines: Callable[[bool], Answer]) -> None:
        self.requests: list[ReceivedRequest] = []
        self._lines = iter(lines)

    async def __call__(self, request: ReceivedRequest) -> Answer:
        """The next line, and what it answers is kept."""
        self.requests.append(request)
        return next(self._lines)("alt=sse" in request.path)

    @property
    def bodies(self) -> list[Any]:
        """What was asked."""
        return [request.json() for request in self.requests]


def says(text: str | None = None, **words: Any) -> Callable[[bool], Answer]:
    """An answer of the model."""
    return lambda stream: (
        sse_answer(gemini_stream(text, **words)) if stream else json_answer(gemini_body(text, **words))
    )


def fails(status: int, message: str, word: str, *details: Any) -> Callable[[bool], Answer]:
    """An error of the provider."""
    return lambda _: json_answer(gemini_error(message, code=status, status=word, details=details), status=status)


def client(server: LoopbackServer, **options: Any) -> LLM:
    """A client that talks to the loopback server, without waiting between attempts."""
    return create_llm("gemini", base_url=server.url, api_key=KEY, retry=RetryPolicy(base_ms=0, max_ms=0), **options)


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"21 °C in {city}"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_with_a_tool(*, stream: bool) -> None:
    """Call, result, answer and the next question: signatures and ids go back to the place they came from."""
    thinking = [FakeThinking("Which city?")]
    calls = [FakeCall("get_weather", {"city": "Paris"}, id="g1"), FakeCall("get_weather", {"city": "Rome"}, id="g2")]
    script = Script(
        says(tool_calls=calls, thinking=thinking, thought_tokens=5),
        says("Warm.", thinking=[FakeThinking("", "ZW5k")]),
        says("Yes."),
    )
    async with LoopbackServer(script) as server, client(server) as llm:
        chat = llm.chat(tools=[get_weather], thinking="low", instructions="Be brief.")

        async def ask(question: str) -> Any:
            if not stream:
                return await chat.ask(question)
            async with chat.stream(question) as chunks:
                text = "".join([chunk.content async for chunk in chunks])
                reply = await chunks.reply()
            assert text == reply.content
            return reply

        first, second = await ask("Where is it warmer?"), await ask("Sure?")
    assert (first.content, second.content) == ("Warm.", "Yes.")
    assert (first.usage.input_tokens, first.usage.output_tokens, first.usage.reasoning_tokens) == (22, 19, 5)
    assert first.cost is not None
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"
    assert {request.path for request in script.requests} == {f"/models/gemini-3.5-flash:{method}"}
    assert all(request.headers["x-goog-api-key"] == KEY for request in script.requests)
    last = script.bodies[-1]
    assert last["generationConfig"] == {"thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True}}
    assert last["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    asked = [
        {"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}, **signature}
        for call, signature in zip(calls, ({"thoughtSignature": "c2lnbmF0dXJl"}, {}), strict=True)
    ]
    told = [
        {"functionResponse": {"id": i, "name": "get_weather", "response": {"output": f"21 °C in {city}"}}}
        for i, city in (("g1", "Paris"), ("g2", "Rome"))
    ]
    signed = {"thoughtSignature": "ZW5k"}
    spoken = [{"text": "Warm."}, {"text": "", **signed}] if stream else [{"text": "Warm.", **signed}]
    assert last["contents"] == [
        {"role": "user", "parts": [{"text": "Where is it warmer?"}]},
        {"role": "model", "parts": asked},
        {"role": "user", "parts": told},
        {"role": "model", "parts": spoken},
        {"role": "user", "parts": [{"text": "Sure?"}]},
    ]


async def test_calls_without_ids() -> None:
    """Older models give calls no id: the chat has its own, and none of them reaches the API."""
    calls = [FakeCall("get_weather", {"city": "Paris"}), FakeCall("get_weather", {"city": "Rome"})]
    script = Script(says(tool_calls=calls, call_ids=False), says("Warm."))
    async with LoopbackServer(script) as server, client(server, model="gemini-2.5-flash") as llm:
        reply = await llm.chat(tools=[get_weather]).ask("?")
    assert len({call.call_id for call in reply.tool_calls}) == 2
    _, model, results = script.bodies[-1]["contents"]
    assert "id" not in json.dumps(model) + json.dumps(results)
    outputs = [part["functionResponse"]["response"]["output"] for part in results["parts"]]
    assert outputs == ["21 °C in Paris", "21 °C in Rome"]


async def test_a_blocked_question_is_an_answer() -> None:
    """A filter is a reason to stop, not an error, and the chat goes on afterwards."""
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
    script = Script(lambda _: json_answer(blocked), says("Fine."))
    async with LoopbackServer(script) as server, client(server) as llm:
        chat = llm.chat()
        reply = await chat.ask("?")
        assert (reply.content, str(reply.finish_reason)) == ("", "content_filter")
        assert (await chat.ask("!")).content == "Fine."
    assert script.bodies[-1]["contents"] == [{"role": "user", "parts": [{"text": "?"}, {"text": "!"}]}]


_RATE = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.01s"}
_DAY = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "RequestsPerDay-FreeTier"}]}
_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


async def test_a_rate_is_waited_for() -> None:
    """The body says when to come back, and the same request is answered then."""
    script = Script(fails(429, "You exceeded your current quota.", "RESOURCE_EXHAUSTED", _RATE), says("Hi."))
    async with LoopbackServer(script) as server, client(server) as llm:
        assert (await llm.chat().ask("?")).content == "Hi."
    assert len(script.requests) == 2


@pytest.mark.parametrize(
    ("line", "cls"),
    [
        (fails(429, "You exceeded your current quota.", "RESOURCE_EXHAUSTED", _DAY, _RATE), QuotaExceededError),
        (fails(400, f"API key not valid: {KEY}", "INVALID_ARGUMENT", _KEY), AuthenticationError),
        (
            fails(
                400, "The input token count (9) exceeds the maximum number of tokens allowed (8).", "INVALID_ARGUMENT"
            ),
            ContextWindowError,
        ),
    ],
)
async def test_failures_are_told_once(line: Callable[[bool], Answer], cls: type[ProviderError]) -> None:
    """What another attempt would not change is an error at once, of its class and without the key."""
    script = Script(line)
    async with LoopbackServer(script) as server, client(server) as llm:
        with pytest.raises(ProviderError) as caught:
            await llm.chat().ask("?")
    assert type(caught.value) is cls
    assert (caught.value.provider, caught.value.model) == ("gemini", "gemini-3.5-flash")
    assert KEY not in f"{caught.value!r} {caught.value} {caught.value.body} {caught.value.__cause__!r}"


async def listen(llm: LLM, heard: list[str]) -> None:
    """Hear a stream to its end."""
    async for chunk in llm.chat().stream("?"):
        heard.append(chunk.content)  # noqa: PERF401 — what came before the error is kept


async def test_a_stream_that_breaks() -> None:
    """A stream that ends before its reason to stop, or has an error in it, is an error, and its text was heard."""
    events = gemini_stream("Hello, world")
    error = b'data: {"error":{"code":503,"status":"UNAVAILABLE","message":"overloaded"}}\r\n\r\n'
    for line, cls in ((events[:2], StreamInterruptedError), ([*events[:2], error], ProviderError)):
        script = Script(lambda _, line=line: sse_answer(line))  # type: ignore[misc] # the line of this round
        async with LoopbackServer(script) as server, client(server) as llm:
            heard: list[str] = []
            with pytest.raises(cls):
                await listen(llm, heard)
            assert "".join(heard) == "Hello, wor"


async def test_a_server_that_streams_a_list() -> None:
    """A gateway that drops the query answers with one list of chunks; it is read as the answer it is."""
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in gemini_stream("Hello, world")]
    script = Script(lambda _: json_answer(chunks))  # as such gateways send it
    async with LoopbackServer(script) as server, client(server) as llm:
        assert "".join([chunk.content async for chunk in llm.chat().stream("?")]) == "Hello, world"


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY}\r\nx: y", f" {KEY}é"])
def test_a_malformed_key_is_not_shown(key: str) -> None:
    """A key that cannot be sent is an error that shows nothing of it."""
    for given, variables in (({"api_key": key}, {}), ({}, {"GEMINI_API_KEY": key})):
        with pytest.raises(ConfigurationError) as caught:
            reached(variables, **given)
        assert KEY not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert KEY not in f"{reached(api_key=KEY)!r}"


async def test_a_query_of_the_address_joins_that_of_the_stream() -> None:
    """What a gateway wants in the query goes along with ``alt=sse``, and the key is never in it."""
    script = Script(says("Hi."))
    async with LoopbackServer(script) as server:
        llm = create_llm("gemini", base_url=f"{server.url}/v1beta?tenant=a%20b", api_key=KEY)
        async with llm:
            assert "".join([chunk.content async for chunk in llm.chat().stream("?")]) == "Hi."
    path = script.requests[0].path
    assert path.startswith("/v1beta/models/gemini-3.5-flash:streamGenerateContent?")
    assert sorted(path.partition("?")[2].split("&")) in (["alt=sse", "tenant=a%20b"], ["alt=sse", "tenant=a+b"])
    assert KEY not in path


async def test_counting_before_asking() -> None:
    """The provider counts what would be sent."""
    script = Script(lambda _: json_answer({"totalTokens": 8}))
    async with LoopbackServer(script) as server, client(server) as llm:
        assert await llm.chat().count_tokens("What is the capital of France?") == 8
    assert script.requests[0].path == "/models/gemini-3.5-flash:countTokens"
