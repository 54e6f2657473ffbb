"""A response body that is not streamed, to values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.jsontext import JsonTextError, Pairs, dumps, encode, loads_verbatim
from nodellm_orm.errors import ProtocolError, ProviderConnectionError
from nodellm_orm.wire.framing import is_cut
from nodellm_orm.wire.openai import failure
from nodellm_orm.wire.openai_responses.reader import AnswerReader
from nodellm_orm.wire.values import object_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.errors import ProviderError

_ADVICE: Final = "check base_url and any proxy in between"


def parse(body: bytes) -> Completion:
    """Read a whole body of a successful response.

    Args:
        body: the body, decompressed.

    Raises:
        ProviderConnectionError: when it has been cut off.
        ProtocolError: when it is not a response of this protocol, or one that is still being made.
        ProviderError: when it is an error after all; its class is what the error's words stand for.
    """
    folded = Accumulator()
    try:
        for event in AnswerReader().end(_response(body)):
            folded.add(event)
    except JsonTextError as error:
        if is_cut(body):
            msg = "the answer was cut off on its way: its JSON has no end; ask again"
            raise ProviderConnectionError(msg) from error
        shape = "is an HTML page" if body.lstrip().startswith(b"<") else f"cannot be read as JSON ({error})"
        msg = f"the answer {shape}; {_ADVICE}"
        raise ProtocolError(msg) from error
    return folded.completion()


def error_in(members: Mapping[str, object]) -> ProviderError | None:
    """The error that an event or a body of a successful response turns out to be.

    Args:
        members: parsed verbatim.
    """
    if members.get("type") == "error":
        return failure(None, {}, encode(dumps(Pairs(members.items()))))
    error = members.get("error")
    return failure(None, {}, encode(dumps({"error": error}))) if error else None


def _response(body: bytes) -> dict[str, object]:
    """The members of a body that has an output in it, or says why it has none."""
    text = body.strip()
    if not text:
        msg = f"the answer is empty; ask again, and {_ADVICE} when it happens again"
        raise ProtocolError(msg)
    value = loads_verbatim(text)
    members = object_of(value)
    if not isinstance(value, Pairs):
        msg = f"the answer is JSON, but not an object; {_ADVICE}"
        raise ProtocolError(msg)
    error = error_in(members)
    if error is not None:
        raise error
    if not isinstance(members.get("output"), list):
        msg = f"the answer has no output; {_ADVICE}, and whether the server speaks the Responses protocol"
        raise ProtocolError(msg)
    return members
