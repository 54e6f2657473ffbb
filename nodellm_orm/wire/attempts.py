"""Whether and when a request that failed may be sent again, as far as the failure says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from nodellm_orm.errors import BadRequestError, QuotaExceededError, RateLimitError
from nodellm_orm.wire.hints import retry_after_of, should_retry, wait_said
from nodellm_orm.wire.ratelimits import headers_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.errors import ProviderError

_CONFLICT: Final = 409
_TOO_LARGE_SAID: Final = re.compile(r"request too large|must be reduced", re.IGNORECASE)
"""A single request beyond what a minute allows: no wait makes it fit."""


def worth_another(
    cls: type[ProviderError], status: int | None, message: str, headers: Mapping[str, str]
) -> bool | None:
    """Whether the request may be sent again, where the class alone does not say it.

    Args:
        cls: of the error.
        status: HTTP status.
        message: the provider's words.
        headers: of the response.
    """
    if cls is RateLimitError and _TOO_LARGE_SAID.search(message):
        return False
    wished = should_retry(headers)
    if wished and cls is QuotaExceededError:
        return None  # some providers put every 429 down as worth another try; an empty account is not
    if wished is None and status == _CONFLICT and cls is BadRequestError:
        return True  # two requests met at the provider's; nothing is wrong with either
    return wished


def hinted(
    cls: type[ProviderError], message: str, headers: Mapping[str, str], body: bytes | str | None
) -> float | None:
    """Seconds to wait: what the headers name, else those of the provider behind a router, else the words.

    Args:
        cls: of the error.
        message: the provider's words.
        headers: of the response.
        body: of the response.
    """
    stated = retry_after_of(headers)
    if stated is None and cls.retryable_by_default:
        return retry_after_of(headers_in(body)) or wait_said(message)
    return stated
