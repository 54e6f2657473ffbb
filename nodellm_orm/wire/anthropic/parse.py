"""Response bytes that are not streamed to values: an answer, or the error that a response stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.jsontext import JsonTextError, loads_verbatim
from nodellm_orm.errors import ProtocolError, ProviderConnectionError
from nodellm_orm.wire.anthropic.reader import MessageReader
from nodellm_orm.wire.anthropic.values import object_of, text_of
from nodellm_orm.wire.failures import error_members, failure_of
from nodellm_orm.wire.framing import is_cut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.errors import ProviderError

_ID_HEADERS: Final = ("request-id", "x-request-id")
_ADVICE: Final = "check base_url and any proxy in between"
_CUT: Final = "the answer was cut off on its way: its JSON has no end; ask again"


def parse(body: bytes) -> Completion:
    """Read a whole body of a successful response.

    Args:
        body: the body, decompressed.

    Raises:
        ProviderConnectionError: when it has been cut off.
        ProtocolError: when it is not a message.
        ProviderError: when it is an error after all; its class is what the error's type stands for.
    """
    try:
        message = object_of(loads_verbatim(body))
        if message is not None and is_error(message):
            raise failure(None, {}, body)
        if message is None or not isinstance(message.get("content"), list):
            msg = f"the answer is not a message with content; {_ADVICE}"
            raise ProtocolError(msg)
        folded = Accumulator()
        for event in MessageReader().message(message):
            folded.add(event)
    except JsonTextError as error:
        if is_cut(body):
            raise ProviderConnectionError(_CUT) from error
        shape = "is an HTML page" if body.lstrip().startswith(b"<") else f"cannot be read as JSON ({error})"
        msg = f"the answer {shape}; {_ADVICE}"
        raise ProtocolError(msg) from error
    return folded.completion()


def failure(status: int | None, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The error that a response, or an error event inside one, stands for.

    Args:
        status: HTTP status; ``None`` where the response itself was a success.
        headers: of the response, names in lower case.
        body: of the response, or the event's data.
    """
    message, kind, code = error_members(body)
    try:
        members = object_of(loads_verbatim(body)) or {}
    except JsonTextError:
        members = {}
    details = object_of((object_of(members.get("error")) or {}).get("details")) or {}
    return failure_of(
        status=status,
        message=message,
        kind=kind,
        code=text_of(details.get("error_code")) or code,
        headers=headers,
        body=body,
        request_id=request_id(headers) or text_of(members.get("request_id")),
    )


def is_error(members: Mapping[str, object]) -> bool:
    """Whether an object is an error rather than a message or an event.

    Args:
        members: of a body or of an event's data.
    """
    kind = members.get("type")
    return kind == "error" or (kind is None and object_of(members.get("error")) is not None)


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's own id of the request.

    Args:
        headers: of the response, names in lower case.
    """
    return next((headers[name] for name in _ID_HEADERS if headers.get(name)), None)
