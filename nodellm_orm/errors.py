"""Every error this package raises, in one tree grouped by who must act.

::

    NodeLLMError
    ├── ConfigurationError            you: a key, a name or an option is missing or malformed
    │   └── UnsupportedFeatureError   you: this provider, model or installation cannot do that
    ├── ProviderError                 the provider refused, failed or broke off
    │   ├── AuthenticationError       you: the key is wrong (401)
    │   ├── PermissionDeniedError     you: the key may not do this (403)
    │   ├── ModelNotFoundError        you: no such model (404)
    │   ├── BadRequestError           you: the request is not accepted (400, 413, 422)
    │   │   ├── ContextWindowError    you: the conversation is too long for the model
    │   │   └── ContentFilterError    you: the provider's filter stopped it
    │   ├── RateLimitError            wait: too many requests (429)
    │   │   └── QuotaExceededError    you: the account has no credit; waiting does not help
    │   ├── OverloadedError           wait: the provider is over capacity (503, 529)
    │   ├── ServerError               wait: the provider failed (other 5xx)
    │   ├── ProviderTimeoutError      wait: it did not answer in time
    │   ├── ProviderConnectionError   wait: it could not be reached, or the connection broke
    │   ├── StreamInterruptedError    wait: a stream ended before its terminal event
    │   ├── ProtocolError             the provider: the answer is not its own protocol
    │   └── CircuitOpenError          wait: this endpoint failed too often just now
    ├── ChatError
    │   ├── ChatNotFoundError         you: no such chat for this owner
    │   ├── ChatBusyError             wait: another worker holds the chat
    │   ├── StaleChatError            this worker lost the chat to another one
    │   ├── TurnInterruptedError      the client was closed under the turn; any worker may carry it on
    │   ├── IdempotencyError          you: the key was used for another request
    │   └── SessionStateError         you: the session is in a state in which nothing can be promised
    ├── ToolError                     a tool failed; ``fatal=True`` ends the turn
    │   └── ToolLimitError            the model asked for more tool rounds than allowed
    ├── LimitExceededError            a limit of cost, of tokens, or of turns inside each other was reached
    ├── SchemaValidationError         the answer does not fit the schema that was asked for
    ├── AttachmentError               a file cannot be read, fetched or sent
    └── StorageError                  the database failed
        ├── SchemaVersionError        you: the tables are missing, older or newer than this package
        └── EncryptionError           you: a key is missing or wrong
            └── TamperedValueError    you: an encrypted value was changed or moved in the database

Errors of httpx, SQLAlchemy, the drivers and the JSON and Unicode codecs never reach a caller bare: one table per edge
(``transport/failures.py``, ``store/failures.py``) maps them to this tree and chains the cause. Every message says
what to do next, and none contains a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID


class NodeLLMError(Exception):
    """Base of every error this package raises."""


class ConfigurationError(NodeLLMError):
    """A key, a name or an option is missing or malformed."""


class UnsupportedFeatureError(ConfigurationError):
    """The provider, the model or this installation cannot do what was asked."""


class ProviderError(NodeLLMError):
    """The provider refused, failed or broke off.

    Args:
        message: what happened and what to do next, without any key.
        status: HTTP status that arrived, ``None`` when no response did.
        provider: name of the provider.
        model: model that was asked for.
        request_id: the provider's own id of the request, for its support.
        retry_after: seconds after which the provider allows another attempt.
        body: the error body as received, redacted and truncated.
        retryable: whether the same request may be sent again.
    """

    retryable_by_default = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        provider: str | None = None,
        model: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        """Keep what is known of the failed request beside the message."""
        super().__init__(message)
        self.status = status
        self.provider = provider
        self.model = model
        self.request_id = request_id
        self.retry_after = retry_after
        self.body = body
        self.retryable = self.retryable_by_default if retryable is None else retryable


class AuthenticationError(ProviderError):
    """The key is missing, wrong or revoked (401)."""


class PermissionDeniedError(ProviderError):
    """The key is known but may not do this (403)."""


class ModelNotFoundError(ProviderError):
    """The provider does not know the model or the path (404)."""


class BadRequestError(ProviderError):
    """The provider does not accept the request (400, 413, 422)."""


class ContextWindowError(BadRequestError):
    """The conversation is longer than the model's context window."""


class ContentFilterError(BadRequestError):
    """The provider's content filter stopped the request."""


class RateLimitError(ProviderError):
    """Too many requests or tokens just now (429)."""

    retryable_by_default = True
    rate_limits: Any = None
    """The `RateLimits` that the response told of, ``None`` where it did not; named here, this module knows no other."""


class QuotaExceededError(RateLimitError):
    """The account's credit or quota is used up; waiting does not help."""

    retryable_by_default = False


class OverloadedError(ProviderError):
    """The provider is over capacity (503, 529)."""

    retryable_by_default = True


class ServerError(ProviderError):
    """The provider failed (5xx)."""

    retryable_by_default = True


class ProviderTimeoutError(ProviderError):
    """The provider did not answer, or fell silent, in the time allowed."""

    retryable_by_default = True


class ProviderConnectionError(ProviderError):
    """The provider could not be reached, or the connection broke before the answer was complete."""

    retryable_by_default = True


class StreamInterruptedError(ProviderError):
    """A stream ended before its terminal event; what had arrived is kept as a partial message."""

    retryable_by_default = True


class ProtocolError(ProviderError):
    """The response is not what the provider's protocol allows (HTML, ``null``, broken JSON …)."""


class CircuitOpenError(ProviderError):
    """The endpoint failed too often just now; nothing was sent."""


class ChatError(NodeLLMError):
    """Something about a stored chat stands in the way."""


class ChatNotFoundError(ChatError):
    """There is no such chat for this owner (a wrong owner looks exactly the same)."""


class ChatBusyError(ChatError):
    """Another turn of this chat is running; nothing was sent and nothing was spent.

    Args:
        message: what to do next.
        turn_id: the turn that holds the chat.
        lease_until: when its lease ends, by the database's clock (UTC).
    """

    def __init__(self, message: str, *, turn_id: UUID | None = None, lease_until: datetime | None = None) -> None:
        """Keep who holds the chat and until when."""
        super().__init__(message)
        self.turn_id = turn_id
        self.lease_until = lease_until


class StaleChatError(ChatError):
    """This worker lost the chat to another one and wrote nothing.

    Args:
        message: what to do next.
        reply: the answer that could not be saved, when there was one.
    """

    def __init__(self, message: str, *, reply: object | None = None) -> None:
        """Keep the answer that could not be saved."""
        super().__init__(message)
        self.reply = reply


class TurnInterruptedError(ChatError):
    """The client was closed before the turn had ended; it is stored as far as it went, and any worker may resume it.

    Args:
        message: what to do next.
        turn_id: the turn.
        reply: the reply as far as it went.
    """

    def __init__(self, message: str, *, turn_id: UUID | None = None, reply: object | None = None) -> None:
        """Keep the turn, and what there is of its reply."""
        super().__init__(message)
        self.turn_id = turn_id
        self.reply = reply


class IdempotencyError(ChatError):
    """The idempotency key was used in this chat for a different request."""


class SessionStateError(ChatError):
    """The given session is in a state in which the turn's promises cannot be kept."""


class ToolError(NodeLLMError):
    """A tool failed; raise it inside a tool to word the error for the model.

    Args:
        message: what the model is told.
        fatal: ``True`` ends the turn instead of telling the model.
    """

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        """Keep whether the turn must end."""
        super().__init__(message)
        self.fatal = fatal


class ToolLimitError(ToolError):
    """The model asked for more tool rounds than allowed.

    Args:
        message: which limit, and how to raise it.
        reply: the reply as far as it went.
    """

    def __init__(self, message: str, *, reply: object | None = None) -> None:
        """Keep the reply as far as it went."""
        super().__init__(message, fatal=True)
        self.reply = reply


class LimitExceededError(NodeLLMError):
    """A limit was reached: of cost or tokens, where ``on_limit="raise"`` was asked for, or of turns inside each other.

    Args:
        message: which limit, and how to raise it.
        reply: the reply as far as it went.
    """

    def __init__(self, message: str, *, reply: object | None = None) -> None:
        """Keep the reply as far as it went."""
        super().__init__(message)
        self.reply = reply


class SchemaValidationError(NodeLLMError):
    """The answer does not fit the schema that was asked for; it is stored all the same.

    Args:
        message: what does not fit.
        text: the answer as received.
        reply: the reply that carries it.
    """

    def __init__(self, message: str, *, text: str = "", reply: object | None = None) -> None:
        """Keep the answer as received."""
        super().__init__(message)
        self.text = text
        self.reply = reply


class AttachmentError(NodeLLMError):
    """A file cannot be read, fetched or sent."""


class StorageError(NodeLLMError):
    """The database failed or refused.

    Args:
        message: what happened and what to do next.
        reply: the answer that could not be saved, when there was one.
        details: names and values that help to find the cause, without content.
    """

    def __init__(
        self, message: str, *, reply: object | None = None, details: Mapping[str, object] | None = None
    ) -> None:
        """Keep the answer that could not be saved."""
        super().__init__(message)
        self.reply = reply
        self.details = dict(details or {})


class SchemaVersionError(StorageError):
    """The tables are missing, or older or newer than this package."""


class EncryptionError(StorageError):
    """A stored value cannot be read with the keys that were given; nothing of it reached anybody."""


class TamperedValueError(EncryptionError):
    """An encrypted value was changed, or moved to another place, since it was written."""
