"""JSON as text: what is replayed to a provider keeps its digits, its key order and its bytes.

A `JsonText` is a string that holds exactly one JSON document. It is embedded into a larger document as it stands
(`dumps` takes `RawJson` leaves), so a number such as ``1.50`` or ``1e5`` and a repeated key survive storage and replay.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from json.encoder import encode_basestring
from typing import Any, TypeAlias, Union

JsonText: TypeAlias = str
JsonValue: TypeAlias = Union[bool, int, float, str, "list[JsonValue]", "dict[str, JsonValue]", None]
JsonObject: TypeAlias = dict[str, JsonValue]

MAX_DEPTH = 200
"""How many arrays and objects may lie inside each other, in what is read and in what is written."""

_TOO_DEEP = f"JSON is nested more than {MAX_DEPTH} levels deep"


class JsonTextError(ValueError):
    """The text is not one JSON document, is nested too deeply, or holds NaN, Infinity or a number as good as that."""


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


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        msg = f"the number {digits[:40]} is out of range; send a smaller one, or a string"
        raise JsonTextError(msg)
    return number


def loads(data: str | bytes) -> JsonValue:
    """Parse one JSON document.

    Args:
        data: the document, as text or UTF-8 bytes.

    Raises:
        JsonTextError: when it is not JSON, not UTF-8, deeper than `MAX_DEPTH`, or holds NaN, Infinity or a number
            that a double cannot hold.
    """
    value: JsonValue = _parsed(data, partial(json.loads, parse_constant=_refuse_constant, parse_float=_finite))
    return value


def loads_doubles(data: str | bytes) -> JsonValue:
    """Parse one JSON document with a great many numbers in it, in a fraction of the time that `loads` takes.

    Args:
        data: the document, as text or UTF-8 bytes.

    Returns:
        What `loads` gives, but a number that a double cannot hold is infinite: the caller looks.

    Raises:
        JsonTextError: when it is not JSON, not UTF-8, deeper than `MAX_DEPTH`, or holds NaN or Infinity.
    """
    value: JsonValue = _parsed(data, partial(json.loads, parse_constant=_refuse_constant))
    return value


def loads_verbatim(data: str | bytes) -> object:
    """Parse JSON so that `dumps` gives back the same digits, key order and repeated keys.

    Args:
        data: the document, as text or UTF-8 bytes.

    Returns:
        Nested `Pairs`, lists, strings, booleans, ``None`` and `Number`.

    Raises:
        JsonTextError: as for `loads`, but numbers of any size are kept.
    """
    parse = partial(
        json.loads, parse_constant=_refuse_constant, parse_float=Number, parse_int=Number, object_pairs_hook=Pairs
    )
    return _parsed(data, parse)


def _parsed(data: str | bytes, parse: Callable[[str], object]) -> Any:
    try:
        # The parser would guess at an encoding and let surrogates pass.
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        value = parse(text)
    except JsonTextError:
        raise
    except RecursionError:
        raise JsonTextError(_TOO_DEEP) from None
    except ValueError as error:
        # Digits beyond int's conversion limit, bad UTF-8 and bad JSON are all ValueErrors.
        raise JsonTextError(str(error)) from error
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise JsonTextError(_TOO_DEEP)
    return value


def _depth(value: object) -> int:
    """How many containers lie inside each other, level by level: the nesting is the sender's choice."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, list | dict | Pairs)]:
        depth += 1
        level = [inner for container in level for inner in _contents(container)]
    return depth


def _contents(container: list[object] | dict[str, object] | Pairs) -> Iterable[object]:
    match container:
        case dict():
            return container.values()
        case Pairs():
            return (item for _, item in container)
        case _:
            return container


def dumps(value: Encodable) -> JsonText:
    """Write a value as compact JSON text, members in the order given.

    Args:
        value: a JSON value; `RawJson` leaves go in as they stand.

    Raises:
        JsonTextError: for NaN, Infinity, a type JSON does not have, an integer of thousands of digits, or nesting
            beyond `MAX_DEPTH`.

    Example:
        >>> dumps({"b": RawJson("1.50"), "a": "é"})
        '{"b":1.50,"a":"é"}'
    """
    out: list[str] = []
    try:
        _write(value, out, 0)
    except RecursionError:
        # The caller may itself be deep in the stack.
        raise JsonTextError(_TOO_DEEP) from None
    return "".join(out)


def _write(value: Encodable, out: list[str], depth: int) -> None:
    """Write a value that lies in ``depth`` containers."""
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
            _write_items(value, out, depth)
        case None | bool() | int() | float():
            out.append(_plain(value))
        case _:
            msg = f"{type(value).__name__} is not a JSON value; convert it to a string, number, list or dict first"
            raise JsonTextError(msg)


def _plain(value: float | None) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        msg = "NaN and Infinity are not allowed in JSON; send a number, a string or null"
        raise JsonTextError(msg)
    try:
        return json.dumps(value)
    except ValueError as error:
        msg = f"the integer cannot be written in JSON: {error}; send it as a string"
        raise JsonTextError(msg) from error


def _write_items(items: Sequence[object], out: list[str], depth: int) -> None:
    _refuse_depth(depth + 1)
    separator = "["
    for item in items:
        out.append(separator)
        _write(item, out, depth + 1)
        separator = ","
    out.append("[]" if separator == "[" else "]")


def _refuse_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise JsonTextError(_TOO_DEEP)


def _write_members(members: Iterable[tuple[object, object]], out: list[str], depth: int) -> None:
    _refuse_depth(depth + 1)
    separator = "{"
    for key, item in members:
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
