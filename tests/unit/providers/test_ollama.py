"""Ollama as a provider: its address in all its forms, its models, and conversations over a loopback server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nodellm_orm import RetryPolicy, create_llm
from nodellm_orm.config import Environment
from nodellm_orm.errors import (
    BadRequestError,
    ConfigurationError,
    ContextWindowError,
    ModelNotFoundError,
    ProviderError,
    ServerError,
    StreamInterruptedError,
    UnsupportedFeatureError,
)
from nodellm_orm.providers.endpoint import Endpoint, resolve
from nodellm_orm.providers.models_ollama import OLLAMA_PROFILES
from nodellm_orm.providers.ollama import OLLAMA
from nodellm_orm.providers.registry import find_provider
from nodellm_orm.testing import (
    FakeCall,
    LoopbackServer,
    json_answer,
    ollama_body,
    ollama_stream,
    openai_chat_body,
    sse_answer,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodellm_orm import LLM
    from nodellm_orm.testing import Answer, ReceivedRequest

MODEL = "qwen3:8b"
_NDJSON = "application/x-ndjson"


def reached(variables: dict[str, str] | None = None, **given: Any) -> Endpoint:
    """The endpoint that the row gives in an environment."""
    return resolve(OLLAMA, environment=Environment.of(variables or {}), **given)


def test_nothing_is_needed() -> None:
    """Without key and address it is the server of one's own machine, spoken to in its own format."""
    endpoint = reached()
    assert find_provider("ollama") is OLLAMA
    assert (endpoint.base_url, endpoint.api, endpoint.default_model) == ("http://localhost:11434", "ollama", None)
    assert endpoint.secret_headers == {}


def test_a_key_is_a_bearer() -> None:
    """The cloud, and a server behind a gateway, take a key."""
    for endpoint in (reached({"OLLAMA_API_KEY": "k1"}), reached(api_key="k1")):
        assert {name: secret.reveal() for name, secret in endpoint.secret_headers.items()} == {
            "authorization": "Bearer k1"
        }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu.example", "http://gpu.example:11434"),
        ("gpu.example:8080", "http://gpu.example:8080"),
        ("10.0.0.7", "http://10.0.0.7:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),  # noqa: S104 — as a server's own variable may have it
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("http://0.0.0.0:1234", "http://127.0.0.1:1234"),
        (":1234", "http://127.0.0.1:1234"),
        ("localhost:", "http://localhost:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::]:1234", "http://[::1]:1234"),
        ("::", "http://[::1]:11434"),
        ("http://gpu.example", "http://gpu.example"),
        ("https://gpu.example/team/", "https://gpu.example/team"),
        ("gpu.example:8080/team", "http://gpu.example:8080/team"),
        (' "gpu.example" ', "http://gpu.example:11434"),
        ("ollama.com", "https://ollama.com"),
        ("https://ollama.com", "https://ollama.com"),
        ("http://localhost:11434/v1", "http://localhost:11434"),
        ("http://localhost:11434/api/", "http://localhost:11434"),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    """Every form that Ollama's own programs take is understood, in the environment and as base_url."""
    assert reached({"OLLAMA_HOST": text}).base_url == expected
    assert reached(base_url=text).base_url == expected
    compatible = reached({"OLLAMA_HOST": text}, api="chat")
    assert (compatible.base_url, compatible.api) == (f"{expected}/v1", "openai_chat")


@pytest.mark.parametrize("text", ["ftp://gpu.example", "http://me:secret@gpu.example", "a b", "gpu:port"])
def test_what_is_no_address(text: str) -> None:
    """What is no address is refused under the name it was given by, without a password in it."""
    with pytest.raises(ConfigurationError, match="OLLAMA_HOST") as by_variable:
        reached({"OLLAMA_HOST": text})
    with pytest.raises(ConfigurationError, match="base_url") as by_option:
        reached(base_url=text)
    assert "secret" not in f"{by_variable.value} {by_option.value}"


def test_an_explicit_address_wins() -> None:
    """The environment is asked where nothing is given."""
    assert reached({"OLLAMA_HOST": "a.example"}, base_url="b.example").base_url == "http://b.example:11434"


def test_families() -> None:
    """What a family can do, by the prefix of its name; one that is not known may do everything."""

    def of(name: str) -> tuple[str, str, tuple[str, ...]]:
        profile = OLLAMA_PROFILES.find(name)
        assert not profile.forced_tool_choice
        return profile.thinking, profile.tools, profile.media

    everything = ("adaptive", "native", ("image", "text"))
    assert of("somebody/new-model:q4") == of("qwen3-vl:8b") == of("qwen3.5:9b") == everything
    assert of("qwen3:8b") == of("deepseek-r1:7b") == ("adaptive", "native", ("text",))
    assert of("gpt-oss:20b") == ("effort", "native", ("text",))
    assert of("llama3.1:8b") == of("qwen2.5:7b") == of("mistral") == ("none", "native", ("text",))
    assert of("llama3:8b") == of("gemma2:2b") == of("gemma3:1b") == ("none", "prompted", ("text",))
    assert of("gemma3:4b") == of("llava:7b") == of("llama3.2-vision") == ("none", "prompted", ("image", "text"))


class Script:
    """Answers in turn; each is made for a stream or for a whole body, as the request asks."""

    def __init__(self, *lines: Callable[[bool], Answer]) -> None:
        self.requests: list[ReceivedRequest] = []
        self._lines = iter(lines)

    async def __call__(self, request: ReceivedRequest) -> Answer:
        """The next line, and what it answers is kept."""
        self.requests.append(request)
        body: Any = request.json() if request.body else {}
        return next(self._lines)(bool(body.get("stream")))

    @property
    def bodies(self) -> list[Any]:
        """What was asked."""
        return [request.json() for request in self.requests]


def says(text: str = "", **words: Any) -> Callable[[bool], Answer]:
    """An answer of the model."""
    return lambda stream: (
        sse_answer(ollama_stream(text, **words), content_type=_NDJSON)
        if stream
        else json_answer(ollama_body(text, **words))
    )


def fails(status: int, message: str) -> Callable[[bool], Answer]:
    """An error of the server."""
    return lambda _: json_answer({"error": message}, status=status)


def client(server: LoopbackServer, **options: Any) -> LLM:
    """A client that talks to the loopback server, without waiting between attempts."""
    options = {"model": MODEL, "retry": RetryPolicy(base_ms=0, max_ms=0), **options}
    return create_llm("ollama", base_url=server.url, **options)


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"21 °C in {city}"


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_with_a_tool(*, stream: bool, ids: bool) -> None:
    """Calls, results, answer and the next question: thinking goes back, and each result finds its call."""
    calls = [FakeCall("get_weather", {"city": "Paris"}), FakeCall("get_weather", {"city": "Rome"})]
    script = Script(
        says(thinking="Which city?", tool_calls=calls, call_ids=ids),
        says("Warm.", thinking="Rome."),
        says("Yes."),
    )
    async with LoopbackServer(script) as server, client(server) as llm:
        chat = llm.chat(tools=[get_weather], thinking="high", instructions="Be brief.", params={"keep_alive": "10m"})

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
    assert (first.usage.input_tokens, first.usage.output_tokens) == (22, 14)
    assert {request.path for request in script.requests} == {"/api/chat"}
    assert "authorization" not in script.requests[0].headers
    first_body, _, last = script.bodies
    assert {name: value for name, value in last.items() if name not in {"tools", "messages"}} == {
        "model": MODEL,
        "stream": stream,
        "think": True,
        "truncate": False,
        "shift": False,
        "keep_alive": "10m",
    }
    assert [tool["function"]["name"] for tool in first_body["tools"]] == ["get_weather"]
    system, question, called, paris, rome, warm, sure = last["messages"]
    assert (system["content"], question["content"], sure["content"]) == ("Be brief.", "Where is it warmer?", "Sure?")
    assert called["thinking"] == "Which city?"
    assert [call["function"]["arguments"] for call in called["tool_calls"]] == [{"city": "Paris"}, {"city": "Rome"}]
    given = [call["id"] for call in called["tool_calls"]]
    assert len(set(given)) == 2
    assert not ids or given == ["call_0", "call_1"]
    assert [(told["role"], told["content"], told["tool_name"], told["tool_call_id"]) for told in (paris, rome)] == [
        ("tool", f"21 °C in {city}", "get_weather", call) for city, call in zip(("Paris", "Rome"), given, strict=True)
    ]
    assert warm == {"role": "assistant", "content": "Warm.", "thinking": "Rome."}


async def test_a_model_without_a_template_for_tools_is_asked_in_words() -> None:
    """A family that has no tools of its own gives the arguments of a named one in the form of its answer."""
    script = Script(says('{"city":"Rome"}'), says("Warm."))
    async with LoopbackServer(script) as server, client(server, model="gemma3:4b") as llm:
        reply = await llm.chat(tools=[get_weather], tool_choice="get_weather").ask("Weather in Rome?")
    assert [call.name for call in reply.tool_calls] == ["get_weather"]
    assert "tools" not in script.bodies[0]
    assert script.bodies[0]["format"]["properties"].keys() == {"city"}


async def test_pictures_and_texts() -> None:
    """A picture goes along in base 64, a text in words; a PDF is refused before anything is sent."""
    png = bytes.fromhex("89504e470d0a1a0a0000000d49484452") + bytes(20)
    script = Script(says("A dot."))
    async with LoopbackServer(script) as server, client(server, model="llava") as llm:
        chat = llm.chat()
        await chat.ask("What is it?", files=[("dot.png", png), ("note.txt", b"It is a dot.")])
        with pytest.raises(UnsupportedFeatureError, match=r"a\.pdf"):
            await chat.ask("And this?", files=[("a.pdf", b"%PDF-1.7\n")])
    (message,) = script.bodies[0]["messages"]
    assert message["images"] == ["iVBORw0KGgoAAAANSUhEUgAAAAAAAAAAAAAAAAAAAAAAAAAA"]
    assert message["content"] == '<file name="note.txt">\nIt is a dot.\n</file>\n\nWhat is it?'


@pytest.mark.parametrize(
    ("line", "cls", "words"),
    [
        (fails(404, "model 'qwen3:8b' not found"), ModelNotFoundError, "ollama pull qwen3:8b"),
        (fails(400, f'"{MODEL}" does not support tools'), BadRequestError, "does not support tools"),
        (fails(400, f'"{MODEL}" does not support thinking'), BadRequestError, "does not support thinking"),
        (fails(400, "the input length exceeds the context length"), ContextWindowError, "num_ctx"),
    ],
)
async def test_failures_are_told_once(line: Callable[[bool], Answer], cls: type[ProviderError], words: str) -> None:
    """What another attempt would not change is an error at once, of its class, and says what to do."""
    script = Script(line)
    async with LoopbackServer(script) as server, client(server) as llm:
        with pytest.raises(ProviderError, match=words) as caught:
            await llm.chat(tools=[get_weather], thinking="low").ask("?")
    assert type(caught.value) is cls
    assert (caught.value.provider, caught.value.model) == ("ollama", MODEL)


async def test_a_busy_server_is_asked_again() -> None:
    """A full queue is waited for."""
    script = Script(fails(503, "server busy, please try again."), says("Hi."))
    async with LoopbackServer(script) as server, client(server) as llm:
        assert (await llm.chat().ask("?")).content == "Hi."
    assert len(script.requests) == 2


async def listen(llm: LLM, heard: list[str]) -> None:
    """Hear a stream to its end."""
    async for chunk in llm.chat().stream("?"):
        heard.append(chunk.content)  # noqa: PERF401 — what came before the error is kept


@pytest.mark.parametrize("broken", [b"", b'{"model":"qwen3:8b","mess', b'{"error":"the model runner has stopped"}\n'])
async def test_a_stream_that_breaks(broken: bytes) -> None:
    """A stream without its last line, or with an error in one, is an error, and its text was heard."""
    lines = [*ollama_stream("Hello, world")[:2], broken]
    script = Script(lambda _: sse_answer(lines, content_type=_NDJSON))
    async with LoopbackServer(script) as server, client(server) as llm:
        heard: list[str] = []
        with pytest.raises(ServerError if b"error" in broken else StreamInterruptedError):
            await listen(llm, heard)
        assert "".join(heard) == "Hello, wor"


async def test_the_list_of_models() -> None:
    """What has been pulled is what there is."""
    script = Script(lambda _: json_answer({"models": [{"name": "qwen3:8b", "model": "qwen3:8b"}]}))
    async with LoopbackServer(script) as server, client(server) as llm:
        assert [model.id for model in await llm.list_models()] == ["qwen3:8b"]
    assert [(request.method, request.path) for request in script.requests] == [("GET", "/api/tags")]


async def test_its_likeness_of_chat_completions() -> None:
    """The same server is spoken to in the other format under its own path."""
    script = Script(lambda _: json_answer(openai_chat_body("Hi.", model=MODEL)))
    async with LoopbackServer(script) as server, client(server, api="chat") as llm:
        assert (await llm.chat(thinking="none").ask("?")).content == "Hi."
    assert script.requests[0].path == "/v1/chat/completions"
    assert script.bodies[0]["reasoning_effort"] == "none"
