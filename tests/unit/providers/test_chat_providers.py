"""DeepSeek, OpenRouter, Mistral, xAI and Azure: addresses, keys, and conversations over a loopback server."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm import MediaPart, RetryPolicy, create_llm
from nodellm_orm.config import Environment
from nodellm_orm.errors import ConfigurationError, ContentFilterError, QuotaExceededError, UnsupportedFeatureError
from nodellm_orm.ports.wire import TokenCounter
from nodellm_orm.providers.endpoint import resolve
from nodellm_orm.providers.models_azure import AZURE_CHAT_PROFILES, AZURE_RESPONSES_PROFILES
from nodellm_orm.providers.models_deepseek import DEEPSEEK_PROFILES
from nodellm_orm.providers.models_mistral import MISTRAL_PROFILES
from nodellm_orm.providers.models_openrouter import OPENROUTER_PROFILES
from nodellm_orm.providers.models_xai import XAI_PROFILES
from nodellm_orm.providers.registry import find_provider
from nodellm_orm.testing import FakeCall, LoopbackServer, json_answer, openai_chat_body, openai_chat_stream, sse_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodellm_orm import LLM
    from nodellm_orm.providers.endpoint import Endpoint
    from nodellm_orm.testing import Answer, ReceivedRequest

KEY = "key-canary-0123456789abcdef"
_TOKEN = "token-canary-0123456789abcdef"
_RESOURCE = "https://acme.openai.azure.com"


def reached(provider: str, variables: dict[str, str] | None = None, **given: Any) -> Endpoint:
    """The endpoint that a row gives in an environment, for Chat Completions."""
    options = {"api": "chat", **given}
    return resolve(find_provider(provider), environment=Environment.of(variables or {}), **options)


@pytest.mark.parametrize(
    ("provider", "variable", "address", "model"),
    [
        ("deepseek", "DEEPSEEK_API_KEY", "https://api.deepseek.com", "deepseek-v4-flash"),
        ("openrouter", "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1", "openai/gpt-5-mini"),
        ("mistral", "MISTRAL_API_KEY", "https://api.mistral.ai/v1", "mistral-small-latest"),
        ("xai", "XAI_API_KEY", "https://api.x.ai/v1", "grok-4.3"),
    ],
)
def test_a_key_is_all_it_takes(provider: str, variable: str, address: str, model: str) -> None:
    """With a key of the environment or a given one, the row gives the rest; without one it names the variable."""
    for endpoint in (reached(provider, {variable: KEY}), reached(provider, api_key=KEY)):
        assert (endpoint.base_url, endpoint.api, endpoint.default_model) == (address, "openai_chat", model)
        assert {name: key.reveal() for name, key in endpoint.secret_headers.items()} == {
            "authorization": f"Bearer {KEY}"
        }
        assert KEY not in repr(endpoint)
    with pytest.raises(ConfigurationError, match=f"set {variable}, or pass api_key"):
        reached(provider, {"OPENAI_API_KEY": KEY})


def test_openrouter_is_told_who_asks() -> None:
    """Two options, or their variables, are headers; without them nothing is sent."""
    assert dict(reached("openrouter", api_key=KEY).headers) == {}
    variables = {"OPENROUTER_APP_URL": "https://env.example", "OPENROUTER_APP_TITLE": "Env"}
    headers = reached("openrouter", variables, api_key=KEY, options={"app_title": "Acme"}).headers
    assert dict(headers) == {"http-referer": "https://env.example", "x-title": "Acme"}


@pytest.mark.parametrize(
    ("given", "variables", "address", "version", "deployments"),
    [
        ({"base_url": _RESOURCE}, {}, f"{_RESOURCE}/openai/v1", None, False),
        ({"base_url": f"{_RESOURCE}/"}, {}, f"{_RESOURCE}/openai/v1", None, False),
        ({"base_url": f"{_RESOURCE}/openai/v1/"}, {}, f"{_RESOURCE}/openai/v1", None, False),
        ({"options": {"endpoint": _RESOURCE}}, {}, f"{_RESOURCE}/openai/v1", None, False),
        ({}, {"AZURE_OPENAI_ENDPOINT": _RESOURCE}, f"{_RESOURCE}/openai/v1", None, False),
        ({"base_url": "https://m.models.ai.azure.com/v1"}, {}, "https://m.models.ai.azure.com/v1", None, False),
        (
            {"base_url": _RESOURCE, "options": {"api_version": "2024-10-21"}},
            {},
            f"{_RESOURCE}/openai",
            "2024-10-21",
            True,
        ),
        ({"base_url": _RESOURCE}, {"OPENAI_API_VERSION": "2024-10-21"}, f"{_RESOURCE}/openai", "2024-10-21", True),
        ({"base_url": f"{_RESOURCE}?api-version=2024-10-21"}, {}, f"{_RESOURCE}/openai", "2024-10-21", True),
        (
            {"base_url": f"{_RESOURCE}/openai/", "options": {"api_version": "2024-10-21"}},
            {"OPENAI_API_VERSION": "2023-05-15"},
            f"{_RESOURCE}/openai",
            "2024-10-21",
            True,
        ),
        ({"base_url": _RESOURCE}, {"OPENAI_API_VERSION": "preview"}, f"{_RESOURCE}/openai/v1", None, False),
        (
            {"base_url": f"{_RESOURCE}/openai/v1"},
            {"OPENAI_API_VERSION": "2024-10-21"},
            f"{_RESOURCE}/openai/v1",
            None,
            False,
        ),
        (
            {"base_url": "https://acme.services.ai.azure.com/models", "options": {"api_version": "2024-05-01-preview"}},
            {},
            "https://acme.services.ai.azure.com/models",
            "2024-05-01-preview",
            False,
        ),
        (
            {"base_url": f"{_RESOURCE}/openai/deployments/d", "options": {"api_version": "2024-10-21"}},
            {},
            f"{_RESOURCE}/openai/deployments/d",
            "2024-10-21",
            False,
        ),
    ],
)
def test_addresses_of_azure(
    given: dict[str, Any],
    variables: dict[str, str],
    address: str,
    version: str | None,
    deployments: bool,  # noqa: FBT001 — the expectation
) -> None:
    """The newer address without a version, the classic one with it; the scope of answers shows no query."""
    endpoint = reached("azure", variables, api_key=KEY, **given)
    assert endpoint.base_url == address
    assert {name: value.reveal() for name, value in endpoint.query.items()} == (
        {"api-version": version} if version else {}
    )
    assert bool(endpoint.options) is deployments


@pytest.mark.parametrize(
    ("variables", "api_key", "headers"),
    [
        ({}, KEY, {"api-key": KEY}),
        ({"AZURE_OPENAI_API_KEY": KEY}, None, {"api-key": KEY}),
        ({"AZURE_OPENAI_AD_TOKEN": _TOKEN}, None, {"authorization": f"Bearer {_TOKEN}"}),
        (
            {"AZURE_OPENAI_API_KEY": KEY, "AZURE_OPENAI_AD_TOKEN": _TOKEN},
            None,
            {"authorization": f"Bearer {_TOKEN}"},
        ),
        ({"AZURE_OPENAI_AD_TOKEN": _TOKEN}, KEY, {"api-key": KEY}),
    ],
)
def test_azure_gets_one_credential(variables: dict[str, str], api_key: str | None, headers: dict[str, str]) -> None:
    """A token goes before the key of the environment, and a key that is given before both."""
    endpoint = reached("azure", variables, api_key=api_key, base_url=_RESOURCE)
    assert {name: secret.reveal() for name, secret in endpoint.secret_headers.items()} == headers


@pytest.mark.parametrize("provider", ["azure", "xai"])
def test_two_formats_are_spoken(provider: str) -> None:
    """Responses unless the other one is asked for, each by either of its names."""
    names = {None: "openai_responses", "responses": "openai_responses", "chat": "openai_chat"}
    for api, name in {**names, "openai_chat": "openai_chat"}.items():
        endpoint = reached(provider, api_key=KEY, base_url=_RESOURCE, api=api)
        assert (endpoint.api, endpoint.wire.name) == (name, name)
    assert not isinstance(reached(provider, api_key=KEY, base_url=_RESOURCE, api=None).wire, TokenCounter)


@pytest.mark.parametrize(
    ("address", "version", "spoken"),
    [
        (_RESOURCE, None, True),
        (f"{_RESOURCE}/openai/v1", "2024-10-21", True),
        (_RESOURCE, "2025-04-01-preview", True),
        (_RESOURCE, "2024-10-21", False),
        ("https://acme.services.ai.azure.com/models", "2025-04-01-preview", False),
        (f"{_RESOURCE}/openai/deployments/d", "2025-04-01-preview", False),
    ],
)
def test_addresses_of_azure_that_have_no_responses(address: str, version: str | None, *, spoken: bool) -> None:
    """They are refused before anything is sent, with the word that helps; Chat Completions is spoken everywhere."""
    given: dict[str, Any] = {"api_key": KEY, "base_url": address, "options": {"api_version": version}}
    reached("azure", **given)
    if spoken:
        assert reached("azure", api=None, **given).api == "openai_responses"
    else:
        with pytest.raises(ConfigurationError, match='pass api="chat"'):
            reached("azure", api=None, **given)


def test_azure_has_to_be_told_where_it_is() -> None:
    """Nobody else knows; and what is told twice is refused."""
    with pytest.raises(ConfigurationError, match="AZURE_OPENAI_ENDPOINT"):
        reached("azure", api_key=KEY)
    with pytest.raises(ConfigurationError, match="give one of them"):
        reached("azure", api_key=KEY, base_url=_RESOURCE, options={"endpoint": _RESOURCE})
    with pytest.raises(ConfigurationError, match="AZURE_OPENAI_API_KEY"):
        reached("azure", base_url=_RESOURCE)


def test_generations() -> None:
    """What models take, by their names."""
    thinks, reads = DEEPSEEK_PROFILES.find("deepseek-v5-x"), DEEPSEEK_PROFILES.find("deepseek-chat")
    assert (thinks.required_thinking, reads.required_thinking) == ("reasoning_content", None)
    assert thinks.media == ("text",)
    assert OPENROUTER_PROFILES.find("openai/gpt-5-nano").thinking_off == "never"
    assert OPENROUTER_PROFILES.find("openai/gpt-5.1").thinking_off == "disabled"
    assert OPENROUTER_PROFILES.find("Anthropic/claude-opus-5").cache_points == "request"
    assert OPENROUTER_PROFILES.find("somebody/new").thinking_replay == "field"
    assert MISTRAL_PROFILES.find("mistral-small-2506").thinking == "none"
    assert MISTRAL_PROFILES.find("mistral-small-2603").thinking == "effort"
    assert MISTRAL_PROFILES.find("mistral-medium-3-5").efforts == ("none", "high")
    assert MISTRAL_PROFILES.find("voxtral-small-latest").media == ("audio", "text")
    assert XAI_PROFILES.find("grok-4-1-fast-reasoning").efforts == ("none", "low", "medium", "high")
    assert XAI_PROFILES.find("grok-3-mini-fast").efforts == ("none", "low", "high")
    assert XAI_PROFILES.find("grok-4.6").thinking_off == "never"
    assert XAI_PROFILES.find("grok-4.7").efforts == XAI_PROFILES.find("grok-6").efforts
    assert XAI_PROFILES.find("grok-code-fast-1").thinking == "none"
    assert AZURE_CHAT_PROFILES.find("gpt-4o-prod").max_output_tokens == 16_384
    assert "document" not in AZURE_CHAT_PROFILES.find("gpt-5-mini").media
    assert "document" in AZURE_RESPONSES_PROFILES.find("gpt-5-mini").media
    assert AZURE_RESPONSES_PROFILES.find("gpt-35-turbo") == AZURE_RESPONSES_PROFILES.find("gpt-3.5-turbo")
    assert AZURE_CHAT_PROFILES.find("gpt-35-turbo").max_output_tokens == 4096
    assert AZURE_CHAT_PROFILES.find("our-bot").max_tokens_field == "max_completion_tokens"
    assert AZURE_CHAT_PROFILES.find("Mistral-Large-3").max_tokens_field == "max_tokens"


class Script:
    """Answers in turn; each is made for a stream or for a whole body, as the request asks."""

    def __init__(self, *lines: Callable[[bool], Answer]) -> None:
        self.requests: list[ReceivedRequest] = []
        self._lines = iter(lines)

    async def __call__(self, request: ReceivedRequest) -> Answer:
        """The next line, and what it answers is kept."""
        self.requests.append(request)
        return next(self._lines)(b'"stream":true' in request.body)

    @property
    def bodies(self) -> list[Any]:
        """What was asked."""
        return [request.json() for request in self.requests]


def says(message: dict[str, Any], finish: str = "stop", **members: Any) -> Callable[[bool], Answer]:
    """An answer of the model, with its message in one piece."""

    def line(stream: bool) -> Answer:  # noqa: FBT001 — what the request asks for
        if not stream:
            choices = [{"index": 0, "message": message, "finish_reason": finish}]
            return json_answer({"id": "1", "model": "m", "choices": choices, **members})
        chunks = [
            {"id": "1", "model": "m", "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
            {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}], **members},
        ]
        events = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
        return sse_answer([b": keep-alive\n\n", *events, b"data: [DONE]\n\n"])

    return line


def client(provider: str, server: LoopbackServer, **options: Any) -> LLM:
    """A client that talks to the loopback server, without waiting between attempts."""
    return create_llm(
        provider, api="chat", base_url=server.url, api_key=KEY, retry=RetryPolicy(base_ms=0, max_ms=0), **options
    )


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"21 °C in {city}"


async def heard(chat: Any, question: Any, *, stream: bool) -> Any:
    """The reply to a question, asked for in one way or the other."""
    if not stream:
        return await chat.ask(question)
    async with chat.stream(question) as chunks:
        async for _ in chunks:
            pass
        return await chunks.reply()


def _call(call_id: str, city: str) -> dict[str, Any]:
    return {
        "index": 0,
        "id": call_id,
        "type": "function",
        "function": {"name": "get_weather", "arguments": json.dumps({"city": city})},
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_with_deepseek(*, stream: bool) -> None:
    """Thinking goes back with the calls, in later turns too; cached tokens are counted."""
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "prompt_cache_hit_tokens": 8}
    script = Script(
        says({"content": "", "reasoning_content": "Which?", "tool_calls": [_call("c1", "Oslo")]}, "tool_calls"),
        says({"content": "Warm.", "reasoning_content": "Hm."}, usage=usage),
        says({"content": "Yes."}),
    )
    async with LoopbackServer(script) as server, client("deepseek", server) as llm:
        chat = llm.chat(tools=[get_weather], thinking="max")
        reply = await heard(chat, "?", stream=stream)
        assert (reply.content, reply.thinking.text[-3:]) == ("Warm.", "Hm.")
        assert reply.usage.cached_tokens == 8
        await heard(chat, "Sure?", stream=stream)
    last = script.bodies[-1]
    assert (last["thinking"], last["reasoning_effort"]) == ({"type": "enabled"}, "max")
    assert [message.get("reasoning_content") for message in last["messages"]] == [None, "Which?", None, "Hm.", None]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_with_openrouter(*, stream: bool) -> None:
    """Details go back verbatim, the reported cost is the cost, and who asks is told in headers."""
    details = [
        {"type": "reasoning.text", "text": "Which?", "signature": "c2ln", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "eA==", "index": 0},
    ]
    thought = {"content": None, "reasoning": "Which?", "reasoning_details": details}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cost": 0.00123}
    script = Script(
        says({**thought, "tool_calls": [_call("toolu_1", "Oslo")]}, "tool_calls", usage=usage),
        says({"content": "Warm."}, usage=usage),
    )
    options = {"model": "anthropic/claude-haiku-4.5", "app_url": "https://acme.example", "app_title": "Acme"}
    async with LoopbackServer(script) as server, client("openrouter", server, **options) as llm:
        reply = await heard(llm.chat(tools=[get_weather], thinking="low", cache=True), "?", stream=stream)
    assert (reply.content, str(reply.cost)) == ("Warm.", "0.00246")
    sent, body = script.requests[-1], script.bodies[-1]
    assert (sent.headers["http-referer"], sent.headers["x-title"]) == ("https://acme.example", "Acme")
    assert body["reasoning"] == {"enabled": True, "effort": "low"}
    assert body["cache_control"] == {"type": "ephemeral"}
    assert body["messages"][1]["reasoning_details"] == details
    assert "reasoning" not in body["messages"][1]
    assert body["messages"][2]["tool_call_id"] == "toolu_1"


async def test_an_image_of_openrouters_is_a_file_of_the_answer() -> None:
    """It can be read from the reply's message, and the chat goes on after it."""
    image = b"\x89PNG\r\n\x1a\n"
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    made = {"content": "Here.", "images": [{"type": "image_url", "image_url": {"url": url}}]}
    script = Script(says(made), says({"content": "Yes."}))
    async with LoopbackServer(script) as server, client("openrouter", server) as llm:
        chat = llm.chat()
        await chat.ask("Draw")
        files = [part for message in chat.messages for part in message.parts if isinstance(part, MediaPart)]
        assert [(part.media_type, part.data) for part in files] == [("image/png", image)]
        await chat.ask("Nice?")
    assert "image/png" in script.bodies[-1]["messages"][1]["content"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_with_mistral(*, stream: bool) -> None:
    """Ids are nine letters and digits, results name their tool, and thinking goes back as a chunk."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Which?"}]}
    script = Script(
        says({"content": [thought], "tool_calls": [_call("null", "Oslo"), _call("Or5TU38vr", "Rome")]}, "tool_calls"),
        says({"content": "Warm."}),
    )
    async with LoopbackServer(script) as server, client("mistral", server) as llm:
        reply = await heard(llm.chat(tools=[get_weather], thinking="low"), "?", stream=stream)
    assert reply.content == "Warm."
    body = script.bodies[-1]
    assert body["reasoning_effort"] == "high"
    assert "stream_options" not in body
    _, answer, *results = body["messages"]
    assert answer["content"] == [thought]
    ids = [call["id"] for call in answer["tool_calls"]]
    assert all(len(wire_id) == 9 and wire_id.isalnum() for wire_id in ids)
    assert ids[1] == "Or5TU38vr"
    assert [(message["tool_call_id"], message["name"]) for message in results] == [
        (ids[0], "get_weather"),
        (ids[1], "get_weather"),
    ]


async def test_a_conversation_with_grok() -> None:
    """Reasoning beside the answer is counted with it, and the ticks are dollars."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 115,
        "completion_tokens_details": {"reasoning_tokens": 100},
        "cost_in_usd_ticks": 645000,
    }
    script = Script(says({"content": "So."}, usage=usage))
    async with LoopbackServer(script) as server, client("xai", server) as llm:
        reply = await llm.chat(thinking="none").ask("?")
    assert (reply.usage.output_tokens, reply.cost) == (105, Decimal("0.0000645"))
    assert script.bodies[0]["reasoning_effort"] == "none"


async def test_deployments_of_azure_are_in_the_path() -> None:
    """At a classic address, for whatever model a chat has; the version goes along, the key in its own header."""
    script = Script(*[lambda _: json_answer(openai_chat_body("Hi."))] * 2)
    async with LoopbackServer(script) as server, client("azure", server, api_version="2024-10-21") as llm:
        await llm.chat("gpt-4o").ask("?")
        await llm.chat('odd/"name"').ask("?")
    paths = [request.path for request in script.requests]
    assert paths == [
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21",
        "/openai/deployments/odd%2F%22name%22/chat/completions?api-version=2024-10-21",
    ]
    assert {request.headers["api-key"] for request in script.requests} == {KEY}
    assert "authorization" not in script.requests[0].headers


def _responded(text: str) -> Answer:
    """A body of the Responses format."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
    return json_answer({"id": "resp_1", "status": "completed", "model": "m", "output": [item]})


async def test_responses_are_asked_for_at_each_address() -> None:
    """The format says where; no deployment stands in that path."""
    script = Script(*[lambda _: _responded("Hi.")] * 3)
    options: list[tuple[str, dict[str, Any]]] = [
        ("xai", {}),
        ("azure", {"model": "d"}),
        ("azure", {"model": "d", "api_version": "2025-04-01-preview"}),
    ]
    async with LoopbackServer(script) as server:
        for provider, given in options:
            async with create_llm(provider, base_url=server.url, api_key=KEY, **given) as llm:
                assert (await llm.chat().ask("?")).content == "Hi."
    assert [request.path for request in script.requests] == [
        "/responses",
        "/openai/v1/responses",
        "/openai/responses?api-version=2025-04-01-preview",
    ]


async def test_azure_streams_with_chunks_of_its_filter() -> None:
    """The newer address has OpenAI's paths; chunks without choices are no answer and no error."""
    filtered = b'data: {"choices":[],"model":"","id":"","prompt_filter_results":[{"prompt_index":0}]}\n\n'
    script = Script(lambda _: sse_answer([filtered, *openai_chat_stream("Hello, world")]))
    async with LoopbackServer(script) as server, client("azure", server, model="gpt-5-mini") as llm:
        assert "".join([chunk.content async for chunk in llm.chat().stream("?")]) == "Hello, world"
    assert script.requests[0].path == "/openai/v1/chat/completions"


async def test_a_question_that_azure_filters_names_the_category() -> None:
    """A 400 of the filter is an error of its own, with what was found and the id of the request."""
    error = {
        "message": "The prompt was filtered",
        "code": "content_filter",
        "innererror": {"content_filter_result": {"violence": {"filtered": True, "severity": "high"}}},
    }
    script = Script(lambda _: json_answer({"error": error}, status=400, headers={"apim-request-id": "a-1"}))
    async with LoopbackServer(script) as server, client("azure", server, model="gpt-4o") as llm:
        with pytest.raises(ContentFilterError, match="filtered: violence") as caught:
            await llm.chat().ask("?")
    assert caught.value.request_id == "a-1"


async def test_an_empty_account_is_told_once() -> None:
    """DeepSeek's 402 is not asked again."""
    error = {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}
    script = Script(lambda _: json_answer({"error": error}, status=402))
    async with LoopbackServer(script) as server, client("deepseek", server) as llm:
        with pytest.raises(QuotaExceededError, match="Insufficient Balance"):
            await llm.chat().ask("?")
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("provider", "model", "same_id", "thinking"),
    [
        ("mistral", "mistral-small-latest", False, None),
        ("deepseek", "deepseek-v4-pro", True, ""),
        ("openrouter", "anthropic/claude-haiku-4.5", True, None),
        ("xai", "grok-4.3", True, None),
    ],
)
async def test_a_conversation_of_another_provider_goes_on(
    provider: str,
    model: str,
    same_id: bool,  # noqa: FBT001 — the expectation
    thinking: str | None,
) -> None:
    """What one provider began another continues, under ids and with members that it takes."""
    calls = [FakeCall("get_weather", {"city": "Oslo"}, id="call_abc_123")]
    script = Script(
        lambda _: json_answer(openai_chat_body(tool_calls=calls)),
        lambda _: json_answer(openai_chat_body("Warm.")),
        says({"content": "Yes."}),
    )
    async with (
        LoopbackServer(script) as server,
        client("openai_compatible", server, model="m") as first,
        client(provider, server) as second,
    ):
        chat = first.chat(tools=[get_weather])
        await chat.ask("?")
        assert (await second.chat(model, tools=[get_weather], messages=chat.messages).ask("Sure?")).content == "Yes."
    _, answer, result, *_ = script.bodies[-1]["messages"]
    assert answer["tool_calls"][0]["id"] == result["tool_call_id"]
    assert (result["tool_call_id"] == "call_abc_123") is same_id
    assert answer.get("reasoning_content") == thinking


async def test_a_file_that_deepseek_cannot_read_is_refused() -> None:
    """It reads texts only; nothing is sent."""
    async with LoopbackServer(Script()) as server, client("deepseek", server) as llm:
        with pytest.raises(UnsupportedFeatureError, match="it reads text"):
            await llm.chat().ask("?", files=[b"\x89PNG\r\n\x1a\n" + b"\0" * 20])


async def test_models_are_listed() -> None:
    """OpenRouter says how long a conversation may be."""
    model = {"id": "a/b", "name": "A: B", "context_length": 4096, "top_provider": {"max_completion_tokens": 99}}
    script = Script(lambda _: json_answer({"data": [model]}))
    async with LoopbackServer(script) as server, client("openrouter", server) as llm:
        (listed,) = await llm.list_models()
    assert (listed.id, listed.context_window, listed.max_output_tokens) == ("a/b", 4096, 99)
    assert script.requests[0].path == "/models"
