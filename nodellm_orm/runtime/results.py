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

from pydantic import BaseModel
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
            are not UTF-8, generators, coroutines, and objects that neither JSON nor pydantic knows.

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
    return text[: max(0, limit - len(mark))] + mark


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
            return {_key(key): _plain(item, above) for key, item in value.items()}
        case list() | tuple() | deque():
            return [_plain(item, above) for item in value]
        case AbstractSet():
            return sorted((_plain(item, above) for item in value), key=_order)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {f.name: _plain(getattr(value, f.name), above) for f in fields(value)}
        case _:
            _refuse_unfinished(value)
            return to_jsonable_python(value)


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
    written = value.model_dump(mode="json", by_alias=True, warnings=False)
    return _settled(value.model_dump(mode="python", by_alias=True, warnings=False), written)


def _settled(source: object, written: object) -> object:
    """Sort the lists that were sets, by walking the value beside its JSON form."""
    if isinstance(source, Mapping) and isinstance(written, dict) and len(source) == len(written):
        pairs = zip(source.values(), written.items(), strict=True)
        return {key: _settled(inner, item) for inner, (key, item) in pairs}
    if isinstance(source, AbstractSet) and isinstance(written, list):
        return sorted(written, key=_order)
    if isinstance(source, Sequence) and isinstance(written, list) and len(source) == len(written):
        return [_settled(inner, item) for inner, item in zip(source, written, strict=True)]
    return written
