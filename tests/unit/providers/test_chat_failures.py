"""Failures of the providers that speak Chat Completions, in each one's own shape: class, request id, hint, words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nodellm_orm.errors import (
    AuthenticationError,
    BadRequestError,
    ContentFilterError,
    ContextWindowError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProviderError,
    ProviderTimeoutError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
)
from nodellm_orm.providers.registry import find_provider

_ID_HEADERS = {
    "openai": "x-request-id",
    "azure": "apim-request-id",
    "deepseek": "x-request-id",
    "mistral": "x-kong-request-id",
    "openrouter": "x-request-id",
    "xai": "x-request-id",
}


def _openai(message: str, kind: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _routed(code: int, message: str, **metadata: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "metadata": metadata}, "user_id": "user_1"}


def _flat(message: object, kind: str, code: str | None) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def _grok(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "error": message}


_FILTERED = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {
                "hate": {"filtered": False, "severity": "safe"},
                "violence": {"filtered": True, "severity": "high"},
                "jailbreak": {"filtered": True, "detected": True},
            },
        },
    }
}
_FILTERED_BY_LIST = {
    "error": {
        "message": "The response was filtered.",
        "code": "content_filter",
        "content_filters": [
            {"blocked": True, "content_filter_results": {"self_harm": {"filtered": True, "severity": "high"}}},
            None,
        ],
    }
}
_LONG = "This model's maximum context length is 1048565 tokens. However, you requested 2000000 tokens"
_DETAIL = {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs"}]}
_DENIED = "Access denied due to invalid subscription key or wrong API endpoint."


@pytest.mark.parametrize(
    ("provider", "status", "body", "cls", "said"),
    [
        ("openai", 404, _openai("no such model", "invalid_request_error", "model_not_found"), ModelNotFoundError, "no"),
        ("openai", 429, _openai("You exceeded", "insufficient_quota", "insufficient_quota"), QuotaExceededError, "You"),
        ("openai", 429, _openai("Slow down", "tokens", "rate_limit_exceeded"), RateLimitError, "Slow"),
        ("openai", 400, _openai("too long", None, "context_length_exceeded"), ContextWindowError, "too long"),
        ("openai", 413, _openai("too large"), BadRequestError, "too large"),
        ("openai", 500, _openai("oops", "server_error"), ServerError, "oops"),
        ("openai", 503, _openai("busy", "server_error"), OverloadedError, "busy"),
        ("deepseek", 400, _openai(_LONG, "invalid_request_error", "invalid_request_error"), ContextWindowError, "1048"),
        ("deepseek", 400, _openai("Thinking mode does not support this tool_choice"), BadRequestError, "Thinking"),
        (
            "deepseek",
            401,
            _openai("Authentication Fails", "authentication_error", "invalid_request_error"),
            AuthenticationError,
            "Authentication",
        ),
        (
            "deepseek",
            402,
            _openai("Insufficient Balance", "unknown_error", "invalid_request_error"),
            QuotaExceededError,
            "Balance",
        ),
        ("deepseek", 422, _openai("invalid value for top_p", "invalid_request_error"), BadRequestError, "top_p"),
        ("deepseek", 429, _openai("Rate limit reached"), RateLimitError, "Rate"),
        ("deepseek", 500, _openai("server error"), ServerError, "server"),
        ("deepseek", 503, _openai("service is overloaded"), OverloadedError, "overloaded"),
        ("openrouter", 400, _routed(400, "maximum context length is 8192 tokens"), ContextWindowError, "8192"),
        ("openrouter", 400, _routed(400, "m", error_type="context_length_exceeded"), ContextWindowError, "m"),
        ("openrouter", 400, _routed(400, "Reasoning is mandatory"), BadRequestError, "mandatory"),
        ("openrouter", 401, _routed(401, "No auth credentials found"), AuthenticationError, "No auth"),
        ("openrouter", 402, _routed(402, "This request requires more credits"), QuotaExceededError, "credits"),
        (
            "openrouter",
            403,
            _routed(403, "Input was flagged for violence", reasons=["violence"], flagged_input="x"),
            ContentFilterError,
            "violence",
        ),
        ("openrouter", 403, _routed(403, "Key is disabled", error_type="permission_denied"), PermissionDeniedError, ""),
        ("openrouter", 404, _routed(404, "No endpoints found matching"), ModelNotFoundError, "endpoints"),
        ("openrouter", 408, _routed(408, "Timed out"), ProviderTimeoutError, "Timed"),
        ("openrouter", 413, _routed(413, "m", error_type="payload_too_large"), BadRequestError, "m"),
        (
            "openrouter",
            429,
            _routed(429, "Provider returned error", provider_name="Google", raw="temporarily rate-limited upstream"),
            RateLimitError,
            "rate-limited upstream",
        ),
        ("openrouter", 502, _routed(502, "Bad gateway", error_type="provider_unavailable"), OverloadedError, "Bad"),
        ("openrouter", 503, _routed(503, "No provider available"), OverloadedError, "No provider"),
        ("openrouter", 524, _routed(524, "timeout"), ServerError, "timeout"),
        ("openrouter", 529, _routed(529, "Overloaded"), OverloadedError, "Over"),
        ("mistral", 400, _flat("Prompt contains 200000 tokens", "invalid_request", "3051"), ContextWindowError, "2000"),
        (
            "mistral",
            400,
            _flat("Unexpected role 'user' after role 'tool'", "invalid_request_message_order", "3230"),
            BadRequestError,
            "Unexpected role",
        ),
        ("mistral", 400, _flat({"detail": [{"msg": "bad", "loc": ["body", "n"]}]}, "x", None), BadRequestError, "body"),
        ("mistral", 401, {"detail": "Invalid API Key"}, AuthenticationError, "Invalid"),
        ("mistral", 401, {"message": "Unauthorized", "request_id": "r"}, AuthenticationError, "Unauthorized"),
        ("mistral", 404, {"message": "no Route matched"}, ModelNotFoundError, "Route"),
        ("mistral", 422, _DETAIL, BadRequestError, "body.stream_options: Extra"),
        ("mistral", 429, {"message": "Requests rate limit exceeded"}, RateLimitError, "rate"),
        ("mistral", 429, _flat("Service tier capacity exceeded", "x", "3505"), RateLimitError, "capacity"),
        ("mistral", 500, _flat("Service unavailable.", "internal_server_error", "1000"), ServerError, "Service"),
        ("mistral", 503, b"<html><title>503</title></html>", OverloadedError, "HTML page"),
        ("xai", 400, _grok("invalid-argument", "Incorrect API key provided: xa***ey."), AuthenticationError, ""),
        ("xai", 400, _grok("invalid-argument", "maximum prompt length is 131072"), ContextWindowError, "131072"),
        ("xai", 400, _grok("invalid-argument", "Argument not supported: stop"), BadRequestError, "stop"),
        ("xai", 403, _grok("permission-denied", "Content violates usage guidelines."), ContentFilterError, "usage"),
        ("xai", 403, _grok("permission-denied", "Your team is blocked."), PermissionDeniedError, "team"),
        ("xai", 404, _grok("not-found", "The model grok-0 does not exist"), ModelNotFoundError, "grok-0"),
        ("xai", 422, b"Failed to deserialize the JSON body", BadRequestError, "deserialize"),
        ("xai", 429, _grok("resource-exhausted", "Too many requests"), RateLimitError, "Too many"),
        ("xai", 500, _grok("internal", "Internal error"), ServerError, "Internal"),
        ("xai", 503, _grok("unavailable", "The service is down"), OverloadedError, "down"),
        ("azure", 400, _FILTERED, ContentFilterError, "filtered: violence, jailbreak"),
        ("azure", 400, _FILTERED_BY_LIST, ContentFilterError, "filtered: self_harm"),
        ("azure", 401, {"error": {"code": "401", "message": _DENIED}}, AuthenticationError, "Access denied"),
        ("azure", 403, {"error": {"code": "403", "message": "Public access"}}, PermissionDeniedError, "Public"),
        (
            "azure",
            404,
            {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}},
            ModelNotFoundError,
            "deployment",
        ),
        ("azure", 408, {"error": {"code": "Timeout", "message": "timed out"}}, ProviderTimeoutError, "timed"),
        ("azure", 429, {"error": {"code": "RateLimitReached", "message": "Retry after 1"}}, RateLimitError, "Retry"),
        ("azure", 500, {"error": {"code": "InternalServerError", "message": "m"}}, ServerError, "m"),
    ],
)
def test_failures_in_each_providers_words(
    provider: str, status: int, body: object, cls: type[ProviderError], said: str
) -> None:
    """The class is that of the status and the words; id, wait and the provider's words go along."""
    wire = next(d.wire for d in find_provider(provider).dialects if d.wire.name == "openai_chat")
    # Azure sends a zero beside the wait that it means.
    headers = {_ID_HEADERS[provider]: "req-1", "retry-after-ms": "0", "retry-after": "3"}
    error = wire.failure(status, headers, body if isinstance(body, bytes) else json.dumps(body).encode())
    assert type(error) is cls
    assert (error.status, error.request_id, error.retry_after) == (status, "req-1", 3.0)
    assert said in str(error)
    assert "; " in str(error)
    assert error.retryable is cls.retryable_by_default
