"""The arguments of a call, checked before any tool sees them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nodellm_orm.domain.jsontext import JsonTextError, Number, Pairs, loads_verbatim

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonText

MAX_CHARS = 1_000_000
"""Longer arguments are refused unread."""


class ArgumentsError(ValueError):
    """The arguments cannot be used; the message is meant for the model."""


def checked(text: JsonText) -> JsonText:
    """The arguments if they are one JSON object that every JSON parser reads alike.

    Args:
        text: as received. Nothing at all stands for no arguments: some models write it so.

    Raises:
        ArgumentsError: for what is not JSON or not an object, and for repeated keys, NaN, Infinity, numbers
            beyond a double's range, nesting deeper than `jsontext.MAX_DEPTH` and more than `MAX_CHARS` characters.
    """
    if len(text) > MAX_CHARS:
        msg = f"they are {len(text)} characters long, more than the {MAX_CHARS} allowed; send less"
        raise ArgumentsError(msg)
    if not text.strip():
        return "{}"
    try:
        value = loads_verbatim(text)
    except JsonTextError as error:
        msg = f"they are not valid JSON: {error}"
        raise ArgumentsError(msg) from error
    if not isinstance(value, Pairs):
        msg = "they are not a JSON object; send an object with one member for each argument"
        raise ArgumentsError(msg)
    _check(value)
    return text


def _check(root: Pairs) -> None:
    """Walk without recursion: the nesting is the sender's choice."""
    waiting: list[object] = [root]
    while waiting:
        match waiting.pop():
            case Pairs() as members:
                _refuse_repeated(members)
                waiting.extend(item for _, item in members)
            case list() as items:
                waiting.extend(items)
            case Number(text=digits) if math.isinf(float(digits)):
                msg = f"the number {digits[:40]} is out of range; send a smaller one"
                raise ArgumentsError(msg)


def _refuse_repeated(members: Pairs) -> None:
    seen: set[str] = set()
    for key, _ in members:
        if key in seen:
            msg = f"the key {key[:80]!a} is there twice; send each key once"
            raise ArgumentsError(msg)
        seen.add(key)
