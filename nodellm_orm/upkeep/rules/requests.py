"""What must hold of the ledger: nothing negative, sums that follow, nothing open behind an ended turn."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, get_args

from nodellm_orm.domain.jsontext import JsonTextError, loads
from nodellm_orm.domain.money import PICO, exact
from nodellm_orm.ports.statuses import AttemptStatus
from nodellm_orm.upkeep.readable import unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodellm_orm.upkeep.findings import Notebook

_STATUSES: Final = frozenset(get_args(AttemptStatus))
_TOKENS: Final = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_COSTS: Final = ("cost", "input_cost", "output_cost")
_BY_TOKENS: Final = 1_000_000
"""Prices of tokens are for so many; those of other things are for a thousand uses."""


def check_request(book: Notebook, table: str, row: Mapping[str, Any]) -> None:
    """One row of the ledger.

    Args:
        book: takes down what is found.
        table: its name.
        row: values by column, and ``turn_status``: that of the turn in its chat, ``None`` when there is none.
    """
    key = row["id"]
    if names := unreadable(row):
        book.damage(table, key, "unreadable", f"{', '.join(names)} cannot be read")
        return
    if row["status"] not in _STATUSES:
        book.damage(table, key, "word", f"{row['status']:.40} is no status of a request")
    elif row["status"] == "started" and row["turn_status"] not in {None, "running"}:
        told = f"the request is started, and its turn is {row['turn_status']:.20}"
        book.damage(table, key, "request-open", told)
    counts = {**{name: row[name] for name in _TOKENS}, **row["other_tokens"]}
    if wrong := [name for name, count in counts.items() if not _sound(count)]:
        book.damage(table, key, "tokens", f"{', '.join(wrong):.200} is no number of 0 or more")
    if negative := [name for name in _COSTS if row[name] is not None and row[name] < 0]:
        book.damage(table, key, "cost", f"{', '.join(negative)} is negative")
        return
    _check_sum(book, table, row)


def _sound(count: object) -> bool:
    return count is None or (isinstance(count, int) and not isinstance(count, bool) and count >= 0)


def _check_sum(book: Notebook, table: str, row: Mapping[str, Any]) -> None:
    further: Decimal | None = Decimal(0)
    if row["prices"] is not None:
        try:
            further = _beside_tokens(loads(row["prices"]))
        except JsonTextError:
            book.damage(table, row["id"], "prices", "the prices are not JSON")
            return
    total, parts = row["cost"], (row["input_cost"], row["output_cost"])
    if total is None or further is None or None in parts:
        return
    if total != sum(parts) + further:
        beside = f" + {further.normalize():f} for tools" if further else ""
        told = f"cost is {total}, and input_cost + output_cost{beside} is {sum(parts) + further}"
        book.damage(table, row["id"], "cost", told)


def _beside_tokens(prices: object) -> Decimal | None:
    """What the snapshot charges beside tokens; ``None`` when it does not say."""
    classes = prices.get("classes") if isinstance(prices, dict) else None
    if not isinstance(classes, dict):
        return None
    total = Decimal(0)
    for line in classes.values():
        if not isinstance(line, dict):
            return None
        if line.get("per") == _BY_TOKENS:
            continue
        try:
            amount = exact(str(line["quantity"])) * exact(str(line["price"])) / exact(str(line["per"]))
        except (KeyError, ArithmeticError, InvalidOperation):
            return None
        total += amount.quantize(PICO)
    return total
