"""The arguments of a call, checked before any tool sees them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nodellm_orm.domain.jsontext import MAX_DEPTH, JsonTextError, Number, Pairs, loads_verbatim

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
            beyond a double's range, nesting deeper than `MAX_DEPTH` and more than `MAX_CHARS` characters.
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
    waiting: list[tuple[object, int]] = [(root, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > MAX_DEPTH:
            msg = f"they are nested more than {MAX_DEPTH} levels deep; send a flatter object"
            raise ArgumentsError(msg)
        match value:
            case Pairs():
                _refuse_repeated(value)
                waiting.extend((item, depth + 1) for _, item in value)
            case list():
                waiting.extend((item, depth + 1) for item in value)
            case Number(text=digits) if not digits.lstrip("-").isdigit() and math.isinf(float(digits)):
                msg = f"the number {digits[:40]} is out of range"
                raise ArgumentsError(msg)


def _refuse_repeated(members: Pairs) -> None:
    seen: set[str] = set()
    for key, _ in members:
        if key in seen:
            msg = f"the key {key[:80]!a} is there twice; send each key once"
            raise ArgumentsError(msg)
        seen.add(key)
