"""What other clients accept or wait for without end is a typed error here, in bounded time and in every format."""

from __future__ import annotations

import pytest

from tests.acceptance.sdk_faults import FAULTS, PAGE_OF_FAULTS, Fault, outcome, table
from tests.acceptance.speakers import ALL_APIS, Api, Speaker


@pytest.mark.parametrize("api", ALL_APIS)
@pytest.mark.parametrize("fault", [pytest.param(f, id=f.what, marks=pytest.mark.fault(f.label)) for f in FAULTS])
async def test_a_broken_answer_is_a_typed_error(fault: Fault, api: Api) -> None:
    """The error's class says what was wrong, and the page says the same."""
    name = await outcome(fault, Speaker(api))
    assert name in fault.expected
    (line,) = [line for line in PAGE_OF_FAULTS.read_text("utf-8").splitlines() if f"| {fault.what} |" in line]
    shown = line.split("|")[4].strip()
    exceptions = {part.partition(" (")[0]: part for part in shown.split(", ") if "(" in part}
    said = next((other for other, part in exceptions.items() if api in part), shown.partition(",")[0])
    assert said == name


def test_the_table_is_complete() -> None:
    """Every fault has its line on the page, with what the SDKs do."""
    page = PAGE_OF_FAULTS.read_text("utf-8").splitlines()
    heads = [line.rpartition("|")[0].rpartition("|")[0] for line in table({f.what: {"x": "y"} for f in FAULTS})[2:]]
    assert [line.rpartition("|")[0].rpartition("|")[0] for line in page if line.startswith("| A")] == heads
