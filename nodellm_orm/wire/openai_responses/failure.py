"""The errors that responses stand for, and the ids by which providers find a request again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.wire.failures import error_members, failure_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.errors import ProviderError

_ID_HEADERS: Final = ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid")


def failure(status: int | None, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The error that a response, or an error inside one, stands for.

    Args:
        status: HTTP status; ``None`` where the response itself was a success.
        headers: of the response, names in lower case.
        body: of the response, or the data of the event.
    """
    message, kind, code = error_members(body)
    return failure_of(
        status=status,
        message=message,
        kind=kind,
        code=code,
        headers=headers,
        body=body,
        request_id=request_id(headers),
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's own id of the request.

    Args:
        headers: of the response, names in lower case.
    """
    return next((headers[name] for name in _ID_HEADERS if headers.get(name)), None)
