"""Failed responses: class, request id and retry hint."""

from __future__ import annotations

import pytest

from nodellm_orm import errors
from nodellm_orm.domain.jsontext import dumps, encode
from tests.unit.wire.anthropic.asking import WIRE


def _body(kind: str | None, message: str, **details: object) -> bytes:
    error = {"type": kind, "message": message, **({"details": details} if details else {})}
    return encode(dumps({"type": "error", "error": error, "request_id": "req_body"}))


@pytest.mark.parametrize(
    ("status", "body", "cls"),
    [
        (400, _body("invalid_request_error", "max_tokens: required"), errors.BadRequestError),
        (400, _body("invalid_request_error", "prompt is too long: 210000 > 200000"), errors.ContextWindowError),
        (400, _body("invalid_request_error", "Your credit balance is too low"), errors.QuotaExceededError),
        (401, _body("authentication_error", "invalid x-api-key"), errors.AuthenticationError),
        (402, _body("billing_error", "no payment"), errors.QuotaExceededError),
        (403, _body("permission_error", "not yours"), errors.PermissionDeniedError),
        (404, _body("not_found_error", "model: claude-nope"), errors.ModelNotFoundError),
        (413, _body("request_too_large", "Request exceeds the maximum size"), errors.BadRequestError),
        (429, _body("rate_limit_error", "slow down"), errors.RateLimitError),
        (500, _body("api_error", "Internal server error"), errors.ServerError),
        (504, _body("timeout_error", "took too long"), errors.ServerError),
        (529, _body("overloaded_error", "Overloaded"), errors.OverloadedError),
        (503, b"<html>unavailable</html>", errors.OverloadedError),
        (500, b"", errors.ServerError),
        (403, b'{"message":"The security token is invalid."}', errors.PermissionDeniedError),
        (400, b'{"message":"Input is too long for requested model."}', errors.ContextWindowError),
        (429, b'{"message":"Too many requests"}', errors.RateLimitError),
        (502, b"\xff\xfe{", errors.ServerError),
    ],
)
def test_each_failure_has_its_class(status: int, body: bytes, cls: type[errors.ProviderError]) -> None:
    """Status, type and words decide together, whatever the shape of the body."""
    error = WIRE.failure(status, {}, body)
    assert type(error) is cls
    assert error.status == status


def test_the_header_names_the_request() -> None:
    """The request id is that of the header, and that of the body where the header is missing."""
    body = _body("api_error", "x")
    assert WIRE.failure(500, {"request-id": "req_header"}, body).request_id == "req_header"
    assert WIRE.failure(500, {}, body).request_id == "req_body"
    assert WIRE.failure(500, {}, b"oops").request_id is None
    assert WIRE.request_id({"request-id": "req_header"}) == "req_header"
    assert WIRE.request_id({}) is None


def test_a_precise_code_goes_before_the_type() -> None:
    """The code among the details of an error says more than its type."""
    body = _body("invalid_request_error", "The request failed.", error_code="context_length_exceeded")
    assert type(WIRE.failure(400, {}, body)) is errors.ContextWindowError


def test_headers_say_when_to_try_again() -> None:
    """The wait that the headers ask for, and their word on whether to try at all, are kept."""
    waiting = WIRE.failure(529, {"retry-after": "7"}, _body("overloaded_error", "Overloaded"))
    assert (waiting.retry_after, waiting.retryable) == (7.0, True)
    final = WIRE.failure(500, {"x-should-retry": "false"}, _body("api_error", "x"))
    assert not final.retryable


def test_no_credit_is_not_tried_again() -> None:
    """An empty account is told apart from a malformed request and from a rate limit."""
    error = WIRE.failure(400, {}, _body("invalid_request_error", "Your credit balance is too low to access the API."))
    assert isinstance(error, errors.QuotaExceededError)
    assert not error.retryable
