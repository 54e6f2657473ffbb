"""The toolbox: calls are checked before they run, run side by side in limits, and end in words a model can read."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from pydantic import BaseModel, field_validator

from nodellm_orm.domain.parts import ToolCallPart
from nodellm_orm.errors import ConfigurationError, StorageError, ToolError
from nodellm_orm.runtime.outcomes import Conclusion, ToolOutcome
from nodellm_orm.runtime.toolbox import PlannedCall, Toolbox
from nodellm_orm.runtime.tools import Tool, ToolContext, ToolHalt, tool

if TYPE_CHECKING:
    from collections.abc import Callable

CONTEXT = ToolContext(chat_id=UUID(int=1), owner="o", call_id="c", idempotency_key="k")


def calls(*asked: tuple[str, str] | str) -> list[PlannedCall]:
    """Calls of one round: names, or names with arguments."""
    pairs = [(item, "{}") if isinstance(item, str) else item for item in asked]
    return [
        PlannedCall(index=at, call=ToolCallPart(call_id=f"c{at}", name=name, arguments=text), context=CONTEXT)
        for at, (name, text) in enumerate(pairs)
    ]


@dataclass
class Notes:
    """What a round reported, in order."""

    started: list[str] = field(default_factory=list)
    finished: dict[str, ToolOutcome] = field(default_factory=dict)

    async def on_start(self, planned: PlannedCall) -> None:
        """Note a start."""
        self.started.append(planned.call.call_id)

    async def on_finish(self, planned: PlannedCall, outcome: ToolOutcome) -> None:
        """Note an end; each call has one."""
        assert planned.call.call_id not in self.finished
        self.finished[planned.call.call_id] = outcome

    @property
    def contents(self) -> dict[str, str]:
        """What the model is told of each call."""
        return {call_id: outcome.content for call_id, outcome in self.finished.items()}


async def run(box: Toolbox, *asked: tuple[str, str] | str) -> Notes:
    """Run one round to its end."""
    notes = Notes()
    await box.run_round(calls(*asked), started=notes.on_start, finished=notes.on_finish)
    return notes


async def run_one(source: Callable[..., object] | Tool, arguments: str = "{}") -> ToolOutcome:
    """The outcome of a single call."""
    box = Toolbox([source])
    return (await run(box, (box.specs[0].name, arguments))).finished["c0"]


async def wait_for(event: threading.Event) -> None:
    """Await an event of another thread."""
    await asyncio.to_thread(event.wait)


@tool
async def echo(text: str = "nothing") -> str:
    """Say it again."""
    return text


async def test_tools_are_told_in_the_order_given_and_found_by_exact_name() -> None:
    """The order is part of the prompt's prefix."""

    @tool(name="Another")
    def another() -> str:
        """Another."""
        return ""

    box = Toolbox([another, echo])
    assert [spec.name for spec in box.specs] == ["Another", "echo"]
    assert box.specs[1].description == "Say it again."
    assert box.get("echo") is echo
    assert box.tools == (another, echo)
    assert Toolbox().specs == ()


@pytest.mark.fault("A41")
@pytest.mark.fault("E06")
@pytest.mark.parametrize(
    "name", ["Echo", "ECHO", "echo ", "\u0435cho", "ech\u03bf", "", "__class__", "run", "echo.__call__", "x" * 5_000]
)
async def test_a_name_that_differs_in_anything_is_unknown(name: str) -> None:
    """Case, homoglyphs, attributes of objects: only a tool that was offered by exactly that name runs."""
    outcome = (await run(Toolbox([echo]), name)).finished["c0"]
    assert (outcome.status, outcome.is_error) == ("failed", True)
    assert outcome.content.startswith("There is no tool called ")
    assert outcome.content.endswith("; there are echo.")
    assert outcome.content.isascii()
    assert len(outcome.content) < 1_000


async def test_an_unknown_tool_is_told_what_there_is() -> None:
    """Some of many, and that there are none."""
    many = [tool(name=f"t{n}")(lambda: None) for n in range(25)]
    outcome = (await run(Toolbox(many), "t99")).finished["c0"]
    assert outcome.content.endswith("t18, t19 and 5 more.")
    assert (await run(Toolbox(), "t")).finished[
        "c0"
    ].content == "There is no tool called 't'; no tools are offered here."


@pytest.mark.fault("A39")
@pytest.mark.fault("A40")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"text":', "The arguments of echo were refused, and it was not run: they are not valid JSON: "),
        ("[]", "were refused, and it was not run: they are not a JSON object"),
        ('{"text":"a","text":"b"}', "were refused, and it was not run: the key 'text' is there twice"),
        ('{"text":NaN}', "were refused, and it was not run: they are not valid JSON: NaN"),
        ("[" * 1_000 + "]" * 1_000, "were refused, and it was not run: they are not valid JSON: JSON is nested"),
        ('{"text":"' + "x" * 10_000_000 + '"}', "were refused, and it was not run: they are 10000011 characters long"),
        ('{"text":5}', "do not fit, and it was not run: text: Input should be a valid string (got 5)."),
        ('{"txet":"a"}', "do not fit, and it was not run: txet: Extra inputs are not permitted (got 'a')."),
    ],
)
async def test_arguments_that_are_wrong_run_nothing(arguments: str, told: str) -> None:
    """The model is told what to send instead, and neither the tool nor ``started`` hears of it."""
    notes = await run(Toolbox([echo]), ("echo", arguments))
    outcome = notes.finished["c0"]
    assert (outcome.status, outcome.is_error, notes.started) == ("failed", True, [])
    assert told in outcome.content
    assert len(outcome.content) < 1_000


async def test_refusals_stay_within_the_limit_of_results() -> None:
    """A small limit holds for errors too."""
    box = Toolbox([echo], max_result_chars=20)
    outcome = (await run(box, ("echo", '{"text":5}'))).finished["c0"]
    assert len(outcome.content) == 20


@pytest.mark.fault("A43")
async def test_a_call_that_was_cut_off_never_runs() -> None:
    """However complete its arguments look."""
    part = ToolCallPart(call_id="c", name="echo", arguments="{}", truncated=True)
    conclusion = Toolbox([echo]).prepare(part)
    assert isinstance(conclusion, Conclusion)
    assert conclusion.outcome is not None
    assert (conclusion.outcome.status, conclusion.outcome.is_error) == ("skipped", True)
    assert "Ask for it again" in conclusion.outcome.content


async def test_a_validator_that_fails_in_its_own_way_is_the_tools_failure() -> None:
    """The author's code in ``Args`` is a tool's code."""

    class Picky(Tool):
        class Args(BaseModel):
            city: str

            @field_validator("city")
            @classmethod
            def known(cls, city: str) -> str:
                return {"Oslo": "NO"}[city]

        def run(self, args: Args) -> str:
            return args.city

    outcome = await run_one(Picky(), '{"city":"Rome"}')
    assert outcome.content == "KeyError: 'Rome'"
    assert outcome.error is not None
    assert "in known" in outcome.error


async def test_sync_tools_run_in_threads_of_their_own_and_async_ones_in_the_loop() -> None:
    """Both see the context variables of the turn."""
    name: ContextVar[str] = ContextVar("name")
    name.set("from the turn")
    threads: list[int] = []

    def blocking() -> str:
        threads.append(threading.get_ident())
        return f"{name.get()} in {threading.current_thread().name}"

    async def awaited() -> str:
        threads.append(threading.get_ident())
        return name.get()

    notes = await run(Toolbox([blocking, awaited]), "blocking", "awaited")
    assert notes.contents == {"c0": "from the turn in tool blocking", "c1": "from the turn"}
    assert threads.count(threading.get_ident()) == 1


@pytest.mark.fault("A53")
async def test_a_sync_tool_that_blocks_does_not_block_the_loop() -> None:
    """Other tasks go on while it sits in its thread."""
    release = threading.Event()

    def blocking() -> str:
        release.wait()
        return "released"

    round_ = asyncio.create_task(run(Toolbox([blocking], timeout=None), "blocking"))
    alive = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(alive.set_result, "alive")
    assert await alive == "alive"
    assert not round_.done()
    release.set()
    assert (await round_).contents == {"c0": "released"}


@pytest.mark.fault("A51")
async def test_calls_of_a_round_run_side_by_side_and_report_as_they_end() -> None:
    """Each waits for the next one here, so none could end if they ran in turn."""
    gates = [asyncio.Event() for _ in range(3)]

    @tool
    async def link(at: int) -> str:
        if at < 2:
            await gates[at + 1].wait()
        gates[at].set()
        return str(at)

    notes = await run(Toolbox([link]), *(("link", f'{{"at":{at}}}') for at in range(3)))
    assert list(notes.contents.items()) == [("c2", "2"), ("c1", "1"), ("c0", "0")]
    assert notes.started == ["c0", "c1", "c2"]


async def test_no_more_run_at_once_than_allowed() -> None:
    """The others wait for a slot, and ``started`` is told when they get it."""
    running, most = 0, 0
    full = asyncio.Event()

    @tool
    async def counted() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        running -= 1

    notes = await run(Toolbox([counted], concurrency=3), *["counted"] * 10)
    assert most == 3
    assert len(notes.finished) == 10


async def test_a_sequential_tool_runs_alone_in_the_order_of_the_calls() -> None:
    """After the calls before it, and before those after it."""
    trace: list[str] = []
    both = asyncio.Barrier(2)

    @tool
    async def free(name: str) -> None:
        await both.wait()
        trace.append(name)

    @tool(sequential=True)
    async def alone(name: str) -> None:
        trace.append(f"<{name}")
        await asyncio.sleep(0)
        trace.append(f"{name}>")

    asked = [(name[0], f'{{"name":"{name[1]}"}}') for name in
             (("free", "a"), ("free", "b"), ("alone", "c"), ("alone", "d"), ("free", "e"), ("free", "f"))]  # fmt: skip
    await run(Toolbox([free, alone]), *asked)
    assert set(trace[:2]) == {"a", "b"}
    assert trace[2:6] == ["<c", "c>", "<d", "d>"]
    assert set(trace[6:]) == {"e", "f"}


async def test_never_two_callbacks_run_at_once() -> None:
    """What they write to takes one writer."""
    inside = 0

    async def alone(*_: object) -> None:
        nonlocal inside
        assert inside == 0
        inside += 1
        for _step in range(3):
            await asyncio.sleep(0)
        inside -= 1

    await Toolbox([echo]).run_round(calls(*["echo"] * 8), started=alone, finished=alone)


async def test_started_may_be_left_out() -> None:
    """A round needs only somebody to tell its results."""
    notes = Notes()
    await Toolbox([echo]).run_round(calls("echo"), finished=notes.on_finish)
    assert notes.contents == {"c0": "nothing"}


async def test_an_empty_round_is_over_at_once() -> None:
    """Nothing is reported."""
    assert (await run(Toolbox([echo]))).finished == {}


@pytest.mark.fault("A48")
@pytest.mark.fault("A51")
@pytest.mark.fault("A52")
async def test_failures_of_any_kind_leave_the_other_calls_alone() -> None:
    """Exceptions, groups, SystemExit and a CancelledError of the tool's own are its failure, told to the model."""

    @tool
    async def raises() -> None:
        msg = "no such city\nand a secret second line"
        raise LookupError(msg)

    @tool
    def exits() -> None:
        raise SystemExit(2)

    @tool
    async def exits_async() -> None:
        raise SystemExit

    @tool
    async def cancels() -> None:
        raise asyncio.CancelledError

    @tool
    def cancels_in_thread() -> None:
        msg = "by itself"
        raise asyncio.CancelledError(msg)

    @tool
    async def cancels_its_task() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    @tool
    async def groups() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(raises.function())

    @tool
    async def worded() -> None:
        msg = "Say the city in English."
        raise ToolError(msg)

    box = Toolbox([raises, exits, exits_async, cancels, cancels_in_thread, cancels_its_task, groups, worded, echo])
    notes = await run(box, *(spec.name for spec in box.specs))
    assert notes.contents == {
        "c0": "LookupError: no such city",
        "c1": "SystemExit: 2",
        "c2": "SystemExit",
        "c3": "CancelledError: cancels cancelled itself",
        "c4": "CancelledError: by itself",
        "c5": "CancelledError: cancels_its_task cancelled itself",
        "c6": "LookupError: no such city",
        "c7": "Say the city in English.",
        "c8": "nothing",
    }
    assert [outcome.status for outcome in notes.finished.values()].count("failed") == 8


@pytest.mark.fault("A50")
async def test_values_without_json_form_are_told_and_long_ones_cut() -> None:
    """Generators, coroutines and NaN never reach a row; a hundred megabytes end in a mark."""

    @tool
    async def generates() -> object:
        return (n for n in range(3))

    @tool
    def forgets_to_await() -> object:
        return echo.function()

    @tool
    async def huge() -> str:
        return "x" * 100_000_000

    notes = await run(Toolbox([generates, forgets_to_await, huge]), "generates", "forgets_to_await", "huge")
    assert notes.contents["c0"].startswith("The tool ran, but it returned a generator")
    assert "nobody awaited" in notes.contents["c1"]
    assert len(notes.contents["c2"]) == 100_000
    assert notes.contents["c2"].endswith("characters is shown]")


async def test_a_halt_is_an_outcome_and_the_others_are_finished() -> None:
    """The turn decides what it means; the round runs to its end."""

    @tool
    def stop() -> ToolHalt:
        return ToolHalt({"done": True})

    @tool
    async def stops_too() -> None:
        raise ToolHalt

    notes = await run(Toolbox([stop, stops_too, echo]), "stop", "stops_too", "echo")
    assert (notes.finished["c0"].status, notes.finished["c0"].value) == ("halted", {"done": True})
    assert (notes.finished["c1"].status, notes.finished["c1"].content) == ("halted", "")
    assert notes.contents["c2"] == "nothing"


@pytest.mark.fault("A36")
async def test_equal_calls_are_told_apart_by_their_place() -> None:
    """One tool called twice with one id gives two results."""
    part = ToolCallPart(call_id="same", name="echo", arguments="{}")
    planned = [PlannedCall(index=at, call=part, context=CONTEXT) for at in range(2)]
    told: list[int] = []

    async def finished(call: PlannedCall, _: ToolOutcome) -> None:
        told.append(call.index)

    await Toolbox([echo]).run_round(planned, finished=finished)
    assert sorted(told) == [0, 1]


async def test_a_tool_is_told_its_deadline() -> None:
    """On the loop's clock, from when it starts to run; without a limit there is none."""
    seen: list[ToolContext] = []

    @tool
    async def look(context: ToolContext) -> None:
        seen.append(context)

    await run(Toolbox([look], timeout=60), "look")
    await run(Toolbox([look], timeout=None), "look")
    timed, untimed = seen
    assert timed.deadline is not None
    assert timed.remaining is not None
    assert 0 < timed.remaining <= 60
    assert (timed.call_id, timed.idempotency_key, timed.owner) == ("c", "k", "o")
    assert (untimed.deadline, untimed.remaining) == (None, None)


@pytest.mark.parametrize("limits", [{"concurrency": 0}, {"timeout": 0}, {"timeout": -1.0}, {"max_result_chars": 0}])
def test_limits_have_to_be_positive(limits: dict[str, int]) -> None:
    """At creation, with the way to have no limit."""
    with pytest.raises(ConfigurationError, match=r"must be positive \(timeout=None: no limit\)"):
        Toolbox([echo], concurrency=limits.get("concurrency", 1), timeout=limits.get("timeout", 1),
                max_result_chars=limits.get("max_result_chars", 1))  # fmt: skip


@pytest.mark.parametrize("callback", ["started", "finished"])
async def test_an_error_of_a_callback_ends_the_round_and_nothing_more_is_reported(callback: str) -> None:
    """The journal failed: the other calls are cancelled, and it is not asked again."""
    cancelled = asyncio.Event()
    waiting = asyncio.Event()
    reports = 0

    @tool
    async def waits() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def on_start(planned: PlannedCall) -> None:
        if callback == "started" and planned.call.name == "echo":
            await waiting.wait()
            msg = "disk full"
            raise StorageError(msg)

    async def on_finish(_: PlannedCall, __: ToolOutcome) -> None:
        nonlocal reports
        reports += 1
        await waiting.wait()
        msg = "disk full"
        raise StorageError(msg)

    # The call that waits has to have begun before the failure: it is asked for first.
    box = Toolbox([echo, waits])
    with pytest.raises(StorageError, match="disk full"):
        await box.run_round(calls("waits", "echo", "echo"), started=on_start, finished=on_finish)
    assert cancelled.is_set()
    assert reports == (1 if callback == "finished" else 0)


async def test_a_fatal_error_is_reported_and_cancels_the_others() -> None:
    """Its words are on the row, the error goes on, and what was already over is reported too."""
    gone = asyncio.Event()
    begun = asyncio.Event()

    @tool
    async def waits() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()

    @tool
    async def fatal() -> None:
        await begun.wait()
        msg = "stop everything"
        raise ToolError(msg, fatal=True)

    notes = Notes()
    box = Toolbox([waits, fatal, echo])
    with pytest.raises(ToolError, match="stop everything") as caught:
        await box.run_round(calls("waits", "fatal", "echo"), started=notes.on_start, finished=notes.on_finish)
    assert caught.value.fatal
    assert gone.is_set()
    assert notes.contents == {"c2": "nothing", "c1": "stop everything"}


async def test_a_fatal_error_keeps_later_groups_from_running() -> None:
    """A sequential call that comes after is never begun."""

    @tool
    def fatal() -> None:
        msg = "stop"
        raise ToolError(msg, fatal=True)

    @tool(sequential=True)
    def after() -> None:
        """Never run."""

    notes = Notes()
    with pytest.raises(ToolError):
        await Toolbox([fatal, after]).run_round(
            calls("fatal", "after"), started=notes.on_start, finished=notes.on_finish
        )
    assert (notes.started, list(notes.finished)) == (["c0"], ["c0"])


@pytest.mark.fault("A52")
async def test_a_keyboard_interrupt_of_a_tool_is_not_told_to_the_model() -> None:
    """It goes to whoever runs the turn, from a thread as from the loop."""

    @tool
    def interrupts() -> None:
        raise KeyboardInterrupt

    @tool
    async def interrupts_async() -> None:
        raise KeyboardInterrupt

    for source in (interrupts, interrupts_async):
        box = Toolbox([source])
        prepared = box.prepare(calls(source.name)[0].call)
        assert not isinstance(prepared, Conclusion)
        conclusion = await box.execute(*prepared, CONTEXT)
        assert conclusion.outcome is None
        assert isinstance(conclusion.fatal, KeyboardInterrupt)
