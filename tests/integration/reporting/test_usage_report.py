"""Reports equal an independent computation over the rows, to the last digit, on every database."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.owners import ANY_OWNER
from nodellm_orm.reporting.report import usage_report
from tests.integration.reporting.ledger import (
    CHATS,
    MOMENTS,
    NAMES,
    ROWS,
    VALUES,
    ZONES,
    Row,
    exactly,
    expected,
    fill,
    group,
    row,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm.reporting.rows import UsageRow

GROUPS = ("hour", "day", "week", "month", "model", "provider", "owner", "chat", "operation", "status")


def told(rows: list[UsageRow]) -> list[dict[str, Any]]:
    """Rows as the independent computation writes them."""
    found = [{field.name: getattr(line, field.name) for field in dataclasses.fields(line)} for line in rows]
    return [{**line, "keys": {name: exactly(value) for name, value in line["keys"].items()}} for line in found]


def same(rows: list[UsageRow], wanted: list[dict[str, Any]]) -> None:
    """Compare them as sets: what cannot be hashed is compared by its text."""
    assert sorted(map(repr, told(rows))) == sorted(repr({**line}) for line in _scaled(wanted))


def _scaled(wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pico = Decimal("1e-12")
    return [{**line, "cost": None if line["cost"] is None else line["cost"].quantize(pico)} for line in wanted]


GROUPINGS = st.lists(
    st.sampled_from([*GROUPS, *(f"metadata.{name}" for name in NAMES if name)]), max_size=4, unique=True
)


@pytest.mark.fault("B18")
@pytest.mark.fault("B28")
@pytest.mark.fault("C67")
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=st.lists(ROWS, max_size=25), names=GROUPINGS, zone=st.sampled_from(ZONES))
async def test_a_report_is_what_python_computes(
    engine: AsyncEngine, rows: list[Row], names: list[str], zone: str
) -> None:
    """Any rows, grouped by anything, in any zone: sums, counts, costs and percentiles are exact."""
    await fill(engine, rows)
    same(
        await usage_report(engine, group_by=names, owner=ANY_OWNER, time_zone=zone),
        expected(rows, names, zone),
    )


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "owner": st.sampled_from([None, "ann", "ann ", ""]),
        "since": MOMENTS,
        "until": MOMENTS,
        "models": st.sampled_from([["gpt-5"], ["gpt-5 ", "m\x00"]]),
        "providers": st.just(["openai"]),
        "operations": st.just(["embed"]),
        "statuses": st.just(["ok", "failed"]),
        "chat_id": st.sampled_from(CHATS),
        "metadata": st.dictionaries(st.sampled_from([name for name in NAMES if name]), VALUES, max_size=1),
    },
)


def meant(line: Row, limits: dict[str, Any]) -> bool:
    """Whether a row is within the limits."""
    owner = limits.get("owner", ANY_OWNER)
    listed = {"models": "model", "providers": "provider", "operations": "operation", "statuses": "status"}
    return (
        (owner is ANY_OWNER or line["owner"] == owner)
        and ("since" not in limits or line["created_at"] >= limits["since"])
        and ("until" not in limits or line["created_at"] < limits["until"])
        and all(group(line, name, "UTC") in limits[plural] for plural, name in listed.items() if plural in limits)
        and ("chat_id" not in limits or line["chat_id"] == limits["chat_id"])
        and all(
            exactly(line["labels"].get(name)) == exactly(value) for name, value in limits.get("metadata", {}).items()
        )
    )


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(rows=st.lists(ROWS, max_size=25), limits=LIMITS)
async def test_limits_leave_out_all_other_rows(engine: AsyncEngine, rows: list[Row], limits: dict[str, Any]) -> None:
    """Owner, time, models, providers, operations, statuses, chat and metadata: each alone and together."""
    await fill(engine, rows)
    given_limits = {"owner": ANY_OWNER, **limits}
    if "since" in limits and "until" in limits and limits["since"] >= limits["until"]:
        with pytest.raises(ConfigurationError, match="is not before"):
            await usage_report(engine, **given_limits)
        return
    wanted = expected([line for line in rows if meant(line, limits)], ["day"], "UTC")
    same(await usage_report(engine, **given_limits), wanted)


@pytest.mark.fault("B18")
@pytest.mark.parametrize("name", [name for name in NAMES if name])
async def test_values_of_the_metadata_are_told_apart(engine: AsyncEngine, name: str) -> None:
    """A number, its decimal form, a truth value and their texts are groups of their own; missing and null are one."""
    values = [
        1,
        1.0,
        True,
        "1",
        "1.0",
        "true",
        "",
        " ",
        "blue",
        "blue ",
        "Blue",
        "b\x00",
        "\ud800",
        None,
        [1, "a "],
        {},
    ]
    rows = [row(labels={name: value, "other": 1}) for value in values] + [row(labels={"other": 1}), row()]
    await fill(engine, rows)

    found = await usage_report(engine, group_by=[f"metadata.{name}"])

    key = f"metadata.{name}"
    counted = {exactly(line.keys[key]): line.requests for line in found}
    assert counted == {exactly(value): 3 if value is None else 1 for value in values}


async def test_long_values_are_told_apart_to_their_end(engine: AsyncEngine) -> None:
    """Values that differ only behind thousands of characters are groups of their own."""
    values = ["long " * 2000 + end for end in "aab "]
    await fill(engine, [row(labels={"note": value}, latency_ms=place) for place, value in enumerate(values)])

    found = await usage_report(engine, group_by=["metadata.note"])

    assert [(line.keys["metadata.note"], line.requests, line.latency_p95) for line in found] == [
        (values[3], 1, 3),
        (values[0], 2, 1),
        (values[2], 1, 2),
    ]


async def test_sums_pass_sixty_four_bits(engine: AsyncEngine) -> None:
    """Counts and costs that no machine word can hold are added up to the last digit."""
    largest = 2**63 - 1
    rows = [row(input_tokens=largest, cost=Decimal("9000000.000000000001")) for _ in range(5)]
    await fill(engine, rows)

    (line,) = await usage_report(engine, group_by=[])

    assert (line.input_tokens, line.cost) == (5 * largest, Decimal("45000000.000000000005"))


@pytest.mark.fault("C67")
async def test_an_hour_that_comes_twice_is_two_hours(engine: AsyncEngine) -> None:
    """When clocks are put back, the same hour by the wall is told apart by its offset; the day has both."""
    night = datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
    await fill(engine, [row(created_at=night + timedelta(hours=hour)) for hour in range(3)])

    hours = await usage_report(engine, group_by=["hour"], time_zone="Europe/Berlin")
    days = await usage_report(engine, group_by=["day"], time_zone="Europe/Berlin")

    assert [str(line.keys["hour"]) for line in hours] == [
        "2025-10-26 02:00:00+02:00",
        "2025-10-26 02:00:00+01:00",
        "2025-10-26 03:00:00+01:00",
    ]
    assert [(line.keys["day"], line.requests) for line in days] == [(date(2025, 10, 26), 3)]


@pytest.mark.fault("C67")
async def test_dates_as_limits_are_days_of_the_zone(engine: AsyncEngine) -> None:
    """A date means its first moment there, also where the clocks skip midnight; the last one is left out."""
    begins = datetime(2018, 11, 4, 3, tzinfo=UTC)  # 01:00 in São Paulo, where this day has no midnight
    moments = [begins - timedelta(microseconds=1), begins, begins + timedelta(hours=23, microseconds=-1)]
    await fill(engine, [row(created_at=moment) for moment in [*moments, begins + timedelta(hours=23)]])

    (line,) = await usage_report(
        engine, since=date(2018, 11, 4), until=date(2018, 11, 5), time_zone="America/Sao_Paulo"
    )

    assert (line.keys, line.requests) == ({"day": date(2018, 11, 4)}, 2)


async def test_owners_are_kept_apart(engine: AsyncEngine) -> None:
    """Omitted, the owner is nobody; everybody is said aloud."""
    await fill(engine, [row(), row(owner="ann"), row(owner="bob"), row(owner="bob")])

    async def counted(**owner: Any) -> list[int]:
        return [line.requests for line in await usage_report(engine, group_by=["owner"], **owner)]

    assert await counted() == [1]
    assert await counted(owner="bob") == [2]
    assert await counted(owner="eve") == []
    assert await counted(owner=ANY_OWNER) == [1, 1, 2]


async def test_rows_come_in_one_order(engine: AsyncEngine) -> None:
    """By the groups, nothing first, or as asked for; ties are decided by the groups, and the limit comes last."""
    teams = [None, False, True, 1, 1.0, 2, "1", "B", "a", "é"]
    rows = [row(labels={"team": team}, cost=Decimal(place // 2)) for place, team in enumerate(teams)]
    await fill(engine, reversed(rows))

    async def order(**options: Any) -> list[tuple[str, str]]:
        found = await usage_report(engine, group_by=["metadata.team"], **options)
        return [exactly(line.keys["metadata.team"]) for line in found]

    wanted = [exactly(team) for team in (None, False, True, 1.0, 1, 2, "1", "B", "a", "é")]
    assert await order() == wanted
    assert await order(order_by="-metadata.team") == wanted[::-1]
    assert await order(order_by=["-cost"], limit=4) == [exactly(team) for team in ("a", "é", "1", "B")]


@pytest.mark.parametrize("kind", [AsyncSession, async_sessionmaker])
async def test_a_session_will_do(engine: AsyncEngine, kind: Any) -> None:
    """A report is asked of a session or a sessionmaker as of an engine."""
    await fill(engine, [row(latency_ms=5, first_token_ms=2)])

    (line,) = await usage_report(kind(engine), percentiles=False)
    (timed,) = await usage_report(kind(engine), percentiles=True)

    assert (line.latency_p50, line.first_token_p95) == (None, None)
    assert (timed.latency_p50, timed.first_token_p95) == (5, 2)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"group_by": ["dya"]}, "day"),
    ({"group_by": ["created_at; DROP TABLE llm_requests"]}, "group_by name"),
    ({"group_by": ["cost"]}, "group_by name"),
    ({"group_by": ["day", "day"]}, "twice"),
    ({"group_by": 7}, "list of names"),
    ({"group_by": [b"day"]}, "list of names"),
    ({"group_by": ["metadata."]}, "metadata"),
    ({"group_by": ["metadata.a.b"]}, "path"),
    ({"group_by": ["metadata." + "k" * 300]}, "255"),
    ({"order_by": ["1; --"]}, "order_by name"),
    ({"order_by": "model"}, "order_by name"),
    ({"order_by": 3}, "order_by"),
    ({"limit": 0}, "limit=0"),
    ({"time_zone": "Europe/Atlantis"}, "tzdata"),
    ({"time_zone": "../../etc/passwd"}, "time_zone"),
    ({"time_zone": "a\x00b"}, "time_zone"),
    ({"time_zone": ""}, "time_zone"),
    ({"time_zone": "Europe"}, "time_zone"),
    ({"time_zone": 2}, "time_zone"),
    ({"since": datetime(2026, 1, 1)}, "since names no time zone"),  # noqa: DTZ001 — that is the point
    ({"until": "2026-01-01"}, "until is an aware datetime or a date, not str"),
    ({"since": date(2026, 1, 1), "until": date(2026, 1, 1)}, "exchange"),
    ({"since": date(1, 1, 1), "time_zone": "Asia/Tokyo"}, "calendar"),
    ({"owner": 7}, "owner"),
    ({"statuses": ["okay"]}, "cancelled"),
    ({"models": []}, "leave it out"),
    ({"models": [None]}, "leave it out"),
    ({"models": [3]}, "models"),
    ({"chat_id": "x' OR 1=1"}, "a chat's id is a UUID"),
    ({"metadata": [1]}, "metadata"),
    ({"metadata": {"a.b": 1}}, "path"),
    ({"metadata": {1: 1}}, "metadata"),
    ({"metadata": {"a": [1]}}, "compared with"),
    ({"metadata": {"a": float("nan")}}, "compared with"),
    ({"metadata": {"a": float("inf")}}, "compared with"),
    ({"metadata": {"a": 10**5000}}, "compared with"),
    ({"records": 5}, "define_records"),
]


@pytest.mark.fault("E12")
@pytest.mark.parametrize("database_kind", ["sqlite"])
@pytest.mark.parametrize(("options", "named"), BAD)
async def test_what_cannot_be_meant_is_refused(engine: AsyncEngine, options: dict[str, Any], named: str) -> None:
    """Names come from a list; whatever else is given is an error that says what to do, before anything is asked."""
    with pytest.raises(ConfigurationError, match=named):
        await usage_report(engine, **options)


HOSTILE = ("') OR 1=1 --", '"team"', "team\\", "%", "te_m", "$[0]", "тeam", "a\x00b", ":b_owner", "?", "%s", "{}")


@pytest.mark.fault("E12")
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_stranger_s_names_and_values_are_only_values(engine: AsyncEngine, name: str) -> None:
    """Whatever a key of the metadata, a model or an owner is called, it finds itself and nothing else."""
    own = row(owner=name, model=name, provider=name, operation=name, labels={name: name})
    await fill(engine, [own, row(owner="ann", labels={"team": name}), row()])

    (line,) = await usage_report(engine, group_by=[f"metadata.{name}"], owner=name)
    (same_line,) = await usage_report(
        engine,
        group_by=["owner", "model"],
        owner=ANY_OWNER,
        models=[name],
        providers=[name],
        operations=[name],
        metadata={name: name},
    )

    assert (line.keys, line.requests) == ({f"metadata.{name}": name}, 1)
    assert (same_line.keys, same_line.requests) == ({"owner": name, "model": name}, 1)


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_ages_are_too_long_for_a_time_zone(engine: AsyncEngine) -> None:
    """Rows that lie centuries apart are reported in UTC, and elsewhere within limits."""
    far = datetime(9999, 1, 1, tzinfo=UTC)
    await fill(engine, [row(), row(created_at=far)])

    assert len(await usage_report(engine)) == 2
    with pytest.raises(ConfigurationError, match="too far apart"):
        await usage_report(engine, time_zone="Europe/Berlin")
    assert len(await usage_report(engine, time_zone="Europe/Berlin", until=far)) == 1
