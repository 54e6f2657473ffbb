"""One reversible escape, so that every Python string can be stored as text in every database.

PostgreSQL refuses NUL in text, every driver refuses lone surrogates, and MySQL takes ``"k"`` and ``"k "`` for equal
keys. The escape begins with U+FDD0, a code point that Unicode sets aside for a program's own use and that therefore
occurs in no text; where it does, it is escaped itself. Ordinary text is stored as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonValue

MARK: Final = "\ufdd0"
"""Begins an escape; four hexadecimal digits of a code point follow."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff\ufdd0]")
_ESCAPED = re.compile(MARK + "([0-9a-f]{4})")


def _hide(match: re.Match[str]) -> str:
    return f"{MARK}{ord(match[0]):04x}"


def _reveal(match: re.Match[str]) -> str:
    return chr(int(match[1], 16))


def escape(text: str) -> str:
    r"""The text as every database can hold it.

    Args:
        text: any string.

    Example:
        >>> escape("plain")
        'plain'
        >>> escape("a\x00b") == "a\ufdd00000b"
        True
    """
    if text.isascii() and "\x00" not in text:
        return text
    return _UNSTORABLE.sub(_hide, text)


def unescape(text: str) -> str:
    """Read what `escape` or `escape_key` wrote.

    Args:
        text: as stored.
    """
    return _ESCAPED.sub(_reveal, text) if MARK in text else text


def escape_key(text: str) -> str:
    """As `escape`, and a space at the end too: comparisons that pad with spaces would not see it.

    Args:
        text: any string.
    """
    stored = escape(text)
    return f"{stored[:-1]}{MARK}0020" if stored.endswith(" ") else stored


def escape_json(value: object) -> object:
    """A JSON value with `escape` applied to all its strings and keys, at any depth.

    Args:
        value: JSON values; anything else is returned as it is, for the writer to judge.
    """
    match value:
        case str():
            return escape(value)
        case Mapping():
            return {escape(key) if isinstance(key, str) else key: escape_json(item) for key, item in value.items()}
        case list() | tuple():
            return [escape_json(item) for item in value]
        case _:
            return value


def unescape_json(value: JsonValue) -> JsonValue:
    """Read what `escape_json` wrote.

    Args:
        value: parsed JSON.
    """
    match value:
        case str():
            return unescape(value)
        case dict():
            return {unescape(key): unescape_json(item) for key, item in value.items()}
        case list():
            return [unescape_json(item) for item in value]
        case _:
            return value
