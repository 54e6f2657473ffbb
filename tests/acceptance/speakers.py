"""All wire formats behind one face, so that a scripted conversation can be held in each of them, at every provider."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from nodellm_orm import create_llm
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.testing import (
    EVENT_STREAM,
    FakeCall,
    FakeThinking,
    LoopbackServer,
    anthropic_body,
    anthropic_error,
    anthropic_stream,
    bedrock_body,
    bedrock_stream,
    gemini_body,
    gemini_error,
    gemini_stream,
    json_answer,
    ollama_body,
    ollama_stream,
    openai_chat_body,
    openai_chat_stream,
    openai_error,
    openai_responses_body,
    openai_responses_stream,
    sse_answer,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nodellm_orm import LLM
    from nodellm_orm.domain.jsontext import JsonObject
    from nodellm_orm.testing import Answer, ReceivedRequest

Api: TypeAlias = Literal["openai_chat", "anthropic", "openai_responses", "gemini", "bedrock", "ollama"]
APIS: Final[tuple[Api, ...]] = ("openai_chat", "anthropic")
"""The two that everything is tested with."""
ALL_APIS: Final[tuple[Api, ...]] = get_args(Api)
"""All that there are, for what is quickly tested."""
KEY: Final = "sk-canary-0123456789abcdef"


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """One answer of the model, in any format."""

    text: str | None = None
    calls: Sequence[FakeCall] = ()
    thinking: Sequence[FakeThinking] = ()
    """Left out where the provider's answers have none (see `Speaker.thinks`)."""
    usage: tuple[int, int] = (11, 7)
    finish: str | None = None
    """The provider's own word, when it is not the usual one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fails:
    """An error of the provider."""

    status: int
    message: str = "something is wrong"
    type: str = "invalid_request_error"
    """The class of error in the words of OpenAI and Anthropic; the others have theirs from the status."""
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


Line: TypeAlias = "Says | Fails | Answer"
"""What the model says to one request: an answer, an error, or a spoiled answer down to its bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How a provider is reached, and what is its own in the format it speaks."""

    provider: str
    model: str
    path: str = ""
    """Behind the server's address."""
    word: str | None = None
    """The wire format, where it is not the provider's default."""
    options: Mapping[str, str] = field(default_factory=dict)
    header: str = "authorization"
    """Where its key goes."""
    thinks: str | None = None
    """Chat Completions: in which member it thinks."""


_HOMES: Final[Mapping[Api, Place]] = {
    "openai_chat": Place(provider="openai", model="gpt-5-mini", path="/v1", word="chat"),
    "anthropic": Place(provider="anthropic", model="claude-haiku-4-5", header="x-api-key"),
    "openai_responses": Place(provider="openai", model="gpt-5-mini", path="/v1", word="responses"),
    "gemini": Place(provider="gemini", model="gemini-3.5-flash", path="/v1beta", header="x-goog-api-key"),
    "bedrock": Place(provider="bedrock", model="us.anthropic.claude-haiku-4-5-20251001-v1:0"),
    "ollama": Place(provider="ollama", model="qwen3-vl:8b"),
}
_ELSEWHERE: Final[Mapping[tuple[Api, str], Place]] = {
    ("openai_responses", "azure"): Place(provider="azure", model="gpt-5-mini", header="api-key", word="responses"),
    ("openai_responses", "xai"): Place(provider="xai", model="grok-4.3", path="/v1", word="responses"),
    ("openai_chat", "azure"): Place(provider="azure", model="gpt-5-mini", header="api-key", word="chat"),
    ("openai_chat", "azure_classic"): Place(
        provider="azure", model="gpt-5-mini", header="api-key", word="chat", options={"api_version": "2024-10-21"}
    ),
    ("openai_chat", "xai"): Place(
        provider="xai", model="grok-4.3", path="/v1", word="chat", thinks="reasoning_content"
    ),
    ("openai_chat", "deepseek"): Place(
        provider="deepseek", model="deepseek-v4-flash", path="/v1", thinks="reasoning_content"
    ),
    ("openai_chat", "openrouter"): Place(
        provider="openrouter", model="anthropic/claude-haiku-4.5", path="/api/v1", thinks="reasoning_details"
    ),
    ("openai_chat", "mistral"): Place(provider="mistral", model="mistral-small-latest", path="/v1", thinks="content"),
    ("openai_chat", "openai_compatible"): Place(
        provider="openai_compatible", model="local-model", path="/v1", thinks="reasoning_content"
    ),
    ("openai_chat", "ollama"): Place(provider="ollama", model="qwen3-vl:8b", word="chat", thinks="reasoning"),
}
_GOOGLES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
_AMAZONS: Final = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


@dataclass(frozen=True, slots=True)
class Speaker:
    """One wire format at one provider: how to make a client for it, and how its answers look."""

    api: Api
    at: str | None = None
    """Who speaks it, where that is not the one it comes from."""

    def __str__(self) -> str:
        """For the names of tests."""
        return f"{self.at or self.provider}-{self.api}"

    @property
    def place(self) -> Place:
        """Where it is spoken."""
        return _HOMES[self.api] if self.at is None else _ELSEWHERE[self.api, self.at]

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self.place.provider

    @property
    def model(self) -> str:
        """A model; at the homes of the formats one whose price is known, but for Ollama's."""
        return self.place.model

    @property
    def thinks(self) -> bool:
        """Whether its answers may have thinking."""
        return self.api != "openai_chat" or self.place.thinks is not None

    def llm(self, server: LoopbackServer, **options: Any) -> LLM:
        """A client that talks to the loopback server."""
        place = self.place
        given = {"base_url": f"{server.url}{place.path}", "api_key": KEY, "model": place.model, "api": place.word}
        return create_llm(place.provider, **{**given, **place.options, **options})

    def thoughts(self, line: Says) -> Sequence[FakeThinking]:
        """The thinking that this provider's answer has."""
        return line.thinking if self.thinks else ()

    def body(self, line: Says) -> JsonObject:
        """The answer as a whole."""
        spoken: dict[str, Any] = {"tool_calls": line.calls, "usage": line.usage}
        match self.api:
            case "openai_chat":
                body = openai_chat_body(line.text, finish_reason=line.finish, model=self.model, **spoken)
                thinking = self._members_of(line)
                message: Any = body["choices"][0]["message"]  # type: ignore[index, call-overload]
                if thinking and self.place.thinks == "content" and line.text:
                    thinking["content"] = [*thinking["content"], {"type": "text", "text": line.text}]
                message.update(thinking)
                return body
            case "anthropic":
                return anthropic_body(
                    line.text, thinking=line.thinking, stop_reason=line.finish, model=self.model, **spoken
                )
            case "openai_responses":
                name = f"resp_{zlib.crc32(repr(line).encode()):x}"
                return openai_responses_body(
                    line.text, thinking=line.thinking, incomplete=line.finish, model=self.model, id=name, **spoken
                )
            case "gemini":
                return gemini_body(
                    line.text,
                    thinking=line.thinking,
                    finish_reason=line.finish or "STOP",
                    model=self.model,
                    **spoken,
                )
            case "bedrock":
                return bedrock_body(line.text, thinking=line.thinking, stop_reason=line.finish, **spoken)
            case "ollama":
                thought = "".join(thinking.text for thinking in line.thinking)
                return ollama_body(
                    line.text or "", thinking=thought, done_reason=line.finish or "stop", model=self.model, **spoken
                )

    def events(self, line: Says) -> list[bytes]:
        """The answer as a stream: one event an item."""
        spoken: dict[str, Any] = {"tool_calls": line.calls, "usage": line.usage}
        match self.api:
            case "openai_chat":
                events = openai_chat_stream(line.text, finish_reason=line.finish, model=self.model, **spoken)
                if thinking := self._members_of(line):
                    events.insert(1, _data({"choices": [{"index": 0, "delta": thinking, "finish_reason": None}]}))
                return events
            case "anthropic":
                return anthropic_stream(
                    line.text, thinking=line.thinking, stop_reason=line.finish, model=self.model, **spoken
                )
            case "openai_responses":
                name = f"resp_{zlib.crc32(repr(line).encode()):x}"
                return openai_responses_stream(
                    line.text, thinking=line.thinking, incomplete=line.finish, model=self.model, id=name, **spoken
                )
            case "gemini":
                return gemini_stream(
                    line.text,
                    thinking=line.thinking,
                    finish_reason=line.finish or "STOP",
                    model=self.model,
                    **spoken,
                )
            case "bedrock":
                return bedrock_stream(line.text, thinking=line.thinking, stop_reason=line.finish, **spoken)
            case "ollama":
                thought = "".join(thinking.text for thinking in line.thinking)
                return ollama_stream(
                    line.text or "", thinking=thought, done_reason=line.finish or "stop", model=self.model, **spoken
                )

    def error(self, line: Fails) -> JsonObject:
        """The body of an error."""
        match self.api:
            case "anthropic":
                return anthropic_error(line.message, type=line.type)
            case "gemini":
                return gemini_error(line.message, code=line.status, status=_GOOGLES.get(line.status, "UNKNOWN"))
            case "bedrock":
                return {"message": line.message}
            case "ollama":
                return {"error": line.message}
            case _:
                return openai_error(line.message, type=line.type, code=line.code)

    def answer(self, line: Line, *, stream: bool) -> Answer:
        """The answer on the wire."""
        match line:
            case Says() if stream and self.api == "bedrock":
                return sse_answer(self.events(line), content_type=EVENT_STREAM)
            case Says() if stream and self.api == "ollama":
                return sse_answer(self.events(line), content_type="application/x-ndjson")
            case Says() if stream:
                return sse_answer(self.events(line))
            case Says():
                return json_answer(self.body(line))
            case Fails() if self.api == "bedrock" and line.status in _AMAZONS:
                headers = {"x-amzn-errortype": _AMAZONS[line.status], **line.headers}
                return json_answer(self.error(line), status=line.status, headers=headers)
            case Fails():
                return json_answer(self.error(line), status=line.status, headers=line.headers)
            case _:
                return line

    def streams(self, request: ReceivedRequest) -> bool:
        """Whether a request asks for a stream."""
        match self.api:
            case "gemini":
                return ":streamGenerateContent" in request.path
            case "bedrock":
                return request.path.endswith("/converse-stream")
            case _:
                return bool(request.body) and bool(request.json().get("stream"))

    def server(self, *script: Line) -> LoopbackServer:
        """A server that says one line a request, streamed when the request asks for a stream."""
        lines = iter(script)

        async def handle(request: ReceivedRequest) -> Answer:
            line = next(lines, None)
            if line is None:
                msg = f"the script has no line left for {request.body[:200]!r}"
                raise AssertionError(msg)
            return self.answer(line, stream=self.streams(request))

        return LoopbackServer(handle)

    def _members_of(self, line: Says) -> dict[str, Any]:
        """Chat Completions: the members of an answer that hold its thinking."""
        member, texts = self.place.thinks, [thinking.text for thinking in line.thinking]
        if member is None or not texts:
            return {}
        match member:
            case "reasoning_details":
                details = [
                    {"type": "reasoning.text", "text": t.text, "signature": t.signature, "index": n}
                    for n, t in enumerate(line.thinking)
                ]
                return {"reasoning": "".join(texts), member: details}
            case "content":
                return {member: [{"type": "thinking", "thinking": [{"type": "text", "text": "".join(texts)}]}]}
            case _:
                return {member: "".join(texts)}


EVERYWHERE: Final = (*(Speaker(api) for api in ALL_APIS), *(Speaker(api, name) for api, name in _ELSEWHERE))
"""Every provider in every format it speaks that can be played on a loopback server."""


def _data(value: object) -> bytes:
    return b"data: " + encode(dumps(value)) + b"\n\n"
