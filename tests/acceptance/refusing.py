"""What every refusal keeps: an error of ours that says what to do, shows no secret and no content, and no row."""

from __future__ import annotations

import inspect
import re
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest
from sqlalchemy import select

from nodellm_orm import NodeLLMError
from nodellm_orm.models import Base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.ext.asyncio import AsyncEngine

SECRET: Final = "canary.7Qw3rTz9LmX2bVn5"
"""Stands for a key or a word of a conversation that was typed in the wrong place."""
LONG: Final = "Z" * 5000
_SHOWN: Final = "Z" * 200
"""More of it than a message may quote."""
_LONGEST: Final = 700
_REMEDY: Final = re.compile(
    r"\b(add|approve|ask|check|choose|close|compact|convert|decode|delete|edit|did you mean|do that|fork|give|go on"
    r"|encrypt what|install|leave|let|load|makes? one|make|name|pass|pip install|restore|resume|run|say|send"
    r"|set|take|try|upgrade|use|wait for it|write)\b"
    r"|\b(is|are|takes) (an?|the|True or False|what|one of|text|strings)\b"
    r"|\bis '\w+'(, '\w+')* or\b|\bknown are\b"
    r"|\bthese wait\b|\bwhole number of at least\b|\bnumber of seconds\b|\bfrom 0 to 2\b|\bauto, none, required\b",
    re.IGNORECASE,
)
"""A word that tells what to do, or what the argument is."""

Case: TypeAlias = "tuple[Callable[[], object], str]"
"""A call, and what its error says."""


async def rows(engine: AsyncEngine) -> dict[str, list[str]]:
    """Everything that is stored, by table."""
    stored: dict[str, list[str]] = {}
    async with engine.connect() as connection:
        for table in Base.metadata.sorted_tables:
            stored[table.name] = sorted(repr(row) for row in await connection.execute(select(table)))
    return stored


def faults_of(error: BaseException, says: str) -> list[str]:
    """What is wrong with an error as a person reads it.

    Args:
        error: as caught.
        says: a pattern that its message has.
    """
    if not isinstance(error, NodeLLMError):
        return [f"{type(error).__name__} is none of ours: {error!s:.200}"]
    message = str(error)
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    wrong = {
        f"does not say {says!r}": not re.search(says, message),
        "does not say what to do": not _REMEDY.search(message),
        "is too long": len(message) > _LONGEST,
        "shows a secret": SECRET in told,
        "shows content": _SHOWN in told,
    }
    return [f"{fault}: {message:.300}" for fault, is_so in wrong.items() if is_so]


async def refused(engine: AsyncEngine, cases: Iterable[tuple[str, Case]]) -> None:
    """Each of these calls is refused as it should be, and leaves every row as it was.

    Args:
        engine: where the rows are.
        cases: by name; a call is a function, so that it is made one at a time.
    """
    faults: list[str] = []
    before = await rows(engine)
    for name, (call, says) in cases:
        outcome: Any = None
        try:
            outcome = call()
            if inspect.isawaitable(outcome):
                outcome = await outcome
        except Exception as error:  # noqa: BLE001 — what it is is looked at
            faults += [f"{name} {fault}" for fault in faults_of(error, says)]
        else:
            faults.append(f"{name} was accepted, and gave {outcome!r:.100}")
        if (after := await rows(engine)) != before:
            faults.append(f"{name} wrote to {[table for table in after if after[table] != before[table]]}")
            before = after
    if faults:
        pytest.fail("\n".join(faults))


def each(what: str, given: Iterable[Any], says: str, call: Callable[[Any], object]) -> list[tuple[str, Case]]:
    """A case for each of several values of one argument.

    Args:
        what: the argument.
        given: the values.
        says: what every error says.
        call: makes the call with one of them.
    """
    return [(f"{what}={value!r:.60}", (partial(call, value), says)) for value in given]
