"""JSON as text: what is replayed to a provider keeps its digits, its key order and its bytes.

A `JsonText` is a string that holds exactly one JSON document. It is embedded into a larger document as it stands
(`dumps` takes `RawJson` leaves), so a number such as ``1.50`` or ``1e5`` and a repeated key survive storage and replay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import TypeAlias, Union

JsonText: TypeAlias = str
JsonValue: TypeAlias = Union[bool, int, float, str, "list[JsonValue]", "dict[str, JsonValue]", None]
JsonObject: TypeAlias = dict[str, JsonValue]

MAX_DEPTH = 200
"""Nesting beyond this is refused before the C parser's own recursion limit is met."""


class JsonTextError(ValueError):
    """The text is not one JSON document, is nested too deeply, or holds NaN or Infinity."""


@dataclass(frozen=True, slots=True)
class RawJson:
    """A piece of JSON text that `dumps` puts into a document unchanged."""

    text: JsonText


@dataclass(frozen=True, slots=True)
class Number:
    """A JSON number with the digits it was written with."""

    text: str


class Pairs(tuple[tuple[str, object], ...]):
    """The members of a JSON object in the order received, repeated keys included."""

    __slots__ = ()


Encodable: TypeAlias = object
"""What `dumps` takes: JSON values, tuples, mappings, `RawJson`, `Number` and `Pairs` at any depth."""


def _refuse_constant(word: str) -> object:
    msg = f"{word} is not allowed in JSON; send a number, a string or null"
    raise JsonTextError(msg)


def loads(data: str | bytes) -> JsonValue:
    """Parse one JSON document.

    Args:
        data: the document, as text or UTF-8 bytes.

    Raises:
        JsonTextError: when it is not JSON, not UTF-8, too deep, or holds NaN or Infinity.
    """
    try:
        value: JsonValue = json.loads(data, parse_constant=_refuse_constant)
    except RecursionError:
        msg = "JSON is nested too deeply"
        raise JsonTextError(msg) from None
    except ValueError as error:
        # Digits beyond int's conversion limit, bad UTF-8 and bad JSON are all ValueErrors.
        raise JsonTextError(str(error)) from error
    return value


def loads_verbatim(data: str | bytes) -> object:
    """Parse JSON so that `dumps` gives back the same digits, key order and repeated keys.

    Args:
        data: the document, as text or UTF-8 bytes.

    Returns:
        Nested `Pairs`, lists, strings, booleans, ``None`` and `Number`.

    Raises:
        JsonTextError: as for `loads`.
    """
    try:
        value: object = json.loads(
            data, parse_constant=_refuse_constant, parse_float=Number, parse_int=Number, object_pairs_hook=Pairs
        )
    except RecursionError:
        msg = "JSON is nested too deeply"
        raise JsonTextError(msg) from None
    except ValueError as error:
        raise JsonTextError(str(error)) from error
    return value


def dumps(value: Encodable) -> JsonText:
    """Write a value as compact JSON text, members in the order given.

    Args:
        value: a JSON value; `RawJson` leaves go in as they stand.

    Raises:
        JsonTextError: for NaN, Infinity, a type JSON does not have, or nesting beyond `MAX_DEPTH`.

    Example:
        >>> dumps({"b": RawJson("1.50"), "a": "é"})
        '{"b":1.50,"a":"é"}'
    """
    out: list[str] = []
    _write(value, out, 0)
    return "".join(out)


def _write(value: Encodable, out: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        msg = f"JSON is nested more than {MAX_DEPTH} levels deep"
        raise JsonTextError(msg)
    match value:
        case str():
            out.append(encode_basestring(value))
        case RawJson(text=text) | Number(text=text):
            out.append(text)
        case Pairs():
            _write_members(value, out, depth)
        case Mapping():
            _write_members(value.items(), out, depth)
        case Sequence() if not isinstance(value, (bytes, bytearray, memoryview)):
            separator = "["
            for item in value:
                out.append(separator)
                _write(item, out, depth + 1)
                separator = ","
            out.append("[]" if separator == "[" else "]")
        case None | bool() | int() | float():
            try:
                out.append(json.dumps(value, allow_nan=False))
            except ValueError as error:
                msg = "NaN and Infinity are not allowed in JSON; send a number, a string or null"
                raise JsonTextError(msg) from error
        case _:
            msg = f"{type(value).__name__} is not a JSON value; convert it to a string, number, list or dict first"
            raise JsonTextError(msg)


def _write_members(members: object, out: list[str], depth: int) -> None:
    separator = "{"
    for key, item in members:  # type: ignore[attr-defined]  # Pairs and dict items share only the iteration
        if not isinstance(key, str):
            msg = f"JSON object keys are strings, not {type(key).__name__}"
            raise JsonTextError(msg)
        out.append(separator)
        out.append(encode_basestring(key))
        out.append(":")
        _write(item, out, depth + 1)
        separator = ","
    out.append("{}" if separator == "{" else "}")


def encode(text: JsonText) -> bytes:
    """UTF-8 bytes of a JSON document; a lone surrogate goes out as the JSON escape it came in as."""
    return text.encode("utf-8", "backslashreplace")


def join_surrogates(text: str) -> str:
    """Join surrogate halves that arrived in separate pieces into the character they stand for."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text
