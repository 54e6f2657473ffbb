"""One table maps what providers say of failures to our classes; keys never appear in what it makes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from nodellm_orm.wire.failures import error_members, failure_of, retry_after_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_DATE = "Wed, 25 Nov 2026 10:00:00 GMT"


@pytest.mark.fault("A31")
@pytest.mark.fault("A33")
@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, QuotaExceededError),
        (403, PermissionDeniedError),
        (404, ModelNotFoundError),
        (405, BadRequestError),
        (408, ProviderTimeoutError),
        (409, BadRequestError),
        (413, BadRequestError),
        (418, BadRequestError),
        (422, BadRequestError),
        (429, RateLimitError),
        (500, ServerError),
        (502, ServerError),
        (503, OverloadedError),
        (504, ServerError),
        (524, ServerError),
        (529, OverloadedError),
        (302, ProviderError),
        (600, ProviderError),
    ],
)
def test_a_status_alone_decides(status: int, cls: type[ProviderError]) -> None:
    """Without any words the status gives the class, and with it whether another attempt makes sense."""
    error = failure_of(status=status, message="")
    assert type(error) is cls
    assert error.status == status
    # Two requests that met at the provider's: nothing is wrong with either.
    assert error.retryable is (cls.retryable_by_default or status == 409)


@pytest.mark.fault("A18")
@pytest.mark.parametrize(
    ("kind", "code", "message", "cls"),
    [
        ("overloaded_error", None, "Overloaded", OverloadedError),
        (None, "server_is_overloaded", "", OverloadedError),
        (None, None, "The engine is currently overloaded", OverloadedError),
        ("rate_limit_error", None, "", RateLimitError),
        (None, "rate_limit_exceeded", "", RateLimitError),
        (None, None, "Rate limit reached for requests", RateLimitError),
        (None, "429", "Provider returned error", RateLimitError),
        (None, "502", "Provider returned error", ServerError),
        (None, "400", "Token limit reached", BadRequestError),
        ("insufficient_quota", "insufficient_quota", "", QuotaExceededError),
        ("invalid_request_error", None, "", BadRequestError),
        ("invalid_request_error", "context_length_exceeded", "", ContextWindowError),
        ("authentication_error", "invalid_request_error", "", AuthenticationError),
        ("permission_error", None, "", PermissionDeniedError),
        ("not_found_error", None, "", ModelNotFoundError),
        ("NOT_FOUND", "404", "", ModelNotFoundError),
        ("timeout_error", None, "", ProviderTimeoutError),
        ("api_error", None, "", ServerError),
        ("server_error", None, "", ServerError),
        ("content_filter", None, "", ContentFilterError),
        (None, None, "something new", ServerError),
        ("never_heard_of", "nor_of_this", "", ServerError),
    ],
)
@pytest.mark.parametrize("status", [None, 200])
def test_words_decide_where_no_status_does(
    status: int | None, kind: str | None, code: str | None, message: str, cls: type[ProviderError]
) -> None:
    """An error inside a response that began well is classed by the provider's type and code."""
    error = failure_of(status=status, kind=kind, code=code, message=message)
    assert type(error) is cls
    assert error.status == status


@pytest.mark.fault("A30")
@pytest.mark.parametrize(
    ("status", "kind", "code", "message"),
    [
        (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota, please check your plan"),
        (429, None, None, "You exceeded your current quota, please check your plan and billing details."),
        (429, None, "billing_hard_limit_reached", ""),
        (429, None, "credit_balance_exhausted", ""),
        (429, None, "project_spend_limit_exceeded", ""),
        (429, "exceeded_current_quota_error", None, ""),
        (429, None, "1113", ""),
        (429, None, "1321", ""),
        (402, None, None, "Insufficient Balance"),
        (400, "invalid_request_error", None, "Your credit balance is too low to access the Anthropic API."),
        (403, None, None, "Your team has run out of credits"),
    ],
)
def test_an_empty_account_is_not_worth_another_try(
    status: int, kind: str | None, code: str | None, message: str
) -> None:
    """Quota is told from rate, and a provider that puts every 429 down as retryable does not change that."""
    error = failure_of(
        status=status, kind=kind, code=code, message=message, headers={"x-should-retry": "true", "retry-after": "1"}
    )
    assert type(error) is QuotaExceededError
    assert not error.retryable


def test_a_quota_a_minute_is_a_rate() -> None:
    """Gemini calls its rates quotas too, and says when to come back."""
    message = "You exceeded your current quota.\n* Quota exceeded for metric: requests\nPlease retry in 36.9s."
    assert type(failure_of(status=429, kind="RESOURCE_EXHAUSTED", message=message)) is RateLimitError


@pytest.mark.fault("A34")
@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 1048565 tokens.",
        "Please REDUCE THE LENGTH OF the messages",
        "exceeds the context window",
        "the request exceeds the available context size",
        "prompt is too long: 208310 tokens > 200000 maximum",
        "Prompt too long",
        "The input token count (1200000) exceeds the maximum",
        "Input Tokens Exceeded: Number of input tokens exceeds maximum length.",
        "Input is too long for requested model.",
        "too many tokens in the prompt",
        "This model's maximum prompt length is 131072",
    ],
)
@pytest.mark.parametrize("status", [400, 413, 422, 500, None])
def test_too_long_a_conversation_is_recognised(status: int | None, message: str) -> None:
    """Most providers say it in words only, under several statuses."""
    assert type(failure_of(status=status, message=message)) is ContextWindowError


@pytest.mark.parametrize(("status", "cls"), [(429, RateLimitError), (503, OverloadedError), (401, AuthenticationError)])
def test_words_about_length_mean_nothing_under_other_statuses(status: int, cls: type[ProviderError]) -> None:
    """Too many tokens a minute is a rate, not a length."""
    assert type(failure_of(status=status, message="too many tokens per minute")) is cls


@pytest.mark.parametrize(
    ("status", "kind", "code", "message", "cls"),
    [
        (400, None, "content_filter", "The response was filtered", ContentFilterError),
        (400, "ResponsibleAIPolicyViolation", None, "", ContentFilterError),
        (400, None, None, "triggering Azure OpenAI's content management policy", ContentFilterError),
        (403, None, "403", "Your chosen model requires moderation and your input was flagged", ContentFilterError),
        (400, None, None, "API key not valid. Please pass a valid API key.", AuthenticationError),
        (400, "invalid_model", "1500", "Invalid model: x", ModelNotFoundError),
        (500, "overloaded_error", None, "", OverloadedError),
        (502, None, None, "upstream is over capacity", OverloadedError),
        (400, "api_error", None, "", BadRequestError),
        (404, None, "DeploymentNotFound", "", ModelNotFoundError),
    ],
)
def test_words_refine_a_status(
    status: int, kind: str | None, code: str | None, message: str, cls: type[ProviderError]
) -> None:
    """Filters, keys, models and overload are recognised where the status does not say."""
    assert type(failure_of(status=status, kind=kind, code=code, message=message)) is cls


@pytest.mark.parametrize(("word", "expected"), [("true", True), ("FALSE", False), ("maybe", None)])
@pytest.mark.parametrize("status", [400, 409, 500])
def test_the_provider_decides_about_another_attempt(word: str, expected: bool | None, status: int) -> None:  # noqa: FBT001 — the expectation
    """``x-should-retry`` overrides what the class says; other words do not."""
    error = failure_of(status=status, message="", headers={"X-Should-Retry": word})
    unsaid = type(error).retryable_by_default or status == 409
    assert error.retryable is (unsaid if expected is None else expected)


@pytest.mark.fault("A29")
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "0", "retry-after": "1"}, 1.0),
        ({"retry-after-ms": "rubbish", "retry-after": "3"}, 3.0),
        ({"retry-after": "86400"}, 86400.0),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "NaN"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "1_000"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
        ({"date": _DATE, "retry-after": "Wed, 25 Nov 2026 10:00:30 GMT"}, 30.0),
        ({"date": _DATE, "retry-after": "Wed, 25 Nov 2026 11:00:30 +0100"}, 30.0),
        ({"date": _DATE, "retry-after": "Wed, 25 Nov 2026 09:59:00 GMT"}, None),
        ({"date": _DATE, "retry-after": _DATE}, None),
        ({"retry-after": "Wed, 25 Nov 2026 10:00:30 GMT"}, None),
        ({"date": "yesterday", "retry-after": "Wed, 25 Nov 2026 10:00:30 GMT"}, None),
        ({"date": _DATE, "retry-after": "Wed, 25 Nov 2026 10:00:30"}, None),
        ({"date": _DATE, "retry-after": "Wed, 99 Nov 2026 10:00:30 GMT"}, None),
    ],
)
def test_retry_hints_are_finite_seconds_above_zero(headers: Mapping[str, str], expected: float | None) -> None:
    """Milliseconds, seconds and dates count; what makes no sense is no hint."""
    assert retry_after_of(headers) == expected
    assert failure_of(status=429, message="", headers=headers).retry_after == expected


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_header_breaks_the_reading_of_hints(milliseconds: str, after: str, date: str) -> None:
    """Whatever headers hold, the hint is ``None`` or a sensible number."""
    hint = retry_after_of({"retry-after-ms": milliseconds, "retry-after": after, "date": date})
    assert hint is None or 0 < hint < float("inf")


@pytest.mark.fault("A33")
@pytest.mark.parametrize(
    ("message", "secret"),
    [
        ("Incorrect API key provided: sk-proj-abcDEF123456. You can find your key at", "abcDEF123456"),
        ("Incorrect API key provided: sk-abc***********xyz.", "xyz"),
        ("Incorrect API key provided: my-own-secret.", "my-own-secret"),
        ("Authentication Fails, Your api key: ****6789 is invalid", "6789"),
        ("invalid token: 'abc.def.ghi'", "abc.def.ghi"),
        ("Bearer abcdefgh is not accepted", "abcdefgh"),
        ("The key 0123456789abcdef0123456789abcdef is unknown", "0123456789abcdef"),
        ('{"api_key": "hunter2hunter2"}', "hunter2"),
        ("cannot reach https://user:passw0rd@proxy.example/", "passw0rd"),
        ("xai-AAAABBBBCCCC is disabled", "AAAABBBB"),
    ],
)
@pytest.mark.parametrize("status", [401, 403])
def test_keys_are_taken_out_of_message_and_body(status: int, message: str, secret: str) -> None:
    """Neither the message nor the kept body of an error about keys shows one."""
    error = failure_of(status=status, message=message, body=f'{{"error": "{message}"}}'.encode())
    assert secret not in str(error)
    assert secret not in (error.body or "")
    assert "[redacted]" in str(error)


def test_named_keys_are_taken_out_whatever_the_status() -> None:
    """A server error that quotes the request's headers does not pass its key on."""
    error = failure_of(status=500, message="failed", body=b'{"headers": {"authorization": "Bearer sk-ant-123456789"}}')
    assert "123456789" not in (error.body or "")


def test_ordinary_words_are_left_alone() -> None:
    """A message without a key is quoted as it is, its names and numbers included."""
    message = "Unsupported value: 'messages[0].role' does not support 'developer'; max_tokens: 5, gpt-5-mini-2025-08-07"
    assert message in str(failure_of(status=400, message=message))


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 429, 500, 503, 302, None])
@pytest.mark.parametrize("message", ["", "no"])
def test_every_message_says_what_to_do_next(status: int | None, message: str) -> None:
    """What happened, the provider's words or that there were none, and a remedy."""
    told = str(failure_of(status=status, message=message))
    head, _, remedy = told.rpartition("; ")
    assert head.endswith(message or "it did not say why")
    assert len(remedy.split()) > 2
    assert (f"HTTP {status}" in told) == (status is not None)


def test_long_messages_and_bodies_are_cut() -> None:
    """An endless page does not become an endless message: 500 characters of message, 2000 of body."""
    error = failure_of(status=500, message="m" * 10_000, body=b"b" * 10_000)
    assert len(str(error)) < 700
    assert error.body is not None
    assert len(error.body) == 2000
    assert error.body.endswith("…")


def test_body_and_request_id_are_kept() -> None:
    """A body of text or bytes, broken UTF-8 included, is kept as text beside the request id."""
    assert failure_of(status=500, message="", body="text").body == "text"
    assert failure_of(status=500, message="", body=b"\xff!").body == "\ufffd!"
    error = failure_of(status=500, message="", request_id="req_1")
    assert (error.body, error.request_id) == (None, "req_1")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c"}}, ("m", "t", "c")),
        ({"error": {"message": "m", "type": None, "code": None}}, ("m", None, None)),
        ({"error": {"message": "m", "code": 429}}, ("m", None, "429")),
        ({"error": {"code": 404, "message": "m", "status": "NOT_FOUND"}}, ("m", "NOT_FOUND", "404")),
        ([{"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT"}}], ("m", "INVALID_ARGUMENT", "400")),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, ("m", "overloaded_error", None)),
        ({"error": "m"}, ("m", None, None)),
        ({"code": "c", "error": "m"}, ("m", None, "c")),
        ({"detail": "m"}, ("m", None, None)),
        ({"detail": [{"loc": ["body", 0], "msg": "m"}, {"msg": "n"}]}, ("body.0: m; n", None, None)),
        ({"message": "m", "type": "t", "object": "error", "code": "1500"}, ("m", "t", "1500")),
        ({"object": "error", "message": {"detail": [{"msg": "m"}]}}, ("m", None, None)),
        ({"code": 1113, "msg": "m"}, ("m", None, "1113")),
        ({"message": "m", "__type": "ThrottlingException"}, ("m", "ThrottlingException", None)),
        ({"errors": [{"message": "m", "code": 1010}]}, ("m", None, "1010")),
        (
            {"error": {"message": "m", "code": 400, "metadata": {"raw": "r", "error_type": "t"}}},
            ("m: r", "t", "400"),
        ),
        (
            {"error": {"message": "m", "code": "content_filter", "innererror": {"code": "i"}}},
            ("m", "i", "content_filter"),
        ),
        ({"error": {}}, ("", None, None)),
        ({"error": True}, ("", None, None)),
        ("m", ("m", None, None)),
        (None, ("", None, None)),
        (7, ("7", None, None)),
        ([], ("", None, None)),
    ],
)
def test_every_shape_of_error_is_read(body: Any, expected: tuple[str, str | None, str | None]) -> None:
    """Message, type and code are found wherever providers and proxies put them."""
    assert error_members(json.dumps(body).encode()) == expected
    assert error_members(b"\xef\xbb\xbf \n" + json.dumps(body).encode()) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"   ", ""),
        (b"upstream timed out\r\n", "upstream timed out"),
        (b"<!DOCTYPE html><html><head><title> 502 Bad\nGateway </title></head>", "an HTML page (502 Bad\nGateway)"),
        (b"<html><body><h1>Nope</h1>", "an HTML page (Nope)"),
        (b"<html></html>", "an HTML page"),
        (b'{"error": {"message": "cut', '{"error": {"message": "cut'),
        (b"\xff\x00\x01", "\ufffd"),
    ],
)
def test_bodies_that_are_not_json_are_shown_as_what_they_are(body: bytes, message: str) -> None:
    """Pages by their title, text as it stands, rubbish without control characters."""
    assert error_members(body) == (message, None, None)


_NAMES = st.sampled_from(["error", "message", "type", "code", "detail", "errors", "metadata", "loc"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
)


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_no_body_breaks_the_reading_of_errors(body: bytes) -> None:
    """Whatever a body holds, it gives strings, and an error can be made of them."""
    message, kind, code = error_members(body)
    assert isinstance(message, str)
    assert isinstance(failure_of(status=500, message=message, kind=kind, code=code, body=body), ProviderError)
