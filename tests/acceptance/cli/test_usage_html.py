"""`usage --html`: one page whose figures are the report's, which needs nothing else and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import re
import sys
from decimal import Decimal
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final

import pytest

from nodellm_orm import ANY_OWNER, ConfigurationError, usage_report
from nodellm_orm.cli import pages
from tests.acceptance.cli.bookkeeping import asked, usage
from tests.acceptance.cli.shell import lines
from tests.acceptance.inspector.browser import CHROMIUM, opened
from tests.acceptance.inspector.hostile import attacks
from tests.integration.databases import KINDS
from tests.integration.reporting.ledger import fill

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from nodellm_orm import UsageRow
    from tests.acceptance.cli.shell import Shell
    from tests.integration.databases import DatabaseKind
    from tests.integration.reporting.ledger import Row

OURS: Final = frozenset(
    {
        *("html", "head", "meta", "title", "style", "body", "main", "header", "footer", "section", "h1", "h2", "p"),
        *("dl", "div", "dt", "dd", "bdi", "time", "ul", "li", "b", "span", "details", "summary"),
        *("table", "thead", "tbody", "tfoot", "tr", "th", "td"),
        *("svg", "desc", "rect", "line", "text", "polyline", "circle"),
    }
)
"""Every element that a page may consist of: no link, no script, no form, nothing that is loaded."""


class Page(HTMLParser):
    """What a browser makes of a page: elements with their attributes, and tables as lists of cells."""

    def __init__(self, text: str) -> None:
        """Read it."""
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: list[list[list[str]]] = []
        self.words = ""
        self._within = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._within = tag
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Forget where we are."""
        if tag in {"td", "th", "table", "style", "title"}:
            self._within = ""

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        if self._within == "style":
            return
        self.words += data if self._within not in {"dt", "dd"} else f" {data} "
        if self.tables and self._within in {"td", "th", "bdi"}:
            self.tables[-1][-1][-1] += data.strip()


@pytest.fixture
def database_kind() -> DatabaseKind:
    """A page is made of a report, which is equal on every database."""
    return "sqlite"


def figures(row: UsageRow) -> list[str]:
    """What the table of all figures must say of a row, but for its cost."""
    numbers = (
        *(row.requests, row.failures, row.unpriced, row.input_tokens, row.cached_tokens, row.cache_write_tokens),
        *(row.output_tokens, row.reasoning_tokens, row.latency_p50, row.latency_p95),
    )
    return ["-" if number is None else f"{number:,}" for number in numbers]


def dollars(text: str) -> Decimal | None:
    """A cost as a page tells it."""
    return None if text == "unknown" else Decimal(text.replace(",", ""))


def month() -> list[Row]:
    """Thirty days of three models with gaps, failures and requests without a price."""
    return [
        asked(
            day + number / 7,
            None if day % 9 == 4 else f"{day}.{number}00000000{day % 7}",
            model=f"model {number}",
            status="failed" if (day + number) % 5 == 0 else "ok",
            latency_ms=day * 37 + number * 501,
            input_tokens=10**18 + day,
            output_tokens=number,
            owner=f"owner {number % 2}",
        )
        for day in range(30)
        if day % 8
        for number in range(3)
    ]


async def made(database: str, *arguments: str) -> Page:
    """The page that the command writes to stdout."""
    done = await usage(database, *arguments, "--html", "-")
    assert (done.exit_code, done.stderr) == (0, "")
    return Page(done.stdout_bytes.decode())


@pytest.mark.parametrize(
    "by", [["day", "model"], ["day"], ["model", "owner"], ["month", "owner"], ["hour", "model"], ["week", "day"], []]
)
async def test_the_figures_are_the_report_s_to_the_last_digit(
    engine: AsyncEngine, database: str, by: list[str]
) -> None:
    """Every row of the report is a line of the table, in its order; the last line is what all of them come to."""
    await fill(engine, month())

    page = await made(database, "--by", ",".join(by), "--time-zone", "Asia/Kolkata")
    rows = await usage_report(engine, group_by=by, owner=ANY_OWNER, time_zone="Asia/Kolkata")
    (total,) = await usage_report(engine, group_by=[], owner=ANY_OWNER)

    table = page.tables[-1]
    names = len(by)
    assert [line[names:-1] for line in table[1:-1]] == [figures(row) for row in rows]
    assert [dollars(line[-1]) for line in table[1:-1]] == [row.cost for row in rows]
    assert table[-1][-11:-1] == figures(total)
    assert dollars(table[-1][-1]) == total.cost
    assert sum((dollars(line[-1]) or Decimal(0) for line in table[1:-1]), Decimal(0)) == total.cost


@pytest.mark.parametrize("database_kind", KINDS[1:])
async def test_servers_give_the_same_page(engine: AsyncEngine, database: str) -> None:
    """On PostgreSQL and MySQL the figures are exact, and the time is told."""
    costs = ["999999999999.000000000001", "999999999999", "0.1", None]
    await fill(engine, [asked(number, cost, owner="ann") for number, cost in enumerate(costs * 3)])

    page = await made(database, "--by", "owner")

    assert page.tables[-1][-1][-1] == "5,999,999,999,994.300000000003"
    assert page.tables[-1][1][0] == "ann"
    assert [name for name, _ in page.elements].count("time") == 1


async def test_charts_and_their_tables_add_up(engine: AsyncEngine, database: str) -> None:
    """Whatever is stacked by small groups comes to the same: each day's series to the day, the groups to the total."""
    owners = [(f"o{number}", f"0.{number + 1:02}") for number in range(12)]
    await fill(engine, [asked(day, cost, owner=owner, latency_ms=5) for day in (0, 2) for owner, cost in owners])

    page = await made(database, "--by", "owner")

    groups, over_time, _ = page.tables
    assert [line[0] for line in groups[1:]] == ["o11", "o10", "o9", "o8", "o7", "o6", "o5", "5 others"]
    assert [line[1] for line in groups[1:]] == ["$0.24", "$0.22", "$0.20", "$0.18", "$0.16", "$0.14", "$0.12", "$0.30"]
    assert [line[0] for line in over_time[1:]] == ["2026-03-02", "2026-03-03", "2026-03-04"]
    assert [line[1] for line in over_time[1:]] == ["12", "0", "12"]
    for line in over_time[1:]:
        day, *parts = [dollars(cell) or Decimal(0) for cell in line[5:]]
        assert sum(parts, Decimal(0)) == day == Decimal("0.78" if line[1] == "12" else 0)
    drawings = [attributes for name, attributes in page.elements if name == "svg" and "role" in attributes]
    assert len(drawings) == 3
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert all(set(attributes["aria-labelledby"].split()) <= ids for attributes in drawings)


async def test_what_is_unknown_is_not_nothing(engine: AsyncEngine, database: str) -> None:
    """A day whose cost nobody knows is marked in the chart, one without requests is empty, and words say it too."""
    await fill(engine, [asked(0, "1"), asked(2, None), asked(3, "0"), asked(4, "2")])
    page = await made(database)
    gaps = [attributes for name, attributes in page.elements if name == "rect" and attributes.get("class") == "gap"]
    await fill(engine, [asked(0, None)])
    unknown = await made(database)
    await fill(engine, [asked(0, "0", latency_ms=5)])
    free = await made(database)
    await fill(engine, [])
    nothing = await made(database)

    assert len(gaps) == 2  # the day, and the legend
    assert "2026-03-04 · unknown" in page.words
    assert "1 of 4 requests has no known price and is not in the costs" in page.words
    assert "No price of these requests is known." in unknown.words
    assert "None of these requests was timed." in unknown.words
    assert "These requests were free." in free.words
    assert "There are no such requests." in nothing.words
    assert not nothing.tables


async def test_the_page_says_what_it_is_about(engine: AsyncEngine, database: str) -> None:
    """Period, owner, groups, time zone and the database's time are on it."""
    await fill(engine, [asked(day, "1", owner="ann") for day in range(3)])

    limits = ["--since", "2026-03-03", "--until", "2026-03-04T12:00+01:00", "--owner", "ann"]
    page = await made(database, "--by", "week,provider", *limits, "--time-zone", "Europe/Berlin")

    words = " ".join(page.words.split())
    assert "Period from 2026-03-03, before 2026-03-04 12:00:00+01:00" in words
    assert "Whose ann By Week, Provider Time zone Europe/Berlin Made" in words
    (when,) = (attributes["datetime"] for name, attributes in page.elements if name == "time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+0[12]:00", when)


@pytest.mark.parametrize("by", ["day,model", "metadata.team", "owner,model", "day,metadata.<script>x</script>"])
async def test_nothing_in_a_page_runs_loads_or_reorders(engine: AsyncEngine, database: str, by: str) -> None:
    """Whatever strangers call things stays text: a page has elements of its own only, no address, and a policy."""
    texts = attacks("http://127.0.0.1:9")
    rows = [
        asked(
            day,
            f"{number + 1}.5",
            model=text[:200],
            owner=text[:200],
            labels={"team": text, "<script>x</script>": text},
        )
        for number, text in enumerate(texts)
        for day in (0, 1)
    ]
    await fill(engine, rows)

    done = await usage(database, "--by", by, "--html", "-")
    page = Page(done.stdout)

    assert {name for name, _ in page.elements} <= OURS
    attributes = [(name, value) for _, given in page.elements for name, value in given.items()]
    assert not {name for name, _ in attributes if name.startswith("on") or name in {"href", "src", "style", "action"}}
    # An address or a command may stand in a text, never in an attribute.
    assert [value for _, value in attributes if "127.0.0.1" in value or "javascript" in value or "url(" in value] == []
    assert not {character for character in done.stdout if character in "\x1b\x07\x00\u202e\u2066\u2069"}
    assert html.escape(texts[0][:60], quote=False) in done.stdout.replace("&#39;", "'")
    (style,) = re.findall(r"<style>(.*?)</style>", done.stdout, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = (given["content"] for _, given in page.elements if given.get("http-equiv") == "Content-Security-Policy")
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in style
    assert "@import" not in style


async def test_sums_of_the_roll_up_have_no_times(engine: AsyncEngine, database: str) -> None:
    """With --rollup plot and page have the same sums; times are left out, or refused."""
    await fill(engine, month())

    page = await made(database, "--by", "day,model", "--rollup")
    plot = await usage(database, "--by", "day,model", "--plot", "--rollup")
    ledger = await usage(database, "--by", "day,model", "--plot")
    times = await usage(database, "--plot", "--measure", "latency", "--rollup")
    (total,) = await usage_report(engine, group_by=[], owner=ANY_OWNER)

    assert dollars(page.tables[-1][-1][-1]) == total.cost
    assert "Time until the answer was complete" not in page.words
    assert (plot.exit_code, plot.stdout) == (0, ledger.stdout)
    assert isinstance(times.exception, ConfigurationError)
    assert "--rollup has no times; leave it out" in str(times.exception)


async def test_of_very_many_groups_the_dearest_are_told_and_the_sums_of_the_others(
    engine: AsyncEngine, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table does not grow beyond what a browser can show, and still has every request and cent."""
    monkeypatch.setattr(pages, "_ROWS", 4)
    await fill(engine, [asked(0, f"{(number * 7) % 10}.01", owner=f"o{number}") for number in range(10)])

    page = await made(database, "--by", "owner")

    table = page.tables[-1]
    assert [(line[0], line[1], line[-1]) for line in table[1:]] == [
        ("o1", "1", "7.01"),
        ("o4", "1", "8.01"),
        ("o7", "1", "9.01"),
        ("others", "7", "21.07"),
        ("Altogether", "10", "45.10"),
    ]


async def test_hours_of_a_year_are_a_chart_of_weeks_and_a_table_of_hours(engine: AsyncEngine, database: str) -> None:
    """What is too much for a chart is drawn by a longer time, with that time's own percentiles."""
    await fill(engine, [asked(hour / 2, "1", latency_ms=hour % 50) for hour in range(700)])

    page = await made(database, "--by", "hour")
    weeks = await usage_report(engine, group_by=["week"], owner=ANY_OWNER)

    over_time, table = page.tables
    assert "By week, since the hours are too many for a chart" in page.words
    assert [line[0] for line in over_time[1:]] == [f"week of {row.keys['week']}" for row in weeks]
    assert [line[3:5] for line in over_time[1:]] == [[f"{row.latency_p50}", f"{row.latency_p95}"] for row in weeks]
    assert len(table) == 700 + 2


async def test_a_file_appears_whole_or_not_at_all(shell: Shell, engine: AsyncEngine, database: str) -> None:
    """A file that is there is replaced; where it cannot be written, or the question is wrong, it stays as it was."""
    await fill(engine, [asked(0, "1")])
    shell = shell.with_environment(NODELLM_DATABASE_URL=database, COLUMNS="200")
    target = shell.folder / "a page.html"
    target.write_text("the old one")

    wrong = await shell.run("usage", "--by", "dya", "--html", target.name)
    kept = target.read_text()
    nowhere = await shell.run("usage", "--html", "no/such/folder.html")
    done = await shell.run("usage", "--html", target.name)

    assert (wrong.code, kept) == (1, "the old one")
    assert (nowhere.code, nowhere.out) == (1, "")
    assert len(lines(nowhere.err)) == 1
    assert nowhere.err.endswith("no/such/folder.html' cannot be written (No such file or directory); check the path\n")
    assert (done.code, done.out, done.err) == (0, "written: a page.html\n", "")
    assert target.read_text().startswith("<!doctype html>")
    assert [file.name for file in shell.folder.iterdir() if file.suffix != ".db"] == ["a page.html"]


async def test_a_missing_package_is_told_with_its_remedy(shell: Shell, database: str) -> None:
    """Where Jinja2 is not installed, one line says what to install; the other forms need it not."""
    program = "import sys; sys.modules['jinja2'] = None; from nodellm_orm.__main__ import main; sys.exit(main())"
    place = shell.with_environment(NODELLM_DATABASE_URL=database, COLUMNS="200")

    page = await place.program(sys.executable, "-c", program, "usage", "--html", "-")
    plot = await place.program(sys.executable, "-c", program, "usage", "--plot")

    assert (page.code, page.out) == (1, "")
    assert lines(page.err) == ["error: a page needs jinja2: pip install 'nodellm_orm[inspector]'"]
    assert plot.code == 0


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; install Debian's `chromium`")
async def test_a_browser_shows_it_and_asks_for_nothing(engine: AsyncEngine, database: str, tmp_path: Path) -> None:
    """Opened from disk, light and dark, the page is complete: nothing is fetched, refused or run."""
    await fill(engine, [asked(0, "1", model=text[:200]) for text in attacks("http://127.0.0.1:9")])
    file = tmp_path / "page.html"
    assert (await usage(database, "--by", "day,model", "--html", str(file))).exit_code == 0

    async with opened(tmp_path / "profile") as browser:
        backgrounds = []
        for scheme in ("light", "dark"):
            await browser.screen(1200, 900, scheme)
            await browser.open(file.as_uri())
            backgrounds.append(await browser.evaluate("getComputedStyle(document.body).backgroundColor"))
            asked_for = [e["params"]["request"]["url"] for e in browser.events if e["method"].endswith("WillBeSent")]
            told = [e for e in browser.events if e["method"].startswith(("Log.", "Runtime.console", "Runtime.exc"))]
            assert asked_for == [file.as_uri()]
            assert told == []
            assert await browser.evaluate("document.title") == "Use of language models, 2026-03-02"
            assert await browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert len(set(backgrounds)) == 2
