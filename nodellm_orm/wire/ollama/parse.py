"""Response bytes that are not streamed to values: an answer, or the error that a response stands for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.jsontext import JsonTextError, Pairs, dumps, encode, loads_verbatim
from nodellm_orm.errors import ProtocolError, ProviderConnectionError
from nodellm_orm.wire.failures import error_members, failure_of
from nodellm_orm.wire.framing import is_cut
from nodellm_orm.wire.ollama.reader import AnswerReader
from nodellm_orm.wire.values import object_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.errors import ProviderError

_ID_HEADER: Final = "x-request-id"
_ADVICE: Final = "check base_url and any proxy in between"
_CUT: Final = "the answer was cut off on its way; ask again"
_ABSENT: Final = re.compile(r"model [\"']?(?P<name>[^\s\"']+)[\"']? not found", re.IGNORECASE)
_REMEDIES: Final = (
    (re.compile(r"does not support tools", re.IGNORECASE), "leave the tools out, or use a model that has them"),
    (re.compile(r"does not support thinking", re.IGNORECASE), "do not ask this model to think, or use one that does"),
    (
        re.compile(r"context (?:length|size|window)", re.IGNORECASE),
        'the server can load the model with more room: params={"options": {"num_ctx": 32768}}',
    ),
)
"""What to do about messages that the server leaves at a statement."""


def parse(body: bytes, profile: ModelProfile) -> Completion:
    """Read a whole body of a successful response.

    Args:
        body: the body, decompressed; also the lines that a stream has.
        profile: what the model that was asked is like.

    Raises:
        ProviderConnectionError: when it has been cut off.
        ProtocolError: when it is not an answer of this protocol.
        ProviderError: when it is an error after all; its class is what the error's words stand for.
    """
    folded = Accumulator()
    try:
        for event in _events(body.strip(), AnswerReader(profile)):
            folded.add(event)
    except JsonTextError as error:
        if is_cut(body.strip().rpartition(b"\n")[2]):
            raise ProviderConnectionError(_CUT) from error
        shape = "is an HTML page" if body.lstrip().startswith(b"<") else f"cannot be read as JSON ({error})"
        msg = f"the answer {shape}; {_ADVICE}"
        raise ProtocolError(msg) from error
    return folded.completion()


def _events(body: bytes, reader: AnswerReader) -> Iterator[Event]:
    if not body:
        msg = f"the answer is empty; ask again, and {_ADVICE} when it happens again"
        raise ProtocolError(msg)
    unfinished = False
    for value in _documents(body):
        members = members_of(value)
        if (error := error_in(members)) is not None:
            raise error
        unfinished = members.get("done") is False
        yield from reader.read(members)
    if not reader.begun:
        msg = f"the answer has no message; {_ADVICE}"
        raise ProtocolError(msg)
    if unfinished and not reader.done:
        raise ProviderConnectionError(_CUT)
    yield from reader.close()


def _documents(body: bytes) -> Iterator[object]:
    """The body as one document; as one a line where a server streamed although it was not asked to."""
    try:
        whole = loads_verbatim(body)
    except JsonTextError:
        lines = [line for line in body.splitlines() if line.strip()]
        if len(lines) == 1:
            raise
        yield from map(loads_verbatim, lines)
        return
    yield whole


def members_of(value: object) -> dict[str, object]:
    """The members of a chunk or a body.

    Args:
        value: parsed verbatim.

    Raises:
        ProtocolError: when it is not an object.
    """
    if not isinstance(value, Pairs):
        msg = f"the answer is JSON, but not an object; {_ADVICE}"
        raise ProtocolError(msg)
    return object_of(value)


def error_in(members: Mapping[str, object]) -> ProviderError | None:
    """The error that a chunk or a body of a successful response turns out to be.

    Args:
        members: parsed verbatim.
    """
    return failure(None, {}, encode(dumps(members))) if members.get("error") else None


def failure(status: int | None, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The error that a response, or an error inside one, stands for.

    Args:
        status: HTTP status; ``None`` where the response itself was a success.
        headers: of the response, names in lower case.
        body: of the response, or the line of the stream.
    """
    message, kind, code = error_members(body)
    if message.lstrip().startswith("{"):
        # The error of the process that runs the model, handed on as it came.
        inner, kind, code = error_members(message.encode("utf-8", "replace"))
        message = inner or message
    if absent := _ABSENT.search(message):
        message = f"{message}; `ollama pull {absent['name']}` fetches it"
        code = code or "model_not_found"
    remedy = next((words for said, words in _REMEDIES if said.search(message)), None)
    return failure_of(
        status=status,
        message=f"{message}; {remedy}" if remedy else message,
        kind=kind,
        code=code,
        headers=headers,
        body=body,
        request_id=request_id(headers),
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's own id of the request; only its cloud gives one.

    Args:
        headers: of the response, names in lower case.
    """
    return headers.get(_ID_HEADER) or None
