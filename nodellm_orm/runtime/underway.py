"""The calls of one round while they run: side by side, in limits, and reported one at a time."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING

from nodellm_orm.runtime.outcomes import Conclusion
from nodellm_orm.runtime.scribe import durably

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from nodellm_orm.runtime.outcomes import ToolOutcome
    from nodellm_orm.runtime.toolbox import PlannedCall, Toolbox

log = logging.getLogger("nodellm_orm")


class RoundUnderWay:
    """The calls of one round under way: tasks run them, the round's own task reports what came of them.

    A call has the floor from the first statement of its own transaction until that has ended with its report. Any other
    one takes the floor when it has ended, and is handed to the round's task only then: so that task never waits for a
    transaction whose own report is still to come. Who needs both takes the floor before he takes his turn.

    Args:
        toolbox: checks and runs each call.
        concurrency: calls that run at the same time.
        started: awaited before a call runs.
        finished: awaited with each outcome.
        floor: which the calls' workspaces were made with.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        concurrency: int,
        started: Callable[[PlannedCall], Awaitable[None]] | None,
        finished: Callable[[PlannedCall, ToolOutcome], Awaitable[None]],
        floor: asyncio.Lock,
    ) -> None:
        """Nothing runs yet."""
        self._toolbox = toolbox
        self._floor = floor
        self._lent: set[int] = set()
        """Calls that have the floor only to be reported."""
        self._slots = asyncio.Semaphore(concurrency)
        self._started = started
        self._finished = finished
        self._one_at_a_time = asyncio.Lock()
        self._reporting_failed = False
        self._stopping = False
        """The calls have been cancelled: what ended all the same is reported one by one, by the task of the round."""
        self._ended: asyncio.Queue[tuple[PlannedCall, Conclusion]] = asyncio.Queue()

    async def run(self, calls: Sequence[PlannedCall]) -> None:
        """Run some of the calls side by side; see `Toolbox.run_round`.

        Args:
            calls: in order.
        """
        tasks = [asyncio.create_task(self._serve(planned)) for planned in calls]
        try:
            for _ in tasks:
                await self._report(*await self._ended.get())
        except GeneratorExit:
            raise  # the loop is gone: nothing can be awaited any more
        except BaseException:
            self._stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._report_rest()
            raise

    async def _serve(self, planned: PlannedCall) -> None:
        try:
            async with self._slots:
                conclusion = await self._perform(planned)
        except BaseException as error:  # noqa: BLE001 — carried to the round's own task, which raises it
            conclusion = Conclusion(fatal=error)
        if conclusion.outcome is not None and not self._stopping and not planned.context.workspace.used:
            # Not while stopping: a call that ended as it was cancelled would wait for one that nobody reports before.
            try:
                await self._floor.acquire()
                self._lent.add(planned.index)
            except asyncio.CancelledError:
                pass  # it is one of the rest, and nothing runs any more when they are reported
        self._ended.put_nowait((planned, conclusion))

    async def _perform(self, planned: PlannedCall) -> Conclusion:
        prepared = self._toolbox.prepare(planned.call)
        if isinstance(prepared, Conclusion):
            return prepared
        if self._started is not None:
            async with self._floor if planned.noted else nullcontext(), self._one_at_a_time:
                await self._tell(self._started(planned))
        try:
            conclusion = await self._toolbox.execute(*prepared, planned.context)
        except asyncio.CancelledError:
            await durably(lambda _: planned.context.workspace.discard())
            raise
        if conclusion.failed:
            await durably(lambda _: planned.context.workspace.discard())
        return conclusion

    async def _report(self, planned: PlannedCall, conclusion: Conclusion) -> None:
        try:
            await self._one_at_a_time.acquire()
        except asyncio.CancelledError:
            self._ended.put_nowait((planned, conclusion))  # it has not been reported: it is one of the rest
            raise
        try:
            if conclusion.outcome is not None:
                await self._tell(self._finished(planned, conclusion.outcome))
        finally:
            self._one_at_a_time.release()
            if planned.index in self._lent:
                self._lent.remove(planned.index)
                self._floor.release()
        if conclusion.fatal is not None:
            raise conclusion.fatal

    async def _report_rest(self) -> None:
        """What ended while the round was being stopped has happened all the same."""
        rest = [self._ended.get_nowait() for _ in range(self._ended.qsize())]
        # One with an open transaction goes first: the others may be kept waiting by it.
        for planned, conclusion in sorted(rest, key=lambda ended: not ended[0].context.workspace.used):
            if self._reporting_failed:
                return
            try:
                await self._report(planned, Conclusion(outcome=conclusion.outcome))
            except Exception as error:  # noqa: BLE001 — the error that stops the round goes on, not this one
                log.warning("the result of %r could not be reported: %s", planned.call.name, error)

    async def _tell(self, callback: Awaitable[None]) -> None:
        """Await a callback, and remember when one failed: whatever it reports to is in no state to be told more."""
        try:
            await callback
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._reporting_failed = True
            raise
