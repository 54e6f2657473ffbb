"""Failed responses: which error each is, and when to come back."""

from __future__ import annotations

import pytest

from nodellm_orm import errors
from nodellm_orm.domain.jsontext import dumps, encode
from nodellm_orm.testing import gemini_error
from tests.unit.wire.gemini.asking import WIRE

_RPC = "type.googleapis.com/google.rpc."
_RATES = "You exceeded your current quota, please check your plan and billing details."


def _quota(quota_id: str, value: str = "10") -> dict[str, object]:
    return {"@type": f"{_RPC}QuotaFailure", "violations": [{"quotaId": quota_id, "quotaValue": value}]}


def _retry(delay: object) -> dict[str, object]:
    return {"@type": f"{_RPC}RetryInfo", "retryDelay": delay}


def _failed(
    status: int, message: str, word: str, *details: object, headers: dict[str, str] | None = None
) -> errors.ProviderError:
    body = gemini_error(message, code=status, status=word, details=details)  # type: ignore[arg-type] # some are wrong on purpose
    return WIRE.failure(status, headers or {}, encode(dumps(body)))


@pytest.mark.parametrize(
    ("status", "word", "message", "cls"),
    [
        (400, "INVALID_ARGUMENT", "Unknown name", errors.BadRequestError),
        (400, "FAILED_PRECONDITION", "User location is not supported for the API use.", errors.BadRequestError),
        (400, "FAILED_PRECONDITION", "Please enable billing on project 1.", errors.QuotaExceededError),
        (401, "UNAUTHENTICATED", "no", errors.AuthenticationError),
        (403, "PERMISSION_DENIED", "Your API key was reported as leaked.", errors.PermissionDeniedError),
        (404, "NOT_FOUND", "models/x is not found for API version v1beta", errors.ModelNotFoundError),
        (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted.", errors.RateLimitError),
        (429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", errors.QuotaExceededError),
        (500, "INTERNAL", "An internal error has occurred.", errors.ServerError),
        (503, "UNAVAILABLE", "The model is overloaded. Please try again later.", errors.OverloadedError),
        (504, "DEADLINE_EXCEEDED", "Deadline expired", errors.ServerError),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            errors.ContextWindowError,
        ),
    ],
)
def test_classes(status: int, word: str, message: str, cls: type[errors.ProviderError]) -> None:
    """Status and words say which error it is, in an object as in a list of one."""
    error = _failed(status, message, word)
    assert type(error) is cls
    assert error.status == status
    assert message.split(maxsplit=1)[0] in str(error)
    listed = WIRE.failure(status, {}, encode(dumps([gemini_error(message, code=status, status=word)])))
    assert (type(listed), str(listed)) == (cls, str(error))


def test_a_refused_key() -> None:
    """A key that is not valid is a 400 here, and a refused key all the same."""
    info = {"@type": f"{_RPC}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
    for message in ("API key not valid. Please pass a valid API key.", "API key expired. Please renew the API key."):
        error = _failed(400, message, "INVALID_ARGUMENT", info)
        assert isinstance(error, errors.AuthenticationError)
        assert not error.retryable


@pytest.mark.parametrize("delay", ["14s", "14.5s"])
def test_a_rate(delay: str) -> None:
    """When to come back stands in the body; the API calls its rates quotas, and they are worth another try."""
    error = _failed(429, _RATES, "RESOURCE_EXHAUSTED", _quota("GenerateRequestsPerMinutePerProject"), _retry(delay))
    assert type(error) is errors.RateLimitError
    assert error.retryable
    assert error.retry_after == float(delay[:-1])
    assert f"retry in {delay[:-1]} s" in str(error)


def test_a_quota() -> None:
    """What is spent for the day, or was never given, no waiting of seconds brings back."""
    spent = _quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")
    none = _quota("GenerateRequestsPerMinutePerProject", "0")
    for quota in (spent, none):
        error = _failed(429, f"{_RATES} Please retry in 14s.", "RESOURCE_EXHAUSTED", quota, _retry("14s"))
        assert type(error) is errors.QuotaExceededError
        assert not error.retryable


def test_hints_of_headers_go_first() -> None:
    """A gateway's own hint is nearer than what the body says."""
    error = _failed(429, "no", "RESOURCE_EXHAUSTED", _retry("14s"), headers={"retry-after": "3"})
    assert error.retry_after == 3
    overloaded = _failed(503, "overloaded", "UNAVAILABLE", _retry("2s"))
    assert (overloaded.retry_after, overloaded.retryable) == (2, True)


@pytest.mark.parametrize("details", [[3, None], [_retry(14)], [_retry("soon")], [{"@type": 3}], [_quota(""), {}]])
def test_details_that_make_no_sense(details: list[object]) -> None:
    """Whatever stands in the details, the status decides."""
    error = _failed(429, "no", "RESOURCE_EXHAUSTED", *details)
    assert type(error) is errors.RateLimitError
    assert error.retry_after is None


def test_the_id_of_a_request() -> None:
    """A gateway has it in a header, an error perhaps in its details."""
    info = {"@type": f"{_RPC}RequestInfo", "requestId": "r1"}
    assert _failed(500, "no", "INTERNAL", info).request_id == "r1"
    assert _failed(500, "no", "INTERNAL", info, headers={"x-request-id": "r2"}).request_id == "r2"
    assert WIRE.request_id({"x-request-id": "r2"}) == "r2"
    assert WIRE.request_id({"server": "scaffolding"}) is None


def test_no_key_is_repeated() -> None:
    """A key that the provider quotes is not shown."""
    key = "AIzaSyA1234567890abcdefghijklmnopqrstu"
    error = _failed(400, f"API key not valid: {key}", "INVALID_ARGUMENT")
    assert key not in f"{error} {error.body}"
