"""Every provider's failures, through the public API: which error, with what in it, and whether another try is made."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import pytest

from nodellm_orm import (
    AuthenticationError,
    BadRequestError,
    ContextWindowError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    ProviderConnectionError,
    ProviderError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    StreamInterruptedError,
)
from nodellm_orm.testing import EVENT_STREAM, LoopbackServer, body_answer, json_answer, sse_answer
from tests.acceptance.provider_errors import FAILURES, INSIDE, WHOLE, identified
from tests.acceptance.speakers import ALL_APIS, EVERYWHERE, Says, Speaker
from tests.unit.wire.recordings import interactions, needs_recordings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nodellm_orm import Chat
    from nodellm_orm.testing import Answer, ReceivedRequest
    from tests.acceptance.provider_errors import Failure, Inside, Whole
    from tests.unit.wire.recordings import Interaction

How: TypeAlias = Literal["ask", "stream"]
TWICE: Final = RetryPolicy(max_attempts=2, base_ms=0, longest_wait=0.05)
TEXT: Final = "Hello, world"
KINDS: Final = {"bedrock": EVENT_STREAM, "ollama": "application/x-ndjson"}
PROVIDERS: Final = {
    "openai",
    "anthropic",
    "gemini",
    "bedrock",
    "deepseek",
    "openrouter",
    "ollama",
    "mistral",
    "xai",
    "azure",
    "openai_compatible",
}
"""All but ``local``, which has no server that could fail."""
HUGE: Final = 2 * 1024 * 1024
PAGE: Final = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"

asked_and_streamed: Final = pytest.mark.parametrize("how", ["ask", "stream"])
in_every_format: Final = pytest.mark.parametrize("speaker", [Speaker(api) for api in ALL_APIS], ids=str)


def server_of(*script: Answer) -> LoopbackServer:
    """A server that gives these answers in turn, and the last one for ever."""
    answers = list(script)

    async def handle(_: ReceivedRequest) -> Answer:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    return LoopbackServer(handle)


async def put(chat: Chat, how: How, given: list[str]) -> None:
    """Put a question; ``given`` takes the pieces of the answer as they come."""
    if how == "ask":
        given.append((await chat.ask("Hi")).content)
    else:
        async for chunk in chat.stream("Hi"):
            given.append(chunk.content)  # noqa: PERF401 — the pieces before an error count


async def failed(speaker: Speaker, answer: Answer, how: How) -> tuple[ProviderError, int]:
    """The error of a question that is always answered so, and the requests that were made."""
    given: list[str] = []
    async with server_of(answer) as server, speaker.llm(server, retry=TWICE) as llm:
        with pytest.raises(ProviderError) as caught:
            await put(llm.chat(), how, given)
    assert given == []
    return caught.value, len(server.requests)


def streamed(speaker: Speaker, events: Iterable[bytes]) -> Answer:
    """A stream in the speaker's format, with a request id."""
    kind = KINDS.get(speaker.api, "text/event-stream")
    return sse_answer(events, content_type=kind, headers=identified(speaker))


def tries(error: ProviderError) -> int:
    """The requests that the policy of these tests makes of an error before anything was delivered."""
    soon = error.retry_after is None or error.retry_after <= TWICE.longest_wait
    return 2 if error.retryable and soon else 1


# ── responses with a status of failure ────────────────────────────────────────────────────────────────────────────────


@asked_and_streamed
@pytest.mark.parametrize("failure", FAILURES, ids=str)
async def test_a_failure_is_told_as_what_it_is(failure: Failure, how: How) -> None:
    """Class, status, provider, model, request id, wait, words and remedy; another try only where it makes sense."""
    error, requests = await failed(failure.at, failure.answer, how)
    assert type(error) is failure.cls
    assert (error.status, error.provider, error.model) == (failure.status, failure.at.provider, failure.at.model)
    assert error.request_id == failure.request_id
    assert error.retry_after == failure.retry_after
    assert error.retryable is failure.is_retryable
    assert failure.said in str(error)
    assert len(str(error).rpartition("; ")[2].split()) > 2
    assert failure.body == b"" or error.body
    assert requests == tries(error)


def test_every_provider_and_kind_of_failure_is_there() -> None:
    """Each provider refuses, limits and breaks; all but a server of one's own can also run out of credit."""
    found = {(failure.at.provider, failure.cls) for failure in FAILURES}
    assert {provider for provider, _ in found} == PROVIDERS
    everywhere = (
        *(BadRequestError, ContextWindowError, AuthenticationError, PermissionDeniedError, ModelNotFoundError),
        *(RateLimitError, QuotaExceededError, ServerError, OverloadedError),
    )
    rare = {
        ("azure", QuotaExceededError),  # pays by invoice
        ("openai_compatible", PermissionDeniedError),
        ("deepseek", PermissionDeniedError),
    }
    assert {(provider, cls) for provider in PROVIDERS for cls in everywhere} - found == rare


@pytest.mark.parametrize("cls", [ContextWindowError, QuotaExceededError])
def test_no_wait_helps_a_full_window_or_an_empty_account(cls: type[ProviderError]) -> None:
    """Of neither is any entry retryable, also where the provider's headers claim it."""
    entries = [failure for failure in FAILURES if failure.cls is cls]
    assert len({failure.at.provider for failure in entries}) >= 10
    assert not any(failure.is_retryable for failure in entries)


# ── errors inside an answer ───────────────────────────────────────────────────────────────────────────────────────────


def begun(speaker: Speaker) -> tuple[list[bytes], list[bytes]]:
    """The events of an answer before its first text, and those up to it."""
    events = speaker.events(Says(text=TEXT))
    first = next(at for at, event in enumerate(events) if b"Hello" in event)
    return events[:first], events[: first + 1]


@pytest.mark.parametrize("opened", [False, True], ids=["at once", "opened"])
@pytest.mark.parametrize("inside", INSIDE, ids=str)
async def test_an_error_before_any_text_is_tried_again_where_that_helps(inside: Inside, opened: bool) -> None:  # noqa: FBT001 — how far the answer came
    """Status 200, the class from the words; another try is made as for a failed response."""
    events = [*(begun(inside.at)[0] if opened else ()), inside.event]
    error, requests = await failed(inside.at, streamed(inside.at, events), "stream")
    assert type(error) is inside.cls
    assert (error.status, error.provider, error.model) == (200, inside.at.provider, inside.at.model)
    assert (error.request_id, error.retry_after) == ("req-in-header-1", inside.retry_after)
    assert error.retryable is inside.cls.retryable_by_default
    assert inside.said in str(error)
    assert requests == tries(error)


@pytest.mark.parametrize("inside", INSIDE, ids=str)
async def test_an_error_after_some_text_keeps_it_and_is_not_tried_again(inside: Inside) -> None:
    """What had been given stays, as a partial message; the next question is asked as usual."""
    events = [*begun(inside.at)[1], inside.event]
    fine = streamed(inside.at, inside.at.events(Says(text="fine")))
    async with server_of(streamed(inside.at, events), fine) as server, inside.at.llm(server, retry=TWICE) as llm:
        chat, given = llm.chat(), list[str]()
        with pytest.raises(ProviderError) as caught:
            await put(chat, "stream", given)
        assert type(caught.value) is inside.cls
        assert len(server.requests) == 1
        text = "".join(given)
        assert TEXT.startswith(text)
        assert text
        assert [(m.role, m.content, m.status) for m in chat.messages] == [
            ("user", "Hi", "complete"),
            ("assistant", text, "partial"),
        ]
        assert "".join([chunk.content async for chunk in chat.stream("Again")]) == "fine"


@asked_and_streamed
@pytest.mark.parametrize("whole", WHOLE, ids=str)
async def test_an_error_in_place_of_an_answer(whole: Whole, how: How) -> None:
    """A body of JSON with status 200 that is an error is one, streamed or not."""
    error, requests = await failed(whole.at, json_answer(whole.body, headers=identified(whole.at)), how)
    assert type(error) is whole.cls
    assert (error.status, error.request_id) == (200, "req-in-header-1")
    assert (error.provider, error.model) == (whole.at.provider, whole.at.model)
    assert whole.said in str(error)
    assert requests == tries(error)


# ── bodies that are no provider's ─────────────────────────────────────────────────────────────────────────────────────

BY_STATUS: Final[dict[int, type[ProviderError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: QuotaExceededError,
    403: PermissionDeniedError,
    404: ModelNotFoundError,
    408: ProviderTimeoutError,
    413: BadRequestError,
    422: BadRequestError,
    429: RateLimitError,
    500: ServerError,
    502: ServerError,
    503: OverloadedError,
    504: ServerError,
    520: ServerError,
    529: OverloadedError,
}
ODD: Final[dict[str, bytes]] = {
    "empty": b"",
    "blank": b" \r\n\t",
    "null": b"null",
    "true": b"true",
    "number": b"7",
    "string": b'"it went wrong"',
    "list": b"[]",
    "list of everything": b'[null, 1, "a", [[]], {"b": {}}]',
    "object": b"{}",
    "odd members": b'{"error": [], "message": {"a": 1}, "code": [], "type": 5}',
    "deep": b"[" * 100_000,
    "page": PAGE,
    "unended page": b"<html><title>" * 50_000,
    "text": b"upstream connect error or disconnect/reset before headers",
    "not UTF-8": b"\xff\xfe\x00\x9d\xc3",
    "cut JSON": b'{"error": {"message": "cut off he',
    "huge text": b"x" * HUGE,
    "huge JSON": json.dumps({"error": {"message": "y" * HUGE}}).encode(),
    "huge page": PAGE.replace(b"nginx", b"z" * HUGE),
}


@pytest.mark.parametrize("status", BY_STATUS)
@in_every_format
async def test_an_empty_body_is_classed_by_its_status(speaker: Speaker, status: int) -> None:
    """The status alone decides, and the message says that there were no words."""
    error, requests = await failed(speaker, body_answer(b"", status=status), "ask")
    assert type(error) is BY_STATUS[status]
    assert f"(HTTP {status}): it did not say why; " in str(error)
    assert requests == tries(error)


@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
@pytest.mark.parametrize("status", [400, 503])
@in_every_format
async def test_an_odd_body_is_classed_by_its_status_and_cut(speaker: Speaker, status: int, body: bytes) -> None:
    """Whatever the body is, the status decides, and what is kept and shown of it is short."""
    error, _ = await failed(speaker, body_answer(body, status=status, content_type=None), "ask")
    assert type(error) is BY_STATUS[status]
    assert len(str(error)) < 800
    assert len(error.body or "") <= 2000
    assert ("check base_url and any proxy" in str(error)) == (body.lstrip()[:1] == b"<")


@in_every_format
async def test_a_packed_body_that_is_cut_is_classed_by_its_status(speaker: Speaker) -> None:
    """What could be unpacked is kept; that the rest is missing does not hide the status."""
    packed = gzip.compress(json.dumps({"error": {"message": "slow down" * 50}}).encode())[:-12]
    answer = body_answer(packed, status=429, content_type="application/json", headers={"content-encoding": "gzip"})
    error, _ = await failed(speaker, answer, "ask")
    assert (type(error), error.status) == (RateLimitError, 429)


@in_every_format
async def test_a_failure_whose_body_breaks_off_is_classed_by_its_status(speaker: Speaker) -> None:
    """A connection that ends in the middle of an error's body does not hide the status either."""
    answer = body_answer(b'{"error": {"mess', status=529, content_type="application/json", content_length=999)
    error, _ = await failed(speaker, answer, "ask")
    assert (type(error), error.status) == (OverloadedError, 529)


@in_every_format
async def test_another_encoding_spoils_only_letters(speaker: Speaker) -> None:
    """An error in Latin-1 keeps its class, which the words decide."""
    body = json.dumps({"error": {"message": "m\u00f6chte: maximum context length is 5"}}, ensure_ascii=False)
    error, _ = await failed(speaker, body_answer(body.encode("latin-1"), status=400), "ask")
    assert type(error) is ContextWindowError


@asked_and_streamed
@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json", "text/event-stream", None])
@in_every_format
async def test_a_page_with_status_200_is_no_answer(speaker: Speaker, kind: str | None, how: How) -> None:
    """A login page or a proxy's greeting is a `ProtocolError` that says where to look; it is not asked for again."""
    error, requests = await failed(speaker, body_answer(PAGE, content_type=kind), how)
    assert (type(error), error.status, requests) == (ProtocolError, 200, 1)
    assert "check base_url" in str(error)


@asked_and_streamed
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"7", b'"x"', b"{}", b'{"cut": ', b"\xff\xfe"])
@in_every_format
async def test_an_odd_answer_with_status_200_is_an_error(speaker: Speaker, body: bytes, how: How) -> None:
    """Nothing that is not an answer passes for one."""
    error, requests = await failed(speaker, body_answer(body, content_type=None), how)
    assert type(error) in {ProtocolError, StreamInterruptedError, ProviderConnectionError}
    assert requests == tries(error)


# ── recorded ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_FORMATS: Final = {
    "/responses": "openai_responses",
    "/chat/completions": "openai_chat",
}


def _speaker(item: Interaction) -> Speaker:
    provider = item.id.partition("/")[0]
    of_provider = [speaker for speaker in EVERYWHERE if speaker.provider == provider]
    path = item.url.partition("?")[0]
    api = next((api for end, api in _FORMATS.items() if path.endswith(end)), None)
    return next(speaker for speaker in of_provider if api in {None, speaker.api})


def _recorded() -> list[Interaction]:
    return [item for provider in sorted(PROVIDERS) for item in interactions(provider, "") if item.status >= 400]


def _expected(item: Interaction) -> type[ProviderError]:
    """The class by the status, and by words where 400 says too little."""
    if item.status != 400:
        return BY_STATUS[item.status]
    words = item.body.decode().lower()
    if "tokens exceed" in words or "maximum context length" in words:
        return ContextWindowError
    return ModelNotFoundError if "model_not_found" in words or "identifier is invalid" in words else BadRequestError


@needs_recordings
@asked_and_streamed
@pytest.mark.parametrize("item", _recorded(), ids=str)
async def test_a_recorded_failure_is_told_as_what_it_is(item: Interaction, how: How) -> None:
    """Class, status and request id of everything that was recorded, by a rule of its own."""
    kept = {name: value for name, value in item.headers.items() if name not in {"content-length", "content-encoding"}}
    error, _ = await failed(_speaker(item), body_answer(item.body, status=item.status, headers=kept), how)
    body = json.loads(item.body)
    ids = ("x-request-id", "request-id", "x-amzn-requestid", "apim-request-id")
    expected_id = next((kept[name] for name in ids if name in kept), body.get("request_id"))
    assert (type(error), error.status, error.request_id) == (_expected(item), item.status, expected_id)
    # Azure sends a zero beside the wait that it means.
    assert error.retry_after == (float(kept["retry-after"]) if "retry-after" in kept else None)
    assert error.retryable is (item.status in {408, 429} or item.status >= 500)


@needs_recordings
def test_failures_were_recorded() -> None:
    """The walk above has seen some of most providers."""
    assert len(_recorded()) >= 25
    assert len({item.id.partition("/")[0] for item in _recorded()}) >= 7


@needs_recordings
async def test_a_recorded_error_inside_a_stream_is_told_by_its_code() -> None:
    """OpenRouter's streams say with a number what went wrong behind it."""
    found = [
        item
        for item in interactions("openrouter", "/chat/completions")
        if item.streamed and item.status == 200 and b'"error":{"code":' in item.body
    ]
    assert found
    for item in found:
        speaker = _speaker(item)
        code = int(item.body.partition(b'"error":{"code":')[2][:3])
        given: list[str] = []
        async with server_of(streamed(speaker, [item.body])) as server, speaker.llm(server) as llm:
            with pytest.raises(ProviderError) as caught:
                await put(llm.chat(), "stream", given)
        assert (type(caught.value), caught.value.status) == (BY_STATUS[code], 200)
        assert given  # its thinking; so it is not asked again
        assert len(server.requests) == 1
