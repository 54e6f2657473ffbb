"""What a tool returns, as the text that a model reads and a row keeps.

A string goes as it is. Everything else goes as JSON: ``None`` is ``null``, pydantic models and dataclasses
are objects, sets are sorted, and what pydantic can write (datetime, Decimal, UUID, Path, UTF-8 bytes …) is
written its way.
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, RootModel
from pydantic_core import to_jsonable_python

from nodellm_orm.domain.jsontext import MAX_DEPTH, dumps

MAX_CHARS = 100_000
"""Longer results are truncated, with a mark that says so."""


class ResultError(ValueError):
    """A result has no JSON form; the message is meant for the model and for the tool's author."""


def encode(value: object) -> str:
    """The text of a result; the same value gives the same text in every process.

    Args:
        value: what the tool returned.

    Raises:
        ResultError: for NaN and Infinity, a value that contains itself or is nested too deeply, bytes that
            are not UTF-8, keys that JSON cannot tell apart, generators, coroutines, and objects that neither
            JSON nor pydantic knows.

    Example:
        >>> encode({"b": {3, 1}, "a": None})
        '{"b":[1,3],"a":null}'
    """
    if isinstance(value, str) and not isinstance(value, Enum):
        return str.__str__(value)
    try:
        plain = _plain(value, ())
        return plain if isinstance(value, Enum) and isinstance(plain, str) else dumps(plain)
    except ResultError:
        raise
    except Exception as error:  # a boundary: serialisers, properties and iterators in here are the tool author's code
        msg = f"the {type(value).__name__} it returned has no JSON form: {error}"
        raise ResultError(msg) from error


def truncate(text: str, limit: int) -> str:
    """The text, cut to a limit with a visible mark.

    Args:
        text: the whole text.
        limit: characters, the mark included.
    """
    if len(text) <= limit:
        return text
    mark = f"\n[truncated: only the beginning of {len(text)} characters is shown]"
    return (text[: max(0, limit - len(mark))] + mark)[:limit]


def _plain(value: object, above: tuple[int, ...]) -> object:
    """JSON values only; ``above`` holds the ids of the containers around."""
    if isinstance(value, Enum):
        return _plain(value.value, above)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _finite(value)
    if len(above) > MAX_DEPTH:
        msg = f"its result is nested more than {MAX_DEPTH} levels deep"
        raise ResultError(msg)
    if id(value) in above:
        msg = f"its result contains itself (a {type(value).__name__} inside itself)"
        raise ResultError(msg)
    return _opened(value, (*above, id(value)))


def _opened(value: object, above: tuple[int, ...]) -> object:
    match value:
        case BaseModel():
            return _model(value)
        case Mapping():
            return _members(value, above)
        case list() | tuple() | deque():
            return [_plain(item, above) for item in value]
        case AbstractSet():
            return sorted((_plain(item, above) for item in value), key=_order)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {name: _plain(item, above) for name, item in _attributes(value).items()}
        case PurePath():
            return str(value)
        case _:
            _refuse_unfinished(value)
            return to_jsonable_python(value)


def _members(value: Mapping[object, object], above: tuple[int, ...]) -> dict[str, object]:
    plain = {_key(key): _plain(item, above) for key, item in value.items()}
    if len(plain) < len(value):
        msg = "it returned a mapping of which two keys are the same in JSON, such as 1 and '1'"
        raise ResultError(msg)
    return plain


def _finite(value: float) -> float:
    if not math.isfinite(value):
        msg = f"its result holds {value}, which JSON does not have; return a number, a string or None"
        raise ResultError(msg)
    return value


def _refuse_unfinished(value: object) -> None:
    if inspect.iscoroutine(value):
        value.close()  # or the interpreter warns of a coroutine that was never awaited
    if inspect.isawaitable(value):
        msg = f"it returned a {type(value).__name__} that nobody awaited; the tool has to await it (async def)"
        raise ResultError(msg)
    if isinstance(value, Iterator) or hasattr(value, "__anext__"):
        msg = f"it returned a {type(value).__name__}, not a value; the tool has to collect it into a list"
        raise ResultError(msg)


def _key(key: object) -> str:
    if isinstance(key, str) and not isinstance(key, Enum):
        return key
    return str(next(iter(to_jsonable_python({key: None}))))


def _order(plain: object) -> tuple[int, float, str]:
    """Numbers by size, then everything else by its text."""
    if isinstance(plain, int | float) and not isinstance(plain, bool):
        return 0, plain, ""
    return 1, 0.0, dumps(plain)


def _model(value: BaseModel) -> object:
    """A model by its own serialisers; only the order of sets in it is ours."""
    return settled(value, value.model_dump(mode="json", by_alias=True, warnings=False))


def settled(source: object, written: object) -> object:
    """The JSON form of a value with the lists that were sets sorted, so that it is the same in every process.

    Args:
        source: the value.
        written: what pydantic wrote for it; where its shape is another one, it stays as it is.
    """
    if isinstance(source, RootModel):
        return settled(source.root, written)
    if isinstance(written, dict) and (isinstance(source, BaseModel) or is_dataclass(source)):
        inside = _attributes(source)
        return {key: settled(inside.get(key), item) for key, item in written.items()}
    if isinstance(written, dict) and isinstance(source, Mapping) and len(source) == len(written):
        pairs = zip(source.values(), written.items(), strict=True)
        return {key: settled(inner, item) for inner, (key, item) in pairs}
    if isinstance(written, list) and isinstance(source, Sequence | AbstractSet) and len(source) == len(written):
        items = [settled(inner, item) for inner, item in zip(source, written, strict=True)]
        return sorted(items, key=_order) if isinstance(source, AbstractSet) else items
    return written


def _attributes(value: Any) -> dict[str, object]:
    """The attributes of a model or a dataclass under the names they are written with."""
    if not isinstance(value, BaseModel):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    named = {info.serialization_alias or name: name for name, info in type(value).model_fields.items()}
    return {key: getattr(value, name) for key, name in named.items()} | (value.model_extra or {})
