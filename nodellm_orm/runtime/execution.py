"""The running of a round: each call with a transaction that its tool may write in, each outcome recorded with it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from nodellm_orm.domain.replies import ToolResult
from nodellm_orm.ports.entries import CallStarted
from nodellm_orm.ports.workspace import Withdrawn
from nodellm_orm.runtime import hooks as hooking
from nodellm_orm.runtime.outcomes import withdrawn
from nodellm_orm.runtime.rounds import discarded, planned
from nodellm_orm.runtime.scribe import durably

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from nodellm_orm.ports.states import ChatHead
    from nodellm_orm.ports.workspace import Workspace
    from nodellm_orm.runtime.consumer import Consumer
    from nodellm_orm.runtime.outcomes import ToolOutcome
    from nodellm_orm.runtime.plan import Plan
    from nodellm_orm.runtime.rounds import RoundCall
    from nodellm_orm.runtime.scribe import Scribe
    from nodellm_orm.runtime.toolbox import PlannedCall
    from nodellm_orm.runtime.transcript import Transcript

T = TypeVar("T")

log = logging.getLogger("nodellm_orm")


class Execution:
    """Runs what can be run of one round.

    Args:
        calls: all calls of the round.
        plan: has the tools and the hooks.
        head: the chat.
        scribe: writes the durable points.
        transcript: what has come of the turn so far.
        consumer: is told of results.
    """

    def __init__(
        self,
        calls: Sequence[RoundCall],
        plan: Plan,
        head: ChatHead,
        scribe: Scribe,
        transcript: Transcript,
        consumer: Consumer,
    ) -> None:
        """Prepare; nothing runs yet."""
        self._plan = plan
        self._head = head
        self._scribe = scribe
        self._transcript = transcript
        self._consumer = consumer
        self._runnable = [call for call in calls if call.outcome is None and not call.waiting]
        self.waits = any(call.waiting for call in calls)
        """Whether a person has to decide on some of the calls before the round can be closed."""
        self.halted: ToolOutcome | None = None
        """The outcome that ended the turn without asking the model again."""

    async def run(self) -> None:
        """Run the calls, and record each as it ends; the last one waits to be recorded with the round."""
        runnable = self._runnable
        left, floor = len(runnable), asyncio.Lock()
        for call in runnable:
            call.workspace = self._scribe.workspace(floor)

        async def started(plan: PlannedCall) -> None:
            call = runnable[plan.index]
            if call.opened.status != "running":
                await self._scribe.write(CallStarted(id=call.opened.id))
            call.started = True
            await hooking.call(self._plan.hooks.on_tool_call_start, self._transcript.call(call.opened.id))

        async def finished(plan: PlannedCall, outcome: ToolOutcome) -> None:
            nonlocal left
            left -= 1
            call = runnable[plan.index]
            call.outcome = outcome
            if outcome.status == "halted":
                self.halted = outcome
            if left or self.waits:
                await self._record(call)
                await self.tell(call)

        calls = planned(runnable, self._head, hooked=bool(self._plan.hooks.on_tool_call_start))
        await self._plan.toolbox.run_round(calls, started=started, finished=finished, floor=floor)

    async def _record(self, call: RoundCall) -> None:
        await self.with_writes_of(call, lambda within: self._scribe.write(call.finished(), within=within))

    async def with_writes_of(self, call: RoundCall | None, write: Callable[[Workspace | None], Awaitable[T]]) -> T:
        """Write a point that has a call's outcome, in the transaction in which its tool has written, if there is one.

        Once that has failed, the only outcome that may be recorded is that nothing was written: should the transaction
        have been committed after all, its step has been taken, and no other point can take it.

        Args:
            call: the call; ``None``: no outcome that was not recorded has writes.
            write: writes the point, in a workspace or without one.
        """
        if call is None or not call.workspace.used:
            return await write(None)
        try:
            return await write(call.workspace)
        except BaseException as error:
            if call.recorded:
                raise  # cancelled behind the commit
            self.halted = None if self.halted is call.outcome else self.halted
            call.outcome = withdrawn(call.opened.call.name, error.__cause__ if isinstance(error, Withdrawn) else error)
            if not isinstance(error, Withdrawn):
                raise
            log.warning("what %s wrote was rolled back: %s", call.opened.call.name, type(error.__cause__).__name__)
        return await write(None)

    async def clear(self) -> None:
        """The round was broken off: record the call that waited to be recorded with it, and undo what others wrote."""
        try:
            for call in self._runnable:
                if call.outcome is not None and not call.recorded and call.workspace.used:
                    await self._record(call)
        except Exception as error:  # noqa: BLE001 — the error that stops the round goes on, not this one
            log.warning("the result of a call could not be recorded: %s", error)
        finally:
            await durably(lambda _: discarded(self._runnable))

    async def tell(self, call: RoundCall) -> None:
        """Tell hooks and the consumer what a call came to.

        Args:
            call: one that has its outcome.
        """
        outcome, told = call.result, self._transcript.call(call.opened.id)
        result = ToolResult(call_id=told.call_id, name=told.name, content=outcome.content, is_error=outcome.is_error)
        if outcome.is_error:
            await hooking.call(self._plan.hooks.on_tool_call_error, told, outcome.error or outcome.content)
        else:
            await hooking.call(self._plan.hooks.on_tool_call_end, told, result)
        self._consumer.answered(result)
