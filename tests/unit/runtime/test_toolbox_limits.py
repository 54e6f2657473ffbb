"""Timeouts and cancellation: a hanging tool holds nothing up, and what ended is reported however the round ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from nodellm_orm.domain.parts import ToolCallPart
from nodellm_orm.errors import StorageError
from nodellm_orm.runtime.outcomes import ToolOutcome  # noqa: TC001 — a field of a dataclass
from nodellm_orm.runtime.toolbox import PlannedCall, Toolbox
from nodellm_orm.runtime.tools import ToolContext, tool

CONTEXT = ToolContext(chat_id=UUID(int=1), owner=None, call_id="c", idempotency_key="k")
MOMENT = 0.01
"""A time limit that passes at once; nothing is measured by it."""


def calls(*names: str) -> list[PlannedCall]:
    """Calls of one round, without arguments."""
    return [
        PlannedCall(index=at, call=ToolCallPart(call_id=name, name=name, arguments="{}"), context=CONTEXT)
        for at, name in enumerate(names)
    ]


@dataclass
class Notes:
    """What a round reported."""

    contents: dict[str, str] = field(default_factory=dict)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    async def on_finish(self, planned: PlannedCall, outcome: ToolOutcome) -> None:
        """Note an end."""
        self.contents[planned.call.call_id] = outcome.content
        self.told.set()


async def drained(*events: asyncio.Event) -> None:
    """Wait for events of tools that were left to themselves."""
    for event in events:
        await event.wait()
    await asyncio.sleep(0)


@tool
async def echo() -> str:
    """Answer at once."""
    return "done"


@pytest.mark.fault("A49")
@pytest.mark.fault("A51")
async def test_an_async_tool_that_hangs_is_stopped_and_the_others_are_kept() -> None:
    """It gets the time to clean up, the model is told, and its neighbour's result stands."""
    cleaned = asyncio.Event()

    @tool
    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    notes = Notes()
    await Toolbox([hangs, echo], timeout=MOMENT).run_round(calls("hangs", "echo"), finished=notes.on_finish)
    assert notes.contents == {"echo": "done", "hangs": "hangs did not finish in 0.01 seconds."}
    assert cleaned.is_set()


@pytest.mark.fault("A49")
async def test_a_late_return_is_dropped() -> None:
    """What a tool returns while it is being stopped comes too late: the model has been told."""

    @tool
    async def late() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"
        return "never"

    notes = Notes()
    await Toolbox([late], timeout=MOMENT).run_round(calls("late"), finished=notes.on_finish)
    assert notes.contents == {"late": "late did not finish in 0.01 seconds."}


@pytest.mark.fault("A49")
async def test_an_async_tool_that_ignores_its_cancellation_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """The round goes on after the grace, the log says so, and the task is kept alive until it ends."""
    release, over = asyncio.Event(), asyncio.Event()

    @tool
    async def stubborn() -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        over.set()
        return "late"

    notes = Notes()
    box = Toolbox([stubborn], timeout=MOMENT, grace=MOMENT)
    with caplog.at_level(logging.WARNING, logger="nodellm_orm"):
        await box.run_round(calls("stubborn"), finished=notes.on_finish)
    assert notes.contents == {"stubborn": "stubborn did not finish in 0.01 seconds."}
    assert "tool stubborn ignores its cancellation" in caplog.text
    gc.collect()
    release.set()
    await drained(over)
    assert notes.contents == {"stubborn": "stubborn did not finish in 0.01 seconds."}


@pytest.mark.fault("A49")
async def test_a_sync_tool_that_hangs_is_left_to_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    """A thread cannot be stopped: the model is told, and what it returns later is heard by nobody."""
    release, over = threading.Event(), threading.Event()

    @tool
    def hangs() -> str:
        release.wait()
        over.set()
        return "late"

    notes = Notes()
    with caplog.at_level(logging.WARNING, logger="nodellm_orm"):
        await Toolbox([hangs, echo], timeout=MOMENT).run_round(calls("hangs", "echo"), finished=notes.on_finish)
    assert notes.contents == {"echo": "done", "hangs": "hangs did not finish in 0.01 seconds."}
    assert "tool hangs is not async and cannot be stopped" in caplog.text
    release.set()
    await asyncio.to_thread(over.wait)
    assert len(notes.contents) == 2


async def test_a_cancelled_round_reports_what_ended_and_cancels_the_rest() -> None:
    """What is over is told before the cancellation goes on; what was cancelled is not told as a result."""
    stopped = asyncio.Event()

    @tool
    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    notes = Notes()
    round_ = asyncio.create_task(Toolbox([waits, echo]).run_round(calls("waits", "echo"), finished=notes.on_finish))
    await notes.told.wait()
    round_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await round_
    assert stopped.is_set()
    assert notes.contents == {"echo": "done"}


async def test_a_tool_that_ends_while_the_round_is_being_cancelled_is_reported() -> None:
    """It came to an end of its own within the grace: that has happened, and the row must say so."""
    waiting = asyncio.Event()

    @tool
    async def finishes_anyway() -> str:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "charged"
        return "never"

    notes = Notes()
    round_ = asyncio.create_task(
        Toolbox([finishes_anyway]).run_round(calls("finishes_anyway"), finished=notes.on_finish)
    )
    await waiting.wait()
    round_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await round_
    assert notes.contents == {"finishes_anyway": "charged"}


async def test_a_tool_that_ends_in_the_moment_of_the_cancellation_is_reported() -> None:
    """It was over before anybody could stop it."""

    @tool
    async def last_words() -> str:
        round_.cancel()
        return "charged"

    notes = Notes()
    round_ = asyncio.create_task(Toolbox([last_words]).run_round(calls("last_words"), finished=notes.on_finish))
    with pytest.raises(asyncio.CancelledError):
        await round_
    assert notes.contents == {"last_words": "charged"}


async def test_a_result_that_waits_for_another_callback_is_not_lost_by_a_cancellation() -> None:
    """One call has ended while another's start is being written: cancelled there, its end is still told."""
    starting, ended = asyncio.Event(), asyncio.Event()

    @tool
    async def first() -> str:
        await starting.wait()
        ended.set()
        return "first"

    @tool
    async def second() -> str:
        return "second"

    async def on_start(planned: PlannedCall) -> None:
        if planned.call.name == "second":
            starting.set()
            await asyncio.Event().wait()

    notes = Notes()
    round_ = asyncio.create_task(
        Toolbox([first, second]).run_round(calls("first", "second"), started=on_start, finished=notes.on_finish)
    )
    await ended.wait()
    for _ in range(5):
        await asyncio.sleep(0)  # the round takes the result up and waits for the callback
    round_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await round_
    assert notes.contents == {"first": "first"}


async def test_a_report_that_fails_while_the_round_is_stopped_does_not_hide_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The cancellation goes on; the failed report is in the log."""
    waiting = asyncio.Event()

    @tool
    async def finishes_anyway() -> str:
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "charged"
        return "never"

    async def on_finish(_: PlannedCall, __: ToolOutcome) -> None:
        msg = "disk full"
        raise StorageError(msg)

    round_ = asyncio.create_task(
        Toolbox([finishes_anyway, echo]).run_round(calls("finishes_anyway"), finished=on_finish)
    )
    await waiting.wait()
    round_.cancel()
    with pytest.raises(asyncio.CancelledError), caplog.at_level(logging.WARNING, logger="nodellm_orm"):
        await round_
    assert "the result of 'finishes_anyway' could not be reported: disk full" in caplog.text


async def test_a_cancelled_round_does_not_wait_for_threads() -> None:
    """Its sync tools go on unheard."""
    release, running = threading.Event(), threading.Event()

    @tool
    def blocks() -> str:
        running.set()
        release.wait()
        return "late"

    notes = Notes()
    round_ = asyncio.create_task(Toolbox([blocks], timeout=None).run_round(calls("blocks"), finished=notes.on_finish))
    await asyncio.to_thread(running.wait)
    round_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await round_
    release.set()
    assert notes.contents == {}


async def test_calls_that_wait_for_a_slot_never_begin_after_a_cancellation() -> None:
    """They were not started, and are not reported."""
    begun: list[str] = []
    waiting = asyncio.Event()

    @tool
    async def waits(context: ToolContext) -> None:
        begun.append(context.call_id)
        waiting.set()
        await asyncio.Event().wait()

    notes = Notes()
    round_ = asyncio.create_task(
        Toolbox([waits], concurrency=1).run_round(calls("waits", "waits", "waits"), finished=notes.on_finish)
    )
    await waiting.wait()
    round_.cancel()
    with pytest.raises(asyncio.CancelledError):
        await round_
    assert (len(begun), notes.contents) == (1, {})


async def test_a_round_whose_loop_is_gone_awaits_nothing() -> None:
    """Closing it is no error; in the loop that is still there, its calls end by themselves."""
    gate, over = asyncio.Event(), asyncio.Event()

    @tool
    async def waits() -> None:
        await gate.wait()
        over.set()

    notes = Notes()
    round_ = Toolbox([waits]).run_round(calls("waits"), finished=notes.on_finish)
    round_.send(None)
    round_.close()
    gate.set()
    await drained(over)
    assert notes.contents == {}
