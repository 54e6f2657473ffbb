"""`usage --plot`: what is drawn fits the terminal, needs no colour, hides no gap and obeys nobody's text."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from nodellm_orm import ANY_OWNER, usage_report
from tests.acceptance.cli.bookkeeping import asked, usage
from tests.acceptance.cli.shell import lines
from tests.acceptance.inspector.hostile import attacks
from tests.integration.reporting.ledger import fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.acceptance.cli.shell import Shell
    from tests.integration.databases import DatabaseKind


@pytest.fixture
def database_kind() -> DatabaseKind:
    """What is drawn is made of a report, which is equal on every database."""
    return "sqlite"


def drawn(out: str) -> list[str]:
    """The lines of a plot over time between the axis and the right end, from above."""
    return [line.partition("│")[2] or line.partition("┤")[2] for line in out.splitlines() if "│" in line or "┤" in line]


def column(out: str, place: int, step: int = 8) -> str:
    """What is drawn for a place, from below."""
    return "".join(line[place * step : place * step + 1].strip() for line in reversed(drawn(out)))


def bar(line: str) -> int:
    """The length of a bar that lies."""
    return sum(line.count(sign) for sign in "█▏▎▍▌▋▊▉")


async def test_series_are_told_apart_without_colour_and_have_their_sums(engine: AsyncEngine, database: str) -> None:
    """Each has its own sign; of many, the greatest have a line of the legend, and the others have one."""
    rows = [
        asked(day, f"{10 * number + day}.000000000001", model=f"model {number}")
        for number in range(9)
        for day in (0, 1)
    ]
    await fill(engine, rows)

    done = await usage(database, "--by", "day,model", "--plot")

    assert done.exit_code == 0
    assert "\x1b" not in done.output
    head, about, *rest = lines(done.stdout)
    assert head == "Cost a day by model"
    assert about == "2026-03-02 to 2026-03-03 · UTC · $729.00 altogether"
    legend = [line.split() for line in rest[-6:]]
    assert [" ".join(words[1:3]) for words in legend] == [
        "model 8",
        "model 7",
        "model 6",
        "model 5",
        "model 4",
        "4 others",
    ]
    assert [words[3] for words in legend] == ["$161.00", "$141.00", "$121.00", "$101.00", "$81.00", "$124.00"]
    signs = [words[0][0] for words in legend]
    assert len(set(signs)) == 6
    assert set(column(done.stdout, 0)) == set(signs)


async def test_a_day_without_requests_is_empty_and_an_unknown_cost_is_not(engine: AsyncEngine, database: str) -> None:
    """Days are as far apart as they are; what is unknown has a sign of its own, and is told in words."""
    await fill(engine, [asked(0, "2"), asked(2, None), asked(2, None), asked(3, "0"), asked(4, "0.000001")])

    done = await usage(database, "--plot")

    heights = [column(done.stdout, place) for place in range(5)]
    assert set(heights[0]) == {"█"}
    assert heights[1:] == ["", "?", "", "▁"]
    assert "2 requests have no known price and are not in the costs." in done.stderr
    assert "? is unknown" in done.stdout


@pytest.mark.parametrize(
    ("measure", "says"),
    [
        ("cost", "of 3 requests no price of theirs is known"),
        ("tokens", "of 3 requests no provider said how many tokens they took"),
        ("latency", "of 3 requests none of them was timed"),
    ],
)
async def test_nothing_is_drawn_of_what_nobody_knows(
    engine: AsyncEngine, database: str, measure: str, says: str
) -> None:
    """Where all values are unknown, one line says so; zeros are not drawn in their place."""
    await fill(engine, [asked(day, None) for day in range(3)])

    for by in ("day", "model", "day,model", ""):
        done = await usage(database, "--by", by, "--plot", "--measure", measure)
        assert (done.exit_code, done.stdout) == (0, "")
        assert says in " ".join(done.stderr.split())


async def test_no_requests_are_said_to_be_none(engine: AsyncEngine, database: str) -> None:
    """An empty ledger is no error, and no plot."""
    await fill(engine, [])

    for by in ("day", "model", ""):
        done = await usage(database, "--by", by, "--plot")
        assert (done.exit_code, done.stdout, done.stderr) == (0, "", "There are no such requests.\n")


async def test_groups_are_bars_as_long_as_their_values(engine: AsyncEngine, database: str) -> None:
    """Without a time there is a bar a group, the longest first; the unknown has none, and an outlier hides nobody."""
    costs = {"a": "1000000", "b": "500000", "c": "0.01", "d": None}
    await fill(engine, [asked(0, cost, owner=owner) for owner, cost in costs.items()])

    done = await usage(database, "--by", "owner", "--plot")

    _, *bars = lines(done.stdout)
    assert [line.split()[0] for line in bars] == ["a", "b", "c", "d"]
    assert bar(bars[0]) == pytest.approx(2 * bar(bars[1]), abs=1)
    assert [bar(line) for line in bars[2:]] == [1, 0]
    assert [line.split()[-1] for line in bars] == ["$1,000,000.00", "$500,000.00", "$0.01", "unknown"]


async def test_many_groups_are_the_greatest_and_all_others(engine: AsyncEngine, database: str) -> None:
    """Of ten thousand owners twenty lines are drawn, and no request is missing from their sums."""
    await fill(engine, [asked(0, "1.25", owner=f"owner {number}") for number in range(10_000)])

    done = await usage(database, "--by", "owner", "--plot", "--measure", "requests")
    costs = await usage(database, "--by", "day,owner", "--plot")

    _, *bars, _legend = lines(done.stdout)
    assert len(bars) == 20
    assert bars[-1].startswith("9,981 others")
    assert bars[-1].endswith("9,981")
    assert lines(costs.stdout)[-1].split()[1:] == ["9,995", "others", "$12,493.75", "100", "%"]


async def test_measures_are_those_of_the_report(engine: AsyncEngine, database: str) -> None:
    """Requests, tokens and times are drawn as the report has them; times of several groups are not added."""
    rows = [
        asked(0, None, status=status, latency_ms=time, input_tokens=600, output_tokens=tokens, owner=owner)
        for status, time, tokens, owner in [("ok", 1000, 100, "a"), ("failed", 3000, 100, "b"), ("ok", 2000, None, "c")]
    ]
    await fill(engine, rows)

    requests = await usage(database, "--plot", "--measure", "requests")
    tokens = await usage(database, "--plot", "--measure", "tokens")
    by_owner = await usage(database, "--by", "owner", "--plot", "--measure", "latency")
    over_time = await usage(database, "--by", "day,owner", "--plot", "--measure", "latency")

    assert "3 altogether" in requests.stdout
    assert lines(requests.stdout)[-1] == "██ not failed   ░░ failed"
    assert column(requests.stdout, 0).count("█") == 2 * column(requests.stdout, 0).count("░")
    assert "2,000 altogether" in tokens.stdout
    assert lines(tokens.stdout)[-1] == "██ input   ░░ output"
    assert [line.split()[-2:] for line in lines(by_owner.stdout)[1:4]] == [["3.0", "s"], ["2.0", "s"], ["1.0", "s"]]
    assert column(over_time.stdout, 0) == "■▲●"


async def test_too_many_hours_are_drawn_as_days_with_the_days_own_percentiles(
    engine: AsyncEngine, database: str
) -> None:
    """What does not fit the width is asked for again by a longer time, not squeezed, and nothing of it is lost."""
    await fill(engine, [asked(hour / 24, "0.5", latency_ms=hour * 10) for hour in range(200)])

    done = await usage(database, "--by", "hour", "--plot")
    days = await usage_report(engine, group_by=["day"], owner=ANY_OWNER)

    assert done.stderr == "By day: hours are too many for this width.\n"
    assert lines(done.stdout)[:2] == ["Cost a day", f"2026-03-02 to {days[-1].keys['day']} · UTC · $100.00 altogether"]
    assert sum(row.cost or 0 for row in days) == Decimal(100)
    assert len(drawn(done.stdout)[-1].split()) == len(days)


def texts() -> Sequence[str]:
    """Names that would draw outside of their place, or do worse."""
    return [
        *attacks("http://127.0.0.1:9"),
        "x" * 255,
        "模型" * 40,
        "نموذج",
        "👩\u200d🚀 rocket",
        "a\nb\tc",
        "[red]r[/red]",
    ]


@pytest.mark.parametrize("columns", [30, 80, 200])
@pytest.mark.parametrize("by", ["model", "day,model", "metadata.team", "day,metadata.team,owner"])
async def test_no_name_leaves_its_line_or_reaches_the_terminal(
    engine: AsyncEngine, database: str, by: str, columns: int
) -> None:
    """Whatever strangers call things, every line fits the width, and no character of theirs is obeyed."""
    rows = [
        asked(number % 3, f"{number}.5", model=text[:200], owner=text[:100], labels={"team": text})
        for number, text in enumerate(texts())
    ]
    await fill(engine, rows)

    done = await usage(database, "--by", by, "--plot", columns=columns)

    assert done.exit_code == 0
    assert done.stdout
    assert [line for line in done.stdout.splitlines() if cell_len(line) > columns] == []
    assert not {character for character in done.output if character in "\x1b\x07\x00\x9b\u202e\u2066"}


async def test_one_request_and_two_hours_of_the_same_name_can_be_drawn(engine: AsyncEngine, database: str) -> None:
    """One place is a plot; the hour that comes twice when clocks are put back is two places."""
    await fill(engine, [asked(0, "1")])
    one = await usage(database, "--plot")
    # 2026-10-25: Berlin has 02:00 twice, at 00:00 and at 01:00 UTC.
    await fill(engine, [asked(236 + hour / 24, "1") for hour in (14.5, 15.5, 17.5)])
    twice = await usage(database, "--by", "hour", "--plot", "--time-zone", "Europe/Berlin")

    assert lines(one.stdout)[1] == "2026-03-02 · UTC · $1.00 altogether"
    assert column(one.stdout, 0)
    assert "2026-10-25 01:30 +0200" not in twice.stdout
    heights = [bool(column(twice.stdout, place)) for place in range(4)]
    assert heights == [True, True, False, True]


async def test_a_terminal_without_block_characters_gets_ascii(shell: Shell, engine: AsyncEngine, database: str) -> None:
    """Where the output's encoding is ASCII, so is the plot."""
    await fill(engine, [asked(day, f"{day + 1}", model=f"m{day % 2}") for day in range(5)])
    plain = shell.with_environment(NODELLM_DATABASE_URL=database, PYTHONIOENCODING="ascii", PYTHONUTF8="0")

    over_time = await plain.run("usage", "--by", "day,model", "--plot")
    groups = await plain.run("usage", "--by", "model", "--plot")

    for done in (over_time, groups):
        assert (done.code, done.err) == (0, "")
        assert done.out.isascii()
        assert "\\" not in done.out
        assert "##" in done.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--plot", "--csv"], "--csv and --plot exclude each other"),
        (["--plot", "--json"], "--json and --plot exclude each other"),
        (["--plot", "--html", "x.html"], "--plot and --html exclude each other"),
        (["--csv", "--html", "x.html"], "--csv and --html exclude each other"),
        (["--measure", "cost"], "--measure says what --plot shows"),
        (["--plot", "--by", "dya"], "day"),
    ],
)
async def test_what_cannot_be_meant_is_refused_in_one_line(
    shell: Shell, database: str, arguments: list[str], says: str
) -> None:
    """Forms exclude each other, and a word too many is told."""
    done = await shell.with_environment(NODELLM_DATABASE_URL=database, COLUMNS="200").run("usage", *arguments)
    assert (done.code, done.out) == (1, "")
    assert len(lines(done.err)) == 1
    assert says in done.err
    assert not (shell.folder / "x.html").exists()


async def test_colours_are_for_terminals_that_want_them(shell: Shell, engine: AsyncEngine, database: str) -> None:
    """A terminal with colours gets them, unless NO_COLOR says otherwise."""
    await fill(engine, [asked(0, "1", input_tokens=10, output_tokens=10)])
    coloured = shell.with_environment(NODELLM_DATABASE_URL=database, TERM="xterm-256color")
    for place, wanted in ((coloured, True), (coloured.with_environment(NO_COLOR="1"), False)):
        async with place.terminal("usage", "--plot", "--measure", "tokens") as terminal:
            seen = await terminal.until("output")
            assert await terminal.ended() == 0
        assert ("\x1b[33m" in seen) is wanted
