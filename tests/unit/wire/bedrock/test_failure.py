"""Responses without success: each has the class of what the provider means by it."""

from __future__ import annotations

import json

import pytest

from nodellm_orm.errors import (
    AuthenticationError,
    BadRequestError,
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
from tests.unit.wire.bedrock.asking import WIRE

_WORTH_ANOTHER_TRY = {RateLimitError, OverloadedError, ServerError, ProviderTimeoutError}
_SPACE = ":http://internal.amazon.com/coral/com.amazon.bedrock/"


@pytest.mark.parametrize(
    ("status", "kind", "message", "cls"),
    [
        (400, "ValidationException", "The value at messages is wrong.", BadRequestError),
        (400, "ValidationException", "The provided model identifier is invalid.", ModelNotFoundError),
        (400, "ValidationException", "Input is too long for requested model.", ContextWindowError),
        (400, "ValidationException", "prompt is too long: 210000 tokens > 200000 maximum", ContextWindowError),
        (400, "ValidationException", "Input Tokens Exceeded: Number of input tokens exceeds it.", ContextWindowError),
        (400, "ValidationException", "on-demand throughput isn't supported; use an inference profile", BadRequestError),
        (400, "ServiceQuotaExceededException", "Your request exceeds the service quota.", QuotaExceededError),
        (403, "AccessDeniedException", "You don't have access to the model.", PermissionDeniedError),
        (403, "AccessDeniedException", "Authentication failed: make sure your API Key is valid.", AuthenticationError),
        (403, "UnrecognizedClientException", "The security token in the request is invalid.", AuthenticationError),
        (403, "ExpiredTokenException", "The security token included in the request is expired", AuthenticationError),
        (403, "InvalidSignatureException", "The request signature we calculated does not match", AuthenticationError),
        (400, "ExpiredTokenException", "expired", AuthenticationError),
        (403, "IncompleteSignature", "wrong", AuthenticationError),
        (404, "ResourceNotFoundException", "The model is at its end of life.", ModelNotFoundError),
        (408, "ModelTimeoutException", "The model took too long.", ProviderTimeoutError),
        (424, "ModelErrorException", "The model failed.", ServerError),
        (429, "ThrottlingException", "Too many tokens, please wait before trying again.", RateLimitError),
        (429, "ThrottlingException", "Too many requests, please wait before trying again.", RateLimitError),
        (429, "ThrottlingException", "Too many tokens per day, please wait before trying again.", QuotaExceededError),
        (429, "ModelNotReadyException", "The model is not ready.", OverloadedError),
        (500, "InternalServerException", "oops", ServerError),
        (503, "ServiceUnavailableException", "try later", OverloadedError),
    ],
)  # fmt: skip
def test_failures_by_their_names(status: int, kind: str, message: str, cls: type[ProviderError]) -> None:
    """Name and words decide, wherever the name stands; the request's id and the provider's words are kept."""
    for headers, body in (
        ({"x-amzn-errortype": kind + _SPACE}, {"message": message}),
        ({"x-amzn-errortype": kind}, {"Message": message}),
        ({}, {"__type": f"com.amazon.coral.service#{kind}", "message": message}),
    ):
        error = WIRE.failure(status, {"x-amzn-requestid": "r-1", **headers}, json.dumps(body).encode())
        assert type(error) is cls
        assert (error.status, error.request_id) == (status, "r-1")
        if cls not in {AuthenticationError, PermissionDeniedError}:
            assert message.rstrip(".") in str(error)
        assert error.retryable == (cls in _WORTH_ANOTHER_TRY)


def test_a_signature_that_is_told_again() -> None:
    """What AWS repeats of a refused request shows no token and no key."""
    told = (
        "The Canonical String should have been 'x-amz-security-token:IQoJb3JpZ2luX2VjEXAMPLETOKEN0123' for AKIDEXAMPLE"
    )
    error = WIRE.failure(403, {"x-amzn-errortype": "InvalidSignatureException"}, json.dumps({"message": told}).encode())
    assert "IQoJb3JpZ2luX2VjEXAMPLETOKEN0123" not in f"{error} {error.body}"


def test_the_id_of_a_request() -> None:
    """It stands in a header of the response."""
    assert WIRE.request_id({"x-amzn-requestid": "a"}) == "a"
    assert WIRE.request_id({}) is None
