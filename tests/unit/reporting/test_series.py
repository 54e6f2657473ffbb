"""Rows of a report as series: nothing is lost between times and groups, and sums stay exact."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from nodellm_orm.reporting.rows import UsageRow
from nodellm_orm.reporting.series import added, fitting, places, ranked, timeline

if TYPE_CHECKING:
    from nodellm_orm.reporting.rows import GroupValue


def line(cost: str | None, requests: int = 1, **keys: GroupValue) -> UsageRow:
    """One group."""
    return UsageRow(
        keys=keys,
        requests=requests,
        failures=0,
        unpriced=0 if cost else requests,
        input_tokens=2**70,
        cached_tokens=None,
        cache_write_tokens=None,
        output_tokens=None,
        reasoning_tokens=None,
        cost=None if cost is None else Decimal(cost),
        latency_p50=10,
        latency_p95=20,
        first_token_p50=None,
        first_token_p95=None,
    )


def cost(row: UsageRow) -> Decimal | None:
    """What groups are ranked by here."""
    return row.cost


def test_sums_are_exact_beyond_what_a_context_keeps() -> None:
    """Costs of many digits and counts beyond 64 bits lose nothing; unknown ones are left out."""
    total = added([line("900000000000000000000.000000000001"), line("0.000000000001"), line(None)])

    assert total.cost == Decimal("900000000000000000000.000000000002")
    assert total.input_tokens == 3 * 2**70
    assert (total.requests, total.unpriced, total.output_tokens, total.latency_p50) == (3, 1, None, None)
    assert added([line(None)]).cost is None
    assert added([line("1")]).latency_p95 == 20


def test_values_that_compare_equal_are_groups_of_their_own() -> None:
    """1, 1.0, true and "1" are four groups, in the order of their costs, the unknown one last."""
    values: list[GroupValue] = [1, 1.0, True, "1", None]
    rows = [line(None if value is None else str(number), x=value) for number, value in enumerate(values)]

    found = ranked(rows, ["x"], cost, most=5)

    assert [(type(one.keys["x"]), one.keys["x"]) for one in found] == [
        (str, "1"),
        (bool, True),
        (float, 1.0),
        (int, 1),
        (type(None), None),
    ]


def test_of_too_many_groups_the_last_has_all_others() -> None:
    """No more series than allowed, and all of them together are all rows, at every time too."""
    days = [date(2026, 1, 1), date(2026, 1, 4)]
    rows = [line(f"{number}.5", day=day, owner=f"o{number}") for day in days for number in range(10)]

    found = timeline(rows, ZoneInfo("UTC"), cost, most=4)

    assert found is not None
    assert [(one.keys, one.groups) for one in found.series] == [
        ({"owner": "o9"}, 1),
        ({"owner": "o8"}, 1),
        ({"owner": "o7"}, 1),
        ({}, 7),
    ]
    assert found.places == tuple(date(2026, 1, day) for day in (1, 2, 3, 4))
    for day in days:
        assert added(one.at[day] for one in found.series).cost == found.whole[day].cost == Decimal(50)
    assert date(2026, 1, 2) not in found.whole


@pytest.mark.parametrize(
    ("unit", "first", "last", "expected"),
    [
        ("day", date(2024, 2, 28), date(2024, 3, 1), ["2024-02-28", "2024-02-29", "2024-03-01"]),
        ("week", date(2025, 12, 22), date(2026, 1, 5), ["2025-12-22", "2025-12-29", "2026-01-05"]),
        ("month", date(2025, 11, 1), date(2026, 2, 1), ["2025-11-01", "2025-12-01", "2026-01-01", "2026-02-01"]),
    ],
)
def test_no_time_between_two_is_left_out(unit: str, first: date, last: date, expected: list[str]) -> None:
    """Leap days, new years and months of any length have their places."""
    assert [str(place) for place in places(unit, [last, first], ZoneInfo("UTC"))] == expected


@pytest.mark.parametrize(
    ("zone", "first", "offset", "hours", "expected"),
    [
        ("Europe/Berlin", "2026-10-25T01", 2, 3, ["01 +0200", "02 +0200", "02 +0100", "03 +0100"]),
        ("Europe/Berlin", "2026-03-29T01", 1, 2, ["01 +0100", "03 +0200", "04 +0200"]),
        ("Asia/Kolkata", "2026-03-29T01", 5.5, 2, ["01 +0530", "02 +0530", "03 +0530"]),
    ],
)
def test_hours_are_those_of_the_zone(zone: str, first: str, offset: float, hours: int, expected: list[str]) -> None:
    """An hour that comes twice has two places, one that is left out none."""
    begin = datetime.fromisoformat(f"{first}:00").replace(tzinfo=timezone(timedelta(hours=offset)))
    end = (begin + timedelta(hours=hours)).astimezone(ZoneInfo(zone))
    last = end.replace(tzinfo=timezone(end.utcoffset() or timedelta()))

    found = places("hour", [begin, last], ZoneInfo(zone))

    assert [f"{place:%H %z}" for place in found] == expected


def test_the_finest_time_that_fits_is_chosen() -> None:
    """Hours become days, weeks and months as they get too many; what was asked for is never made finer."""
    rows = [line("1", day=date(2026, 1, 1)), line("1", day=date(2026, 12, 31))]
    assert [fitting(rows, "day", most=most) for most in (365, 364, 53, 52, 1)] == [
        "day",
        "week",
        "week",
        "month",
        "month",
    ]
    assert fitting([], "hour", most=1) == "hour"
