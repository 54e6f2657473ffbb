"""Exact money: US dollars as `Decimal`, unknown as ``None``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonText

PICO = Decimal("1e-12")
"""Costs are kept to one millionth of a millionth of a dollar: DECIMAL(24,12), or integer pico-dollars on SQLite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs, in US dollars per million tokens; ``None`` is unknown, 0 is free.

    Args:
        input: uncached prompt tokens.
        output: answer tokens, reasoning included unless ``reasoning`` is given.
        cached: prompt tokens read from the provider's cache; defaults to ``input``.
        cache_write: prompt tokens written to the cache; defaults to ``input``.
        cache_write_1h: prompt tokens written to a cache that lives an hour; defaults to ``cache_write``.
        reasoning: reasoning tokens, where they have a rate of their own.
        input_audio: prompt tokens of sound; defaults to ``input``, as those of images and films do.
        input_image: prompt tokens of images.
        input_video: prompt tokens of films.
        output_audio: answer tokens of sound; defaults to ``output``, as those of images and films do.
        output_image: answer tokens of images.
        output_video: answer tokens of films.

    Raises:
        ConfigurationError: for a price that is negative or not a number.
    """

    input: Decimal | int | float | str
    output: Decimal | int | float | str
    cached: Decimal | int | float | str | None = None
    cache_write: Decimal | int | float | str | None = None
    cache_write_1h: Decimal | int | float | str | None = None
    reasoning: Decimal | int | float | str | None = None
    input_audio: Decimal | int | float | str | None = None
    input_image: Decimal | int | float | str | None = None
    input_video: Decimal | int | float | str | None = None
    output_audio: Decimal | int | float | str | None = None
    output_image: Decimal | int | float | str | None = None
    output_video: Decimal | int | float | str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no price before anything has been spent."""
        for f in fields(self):
            amount = getattr(self, f.name)
            if amount is None and f.default is None:
                continue
            try:
                sound = exact(amount) >= 0
            except InvalidOperation:
                sound = False
            if not sound:
                msg = f"{f.name}={str(amount)[:40]!r} is not a price; give dollars per million tokens, 0 or more"
                raise ConfigurationError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one request cost, with the prices it was computed from."""

    total: Decimal | None = None
    input: Decimal | None = None
    output: Decimal | None = None
    prices: JsonText | None = None
    """The snapshot: quantity and unit price by token class."""
    source: str | None = None
    """Where the prices come from: ``provider``, ``user``, or name and version of the price list."""


UNKNOWN_COST = Cost()


def exact(amount: Decimal | float | str) -> Decimal:
    """A decimal with the digits the amount is written with (0.1 is a tenth, not its binary neighbour).

    Raises:
        InvalidOperation: when it is not a finite number.
    """
    number = amount if isinstance(amount, Decimal) else Decimal(str(amount))
    if not number.is_finite():
        raise InvalidOperation
    return number


def add(left: Decimal | None, right: Decimal | None) -> Decimal | None:
    """The sum of what is known; ``None`` only when neither is."""
    if left is None or right is None:
        return right if left is None else left
    return left + right
