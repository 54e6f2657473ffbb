"""Bedrock as a provider: where it is, how its requests prove who sends them, and whole conversations with it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from nodellm_orm import create_llm
from nodellm_orm.config import Environment
from nodellm_orm.domain.policies import RetryPolicy
from nodellm_orm.domain.usage import Usage
from nodellm_orm.errors import (
    AuthenticationError,
    ConfigurationError,
    ContextWindowError,
    ProviderError,
    QuotaExceededError,
    StreamInterruptedError,
)
from nodellm_orm.providers.aws import AwsIdentity, require_library
from nodellm_orm.providers.bedrock import BEDROCK
from nodellm_orm.providers.endpoint import resolve
from nodellm_orm.providers.models_bedrock import BEDROCK_PROFILES
from nodellm_orm.providers.prices import GenaiPrices
from nodellm_orm.testing import (
    EVENT_STREAM,
    FakeCall,
    FakeThinking,
    LoopbackServer,
    bedrock_body,
    bedrock_exception,
    bedrock_stream,
    json_answer,
    sse_answer,
)
from nodellm_orm.wire.bedrock.models import foundation_model
from tests.integration.transport.sigv4 import proven

if TYPE_CHECKING:
    from collections.abc import Callable

    from nodellm_orm import LLM
    from nodellm_orm.providers.endpoint import Endpoint
    from nodellm_orm.testing import Answer, ReceivedRequest

KEY = "bedrock-api-key-canary-0123456789"
KEY_ID = "AKIDCANARY0123456789"
SECRET = "wJalrCanary/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luCanary///token=="
OWN_PROFILE = "arn:aws:bedrock:us-east-1:1:application-inference-profile/mi1d"
PAIR: dict[str, Any] = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}
PAIR_ENV = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
REGION = {"AWS_REGION": "us-east-1"}


def reached(variables: dict[str, str] | None = None, **given: Any) -> Endpoint:
    """Bedrock, found with these variables and options."""
    plain = {name: given.pop(name) for name in ("api_key", "base_url") if name in given}
    return resolve(BEDROCK, environment=Environment.of(variables or {}), options=given, **plain)


def identity(endpoint: Endpoint) -> AwsIdentity:
    """As whom its requests are signed."""
    (found,) = endpoint.options.values()
    assert isinstance(found, AwsIdentity)
    return found


@pytest.mark.parametrize(
    ("variables", "given", "expected"),
    [
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "x"}, {}, "https://bedrock-runtime.eu-west-1.amazonaws.com"),
        ({"AWS_DEFAULT_REGION": "us-gov-west-1"}, {}, "https://bedrock-runtime.us-gov-west-1.amazonaws.com"),
        (REGION, {"region": "ap-southeast-2"}, "https://bedrock-runtime.ap-southeast-2.amazonaws.com"),
        ({}, {"region": "cn-north-1"}, "https://bedrock-runtime.cn-north-1.amazonaws.com.cn"),
        ({"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "https://vpce.example/x/"}, {}, "https://vpce.example/x"),
        ({"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "https://vpce.example", **REGION}, {"base_url": "http://localhost:1"},
         "http://localhost:1"),
    ],
)  # fmt: skip
def test_the_address(variables: dict[str, str], given: dict[str, Any], expected: str) -> None:
    """It is that of the region, of an option before a variable, unless another address is given."""
    assert reached(variables, api_key=KEY, **given).base_url == expected


@pytest.mark.parametrize("given", [{}, {"region": "us-east-1.evil.example/"}, {"region": "US-EAST-1"}, {"region": "a"}])
def test_a_region_is_needed(given: dict[str, Any]) -> None:
    """Without one, the error names what sets it; one that is none never becomes part of a host."""
    with pytest.raises(ConfigurationError, match="region") as caught:
        reached(api_key=KEY, **given)
    if not given:
        assert "AWS_REGION" in str(caught.value)
        assert "AWS_DEFAULT_REGION" in str(caught.value)


def test_a_region_is_read_out_of_the_address() -> None:
    """Signatures need it also where the address is given; there it may say it itself."""
    vpce = "https://vpce-1-a.bedrock-runtime.eu-north-1.vpce.amazonaws.com"
    assert identity(reached(base_url=vpce, **PAIR)).region == "eu-north-1"
    fips = "https://bedrock-runtime-fips.us-west-2.amazonaws.com"
    assert identity(reached(base_url=fips, **PAIR)).region == "us-west-2"
    assert identity(reached(base_url=fips, region="us-east-2", **PAIR)).region == "us-east-2"
    with pytest.raises(ConfigurationError, match="AWS_REGION"):
        reached(base_url="http://localhost:1", **PAIR)
    assert reached(base_url="http://localhost:1", api_key=KEY).options == {}


def test_a_bedrock_api_key_needs_nothing_else() -> None:
    """It is sent as a bearer token, from the argument or from the environment, and nothing is signed."""
    for endpoint in (reached(REGION, api_key=KEY), reached({"AWS_BEARER_TOKEN_BEDROCK": KEY, **PAIR_ENV, **REGION})):
        assert endpoint.secret_headers["authorization"].reveal() == f"Bearer {KEY}"
        assert endpoint.options == {}
        assert KEY not in repr(endpoint)


def test_whose_word_counts() -> None:
    """Passed keys or a passed profile go before a token of the environment; a passed API key before them all."""
    token = {"AWS_BEARER_TOKEN_BEDROCK": KEY, **REGION}
    keys = identity(reached(token, **PAIR, aws_session_token=TOKEN)).keys
    assert keys is not None
    assert keys.session_token is not None
    assert keys.session_token.reveal() == TOKEN
    found = identity(reached({**token, **PAIR_ENV}, aws_profile="work"))
    assert (found.keys, found.profile) == (None, "work")
    assert reached(token, api_key=KEY, **PAIR).options == {}
    found = identity(reached({**token, **PAIR_ENV, "AWS_PROFILE": "work"}, api_key=""))
    assert (found.keys is not None, found.profile) == (True, None)
    found = identity(reached({**REGION, "AWS_PROFILE": "work", "AWS_SESSION_TOKEN": "left over"}))
    assert (found.keys, found.profile) == (None, "work")
    found = identity(reached(REGION))
    assert (found.keys, found.profile, found.service) == (None, None, "bedrock")


@pytest.mark.parametrize(
    ("variables", "given", "words"),
    [
        ({}, {"aws_access_key_id": KEY_ID}, "aws_secret_access_key is missing"),
        ({"AWS_SECRET_ACCESS_KEY": SECRET}, {}, "AWS_ACCESS_KEY_ID is missing"),
        ({}, {"aws_session_token": TOKEN}, "aws_access_key_id is missing"),
        ({}, {**PAIR, "aws_profile": "work"}, "two ways"),
        ({}, {**PAIR, "aws_secret_access_key": f"{SECRET}\nx"}, "line break"),
        ({}, {**PAIR, "aws_access_key_id": "é"}, "aws_access_key_id"),
        ({}, {"aws_region": "us-east-1"}, "has no option aws_region"),
    ],
)
def test_keys_that_cannot_be_used(variables: dict[str, str], given: dict[str, Any], words: str) -> None:
    """Half a pair, two ways at once and malformed keys are errors that show nothing of them."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        reached({**REGION, **variables}, **given)
    shown = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert not any(secret in shown for secret in (SECRET, TOKEN, KEY_ID))


def test_representations_show_no_key() -> None:
    """Neither an endpoint nor the identity in it shows what it holds."""
    endpoint = reached(REGION, **PAIR, aws_session_token=TOKEN)
    assert not any(secret in f"{endpoint!r} {identity(endpoint)!r}" for secret in (SECRET, TOKEN, KEY_ID))


def test_the_library_that_signs_may_be_missing() -> None:
    """Without it, the error says how to install it, and what needs none."""
    with pytest.raises(ConfigurationError, match=r"pip install 'nodellm_orm\[bedrock\]'") as caught:
        require_library("a_package_that_is_not_installed")
    assert "AWS_BEARER_TOKEN_BEDROCK" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("us.anthropic.claude-opus-4-6-v1", "anthropic.claude-opus-4-6-v1"),
        ("us-gov.anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-haiku-20240307-v1:0"),
        ("GLOBAL.amazon.nova-2-lite-v1:0", "amazon.nova-2-lite-v1:0"),
        ("openai.gpt-5.6-luna", "openai.gpt-5.6-luna"),
        ("us.openai.gpt-5.6-luna", "openai.gpt-5.6-luna"),
        ("arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-8b-instruct-v1:0", "meta.llama3-8b-instruct-v1:0"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/apac.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
        (OWN_PROFILE, OWN_PROFILE),
    ],
)
def test_the_model_behind_a_name(name: str, expected: str) -> None:
    """Where a model runs, and whose profile it is, is no part of what it can do."""
    assert foundation_model(name) == expected


def test_profiles_by_family() -> None:
    """What a model accepts is found by its family, whatever stands before its name; the user's own words win."""
    find = BEDROCK_PROFILES.find
    assert find("eu.anthropic.claude-opus-4-20250514-v1:0").thinking == "budget"
    assert find("jp.anthropic.claude-sonnet-4-6-v1:0").thinking == "adaptive"
    assert find("anthropic.claude-opus-9-v1:0") == find("anthropic.claude-mythos-5-2")
    assert find("anthropic.claude-v2:1").tools == "none"
    assert find("anthropic.claude-3-haiku-20240307-v1:0").cache_points == "none"
    assert find("anthropic.claude-3-5-sonnet-20240620-v1:0").cache_points == "none"
    assert find("anthropic.claude-3-5-sonnet-20241022-v2:0").cache_points == "request"
    assert find("anthropic.claude-opus-4-1-20250805-v1:0").structured == "none"
    assert find("us.anthropic.claude-sonnet-4-5-20250929-v1:0").structured == "json_schema"
    assert find("us.amazon.nova-micro-v1:0").media == ("text",)
    assert find("us.amazon.nova-premier-v1:0").thinking == "none"
    assert find("meta.llama3-8b-instruct-v1:0").tools == "none"
    assert find("us.meta.llama3-1-8b-instruct-v1:0").tools == "native"
    assert find("us.deepseek.r1-v1:0").tools == "none"
    assert find("openai.gpt-oss-20b-1:0").effort_field == "reasoning_effort"
    assert find("something.new") == BEDROCK_PROFILES.otherwise
    own = BEDROCK_PROFILES.overridden({"arn:aws:bedrock:": {"thinking": "budget"}, "amazon.nova": {"sampling": False}})
    assert own.find(OWN_PROFILE).thinking == "budget"
    assert not own.find("us.amazon.nova-lite-v1:0").sampling


@pytest.mark.parametrize(
    ("model", "total"),
    [
        # 10 new, 7351 cached and 4 said at 1.1, 0.11 and 5.5 dollars a million; 10 % less where it runs anywhere.
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "0.00084161"),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "0.00084161"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0", "0.00084161"),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", "0.0007651"),
        ("apac.anthropic.claude-sonnet-4-5-20250929-v1:0", "0.00252483"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-opus-5", "0.00420805"),
        ("eu.openai.gpt-6.1-terra", "0.000437305"),
        ("us.amazon.nova-lite-v1:0", "0.000111825"),
    ],
)
def test_prices_wherever_a_model_runs(model: str, total: str) -> None:
    """Cached tokens are charged at their own rate, and a model is found under every name it is asked by."""
    usage = Usage(input_tokens=7361, cached_tokens=7351, cache_write_tokens=0, output_tokens=4)
    assert GenaiPrices().cost(provider="bedrock", model=model, usage=usage).total == Decimal(total)


def test_a_model_without_a_known_price() -> None:
    """What a profile of the user's own runs is not known, and neither is its price."""
    cost = GenaiPrices().cost(provider="bedrock", model=OWN_PROFILE, usage=Usage(input_tokens=1, output_tokens=1))
    assert cost.total is None


class Script:
    """A server that says one line a request, streamed when the path asks for a stream."""

    def __init__(self, *lines: Callable[[bool], Answer]) -> None:
        self._lines = iter(lines)
        self.requests: list[ReceivedRequest] = []

    async def __call__(self, request: ReceivedRequest) -> Answer:
        """Say the next line."""
        self.requests.append(request)
        return next(self._lines)("converse-stream" in request.path)

    @property
    def bodies(self) -> list[Any]:
        """What was asked."""
        return [request.json() for request in self.requests]


def says(text: str | None = None, **words: Any) -> Callable[[bool], Answer]:
    """An answer of the model."""
    return lambda stream: (
        sse_answer(bedrock_stream(text, **words), content_type=EVENT_STREAM)
        if stream
        else json_answer(bedrock_body(text, **words))
    )


def fails(status: int, message: str, kind: str) -> Callable[[bool], Answer]:
    """An error of the provider."""
    headers = {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/", "x-amzn-requestid": "r-1"}
    return lambda _: json_answer({"message": message}, status=status, headers=headers)


def client(server: LoopbackServer, **options: Any) -> LLM:
    """A client that talks to the loopback server, without waiting between attempts."""
    given: dict[str, Any] = {"api_key": KEY} if "aws_access_key_id" not in options else {"region": "eu-west-3"}
    return create_llm("bedrock", base_url=server.url, retry=RetryPolicy(base_ms=0, max_ms=0), **given, **options)


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"21 °C in {city}"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("signed", [False, True])
async def test_a_conversation_with_a_tool(*, stream: bool, signed: bool) -> None:
    """Call, result, answer and the next question, with a key or signed: thinking goes back as it came."""
    thinking = [FakeThinking("Which city?"), FakeThinking("", "aGlkZGVu")]
    calls = [FakeCall("get_weather", {"city": "Paris"}, id="t1"), FakeCall("get_weather", {"city": "Rome"}, id="t2")]
    script = Script(
        says(tool_calls=calls, thinking=thinking, usage=(10, 7), cache_write_tokens=20),
        says("Warm.", usage=(5, 3), cache_read_tokens=20),
        says("Yes."),
    )
    keys = {**PAIR, "aws_session_token": TOKEN} if signed else {}
    async with LoopbackServer(script) as server, client(server, **keys) as llm:
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
    usage = first.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.cache_write_tokens) == (55, 10, 20, 20)
    assert first.cost is not None
    model = "global.anthropic.claude-haiku-4-5-20251001-v1%3A0"
    for request in script.requests:
        assert request.path == f"/model/{model}/converse{'-stream' if stream else ''}"
        if signed:
            proven(request, key_id=KEY_ID, secret=SECRET, region="eu-west-3")
            assert request.headers["x-amz-security-token"] == TOKEN
        else:
            assert request.headers["authorization"] == f"Bearer {KEY}"
    last = script.bodies[-1]
    assert last["additionalModelRequestFields"] == {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    assert last["system"] == [{"text": "Be brief."}]
    asked = [{"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}} for call in calls]
    thought = {"text": "Which city?", "signature": "c2lnbmF0dXJl"}
    assert last["messages"] == [
        {"role": "user", "content": [{"text": "Where is it warmer?"}]},
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": thought}},
                {"reasoningContent": {"redactedContent": "aGlkZGVu"}},
                *asked,
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": i, "content": [{"text": f"21 °C in {city}"}]}}
                for i, city in (("t1", "Paris"), ("t2", "Rome"))
            ],
        },
        {"role": "assistant", "content": [{"text": "Warm."}]},
        {"role": "user", "content": [{"text": "Sure?"}]},
    ]


async def test_a_throttled_request_is_asked_again_and_signed_anew() -> None:
    """Every attempt has a signature of its own over what it sends."""
    script = Script(fails(429, "Too many requests", "ThrottlingException"), says("Hi."))
    async with LoopbackServer(script) as server, client(server, **PAIR) as llm:
        assert (await llm.chat().ask("?")).content == "Hi."
    for request in script.requests:
        proven(request, key_id=KEY_ID, secret=SECRET, region="eu-west-3")
    assert len(script.requests) == 2


async def test_headers_of_the_caller_are_signed() -> None:
    """What goes along with one question is covered by its signature."""
    script = Script(says("Hi."))
    async with LoopbackServer(script) as server, client(server, **PAIR) as llm:
        await llm.chat(headers={"x-amzn-bedrock-trace": "ENABLED"}).ask("?")
    covered = proven(script.requests[0], key_id=KEY_ID, secret=SECRET, region="eu-west-3")
    assert "x-amzn-bedrock-trace" in covered


@pytest.mark.parametrize(
    ("line", "cls"),
    [
        (fails(429, "Too many tokens per day, please wait.", "ThrottlingException"), QuotaExceededError),
        (fails(403, f"The security token {TOKEN} is expired: {SECRET}", "ExpiredTokenException"), AuthenticationError),
        (fails(400, "Input is too long for requested model.", "ValidationException"), ContextWindowError),
    ],
)
async def test_failures_are_told_once(line: Callable[[bool], Answer], cls: type[ProviderError]) -> None:
    """What another attempt would not change is an error at once, of its class and without a token."""
    script = Script(line)
    async with LoopbackServer(script) as server, client(server, **PAIR, aws_session_token=TOKEN) as llm:
        with pytest.raises(ProviderError) as caught:
            await llm.chat().ask("?")
    assert type(caught.value) is cls
    assert (caught.value.provider, caught.value.request_id) == ("bedrock", "r-1")
    assert TOKEN not in f"{caught.value!r} {caught.value} {caught.value.body} {caught.value.__cause__!r}"


async def listen(llm: LLM, heard: list[str]) -> None:
    """Hear a stream to its end."""
    async for chunk in llm.chat().stream("?"):
        heard.append(chunk.content)  # noqa: PERF401 — what came before the error is kept


async def test_a_stream_that_breaks() -> None:
    """A stream that ends before its reason to stop, or has an exception in it, is an error, and its text was heard."""
    events = bedrock_stream("Hello, world")
    failed = bedrock_exception("modelStreamErrorException", "oops", originalStatusCode=500)
    for line, cls in ((events[:3], StreamInterruptedError), ([*events[:3], failed], ProviderError)):
        script = Script(lambda _, line=line: sse_answer(line, content_type=EVENT_STREAM))  # type: ignore[misc] # of this round
        async with LoopbackServer(script) as server, client(server) as llm:
            heard: list[str] = []
            with pytest.raises(cls):
                await listen(llm, heard)
            assert "".join(heard) == "Hello, wor"


async def test_counting_before_asking() -> None:
    """The provider counts what would be sent, asked about the model itself."""
    script = Script(lambda _: json_answer({"inputTokens": 8}))
    async with LoopbackServer(script) as server, client(server, model="eu.anthropic.claude-opus-4-6-v1:0") as llm:
        assert await llm.chat().count_tokens("What is the capital of France?") == 8
    assert unquote(script.requests[0].path) == "/model/anthropic.claude-opus-4-6-v1:0/count-tokens"
