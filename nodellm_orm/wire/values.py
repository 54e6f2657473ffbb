"""Reads values out of parsed JSON whatever is really there: look-alikes put anything anywhere."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from nodellm_orm.domain.jsontext import Number, Pairs

_COUNT_DIGITS = 18
_MAX_AMOUNT = Decimal(1_000_000)


def object_of(value: object) -> dict[str, object]:
    """The members of an object, of a repeated one the last; nothing for anything else."""
    return dict(value) if isinstance(value, Pairs) else {}


def list_of(value: object) -> list[object]:
    """The items of a list; nothing for anything else."""
    return value if isinstance(value, list) else []


def text_of(value: object) -> str:
    """A string; empty for anything else."""
    return value if isinstance(value, str) else ""


def count_of(value: object) -> int | None:
    """A whole number from 0 on; ``None`` for anything else."""
    if not isinstance(value, Number):
        return None
    digits = value.text.removesuffix(".0")
    return int(digits) if digits.isdecimal() and len(digits) <= _COUNT_DIGITS else None


def amount_of(value: object, shift: int = 0) -> Decimal | None:
    """An amount of money, exactly as it is written; ``None`` for anything else.

    Args:
        value: the member, parsed verbatim.
        shift: powers of ten to shift by.
    """
    if not isinstance(value, Number):
        return None
    try:
        amount = Decimal(value.text).scaleb(shift) if shift else Decimal(value.text)
    except InvalidOperation:
        return None
    return amount if 0 <= amount <= _MAX_AMOUNT else None


def says_nothing(value: object) -> bool:
    """Whether a member might as well be missing: null, or empty."""
    return value is None or value == "" or (isinstance(value, list | Pairs) and not value)
