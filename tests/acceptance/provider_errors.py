"""What each provider answers when something goes wrong, and what a caller is told: one entry a failure.

Responses with a status of failure are in the folder ``failures``, a file a provider, a line a failure; errors inside an
answer that began well are here. Bodies have the shape that the providers' documentation or real traffic shows; names,
ids and numbers are made up. The members of a line are the fields of `Failure`; ``error`` is the class, ``text`` a body
that is not JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nodellm_orm
from nodellm_orm import (
    AuthenticationError,
    BadRequestError,
    ContentFilterError,
    ContextWindowError,
    ModelNotFoundError,
    OverloadedError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
)
from nodellm_orm.testing import bedrock_exception, body_answer, event_frame
from tests.acceptance.speakers import EVERYWHERE, Speaker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm import ProviderError
    from nodellm_orm.testing import Answer

_FOLDER: Final = Path(__file__).parent / "failures"
_SPEAKERS: Final = {str(speaker): speaker for speaker in EVERYWHERE}
_ID_HEADERS: Final[Mapping[str, str]] = {
    "anthropic": "request-id",
    "bedrock": "x-amzn-requestid",
    "mistral": "x-kong-request-id",
    "azure": "apim-request-id",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failure of one provider.

    Args:
        at: provider and wire format.
        name: what it is, for the name of the test.
        status: of the response.
        body: of the response.
        cls: the error that the caller gets.
        said: words that its message must have.
        headers: of the response, besides the one with the request's id.
        retry_after: seconds that the error tells to wait.
        retryable: whether the error says that another attempt makes sense, where its class alone does not say so.
        identified: where the request's id stands: in the ``header`` of the provider, or in the ``body``.
    """

    at: Speaker
    name: str
    status: int
    body: bytes
    cls: type[ProviderError]
    said: str
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    retryable: bool | None = None
    identified: str = "header"

    def __str__(self) -> str:
        """For the names of tests."""
        return f"{self.at}-{self.status}-{self.name}"

    @property
    def is_retryable(self) -> bool:
        """Whether another attempt makes sense."""
        return self.cls.retryable_by_default if self.retryable is None else self.retryable

    @property
    def request_id(self) -> str:
        """The id that the provider gives the request."""
        return f"req-in-{self.identified}-1"

    @property
    def answer(self) -> Answer:
        """The response."""
        shown = identified(self.at) if self.identified == "header" else {}
        kind = "text/html" if self.body.startswith(b"<") else "application/json"
        return body_answer(self.body, status=self.status, content_type=kind, headers={**shown, **self.headers})


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """An error inside an answer that began well.

    Args:
        at: provider and wire format.
        name: what it is, for the name of the test.
        event: the error as it stands in the stream.
        cls: the error that the caller gets.
        said: words that its message must have.
        retry_after: seconds that the error tells to wait.
    """

    at: Speaker
    name: str
    event: bytes
    cls: type[ProviderError]
    said: str
    retry_after: float | None = None

    def __str__(self) -> str:
        """For the names of tests."""
        return f"{self.at}-{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """An error that is the whole body of a response with status 200; arguments as for `Inside`."""

    at: Speaker
    name: str
    body: object
    cls: type[ProviderError]
    said: str

    def __str__(self) -> str:
        """For the names of tests."""
        return f"{self.at}-{self.name}"


def identified(speaker: Speaker) -> dict[str, str]:
    """The header with a request's id."""
    return {_ID_HEADERS.get(speaker.provider, "x-request-id"): "req-in-header-1"}


def _failures() -> Iterator[Failure]:
    for file in sorted(_FOLDER.glob("*.jsonl")):
        for line in file.read_text("utf-8").splitlines():
            members: dict[str, Any] = json.loads(line)
            places, text, body = members.pop("at"), members.pop("text", None), members.pop("body", None)
            members["cls"] = getattr(nodellm_orm, members.pop("error"))
            members["body"] = json.dumps(body).encode() if text is None else text.encode()
            yield from (Failure(at=_SPEAKERS[place], **members) for place in places)


FAILURES: Final = tuple(_failures())
"""Responses with a status of failure."""


def _data(value: object, *, event: str | None = None) -> bytes:
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(value)}\n\n".encode()


def _openai(message: str, type: str | None = None, code: object = None) -> dict[str, Any]:  # noqa: A002 — the field's own name
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def _claude(type: str, message: str) -> dict[str, Any]:  # noqa: A002 — the field's own name
    return {"type": "error", "error": {"type": type, "message": message}}


def _failed(code: str, message: str) -> dict[str, Any]:
    response = {"id": "resp_1", "object": "response", "status": "failed", "output": [], "model": "gpt-5-mini"}
    return {"type": "response.failed", "response": {**response, "error": {"code": code, "message": message}}}


def _flat(code: str | None, message: str) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 9}


def _google(code: int, status: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def _amazon(code: str, message: str) -> bytes:
    return event_frame({":message-type": "error", ":error-code": code, ":error-message": message}, b"")


_RESPONSES: Final = Speaker("openai_responses")
_CHAT: Final = Speaker("openai_chat")
_ANTHROPIC: Final = Speaker("anthropic")
_GEMINI: Final = Speaker("gemini")
_BEDROCK: Final = Speaker("bedrock")
_OLLAMA: Final = Speaker("ollama")
_OPENROUTER: Final = Speaker("openai_chat", "openrouter")
_COMPATIBLE: Final = Speaker("openai_chat", "openai_compatible")
_MISTRAL: Final = Speaker("openai_chat", "mistral")
_XAI: Final = Speaker("openai_responses", "xai")
_AZURE: Final = Speaker("openai_responses", "azure")
_FULL: Final = "Your input exceeds the context window of this model."
_SOON: Final = "Rate limit reached. Please try again in 20ms."
_DELAY: Final = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.03s"}
_CHOICE: Final = {"index": 0, "delta": {"content": ""}, "finish_reason": None}
_NO_ROOM: Final = "Input does not fit in context length. The input has 31430 tokens."

INSIDE: Final = tuple(
    Inside(at=at, name=name, event=event, cls=cls, said=said, retry_after=wait)
    for at, name, event, cls, said, wait in (
        (_CHAT, "server", _data(_openai("It broke", "server_error")), ServerError, "It broke", None),
        (_CHAT, "rate", _data(_openai(_SOON, "tokens", "rate_limit_exceeded")), RateLimitError, "20ms", 0.02),
        (_CHAT, "quota", _data(_openai("No credit", "insufficient_quota")), QuotaExceededError, "No credit", None),
        (_CHAT, "length", _data(_openai("m", None, "context_length_exceeded")), ContextWindowError, "m;", None),
        (_CHAT, "filter", _data(_openai("m", None, "content_filter")), ContentFilterError, "reword", None),
        (_CHAT, "unknown", _data(_openai("Something new")), ServerError, "Something new", None),
        (_MISTRAL, "flat", _data({"object": "error", "message": "Busy", "code": "503"}), OverloadedError, "Busy", None),
        (
            _OPENROUTER,
            "with a choice",
            _data({**_openai("Token limit reached", None, 400), "choices": [_CHOICE]}),
            BadRequestError,
            "Token limit reached",
            None,
        ),
        (_OPENROUTER, "host", _data(_openai("Provider down", None, 502)), ServerError, "Provider down", None),
        (_OPENROUTER, "credits", _data(_openai("Insufficient", None, 402)), QuotaExceededError, "Insufficient", None),
        (
            _COMPATIBLE,
            "tool of Groq",
            _data(_openai("Failed to call a function", "x", "tool_use_failed"), event="error"),
            BadRequestError,
            "Failed to call",
            None,
        ),
        (
            _COMPATIBLE,
            "length of LM Studio",
            _data({"error": {"message": _NO_ROOM}, "message": _NO_ROOM}, event="error"),
            ContextWindowError,
            "31430",
            None,
        ),
        (_COMPATIBLE, "text", b"event: error\ndata: upstream is overloaded\n\n", OverloadedError, "upstream", None),
        (_RESPONSES, "server", _data(_flat("server_error", "It broke"), event="error"), ServerError, "It broke", None),
        (_RESPONSES, "rate", _data(_flat("rate_limit_exceeded", _SOON), event="error"), RateLimitError, "20ms", 0.02),
        (
            _RESPONSES,
            "nested",
            _data({"type": "error", **_openai("No credit", None, "insufficient_quota")}, event="error"),
            QuotaExceededError,
            "No credit",
            None,
        ),
        (
            _RESPONSES,
            "failed: server",
            _data(_failed("server_error", "It broke"), event="response.failed"),
            ServerError,
            "It broke",
            None,
        ),
        (
            _RESPONSES,
            "failed: rate",
            _data(_failed("rate_limit_exceeded", _SOON), event="response.failed"),
            RateLimitError,
            "20ms",
            0.02,
        ),
        (
            _RESPONSES,
            "failed: length",
            _data(_failed("context_length_exceeded", _FULL), event="response.failed"),
            ContextWindowError,
            "context window",
            None,
        ),
        (
            _RESPONSES,
            "failed: prompt",
            _data(_failed("invalid_prompt", "Limited access"), event="response.failed"),
            BadRequestError,
            "Limited access",
            None,
        ),
        (
            _RESPONSES,
            "failed: policy",
            _data(_failed("bio_policy", "Not allowed"), event="response.failed"),
            ContentFilterError,
            "Not allowed",
            None,
        ),
        (
            _RESPONSES,
            "failed: files searched too long",
            _data(_failed("vector_store_timeout", "Too slow"), event="response.failed"),
            ProviderTimeoutError,
            "Too slow",
            None,
        ),
        (_AZURE, "server", _data(_flat("server_error", "It broke"), event="error"), ServerError, "It broke", None),
        (_XAI, "unavailable", _data(_flat("unavailable", "Down"), event="error"), OverloadedError, "Down", None),
        *(
            (_ANTHROPIC, type_, _data(_claude(type_, said), event="error"), cls, said, None)
            for type_, said, cls in (
                ("overloaded_error", "Overloaded", OverloadedError),
                ("api_error", "Internal server error", ServerError),
                ("rate_limit_error", "Rate limited", RateLimitError),
                ("timeout_error", "Timed out", ProviderTimeoutError),
                ("billing_error", "Unpaid", QuotaExceededError),
                ("authentication_error", "Expired token", AuthenticationError),
                ("invalid_request_error", "prompt is too long", ContextWindowError),
                ("not_found_error", "Container not found", ModelNotFoundError),
            )
        ),
        (_ANTHROPIC, "without a name", _data(_claude("overloaded_error", "Full")), OverloadedError, "Full", None),
        (_GEMINI, "overloaded", _data(_google(503, "UNAVAILABLE", "Full")), OverloadedError, "Full", None),
        (_GEMINI, "internal", _data(_google(500, "INTERNAL", "It broke")), ServerError, "It broke", None),
        (
            _GEMINI,
            "rate",
            _data(_google(429, "RESOURCE_EXHAUSTED", "Resource exhausted", _DELAY)),
            RateLimitError,
            "exhausted",
            0.03,
        ),
        (
            _GEMINI,
            "length",
            _data(_google(400, "INVALID_ARGUMENT", "The input token count (9) exceeds")),
            ContextWindowError,
            "token count",
            None,
        ),
        *(
            (_BEDROCK, name, bedrock_exception(name, said), cls, said, None)
            for name, said, cls in (
                ("throttlingException", "Too many tokens, please wait before trying again.", RateLimitError),
                ("modelStreamErrorException", "The model broke", ServerError),
                ("internalServerException", "It broke", ServerError),
                ("serviceUnavailableException", "Down", OverloadedError),
                ("modelTimeoutException", "Timed out", ProviderTimeoutError),
                ("validationException", "Input is too long for requested model.", ContextWindowError),
            )
        ),
        (
            _BEDROCK,
            "of the model, by its status",
            bedrock_exception("modelStreamErrorException", "m", originalStatusCode=429, originalMessage="Slow down"),
            RateLimitError,
            "Slow down",
            None,
        ),
        (_BEDROCK, "frame", _amazon("internalServerException", "It broke"), ServerError, "It broke", None),
        (
            _OLLAMA,
            "runner",
            b'{"error":"an error was encountered while running the model"}\n',
            ServerError,
            "run",
            None,
        ),
        (
            _OLLAMA,
            "length",
            b'{"error":"the input length exceeds the context length"}\n',
            ContextWindowError,
            "num_ctx",
            None,
        ),
        (_OLLAMA, "of the cloud", b'{"error":{"message":"overloaded"}}\n', OverloadedError, "overloaded", None),
    )
)
"""Errors inside a stream."""

WHOLE: Final = tuple(
    Whole(at=at, name=name, body=body, cls=cls, said=said)
    for at, name, body, cls, said in (
        (_CHAT, "server", _openai("It broke", "server_error"), ServerError, "It broke"),
        (_CHAT, "text", {"error": "rate limit exceeded"}, RateLimitError, "rate limit exceeded"),
        (_CHAT, "detail", {"detail": "Something is wrong"}, ServerError, "Something is wrong"),
        (_OPENROUTER, "host", _openai("Provider down", None, 502), ServerError, "Provider down"),
        (_OPENROUTER, "rate", _openai("Provider returned error", None, 429), RateLimitError, "Provider returned"),
        (_OPENROUTER, "credits", _openai("Insufficient", None, 402), QuotaExceededError, "Insufficient"),
        (_RESPONSES, "failed", _failed("server_error", "It broke")["response"], ServerError, "It broke"),
        (_RESPONSES, "error", _openai("No credit", "insufficient_quota"), QuotaExceededError, "No credit"),
        (_ANTHROPIC, "overloaded", _claude("overloaded_error", "Overloaded"), OverloadedError, "Overloaded"),
        (_GEMINI, "overloaded", _google(503, "UNAVAILABLE", "Full"), OverloadedError, "Full"),
        (_GEMINI, "list", [_google(500, "INTERNAL", "It broke")], ServerError, "It broke"),
        (_BEDROCK, "throttled", {"__type": "ThrottlingException", "message": "Slow"}, RateLimitError, "Slow"),
        (_OLLAMA, "runner", {"error": "the runner has stopped"}, ServerError, "the runner has stopped"),
        (_OLLAMA, "model", {"error": "model 'm' not found"}, ModelNotFoundError, "ollama pull m"),
    )
)
"""Errors in place of an answer, with status 200."""
