"""Looks into JSON that was read verbatim: objects, texts and counts, ``None`` for whatever is not one."""

from __future__ import annotations

from nodellm_orm.domain.jsontext import JsonText, JsonTextError, Number, Pairs, dumps, loads_verbatim


def object_of(value: object) -> dict[str, object] | None:
    """The members of an object; of a repeated one the last, as everywhere in JSON.

    Args:
        value: what `loads_verbatim` gave, or a part of it.
    """
    return dict(value) if isinstance(value, Pairs) else None


def text_of(value: object) -> str | None:
    """The value when it is a string that is not empty."""
    return value if isinstance(value, str) and value else None


def count_of(value: object) -> int | None:
    """The value when it is a whole number from 0 on: nothing else is a count of tokens."""
    digits = value.text if isinstance(value, Number) else ""
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < _ABSURD else None


def canonical(text: str) -> JsonText | None:
    """The same JSON document without blanks between its tokens, digits and key order as they were.

    Args:
        text: what may be JSON.

    Returns:
        ``None`` when it is not a JSON document.
    """
    try:
        return dumps(loads_verbatim(text))
    except JsonTextError:
        return None


_ABSURD = 19
"""Digits of a count that no column of 64 bits holds."""
