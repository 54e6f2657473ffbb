"""What is told of each kind of failure: what happened, and what to do next."""

from __future__ import annotations

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
from nodellm_orm.wire.notices import HTML_PAGE, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_MESSAGE_CHARS: Final = 500

REMEDIES: Final[Mapping[type[ProviderError], tuple[str, str]]] = MappingProxyType(
    {
        AuthenticationError: ("the key was refused", "check the provider's key and that it belongs to this base_url"),
        PermissionDeniedError: ("the key may not do this", "use a key with access to this model, or another model"),
        ModelNotFoundError: ("there is no such model or path", "check the model's name and base_url"),
        BadRequestError: ("the request was not accepted", "change what the message names, then ask again"),
        ContextWindowError: (
            "the conversation is too long for the model",
            "shorten it (history_window= or compact()), lower max_tokens, or use a model with a larger context window",
        ),
        ContentFilterError: ("the provider's content filter stopped it", "reword the message that was filtered"),
        RateLimitError: ("too many requests or tokens just now", "wait and ask again, or send less at a time"),
        QuotaExceededError: (
            "the account has no credit or quota left",
            "add credit, or raise the limit, at the provider",
        ),
        OverloadedError: ("the provider is over capacity", "ask again later, or use another model"),
        ServerError: ("the provider failed", "ask again, and give the provider the request id if it goes on"),
        ProviderTimeoutError: ("the provider did not answer in time", "ask again, or ask for less at once"),
        ProviderError: ("the provider answered with a status it has no meaning for", "check base_url and any proxy"),
    }
)
"""What happened, and what to do next."""


def explained(cls: type[ProviderError], status: int | None, said: str) -> str:
    """The message of an error: what happened, the provider's words, what to do next.

    Args:
        cls: of the error.
        status: HTTP status, as far as there is one.
        said: the provider's words, without keys; empty where it said nothing.
    """
    what, remedy = REMEDIES[cls]
    number = f" (HTTP {status})" if status is not None else ""
    harmless = "".join(c if c.isprintable() else " " for c in said)  # a terminal or a log would obey the others
    quoted = shown(" ".join(harmless.split()), _MESSAGE_CHARS)
    if quoted.startswith(HTML_PAGE):
        remedy = f"{remedy}, and check base_url and any proxy in between"
    return f"{what}{number}: {quoted or 'it did not say why'}; {remedy}"
