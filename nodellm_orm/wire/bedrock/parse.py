"""Response bytes that are not streamed to values: an answer, or the error that a response stands for."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.jsontext import JsonTextError, Pairs, loads_verbatim
from nodellm_orm.errors import ProtocolError, ProviderConnectionError
from nodellm_orm.wire.bedrock.reader import AnswerReader
from nodellm_orm.wire.failures import error_members, failure_of
from nodellm_orm.wire.framing import is_cut
from nodellm_orm.wire.values import count_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.errors import ProviderError

_ID_HEADERS: Final = ("x-amzn-requestid", "x-amz-request-id", "x-amzn-request-id")
_KIND_HEADER: Final = "x-amzn-errortype"
_ADVICE: Final = "check base_url and any proxy in between"
_CUT: Final = "the answer was cut off on its way: its JSON has no end; ask again"
_SUCCESS: Final = range(200, 300)
_FORBIDDEN: Final = 403
_STATUSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "validationexception": "400",
        "accessdeniedexception": "403",
        "resourcenotfoundexception": "404",
        "modeltimeoutexception": "408",
        "modelstreamerrorexception": "424",
        "modelerrorexception": "424",
        "throttlingexception": "429",
        "internalserverexception": "500",
        "serviceunavailableexception": "503",
    }
)
"""Exceptions inside a stream that began well, and the statuses that they would have had."""
_UNKNOWN_MODEL: Final = re.compile(r"model identifier is invalid|model id .*not found", re.IGNORECASE)
_BAD_KEY: Final = re.compile(r"authentication failed|api key is valid|bearer token|security token", re.IGNORECASE)


def parse(body: bytes) -> Completion:
    """Read a whole body of a successful response.

    Args:
        body: the body, decompressed.

    Raises:
        ProviderConnectionError: when it has been cut off.
        ProtocolError: when it is not an answer of this protocol.
        ProviderError: when it is an error after all; its class is what the error's words stand for.
    """
    folded = Accumulator()
    for event in AnswerReader().whole(_answer(body)):
        folded.add(event)
    return folded.completion()


def _answer(body: bytes) -> dict[str, object]:
    try:
        value = loads_verbatim(body)
    except JsonTextError as error:
        if is_cut(body.strip()):
            raise ProviderConnectionError(_CUT) from error
        shape = "is an HTML page" if body.lstrip().startswith(b"<") else f"cannot be read as JSON ({error})"
        msg = f"the answer {shape}; {_ADVICE}"
        raise ProtocolError(msg) from error
    members = object_of(value)
    message = object_of(object_of(members.get("output")).get("message"))
    if isinstance(message.get("content"), list) and isinstance(members.get("stopReason"), str):
        return members
    if isinstance(value, Pairs) and any(text_of(members.get(name)) for name in ("message", "Message", "__type")):
        raise failure(None, {}, body)
    msg = f"the answer is not a message with content and a reason to stop; {_ADVICE}"
    raise ProtocolError(msg)


def failure(status: int | None, headers: Mapping[str, str], body: bytes, kind: str | None = None) -> ProviderError:
    """The error that a response, or an exception inside a stream, stands for.

    Args:
        status: HTTP status; ``None`` where the response itself was a success.
        headers: of the response, names in lower case.
        body: of the response, or the exception's payload.
        kind: name of the exception, where it does not stand in the headers.
    """
    message, stated, code = error_members(body)
    name = _plain(kind or headers.get(_KIND_HEADER) or stated or "")
    members = _members(body)
    message = message or text_of(members.get("Message"))
    original = count_of(members.get("originalStatusCode"))
    if said := text_of(members.get("originalMessage")):
        message = f"{message} ({said})" if message and said not in message else message or said
    return failure_of(
        status=status,
        message=message,
        kind=name or None,
        code=_code(status, name.lower(), message, original) or code,
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


def _code(status: int | None, name: str, message: str, original: int | None) -> str | None:
    """The word, or the status in digits, that decides where the response's own status does not."""
    if _UNKNOWN_MODEL.search(message):
        return "model_not_found"
    if status == _FORBIDDEN and _BAD_KEY.search(message):
        return "unrecognized_client_exception"
    if status is not None and status not in _SUCCESS:
        return None
    return str(original) if original is not None else _STATUSES.get(name)


def _plain(kind: str) -> str:
    """The name of an exception without its name space before it and the place it is described at behind it."""
    return kind.partition(":")[0].rpartition("#")[2].strip()


def _members(body: bytes) -> dict[str, object]:
    try:
        return object_of(loads_verbatim(body))
    except JsonTextError:
        return {}
