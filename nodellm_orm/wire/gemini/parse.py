"""Response bytes that are not streamed to values: an answer, or the error that a response stands for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.jsontext import JsonTextError, Pairs, dumps, encode, loads_verbatim
from nodellm_orm.errors import ProtocolError, ProviderConnectionError
from nodellm_orm.wire.failures import error_members, failure_of
from nodellm_orm.wire.framing import is_cut
from nodellm_orm.wire.gemini.reader import AnswerReader
from nodellm_orm.wire.values import list_of, object_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.errors import ProviderError

_ID_HEADERS: Final = ("x-request-id", "x-goog-request-id")
_ADVICE: Final = "check base_url and any proxy in between"
_CUT: Final = "the answer was cut off on its way: its JSON has no end; ask again"
_SECONDS: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)s")
_EMPTY_ACCOUNT: Final = re.compile(r"credits are depleted", re.IGNORECASE)
_UNPAID: Final = re.compile(r"\bbilling\b", re.IGNORECASE)


def parse(body: bytes, profile: ModelProfile) -> Completion:
    """Read a whole body of a successful response.

    Args:
        body: the body, decompressed; also the list of chunks that a stream is without ``alt=sse``.
        profile: what the model that was asked is like.

    Raises:
        ProviderConnectionError: when it has been cut off.
        ProtocolError: when it is not an answer of this protocol.
        ProviderError: when it is an error after all; its class is what the error's words stand for.
    """
    folded = Accumulator()
    try:
        for event in _events(body, AnswerReader(profile)):
            folded.add(event)
    except JsonTextError as error:
        text = body.strip()
        if is_cut(text) or (text.startswith(b"[") and not text.endswith(b"]")):
            raise ProviderConnectionError(_CUT) from error
        shape = "is an HTML page" if text.startswith(b"<") else f"cannot be read as JSON ({error})"
        msg = f"the answer {shape}; {_ADVICE}"
        raise ProtocolError(msg) from error
    return folded.completion()


def _events(body: bytes, reader: AnswerReader) -> Iterator[Event]:
    if not body.strip():
        msg = f"the answer is empty; ask again, and {_ADVICE} when it happens again"
        raise ProtocolError(msg)
    value = loads_verbatim(body)
    chunks = value if isinstance(value, list) else [value]
    for chunk in chunks:
        if not isinstance(chunk, Pairs):
            msg = f"the answer is JSON, but not an object; {_ADVICE}"
            raise ProtocolError(msg)
        members = object_of(chunk)
        error = error_in(members)
        if error is not None:
            raise error
        yield from reader.read(members)
    if not reader.begun:
        # The API itself does so now and then for no lasting reason; a body without tokens is somebody else's.
        passing = any("usageMetadata" in object_of(chunk) for chunk in chunks)
        msg = f"the answer has no candidates; {'ask again' if passing else _ADVICE}"
        raise ProtocolError(msg, retryable=passing)
    if isinstance(value, list) and reader.finish is None:
        raise ProviderConnectionError(_CUT)
    yield from reader.close()


def error_in(members: Mapping[str, object]) -> ProviderError | None:
    """The error that a chunk or a body of a successful response turns out to be.

    Args:
        members: parsed verbatim.
    """
    found = members.get("error")
    return failure(None, {}, encode(dumps({"error": found}))) if found else None


def failure(status: int | None, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The error that a response, or an error inside one, stands for.

    Args:
        status: HTTP status; ``None`` where the response itself was a success.
        headers: of the response, names in lower case.
        body: of the response, or the data of the event: an object, or a list of one.
    """
    message, kind, code = error_members(body)
    details = _details(body)
    delay = _retry_delay(details)
    said = headers
    if delay is not None and "retry-after" not in headers:
        said = {**headers, "retry-after": delay}
    verdict = _verdict(details, kind, message)
    if delay is not None and verdict is None and "retry in" not in message.lower():
        # The API calls its rates quotas too; that there is a time to come back tells a rate from an empty account.
        message = f"{message.rstrip('. ')}; retry in {delay} s"
    return failure_of(
        status=status,
        message=message,
        kind=kind,
        code=verdict or code,
        headers=said,
        body=body,
        request_id=request_id(headers) or _first(details, "RequestInfo", "requestId"),
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's own id of the request; the API gives none in its headers, but gateways do.

    Args:
        headers: of the response, names in lower case.
    """
    return next((headers[name] for name in _ID_HEADERS if headers.get(name)), None)


def _details(body: bytes) -> list[dict[str, object]]:
    """The details of an error body, each with its type as ``@type``."""
    try:
        value = loads_verbatim(body)
    except JsonTextError:
        return []
    bodies = value if isinstance(value, list) else [value]
    errors = (object_of(object_of(item).get("error")) for item in bodies)
    return [members for error in errors for item in list_of(error.get("details")) if (members := object_of(item))]


def _of_type(details: list[dict[str, object]], name: str) -> Iterator[dict[str, object]]:
    return (members for members in details if text_of(members.get("@type")).endswith(f".{name}"))


def _first(details: list[dict[str, object]], name: str, member: str) -> str | None:
    return next((found for members in _of_type(details, name) if (found := text_of(members.get(member)))), None)


def _retry_delay(details: list[dict[str, object]]) -> str | None:
    """Seconds after which to come back; headers do not say."""
    found = _SECONDS.fullmatch(_first(details, "RetryInfo", "retryDelay") or "")
    return found[1] if found else None


def _verdict(details: list[dict[str, object]], kind: str | None, message: str) -> str | None:
    """The word for what the status does not tell: a refused key, a spent quota, an unpaid bill."""
    if _first(details, "ErrorInfo", "reason") == "API_KEY_INVALID":
        return "api_key_invalid"
    violations = (
        object_of(item) for members in _of_type(details, "QuotaFailure") for item in list_of(members.get("violations"))
    )
    for violation in violations:
        if "perday" in text_of(violation.get("quotaId")).lower() or violation.get("quotaValue") == "0":
            return "insufficient_quota"
    unpaid = _EMPTY_ACCOUNT.search(message) or (kind == "FAILED_PRECONDITION" and _UNPAID.search(message))
    return "billing_not_active" if unpaid else None
