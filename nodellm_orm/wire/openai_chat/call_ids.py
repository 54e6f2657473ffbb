"""Ids of calls as servers with narrow rules take them."""

from __future__ import annotations

import hashlib
import string
from typing import Final

from nodellm_orm.domain.jsontext import encode

_LETTERS: Final = string.digits + string.ascii_letters
_LEGAL: Final = frozenset(_LETTERS)


def wire_call_id(call_id: str, length: int | None) -> str:
    """The id that a call and its result go out with: always the same one for the same call.

    Args:
        call_id: the call's id in the chat.
        length: letters and digits that it has to have; ``None`` where any id will do.

    Example:
        >>> wire_call_id("Or5TU38vr", 9), wire_call_id("call_1", None), len(wire_call_id("call_1", 9))
        ('Or5TU38vr', 'call_1', 9)
    """
    if length is None or (len(call_id) == length and _LEGAL.issuperset(call_id)):
        return call_id
    number = int.from_bytes(hashlib.sha256(encode(call_id)).digest())
    letters: list[str] = []
    for _ in range(length):
        number, place = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[place])
    return "".join(letters)
