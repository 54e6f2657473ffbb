"""Embeddings in every wire format: the bytes of requests, and the vectors, counts and errors in answers."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.profile import ModelProfile
from nodellm_orm.errors import (
    ConfigurationError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    RateLimitError,
    UnsupportedFeatureError,
)
from nodellm_orm.ports.wire import Embedder, EmbeddingRequest
from nodellm_orm.providers.registry import Registry
from tests.unit.wire.recordings import interactions, needs_recordings

if TYPE_CHECKING:
    from nodellm_orm.providers.row import Dialect
    from tests.unit.wire.recordings import Interaction

_ROWS: Final = Registry()
_WIRES: Final = {
    f"{row.name}/{dialect.wire.name}": (row.name, dialect)
    for row in (_ROWS.find(name) for name in _ROWS.names)
    for dialect in row.dialects
    if row.embeds and isinstance(dialect.wire, Embedder)
}
_OPENAI_SHAPED: Final = [name for name, (_, d) in _WIRES.items() if d.wire.name.startswith("openai")]
_TEXTS: Final = ("Hello", "Wörld \U0001f600")
_VECTORS: Final = ((0.5, -0.25, 1e-07), (1.0, 0.0, -3.0))


def dialect_of(provider: str, api: str | None = None) -> Dialect:
    """A provider's wire format, the default one unless another is named."""
    return next(d for d in _ROWS.find(provider).dialects if api in {None, d.wire.name})


def wire_of(provider: str) -> Embedder:
    """Its wire format."""
    wire = dialect_of(provider).wire
    assert isinstance(wire, Embedder)
    return wire


def asked(provider: str, model: str, *texts: str, api: str | None = None, **options: Any) -> EmbeddingRequest:
    """A question with the model's own profile."""
    profile = dialect_of(provider, api).profiles.find(model)
    return EmbeddingRequest(texts=texts or _TEXTS, model=model, profile=profile, **options)


def sent(provider: str, request: EmbeddingRequest) -> tuple[str, dict[str, Any]]:
    """Path and body of a question."""
    wire_request = wire_of(provider).embed_request(request)
    assert (wire_request.method, wire_request.headers) == ("POST", {"content-type": "application/json"})
    return wire_request.path, json.loads(wire_request.body)


def shaped(items: list[dict[str, Any]], **members: Any) -> bytes:
    """An answer as OpenAI has it."""
    return json.dumps({"object": "list", "data": items, "model": "m", **members}).encode()


def answers(provider: str) -> tuple[bytes, EmbeddingRequest]:
    """A sound answer of a format to two texts, and the question."""
    request = asked(provider, "m")
    vectors = [list(vector) for vector in _VECTORS]
    match dialect_of(provider).wire.name:
        case "gemini":
            body: Any = {"embeddings": [{"values": vector} for vector in vectors]}
        case "ollama":
            body = {"model": "m", "embeddings": vectors, "prompt_eval_count": 4}
        case "bedrock":
            body = {"embeddings": {"float": vectors}}
        case _:
            body = {"data": [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]}
    return json.dumps(body).encode(), request


# ── recordings ────────────────────────────────────────────────────────────────────────────────────────────────────────

_RECORDED: Final = [
    pytest.param(provider, found, id=found.id)
    for provider, suffix in (
        ("openai", "/embeddings"),
        ("azure", "/embeddings"),
        ("mistral", "/embeddings"),
        ("openrouter", "/embeddings"),
        ("gemini", ":batchEmbedContents"),
        ("ollama", "/api/embed"),
        ("bedrock", "/invoke"),
    )
    for found in interactions(provider, suffix)
    if found.status == 200 and "anthropic" not in found.url
]


def model_in(found: Interaction) -> str:
    """The model that was asked, by the body or the path."""
    if found.request is not None and "model" in found.request:
        return str(found.request["model"])
    return unquote(urlsplit(found.url).path.rsplit("/models/", 1)[-1].rsplit("/model/", 1)[-1]).rpartition(
        "/" if "/invoke" in found.url else ":"
    )[0]


def texts_in(body: dict[str, Any]) -> list[str]:
    """The texts of a recorded question, whoever asked."""
    if "requests" in body:
        return [request["content"]["parts"][0]["text"] for request in body["requests"]]
    if "singleEmbeddingParams" in body:
        return [body["singleEmbeddingParams"]["text"]["value"]]
    texts: Any = body.get("input", body.get("texts", body.get("inputText")))
    return [texts] if isinstance(texts, str) else list(texts)


def vectors_in(body: Any) -> list[list[float]]:
    """The vectors of a recorded answer, read without any of our code: lists of numbers, in the order they stand in."""
    if isinstance(body, list):
        if body and all(isinstance(item, int | float) for item in body):
            return [body]
        return [vector for item in body for vector in vectors_in(item)]
    if isinstance(body, dict):
        members = [value for name, value in body.items() if name != "embeddingsByType"]
        return [vector for value in members for vector in vectors_in(value)]
    return []


@needs_recordings
@pytest.mark.parametrize(("provider", "found"), _RECORDED)
def test_recorded_vectors_and_counts_are_read(provider: str, found: Interaction) -> None:
    """Each vector has exactly the numbers of the answer, and the tokens are those that it or its header names."""
    assert found.request is not None
    request = asked(provider, model_in(found), *texts_in(found.request))
    answer = wire_of(provider).embedded(found.body, found.headers, request)
    raw = json.loads(found.body)
    assert [list(vector) for vector in answer.vectors] == vectors_in(raw)
    stated = raw.get("usage", {}).get("prompt_tokens") or raw.get("usageMetadata", {}).get("promptTokenCount")
    header = found.headers.get("x-amzn-bedrock-input-token-count")
    assert answer.usage.input_tokens == (stated or (int(header) if header else None))
    assert answer.model == raw.get("model")
    cost = raw.get("usage", {}).get("cost")
    assert answer.usage.reported_cost == (None if cost is None else Decimal(str(cost)))


@needs_recordings
@pytest.mark.parametrize(("provider", "found"), _RECORDED)
def test_recorded_questions_are_asked_alike(provider: str, found: Interaction) -> None:
    """Our question goes to the recorded path, with the recorded texts, and members that the recorded one has too."""
    assert found.request is not None
    model, texts = model_in(found), texts_in(found.request)
    request = asked(provider, model, *texts)
    if provider == "bedrock" and "arn:" in model:
        request = replace(request, profile=replace(request.profile, embedding_form="titan"))
    path, body = sent(provider, request)
    assert unquote(urlsplit(found.url).path).endswith(unquote(path))
    assert texts_in(body) == texts
    ours, theirs = (body["requests"][0], found.request["requests"][0]) if "requests" in body else (body, found.request)
    assert ours.keys() - {"encoding_format"} <= theirs.keys()


def test_there_are_recordings_of_every_shape() -> None:
    """The parameters above are not empty where the recordings are there."""
    if not _RECORDED:
        pytest.skip("NODELLM_RECORDINGS names no folder")
    assert {param.values[0] for param in _RECORDED} >= {"openai", "azure", "mistral", "openrouter", "gemini", "bedrock"}
    assert len(_RECORDED) > 30


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", _OPENAI_SHAPED)
def test_openai_shape_is_the_same_everywhere(name: str) -> None:
    """Every provider with OpenAI's shape gets the same bytes, whatever format its chats have; the model first."""
    provider, dialect = _WIRES[name]
    assert isinstance(dialect.wire, Embedder)
    request = EmbeddingRequest(texts=_TEXTS, model="some-model", profile=ModelProfile(), dimensions=8)
    wire_request = dialect.wire.embed_request(request)
    assert wire_request.path == "/embeddings", provider
    assert wire_request.body == '{"model":"some-model","dimensions":8,"input":["Hello","Wörld 😀"]}'.encode()


def test_openai_is_asked_for_packed_vectors() -> None:
    """OpenAI's own models send base64; the caller's own word wins."""
    request = asked("openai", "text-embedding-3-small")
    assert sent("openai", request)[1]["encoding_format"] == "base64"
    own = replace(request, params={"encoding_format": "float", "user": "ada"})
    body = sent("openai", own)[1]
    assert (body["encoding_format"], body["user"]) == ("float", "ada")


def test_gemini_repeats_what_belongs_to_each_text() -> None:
    """Model, length and raw members stand in each request of the batch."""
    request = asked("gemini", "gemini-embedding-2", dimensions=768, params={"taskType": "RETRIEVAL_QUERY"})
    path, body = sent("gemini", request)
    assert path == "/models/gemini-embedding-2:batchEmbedContents"
    assert body == {
        "requests": [
            {
                "model": "models/gemini-embedding-2",
                "outputDimensionality": 768,
                "taskType": "RETRIEVAL_QUERY",
                "content": {"parts": [{"text": text}]},
            }
            for text in _TEXTS
        ]
    }


def test_ollama_has_its_own_path() -> None:
    """Raw members go beside the texts."""
    request = asked("ollama", "all-minilm", dimensions=8, params={"truncate": False})
    body = {"model": "all-minilm", "dimensions": 8, "input": list(_TEXTS), "truncate": False}
    assert sent("ollama", request) == ("/api/embed", body)


@pytest.mark.parametrize(
    ("model", "length", "body"),
    [
        ("amazon.titan-embed-text-v2:0", 256, {"inputText": "Hello", "dimensions": 256}),
        ("amazon.titan-embed-text-v1", None, {"inputText": "Hello"}),
        ("amazon.titan-embed-image-v1", None, {"inputText": "Hello"}),
        (
            "amazon.titan-embed-image-v1",
            256,
            {"inputText": "Hello", "embeddingConfig": {"outputEmbeddingLength": 256}},
        ),
        (
            "amazon.nova-2-multimodal-embeddings-v1:0",
            256,
            {
                "taskType": "SINGLE_EMBEDDING",
                "singleEmbeddingParams": {
                    "embeddingPurpose": "GENERIC_INDEX",
                    "embeddingDimension": 256,
                    "text": {"truncationMode": "NONE", "value": "Hello"},
                },
            },
        ),
        (
            "us.cohere.embed-v4:0",
            512,
            {"input_type": "search_document", "output_dimension": 512, "texts": ["Hello"]},
        ),
        ("cohere.embed-english-v3", None, {"input_type": "search_document", "texts": ["Hello"]}),
    ],
)
def test_bedrock_speaks_each_makers_form(model: str, length: int | None, body: dict[str, Any]) -> None:
    """The form is that of the model's maker, also behind the geography of an inference profile."""
    request = asked("bedrock", model, "Hello", dimensions=length)
    assert sent("bedrock", request) == (f"/model/{model.replace(':', '%3A')}/invoke", body)


def test_bedrocks_raw_members_belong_to_the_makers_form() -> None:
    """Cohere's stand beside the texts, Nova's inside its object."""
    cohere = asked("bedrock", "cohere.embed-v4:0", params={"input_type": "search_query"})
    assert sent("bedrock", cohere)[1] == {"input_type": "search_query", "texts": list(_TEXTS)}
    nova = asked("bedrock", "amazon.nova-2-multimodal-embeddings-v1:0", "Hi", params={"embeddingPurpose": "CLUSTERING"})
    assert sent("bedrock", nova)[1]["singleEmbeddingParams"]["embeddingPurpose"] == "CLUSTERING"


def test_a_profile_of_ones_own_needs_to_be_described() -> None:
    """The ARN of an application's profile does not tell the maker: the error says how to."""
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
    with pytest.raises(UnsupportedFeatureError, match="embedding_form"):
        sent("bedrock", asked("bedrock", arn, "Hello"))


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "text-embedding-ada-002"),
        ("mistral", "mistral-embed"),
        ("bedrock", "amazon.titan-embed-text-v1"),
        ("bedrock", "cohere.embed-multilingual-v3"),
        ("local", "smollm2-135m-instruct"),
    ],
)
def test_a_length_is_refused_where_there_is_only_one(provider: str, model: str) -> None:
    """A model without a choice of lengths is not asked for one."""
    with pytest.raises(UnsupportedFeatureError, match="one length only"):
        sent(provider, asked(provider, model, "Hello", dimensions=64))


def test_mistral_has_its_own_word_for_the_length() -> None:
    """Codestral's vectors have several lengths."""
    body = sent("mistral", asked("mistral", "codestral-embed-2505", dimensions=64))[1]
    assert body == {"model": "codestral-embed-2505", "output_dimension": 64, "input": list(_TEXTS)}


def test_what_json_does_not_have_is_refused() -> None:
    """A raw member that cannot be written is the caller's mistake."""
    with pytest.raises(ConfigurationError, match="look at params"):
        sent("openai", asked("openai", "text-embedding-3-small", params={"x": float("nan")}))


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_ONE_OF_EACH: Final = ["openai", "gemini", "ollama", "bedrock"]


@pytest.mark.parametrize("provider", _ONE_OF_EACH)
def test_vectors_are_read(provider: str) -> None:
    """A vector a text, in their order."""
    body, request = answers(provider)
    assert wire_of(provider).embedded(body, {}, request).vectors == _VECTORS


def test_openai_vectors_are_put_in_order() -> None:
    """The index decides, not the place in the answer."""
    items = [{"index": place, "embedding": [float(place)]} for place in (2, 0, 1)]
    answer = wire_of("openai").embedded(shaped(items), {}, asked("openai", "m", "a", "b", "c"))
    assert answer.vectors == ((0.0,), (1.0,), (2.0,))


def test_without_indices_the_order_is_that_of_the_answer() -> None:
    """Some servers number nothing."""
    answer = wire_of("openai").embedded(shaped([{"embedding": [1]}, {"embedding": [2]}]), {}, asked("openai", "m"))
    assert answer.vectors == ((1.0,), (2.0,))


@given(
    st.integers(1, 40).flatmap(
        lambda width: st.lists(
            st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=width, max_size=width),
            min_size=1,
            max_size=5,
        )
    )
)
def test_packed_vectors_are_the_numbers_that_were_packed(vectors: list[list[float]]) -> None:
    """Base64 of little-endian float32 gives exactly the numbers that went in, as a list of them does."""
    packed = [b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() for vector in vectors]
    request = asked("openai", "m", *("t" for _ in vectors))
    for form in (packed, vectors):
        items = [{"index": place, "embedding": value} for place, value in enumerate(form)]
        answer = wire_of("openai").embedded(shaped(items), {}, request)
        assert [list(vector) for vector in answer.vectors] == vectors


_BROKEN: Final = {
    "null": [None, 0.5],
    "a word": ["0.1", 0.5],
    "truth": [True, 0.5],
    "empty": [],
    "no list": {"0": 0.5},
    "nothing": None,
    "too large": [10**400, 1],
    "packed NaN": b64encode(struct.pack("<2f", float("nan"), 1)).decode(),
    "packed badly": "AAAA",
    "not base64": "AAAAPw?AAAD8=",
}


@pytest.mark.parametrize("value", _BROKEN.values(), ids=_BROKEN)
def test_what_is_no_vector_is_a_protocol_error(value: object) -> None:
    """Nothing but finite numbers gets through; the error says which text it was."""
    items = [{"index": 0, "embedding": [0.5, 0.5]}, {"index": 1, "embedding": value}]
    with pytest.raises(ProtocolError, match="text 2 is no vector"):
        wire_of("openai").embedded(shaped(items), {}, asked("openai", "m"))


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
@pytest.mark.parametrize("provider", _ONE_OF_EACH)
def test_numbers_that_are_none_are_a_protocol_error(provider: str, number: bytes) -> None:
    """Neither the words that JSON does not have nor a number beyond all doubles is taken for one."""
    body, request = answers(provider)
    with pytest.raises(ProtocolError):
        wire_of(provider).embedded(body.replace(b"-0.25", number), {}, request)


@pytest.mark.parametrize("provider", _ONE_OF_EACH)
def test_a_missing_vector_is_a_protocol_error(provider: str) -> None:
    """An answer has to have as many vectors as there were texts."""
    body, request = answers(provider)
    with pytest.raises(ProtocolError, match="3 texts were sent and 2 vectors came back"):
        wire_of(provider).embedded(body, {}, replace(request, texts=("a", "b", "c")))


@pytest.mark.parametrize("indices", [(0, 0), (1, 2), (0, None), (0, "1")])
def test_doubtful_indices_are_a_protocol_error(indices: tuple[Any, Any]) -> None:
    """Vectors are never given to texts by guess."""
    items = [{"index": index, "embedding": [1.0]} for index in indices]
    with pytest.raises(ProtocolError, match="which vector belongs to which text"):
        wire_of("openai").embedded(shaped(items), {}, asked("openai", "m"))


@pytest.mark.parametrize("provider", _ONE_OF_EACH)
def test_lengths_have_to_be_right(provider: str) -> None:
    """Vectors of different lengths, or of another than was asked for, are no answer."""
    body, request = answers(provider)
    with pytest.raises(ProtocolError, match="different lengths"):
        wire_of(provider).embedded(body.replace(b", -0.25", b""), {}, request)
    with pytest.raises(ProtocolError, match="2 numbers were asked for and m gave 3"):
        wire_of(provider).embedded(body, {}, replace(request, dimensions=2))
    assert wire_of(provider).embedded(body, {}, replace(request, dimensions=3)).vectors == _VECTORS


@pytest.mark.parametrize("provider", _ONE_OF_EACH)
@pytest.mark.parametrize("body", [b"", b"  ", b"[]", b"null", b"<html>", b"{}", b'{"data": {}, "embeddings": 1}'])
def test_another_answer_is_a_protocol_error(provider: str, body: bytes) -> None:
    """Whatever else a server says, it is no answer."""
    with pytest.raises(ProtocolError):
        wire_of(provider).embedded(body, {}, answers(provider)[1])


@pytest.mark.parametrize("provider", _ONE_OF_EACH)
@given(data=st.data())
def test_a_cut_answer_is_asked_for_again(provider: str, data: st.DataObject) -> None:
    """An answer that ends anywhere within is a broken connection, never a shorter list of vectors."""
    body, request = answers(provider)
    end = data.draw(st.integers(1, len(body) - 1))
    with pytest.raises(ProviderConnectionError) as caught:
        wire_of(provider).embedded(body[:end], {}, request)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("provider", "body", "expected"),
    [
        ("openai", {"error": {"message": "slow down", "code": 429}}, RateLimitError),
        ("openrouter", {"error": {"message": "slow down", "code": 429}}, RateLimitError),
        ("gemini", {"error": {"message": "slow down", "code": 429, "status": "RESOURCE_EXHAUSTED"}}, RateLimitError),
        ("ollama", {"error": "rate limit reached"}, RateLimitError),
        ("bedrock", {"message": "rate limit reached"}, RateLimitError),
    ],
)
def test_an_error_inside_an_answer_is_that_error(provider: str, body: object, expected: type[ProviderError]) -> None:
    """A successful status does not make an answer of it."""
    with pytest.raises(expected):
        wire_of(provider).embedded(json.dumps(body).encode(), {}, answers(provider)[1])


def test_counts_that_say_nothing_are_unknown() -> None:
    """No prompt is empty: a server that counts no tokens has not counted, and its answer's tokens are unknown too."""
    items = [{"index": 0, "embedding": [1.0]}]
    request = asked("openai", "m", "a")
    for usage in (
        None,
        {},
        {"prompt_tokens": 0},
        {"prompt_tokens": -1},
        {"prompt_tokens": "4"},
        {"prompt_tokens": 1.5},
    ):
        answer = wire_of("openai").embedded(shaped(items, usage=usage), {}, request)
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == (None, None)
    known = wire_of("openai").embedded(shaped(items, usage={"prompt_tokens": 4, "cost": 1.4e-07}), {}, request)
    assert (known.usage.input_tokens, known.usage.output_tokens) == (4, 0)
    assert known.usage.reported_cost == Decimal("1.4e-7")


def test_bedrock_counts_in_a_header() -> None:
    """The count is the header's; one that is no number is unknown."""
    body, request = answers("bedrock")
    counts = [
        wire_of("bedrock").embedded(body, {"x-amzn-bedrock-input-token-count": value}, request).usage.input_tokens
        for value in ("12", "many", "")
    ]
    assert counts == [12, None, None]


def test_cohere_without_kinds_is_read_too() -> None:
    """The older models list vectors without saying their kind."""
    body, request = answers("bedrock")
    plain = json.dumps({"embeddings": json.loads(body)["embeddings"]["float"]}).encode()
    assert wire_of("bedrock").embedded(plain, {}, request).vectors == _VECTORS
