"""The one table from what a provider says of a failure to the classes of `nodellm_orm.errors`.

It serves failed HTTP responses and error events inside a stream that began with 200 alike: the status decides where
there is one, the provider's own words decide otherwise. A few words decide whatever the status (no credit, too long a
conversation, filtered), because providers do not agree on a status for them.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

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
from nodellm_orm.wire.attempts import hinted, worth_another
from nodellm_orm.wire.hints import retry_after_of
from nodellm_orm.wire.notices import error_members, redacted, shown
from nodellm_orm.wire.ratelimits import headers_in, rate_limits_of
from nodellm_orm.wire.remedies import explained

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["error_members", "failure_of", "retry_after_of"]

_NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_BODY_CHARS: Final = 2000


def _normal(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())


def _words(text: str) -> frozenset[str]:
    return frozenset(_normal(word) for word in text.split())


_WORDS: Final[Mapping[type[ProviderError], frozenset[str]]] = MappingProxyType(
    {
        AuthenticationError: _words(
            "authentication authentication_error invalid_api_key api_key_invalid unauthorized unauthenticated "
            "invalid_authentication invalid_authentication_error unauthorized_exception"
        ),
        PermissionDeniedError: _words(
            "permission_error permission_denied permission_denied_error forbidden insufficient_permissions "
            "access_denied access_denied_exception"
        ),
        ModelNotFoundError: _words(
            "model_not_found not_found not_found_error deployment_not_found invalid_model unknown_model "
            "resource_not_found_exception"
        ),
        RateLimitError: _words(
            "rate_limit rate_limit_error rate_limit_exceeded rate_limited rate_limit_reached rate_limit_reached_error "
            "too_many_requests resource_exhausted throttling throttling_exception"
        ),
        OverloadedError: _words(
            "overloaded overloaded_error server_is_overloaded engine_overloaded engine_overloaded_error slow_down "
            "model_overloaded provider_overloaded provider_unavailable service_unavailable service_unavailable_error "
            "service_unavailable_exception model_not_ready_exception unavailable unavailable_error capacity_exceeded "
            "insufficient_system_resource"
        ),
        ProviderTimeoutError: _words(
            "timeout timeout_error request_timeout deadline_exceeded model_timeout_exception vector_store_timeout"
        ),
        ServerError: _words(
            "server server_error api_error internal internal_error internal_server_error internal_server_exception "
            "network_error model_error_exception model_stream_error_exception"
        ),
        BadRequestError: _words(
            "invalid_request invalid_request_error bad_request bad_request_error invalid_argument failed_precondition "
            "validation_error validation_exception invalid_prompt unsupported_value unprocessable "
            "unprocessable_entity precondition_failed payload_too_large request_too_large max_tokens_exceeded "
            "string_too_long tool_use_failed data_residency_mismatch failed_to_download_image image_file_not_found "
            "invalid_image invalid_image_format invalid_image_mode invalid_image_url invalid_base64_image "
            "image_too_large image_too_small image_file_too_large image_parse_error empty_image_file "
            "unsupported_image_media_type"
        ),
    }
)
"""Providers' words in the order in which they decide: DeepSeek's 401 calls itself an invalid request as well."""

_WHATEVER_THE_STATUS: Final[Mapping[type[ProviderError], frozenset[str]]] = MappingProxyType(
    {
        AuthenticationError: _words(
            "unrecognized_client_exception invalid_signature_exception signature_does_not_match incomplete_signature "
            "expired_token_exception expired_token invalid_client_token_id missing_authentication_token_exception"
        ),
        OverloadedError: _words("model_not_ready_exception"),
    }
)
"""AWS refuses keys with 400 and 403, and says with 429 that a model is still being loaded."""

_STATUSES: Final[Mapping[int, type[ProviderError]]] = MappingProxyType(
    {
        401: AuthenticationError,
        402: QuotaExceededError,
        403: PermissionDeniedError,
        404: ModelNotFoundError,
        408: ProviderTimeoutError,
        424: ServerError,  # what the request depends on failed: a model behind Bedrock, a server behind a tool
        429: RateLimitError,
        503: OverloadedError,
        529: OverloadedError,
    }
)

_QUOTA: Final = _words(
    "insufficient_quota billing_hard_limit_reached billing_not_active billing_error payment_required "
    "credit_balance_exhausted organization_usage_limit_exceeded exceeded_current_quota_error insufficient_balance "
    "insufficient_credits service_quota_exceeded_exception 1113 1308 1309 1310 1311 1313 1314 1315 1316 1317 1318 1319 "
    "1320 1321"
)
"""The numbers are Z.ai's."""
_QUOTA_SAID: Final = re.compile(
    r"credit balance is too low|insufficient (?:account )?(?:balance|credits?|funds)|billing hard limit"
    r"|exceeded your current quota(?!.*retry in)|run out of credits|spending limit|too many tokens per day"
    r"|(?:doesn't|does not) have any credits|(?:usage credits|extra usage) (?:is|are) required|key limit exceeded"
    r"|specified (?:\w+ )?api usage limits|(?:hourly|daily|session|weekly|monthly) usage (?:limit|quota)"
    r"|(?:daily|monthly) quota|free-models-per-day",
    re.IGNORECASE | re.DOTALL,
)
_CONTEXT: Final = _words(
    "context_length_exceeded exceed_context_size_error model_context_window_exceeded token_limit_exceeded "
    "context_window_exceeded 3051"
)
"""The number is Mistral's."""
_CONTEXT_SAID: Final = re.compile(
    r"maximum context length|reduce the length of|context[ _]window|context size|context limit|context length"
    r"|prompt is too long|prompt too long|input token count|input tokens exceeded|input is too long|too many tokens"
    r"|maximum prompt length|too large to process",
    re.IGNORECASE,
)
_FILTER: Final = _words(
    "content_filter content_filtered content_policy_violation responsible_ai_policy_violation moderation "
    "moderation_blocked refusal safety bio_policy misalignment_policy_violation image_content_policy_violation"
)
_FILTER_SAID: Final = re.compile(
    r"content[ _]management policy|content[ _]filter|content[ _]policy|safety system|usage policy|\bflagged\b"
    r"|usage guidelines|requires moderation|content exists risk",
    re.IGNORECASE,
)
_RATE_SAID: Final = re.compile(r"rate[ _-]?limit|too many requests", re.IGNORECASE)
_OVERLOADED_SAID: Final = re.compile(r"overloaded|over capacity", re.IGNORECASE)
_KEY_SAID: Final = re.compile(r"api key not valid|(?:incorrect|invalid) api[ _-]?key", re.IGNORECASE)
_MODEL_SAID: Final = re.compile(
    r"\bmodel (?:\S+ )?(?:does not exist|not exist|not found)|is not a valid model|\b(?:invalid|unknown) model\b"
    r"|\bno such model",
    re.IGNORECASE,
)
_CLOSED_SAID: Final = re.compile(r"(?:organization|account) has been (?:disabled|deactivated|suspended)", re.IGNORECASE)

_REQUEST_STATUSES: Final = frozenset({400, 403, 404, 409, 413, 422, 500})
"""Where a refusal of the request's content may hide; elsewhere its words mean something else ("too many tokens" a
minute is a rate)."""

_WAITS: Final = frozenset({RateLimitError, OverloadedError})
_SERVER_STATUSES: Final = range(500, 600)
_OVERLOADED_STATUSES: Final = frozenset({429, *_SERVER_STATUSES})
"""Where the words may say that it is not the caller who asks too much."""
_ERROR_STATUSES: Final = range(400, 600)


def failure_of(
    *,
    status: int | None,
    message: str,
    kind: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] = _NO_HEADERS,
    body: bytes | str | None = None,
    request_id: str | None = None,
) -> ProviderError:
    """The error that a provider's refusal stands for.

    Args:
        status: HTTP status; ``None`` or 200 for an error inside a response that began well.
        message: what the provider says.
        kind: the provider's ``type`` of the error.
        code: the provider's ``code`` of the error; may be a status in digits.
        headers: of the response, for its retry hints.
        body: of the response, kept with the error after keys have been taken out.
        request_id: the provider's id of the request.

    Example:
        >>> failure_of(status=429, message="You have no credit", code="insufficient_quota").retryable
        False
    """
    words = {_normal(word) for word in (kind, code) if word}
    stated = _stated_status(status, words)
    cls = _class_of(stated, words, message)
    hide_words = cls in {AuthenticationError, PermissionDeniedError}
    error = cls(
        explained(cls, stated, redacted(message, hide_words=hide_words)),
        status=status,
        request_id=request_id,
        retry_after=hinted(cls, message, headers, body),
        body=None if body is None else shown(redacted(_text(body), hide_words=hide_words), _BODY_CHARS),
        retryable=worth_another(cls, status, message, headers),
    )
    if isinstance(error, RateLimitError):
        error.rate_limits = rate_limits_of({**headers_in(body), **headers})
    return error


def _class_of(status: int | None, words: Collection[str], message: str) -> type[ProviderError]:
    if _is_quota(status, words, message):
        return QuotaExceededError
    decided = next((cls for cls, known in _WHATEVER_THE_STATUS.items() if not known.isdisjoint(words)), None)
    if decided is not None:
        return decided
    named = next((cls for cls, known in _WORDS.items() if not known.isdisjoint(words)), None)
    if (status is None or status in _REQUEST_STATUSES) and named not in _WAITS:
        if not _CONTEXT.isdisjoint(words) or _CONTEXT_SAID.search(message):
            return ContextWindowError
        if not _FILTER.isdisjoint(words) or _FILTER_SAID.search(message):
            return ContentFilterError
    if (status is None or status in _OVERLOADED_STATUSES) and (
        named is OverloadedError or _OVERLOADED_SAID.search(message)
    ):
        return OverloadedError
    if status is None:
        return _class_of_words(named, message)
    if status in _STATUSES:
        return _STATUSES[status]
    return ServerError if status in _SERVER_STATUSES else _refusal_of(status, named, message)


def _class_of_words(named: type[ProviderError] | None, message: str) -> type[ProviderError]:
    """The class of an error without a status."""
    if named in {None, BadRequestError} and _MODEL_SAID.search(message):
        return ModelNotFoundError
    return named or (RateLimitError if _RATE_SAID.search(message) else ServerError)


def _refusal_of(status: int, named: type[ProviderError] | None, message: str) -> type[ProviderError]:
    """The class of a status that says no more than that the request was not accepted."""
    if status not in _ERROR_STATUSES:
        return ProviderError
    if _KEY_SAID.search(message):
        return AuthenticationError
    if _CLOSED_SAID.search(message):
        return PermissionDeniedError
    if named in {None, BadRequestError} and _MODEL_SAID.search(message):
        return ModelNotFoundError
    return BadRequestError if named in {None, ServerError, ProviderTimeoutError} else named or BadRequestError


def _is_quota(status: int | None, words: Collection[str], message: str) -> bool:
    if status not in {None, 400, 402, 403, 429}:
        return False
    return (
        not _QUOTA.isdisjoint(words)
        or any(word.endswith("spendlimitexceeded") for word in words)
        or _QUOTA_SAID.search(message) is not None
    )


def _stated_status(status: int | None, words: Collection[str]) -> int | None:
    """The status that the response has, or else the one that its body claims."""
    if status is not None and status not in range(200, 300):
        return status
    claimed = (int(word) for word in words if len(word) == 3 and word.isascii() and word.isdigit())  # noqa: PLR2004 — the digits of a status
    return next((number for number in sorted(claimed) if number in _ERROR_STATUSES), None)


def _text(body: bytes | str) -> str:
    return body.decode("utf-8", "replace") if isinstance(body, bytes) else body
