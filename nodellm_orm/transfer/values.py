"""How one value of a column is written in a file, and read from it: exact, and in one way only.

A value is a JSON string, whole number or boolean. Text is written with the escape that the database holds it with
(``store/escaping.py``), so that NUL and lone surrogates survive every JSON reader; JSON documents are text, byte for
byte. Amounts are decimals in strings, for a double would round them; whole numbers are digits. Whatever is read is
written again and compared: what was accepted is given back byte for byte by the next export.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import UUID

from sqlalchemy import JSON, Boolean, DateTime, Enum, Float, Integer, LargeBinary, Numeric, String, Uuid
from sqlalchemy.types import TypeDecorator

from nodellm_orm.domain.jsontext import JsonTextError, dumps, loads
from nodellm_orm.domain.money import PICO
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.store.escaping import escape, escape_json, escape_key, unescape, unescape_json
from nodellm_orm.store.types import Count, Id, Key, Labels, LongBlob, LongText, Money, UtcDateTime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Column
    from sqlalchemy.types import TypeEngine

Written: TypeAlias = str | int | float | bool
"""A value in a file."""

_LARGEST: Final = 2**63 - 1
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_MOST: Final = Decimal(10) ** 12


class BadValueError(ValueError):
    """A value in a file is not one of its column; says why, and quotes nothing."""


@dataclass(frozen=True, slots=True)
class Value:
    """How the values of one kind are written and read.

    Args:
        write: makes a value that is not ``None`` ready for JSON.
        read: the value again; raises `BadValueError`.
    """

    write: Callable[[Any], Written]
    read: Callable[[Any], Any]


def value_of(column: Column[Any]) -> Value:
    """How the values of a column are written and read.

    Args:
        column: one of ours, or one that a host has added.

    Raises:
        ConfigurationError: a host's column is of a type that has no exact form in a file.
    """
    kind: TypeEngine[Any] = column.type
    if isinstance(kind, Key):
        return Value(escape, _read_key(kind.length))
    for known, value in _OURS.items():
        if isinstance(kind, known):
            return value
    if isinstance(kind, TypeDecorator):
        kind = kind.impl_instance
    for known, value in _HOSTS.items():
        if isinstance(kind, known):
            return value
    msg = (
        f"column {column.name} of {column.table.name} is of the type {type(column.type).__name__}, which export does "
        "not know; use one of SQLAlchemy's own types for numbers, text, times, JSON or bytes"
    )
    raise ConfigurationError(msg)


# ── text ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _text(value: object) -> str:
    if not isinstance(value, str):
        msg = "is not a string"
        raise BadValueError(msg)
    return value


def _read_text(value: object) -> str:
    return unescape(_text(value))


def _read_key(length: int) -> Callable[[Any], str]:
    def read(value: object) -> str:
        text = unescape(_text(value))
        if len(escape_key(text)) > length:
            msg = f"is longer than {length} characters"
            raise BadValueError(msg)
        return text

    return read


def _read_id(value: object) -> UUID:
    try:
        return UUID(_text(value))
    except ValueError:
        msg = "is no UUID"
        raise BadValueError(msg) from None


def _write_labels(value: object) -> str:
    return dumps(escape_json(value))


def _read_labels(value: object) -> Mapping[str, Any]:
    parsed = _read_json(value)
    if not isinstance(parsed, dict):
        msg = "is not the text of a JSON object"
        raise BadValueError(msg)
    return parsed


def _read_json(value: object) -> Any:
    try:
        return unescape_json(loads(_text(value)))
    except JsonTextError:
        msg = "is not the text of a JSON value"
        raise BadValueError(msg) from None


def _write_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def read_bytes(value: object) -> bytes:
    """Bytes from their base64.

    Args:
        value: as in the file.

    Raises:
        BadValueError: it is no base64.
    """
    try:
        return base64.b64decode(_text(value), validate=True)
    except (binascii.Error, ValueError):
        msg = "is not base64"
        raise BadValueError(msg) from None


# ── numbers and times ─────────────────────────────────────────────────────────────────────────────────────────────


def _read_whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
        msg = "is not a whole number of 64 bits"
        raise BadValueError(msg)
    return value


def _read_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = "is not a number"
        raise BadValueError(msg)
    return float(value)


def _read_boolean(value: object) -> bool:
    if not isinstance(value, bool):
        msg = "is neither true nor false"
        raise BadValueError(msg)
    return value


def _write_amount(value: Decimal) -> str:
    """Plain digits without zeros at their end."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def _read_decimal(value: object) -> Decimal:
    try:
        number = Decimal(_text(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        msg = "is not a decimal number in a string"
        raise BadValueError(msg)
    return number


def _read_amount(value: object) -> Decimal:
    number = _read_decimal(value)
    if abs(number) >= _MOST or number != number.quantize(PICO, context=_EXACT):
        msg = "is not an amount with at most twelve digits on either side of the point"
        raise BadValueError(msg)
    return number


def _write_moment(value: datetime) -> str:
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _read_moment(value: object) -> datetime:
    text = _text(value)
    try:
        return datetime.fromisoformat(_MOMENT.fullmatch(text)[0])  # type: ignore[index]  # None is caught below
    except (ValueError, TypeError):
        msg = "is not a time in UTC with microseconds, as 2026-01-02T03:04:05.000006Z"
        raise BadValueError(msg) from None


def _write_time(value: datetime) -> str:
    return _write_moment(value) if value.tzinfo is not None else value.isoformat(timespec="microseconds")


def _read_time(value: object) -> datetime:
    text = _text(value)
    if text.endswith("Z"):
        return _read_moment(text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        msg = "is not a date and time"
        raise BadValueError(msg) from None


def _write_enum(value: object) -> str:
    return escape(str(getattr(value, "name", value)))


_TEXT: Final = Value(escape, _read_text)
_WHOLE: Final = Value(int, _read_whole)
_OURS: Final[Mapping[type[Any], Value]] = {
    Id: Value(str, _read_id),
    LongText: _TEXT,
    Labels: Value(_write_labels, _read_labels),
    UtcDateTime: Value(_write_moment, _read_moment),
    Money: Value(_write_amount, _read_amount),
    Count: _WHOLE,
    LongBlob: Value(_write_bytes, read_bytes),
}
_HOSTS: Final[Mapping[type[Any], Value]] = {
    Boolean: Value(bool, _read_boolean),
    Integer: _WHOLE,
    Float: Value(float, _read_float),
    Numeric: Value(_write_amount, _read_decimal),
    Enum: Value(_write_enum, _read_text),
    String: _TEXT,
    Uuid: Value(str, _read_id),
    DateTime: Value(_write_time, _read_time),
    JSON: Value(_write_labels, _read_json),
    LargeBinary: Value(_write_bytes, read_bytes),
}
"""What a host may add beside; also the flag and the slot among our own columns."""
