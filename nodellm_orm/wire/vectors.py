"""Vectors in answers: as many as there were texts, all of one length, and nothing in them that is no number."""

from __future__ import annotations

import math
import struct
from base64 import b64decode
from typing import TYPE_CHECKING, Final

from nodellm_orm.domain.jsontext import JsonTextError, dumps, loads_doubles, loads_verbatim
from nodellm_orm.errors import ProtocolError, ProviderConnectionError, UnsupportedFeatureError
from nodellm_orm.wire.framing import is_cut
from nodellm_orm.wire.values import object_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodellm_orm.domain.embeddings import Vector
    from nodellm_orm.domain.jsontext import JsonObject
    from nodellm_orm.ports.wire import EmbeddingRequest

ADVICE: Final = "check base_url and any proxy in between"
_NUMBERS: Final = frozenset({float, int})
_FLOAT32: Final = 4
"""Bytes of a number, little-endian, where vectors come packed."""


def length_member(request: EmbeddingRequest) -> dict[str, object]:
    """The member that asks for vectors of a length; nothing where none is asked for.

    Args:
        request: says which length, and by its profile how it is asked for.

    Raises:
        UnsupportedFeatureError: the model's vectors have one length only.
    """
    if request.dimensions is None:
        return {}
    member = request.profile.embedding_dimensions
    if member is None:
        msg = f"the vectors of {request.model} have one length only; leave dimensions out, or use another model"
        raise UnsupportedFeatureError(msg)
    return {member: request.dimensions}


def members_of(body: bytes) -> JsonObject:
    """The members of an answer; its numbers are doubles.

    Args:
        body: of a successful response.

    Raises:
        ProviderConnectionError: it has been cut off.
        ProtocolError: it is not a JSON object.
    """
    text = body.strip()
    if not text:
        msg = f"the answer is empty; ask again, and {ADVICE} when it happens again"
        raise ProtocolError(msg)
    try:
        value = loads_doubles(text)
    except JsonTextError as error:
        if is_cut(text):
            msg = "the answer was cut off on its way: its JSON has no end; ask again"
            raise ProviderConnectionError(msg) from error
        shape = "is an HTML page" if text.startswith(b"<") else f"cannot be read as JSON ({error})"
        msg = f"the answer {shape}; {ADVICE}"
        raise ProtocolError(msg) from error
    if not isinstance(value, dict):
        msg = f"the answer is JSON, but not an object; {ADVICE}"
        raise ProtocolError(msg)
    return value


def verbatim(value: object) -> dict[str, object]:
    """A member of an answer as the readers of `wire.values` take it; nothing for what is no object.

    A double is written with the fewest digits that mean it, which are those that a server wrote.

    Args:
        value: of `members_of`.
    """
    return object_of(loads_verbatim(dumps(value))) if isinstance(value, dict) else {}


def vectors_of(found: Sequence[object], request: EmbeddingRequest) -> tuple[Vector, ...]:
    """The vectors of an answer.

    Args:
        found: one a text, in the order of the texts: a list of numbers, or numbers packed and written in base64.
        request: what was asked.

    Raises:
        ProtocolError: there are not as many as texts, one of them is no vector, or their lengths are not right.
    """
    if len(found) != len(request.texts):
        msg = f"{len(request.texts)} texts were sent and {len(found)} vectors came back; ask again, or {ADVICE}"
        raise ProtocolError(msg)
    vectors = tuple(_vector(value, place) for place, value in enumerate(found))
    lengths = sorted({len(vector) for vector in vectors})
    if len(lengths) > 1:
        msg = f"the vectors of one answer have different lengths ({', '.join(map(str, lengths))}); {ADVICE}"
        raise ProtocolError(msg)
    # A form that the caller has asked for himself may pack several dimensions into a number.
    if request.dimensions is not None and not request.params and lengths != [request.dimensions]:
        msg = (
            f"vectors of {request.dimensions} numbers were asked for and {request.model} gave {lengths[0]}: it has "
            "that length only; leave dimensions out, or use another model"
        )
        raise ProtocolError(msg)
    return vectors


def _vector(value: object, place: int) -> Vector:
    numbers = _unpacked(value) if isinstance(value, str) else _numbers(value)
    if not numbers or not all(map(math.isfinite, numbers)):
        msg = f"what came back for text {place + 1} is no vector of numbers; ask again, or {ADVICE}"
        raise ProtocolError(msg)
    return numbers


def _numbers(value: object) -> Vector:
    """The numbers of a list; none where anything else is in it, such as the ``null`` that stands for NaN."""
    if not isinstance(value, list) or not _NUMBERS.issuperset(map(type, value)):
        return ()
    try:
        return tuple(map(float, value))
    except OverflowError:
        return ()


def _unpacked(text: str) -> Vector:
    try:
        packed = b64decode(text, validate=True)
    except ValueError:
        return ()
    count, rest = divmod(len(packed), _FLOAT32)
    return () if rest else struct.unpack(f"<{count}f", packed)
