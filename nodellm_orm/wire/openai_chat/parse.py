"""Response bytes that are not streamed to values: an answer, or the error that a response stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.accumulator import Accumulator
from nodellm_orm.domain.jsontext import JsonTextError, Pairs, dumps, encode, loads_verbatim
from nodellm_orm.errors import ProtocolError, ProviderConnectionError
from nodellm_orm.wire.framing import is_cut
from nodellm_orm.wire.openai import failure
from nodellm_orm.wire.openai_chat.reader import AnswerReader, first_choice
from nodellm_orm.wire.values import object_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.errors import ProviderError

_ADVICE: Final = "check base_url and any proxy in between"


def parse(body: bytes, profile: ModelProfile) -> Completion:
    """Read a whole body of a successful response.

    Args:
        body: the body, decompressed.
        profile: what the model that was asked is like.

    Raises:
        ProviderConnectionError: when it has been cut off.
        ProtocolError: when it is not an answer of this protocol.
        ProviderError: when it is an error after all; its class is what the error's words stand for.
    """
    folded = Accumulator()
    try:
        members = _answer(body)
        reader = AnswerReader(profile)
        for event in reader.read(members, whole=True):
            folded.add(event)
        for event in reader.close():
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
    """The error that a chunk or a body of a successful response turns out to be.

    Args:
        members: parsed verbatim.
    """
    choice = first_choice(members)
    for found in (members.get("error"), choice.get("error") if choice else None):
        if found:
            return failure(None, {}, encode(dumps({"error": found})))
    if "error" in (members.get("object"), members.get("type")) or ("choices" not in members and "detail" in members):
        return failure(None, {}, encode(dumps(members)))
    return None


def _answer(body: bytes) -> dict[str, object]:
    """The members of a body that has a choice in it."""
    # DeepSeek sends blank lines ahead of the body while a request waits.
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
    if first_choice(members) is None:
        # OpenRouter does so now and then for no lasting reason.
        passing = "choices" in members
        msg = f"the answer has no choices; {'ask again' if passing else _ADVICE}"
        raise ProtocolError(msg, retryable=passing)
    return members
