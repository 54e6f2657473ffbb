"""No key is ever shown, whatever comes back: not in an error, its causes and traceback, not in a log, not in a row."""

from __future__ import annotations

import html
import json
import logging
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from nodellm_orm import ConfigurationError, ProviderError, RetryPolicy, create_chat, create_llm
from nodellm_orm.testing import EVENT_STREAM, LoopbackServer, bedrock_exception, body_answer, sse_answer
from tests.acceptance.speakers import EVERYWHERE, Says, Speaker
from tests.integration.databases import migrated_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nodellm_orm import LLM
    from nodellm_orm.testing import Answer, ReceivedRequest

CANARY: Final = "zq9Canary/of+every=provider~77"
"""Looks like no key that a pattern could know, and has what JSON, URLs and HTML spell in other ways."""
SECOND: Final = "wq7Second/canary+of=somebody~33"
THIRD: Final = "vq5Third/canary+of=somebody~11"
WELL_KNOWN: Final = "AKIDCANARY0123456789"
REGION: Final[dict[str, Any]] = {"region": "us-east-1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way in which a secret goes out with a request.

    Args:
        name: for the name of the test.
        speaker: provider and wire format.
        options: of `create_llm`.
        secrets: what may not be shown.
        headers: of the chat.
        query: of the address.
    """

    name: str
    speaker: Speaker
    options: Mapping[str, Any]
    secrets: tuple[str, ...] = (CANARY,)
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""

    def llm(self, server: LoopbackServer) -> LLM:
        """A client that talks to the loopback server."""
        place = self.speaker.place
        given = {"base_url": f"{server.url}{place.path}{self.query}", "model": place.model, "api": place.word}
        once = RetryPolicy(max_attempts=1)
        return create_llm(place.provider, **{**given, **place.options, "retry": once, "environ": {}, **self.options})


WAYS: Final = (
    *(Way(name=f"{speaker}", speaker=speaker, options={"api_key": CANARY}) for speaker in EVERYWHERE),
    Way(
        name="azure-token",
        speaker=Speaker("openai_chat", "azure"),
        options={"environ": {"AZURE_OPENAI_AD_TOKEN": CANARY}},
    ),
    Way(name="anthropic-token", speaker=Speaker("anthropic"), options={"environ": {"ANTHROPIC_AUTH_TOKEN": CANARY}}),
    Way(
        name="aws-keys",
        speaker=Speaker("bedrock"),
        options={
            **REGION,
            "aws_access_key_id": WELL_KNOWN,
            "aws_secret_access_key": CANARY,
            "aws_session_token": SECOND,
        },
        secrets=(CANARY, SECOND),
    ),
    Way(
        name="aws-keys-of-the-environment",
        speaker=Speaker("bedrock"),
        options={
            **REGION,
            "environ": {
                "AWS_ACCESS_KEY_ID": WELL_KNOWN,
                "AWS_SECRET_ACCESS_KEY": CANARY,
                "AWS_SESSION_TOKEN": SECOND,
            },
        },
        secrets=(CANARY, SECOND),
    ),
    Way(
        name="organization",
        speaker=Speaker("openai_responses"),
        options={"api_key": CANARY, "organization": SECOND, "project": THIRD},
        secrets=(CANARY, SECOND, THIRD),
    ),
    Way(
        name="headers-of-the-chat",
        speaker=Speaker("openai_chat"),
        options={"api_key": CANARY},
        headers={"authorization": f"Bearer {SECOND}", "x-gateway-token": THIRD},
        secrets=(CANARY, SECOND, THIRD),
    ),
    Way(
        name="query",
        speaker=Speaker("gemini"),
        options={"api_key": CANARY},
        query=f"?key={WELL_KNOWN}xyz",
        secrets=(CANARY, f"{WELL_KNOWN}xyz"),
    ),
)

Echo = Literal["json", "escaped", "names", "text", "page", "alone"]
ECHOES: Final[tuple[Echo, ...]] = ("json", "escaped", "names", "text", "page", "alone")


def echoed(request: ReceivedRequest, echo: Echo, *, padding: int = 0) -> str:
    """What a careless server says of a request."""
    sent = {**request.headers, "url": request.path}
    before = "x" * padding
    match echo:
        case "json":
            return f"{before} cannot read {json.dumps(sent)}"
        case "escaped":
            return before + json.dumps(sent).replace("/", "\\/")
        case "names":
            return before + "; ".join(f"{name}: {value}" for name, value in sent.items())
        case "text":
            return before + " ".join(sent.values())
        case "page":
            return f"<html><title>{html.escape(' '.join(sent.values()))}</title></html>"
        case "alone":
            return before + " ".join(f"the key {value.rpartition(' ')[2]} is unknown" for value in sent.values())


def failing(status: int, echo: Echo) -> Callable[[ReceivedRequest], Answer]:
    """A response with a status of failure that repeats the request."""

    def answer(request: ReceivedRequest) -> Answer:
        said = echoed(request, echo)
        if echo in {"text", "page"}:
            return body_answer(said.encode(), status=status, content_type="text/plain")
        body = {"error": {"message": said, "type": "x", "headers": dict(request.headers)}, "message": said}
        return body_answer(json.dumps(body).encode(), status=status, content_type="application/json")

    return answer


def breaking(speaker: Speaker, echo: Echo, *, padding: int = 0, text: bool = False) -> Callable[..., Answer]:
    """A stream with an error in it that repeats the request."""

    def answer(request: ReceivedRequest) -> Answer:
        said = echoed(request, echo, padding=padding)
        events = speaker.events(Says(text="Hello, world")) if text else []
        begun = events[: next((at + 1 for at, event in enumerate(events) if b"Hello" in event), 0)]
        match speaker.api:
            case "bedrock":
                return sse_answer([*begun, bedrock_exception("validationException", said)], content_type=EVENT_STREAM)
            case "ollama":
                line = json.dumps({"error": said}).encode() + b"\n"
                return sse_answer([*begun, line], content_type="application/x-ndjson")
            case _:
                error = {"type": "error", "error": {"type": "x", "message": said}}
                return sse_answer([*begun, b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n"])

    return answer


def garbling(cut: int) -> Callable[[ReceivedRequest], Answer]:
    """A stream whose event is no JSON, but what was sent."""

    def answer(request: ReceivedRequest) -> Answer:
        sent = " ".join(value.rpartition(" ")[2] for value in request.headers.values())
        return sse_answer([b"data: " + sent[sent.index(CANARY) - cut :].encode() + b"\n\n"])

    return answer


def shown(error: BaseException) -> Iterator[str]:
    """Everything that a program may show of an error."""
    yield "".join(traceback.format_exception(error))
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or link in seen:
            continue
        seen.append(link)
        yield f"{link} {link!r} {link.args!r} {vars(link)!r} {getattr(link, '__notes__', ())!r}"
        waiting += [link.__cause__, link.__context__]


def spellings(secret: str) -> set[str]:
    """The secret as JSON, HTML and URLs may write it, and most of it."""
    forms = {secret, secret.replace("/", "\\/"), secret.replace("/", "%2F"), html.escape(secret)}
    return forms | {secret[:13], secret[-13:]}


def assert_hidden(texts: Iterator[str], secrets: tuple[str, ...]) -> None:
    """None of the texts has any of the secrets in it, nor the better part of one."""
    for text in texts:
        for secret in secrets:
            assert not any(form in text for form in spellings(secret))


async def caught(
    way: Way,
    answer: Callable[[ReceivedRequest], Answer],
    caplog: pytest.LogCaptureFixture,
    *,
    stream: bool,
    url: str | None = None,
) -> ProviderError:
    """The error that the answer becomes, with the logs looked through; in a database where one is named."""

    async def handle(request: ReceivedRequest) -> Answer:
        return answer(request)

    async with LoopbackServer(handle) as server:
        with caplog.at_level(logging.DEBUG):
            engine = create_async_engine(url) if url is not None else None
            async with way.llm(server) as llm:
                chat = llm.chat(headers=way.headers)
                if engine is not None:
                    chat = await create_chat(engine, llm, headers=way.headers)
                with pytest.raises(ProviderError) as info:
                    await (_drained(chat) if stream else chat.ask("Hi"))
                assert_hidden(iter([repr(llm), repr(chat), str(vars(type(llm)))]), way.secrets)
            if engine is not None:
                await engine.dispose()
        sent = " ".join(f"{request.path} {request.headers}" for request in server.requests)
    reached = [secret for secret in way.secrets if secret in sent or secret.replace("/", "%2F") in sent]
    assert reached or "aws_secret_access_key" in way.options
    assert_hidden((f"{record.getMessage()} {record.args!r}" for record in caplog.records), way.secrets)
    return info.value


async def _drained(chat: Any) -> None:
    async for _ in chat.stream("Hi"):
        pass


@pytest.mark.fault("E01")
@pytest.mark.fault("A33")
@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", [400, 401, 500])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_a_failed_response_that_repeats_the_request_shows_no_key(
    way: Way, status: int, echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    """Message, body, causes, traceback and logs are free of every secret that went out."""
    error = await caught(way, failing(status, echo), caplog, stream=False)
    assert error.status == status
    assert_hidden(shown(error), way.secrets)


@pytest.mark.fault("E01")
@pytest.mark.parametrize("text", [False, True], ids=["before text", "after text"])
@pytest.mark.parametrize("echo", ["json", "names", "text", "alone"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_an_error_inside_a_stream_that_repeats_the_request_shows_no_key(
    way: Way,
    echo: Echo,
    text: bool,  # noqa: FBT001 — how far the answer came
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the transport has not looked through is looked through once it is an error."""
    error = await caught(way, breaking(way.speaker, echo, text=text), caplog, stream=True)
    assert error.status == 200
    assert_hidden(shown(error), way.secrets)


@pytest.mark.fault("E01")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_an_error_in_place_of_an_answer_shows_no_key(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    """The same for a body of JSON with status 200."""
    error = await caught(way, failing(200, "json"), caplog, stream=False)
    assert_hidden(shown(error), way.secrets)


@pytest.mark.fault("E01")
@pytest.mark.parametrize("padding", range(380, 500, 3))
async def test_a_key_that_is_cut_off_is_not_shown_in_part(padding: int, caplog: pytest.LogCaptureFixture) -> None:
    """Where a long message is cut, no beginning of a key is left at its end."""
    way = WAYS[0]
    error = await caught(way, breaking(way.speaker, "alone", padding=padding), caplog, stream=True)
    assert_hidden(shown(error), way.secrets)


@pytest.mark.fault("E01")
@pytest.mark.parametrize("cut", range(0, 20, 2))
@pytest.mark.parametrize("way", WAYS[:3], ids=lambda way: way.name)
async def test_a_garbled_event_is_not_shown(way: Way, cut: int, caplog: pytest.LogCaptureFixture) -> None:
    """An event that is no JSON is quoted in an error; not where it is what was sent."""
    error = await caught(way, garbling(cut), caplog, stream=True)
    assert_hidden(shown(error), way.secrets)


@pytest.mark.fault("E01")
@pytest.mark.parametrize("stream", [False, True], ids=["ask", "stream"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
async def test_no_key_reaches_the_rows(
    way: Way,
    stream: bool,  # noqa: FBT001 — how it is asked
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """Turns, attempts and partial answers are stored without it; headers of a chat are not stored at all."""
    path = tmp_path / "chats.db"
    await migrated_file(path)
    answer = breaking(way.speaker, "json", text=True) if stream else failing(401, "json")
    await caught(way, answer, caplog, stream=stream, url=f"sqlite+aiosqlite:///{path}")
    stored = contents(tmp_path)
    assert way.speaker.model in stored
    assert_hidden(iter([stored]), way.secrets)


def contents(folder: Path) -> str:
    """All bytes of the files in a folder."""
    return b"".join(file.read_bytes() for file in folder.iterdir()).decode("latin-1")


# ── keys that are no keys ─────────────────────────────────────────────────────────────────────────────────────────────

MISTAKES: Final = {
    "newline": f"{CANARY}\n{SECOND}",
    "newline at the end": f"{CANARY}\n",
    "carriage return": f"{CANARY}\r\nx-injected: 1",
    "tab": f"{CANARY}\t{SECOND}",
    "blank": f"{CANARY} {SECOND}",
    "zero": f"{CANARY}\x00",
    "letters beyond ASCII": f"{CANARY}é",
    "invisible": f"\u200b{CANARY}",
    "quotes": f'"{CANARY}"',
    "single quotes": f"'{CANARY}'",
    "curly quotes": f"\u201c{CANARY}\u201d",
    "scheme": f"Bearer {CANARY}",
    "scheme in capitals": f"BEARER {CANARY}",
}
OF_PROVIDERS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "OPENAI_API_KEY": ("openai", {}),
    "ANTHROPIC_API_KEY": ("anthropic", {}),
    "ANTHROPIC_AUTH_TOKEN": ("anthropic", {}),
    "GOOGLE_API_KEY": ("gemini", {}),
    "GEMINI_API_KEY": ("gemini", {}),
    "AWS_BEARER_TOKEN_BEDROCK": ("bedrock", {}),
    "AWS_ACCESS_KEY_ID": ("bedrock", {"AWS_SECRET_ACCESS_KEY": "0123456789"}),
    "AWS_SECRET_ACCESS_KEY": ("bedrock", {"AWS_ACCESS_KEY_ID": WELL_KNOWN}),
    "AWS_SESSION_TOKEN": ("bedrock", {"AWS_ACCESS_KEY_ID": WELL_KNOWN, "AWS_SECRET_ACCESS_KEY": "0123456789"}),
    "DEEPSEEK_API_KEY": ("deepseek", {}),
    "OPENROUTER_API_KEY": ("openrouter", {}),
    "OLLAMA_API_KEY": ("ollama", {}),
    "MISTRAL_API_KEY": ("mistral", {}),
    "XAI_API_KEY": ("xai", {}),
    "AZURE_OPENAI_API_KEY": ("azure", {}),
    "AZURE_OPENAI_AD_TOKEN": ("azure", {}),
    "OPENAI_COMPATIBLE_API_KEY": ("openai_compatible", {}),
}
ADDRESSED: Final[dict[str, Any]] = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}


def refused(provider: str, **options: Any) -> ConfigurationError:
    """The error of a client that cannot be made; it shows no key."""
    own = REGION if provider == "bedrock" else {}
    with pytest.raises(ConfigurationError) as info:
        create_llm(provider, **ADDRESSED, **own, **options)
    assert_hidden(shown(info.value), (CANARY, SECOND))
    return info.value


@pytest.mark.fault("E01")
@pytest.mark.parametrize("value", MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("variable", OF_PROVIDERS)
def test_a_malformed_key_is_refused_by_the_name_of_its_variable(variable: str, value: str) -> None:
    """At creation, before anything is sent; the variable is named, its value is not shown."""
    provider, others = OF_PROVIDERS[variable]
    if variable.startswith("AWS_") and variable != "AWS_BEARER_TOKEN_BEDROCK" and value.strip() == CANARY:
        pytest.skip("botocore's own variables are read without the blanks around them")
    assert variable in str(refused(provider, environ={**others, variable: value}))


@pytest.mark.fault("E01")
@pytest.mark.parametrize("value", MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("provider", sorted({provider for provider, _ in OF_PROVIDERS.values()}))
def test_a_malformed_key_that_is_passed_is_refused_by_its_name(provider: str, value: str) -> None:
    """The same for ``api_key``."""
    assert "api_key" in str(refused(provider, api_key=value, environ={}))


@pytest.mark.fault("E02")
@pytest.mark.parametrize("value", [f"{CANARY}\n{SECOND}", f"{CANARY}é", f"{CANARY}\x00"])
@pytest.mark.parametrize(("option", "variable"), [("organization", "OPENAI_ORG_ID"), ("project", "OPENAI_PROJECT_ID")])
def test_a_malformed_option_is_refused_by_its_name(option: str, variable: str, value: str) -> None:
    """Headers that say for whom is asked are checked when the client is made."""
    assert variable in str(refused("openai", api_key="k", environ={variable: value}))
    assert option in str(refused("openai", api_key="k", environ={}, **{option: value}))


@pytest.mark.fault("E02")
async def test_a_malformed_header_of_a_chat_is_refused_by_its_name() -> None:
    """The caller's own headers are checked before anything is sent."""
    async with create_llm("openai_compatible", **ADDRESSED, environ={}) as llm:
        with pytest.raises(ConfigurationError, match="authorization") as info:
            await llm.chat(headers={"authorization": f"Bearer {CANARY}\nx-injected: 1"}).ask("Hi")
    assert_hidden(shown(info.value), (CANARY,))
