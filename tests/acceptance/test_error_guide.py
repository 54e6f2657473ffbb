"""The tables of the errors' page say what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from nodellm_orm import NodeLLMError, ProviderError, RetryPolicy, errors
from nodellm_orm.domain.policies import DEFAULT_FALLBACK_ERRORS, DEFAULT_RETRY_STATUSES
from nodellm_orm.runtime.retry import delay_before_next
from nodellm_orm.wire.failures import failure_of

PAGE: Final = Path(__file__).parents[2] / "docs" / "errors.md"
EVERY: Final = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, NodeLLMError)]


def table(name: str) -> dict[str, dict[str, str]]:
    """The rows of a table of the page by their class."""
    text = PAGE.read_text("utf-8").partition(f"<!-- table: {name} -->\n")[2].partition("<!-- end -->")[0]
    head, _, *rows = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines())
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0].strip("`"): dict(zip(head, [*row, ""], strict=False)) for row in rows}


ROWS: Final = table("provider errors")


def statuses(cls: type[ProviderError]) -> list[int]:
    """What the row of a class says of HTTP statuses."""
    return [int(number) for number in re.findall(r"\d+", ROWS[cls.__name__]["status"])]


def test_every_error_has_its_row() -> None:
    """No class of errors is missing, and none is there that does not exist."""
    of_providers = {cls.__name__ for cls in EVERY if issubclass(cls, ProviderError)}
    assert set(ROWS) == of_providers
    assert set(table("other errors")) == {cls.__name__ for cls in EVERY} - of_providers - {"NodeLLMError"}


@pytest.mark.parametrize("cls", [cls for cls in EVERY if issubclass(cls, ProviderError)])
def test_a_row_says_what_becomes_of_an_error(cls: type[ProviderError]) -> None:
    """Its statuses give the class; it is tried again, here or elsewhere, where the row says so."""
    row = ROWS[cls.__name__]
    for status in statuses(cls):
        assert type(failure_of(status=status, message="")) is cls
    for status in statuses(cls) or [200]:
        delay = delay_before_next(RetryPolicy(), cls("x", status=status), attempt=1, delivered=False, chance=1.0)
        assert row["tried again"] == ("no" if delay is None else "yes")
    assert row["another model"] == ("yes" if issubclass(cls, DEFAULT_FALLBACK_ERRORS) else "no")


def test_every_status_that_is_tried_again_has_its_row() -> None:
    """The default policy knows no status that the page does not; 409 has a paragraph of its own."""
    told = {status for cls in EVERY if issubclass(cls, ProviderError) for status in statuses(cls)}
    assert told >= DEFAULT_RETRY_STATUSES - {409}
    assert "**409**" in PAGE.read_text("utf-8")
    assert failure_of(status=409, message="").retryable
