"""The tools that a model is offered: each call checked and run, ending in words a model can read."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from pydantic import ValidationError

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.workspace import NoWorkspace
from nodellm_orm.runtime import outcomes, results
from nodellm_orm.runtime.arguments import ArgumentsError, checked
from nodellm_orm.runtime.outcomes import Conclusion, ToolOutcome, failed
from nodellm_orm.runtime.schemas import explain
from nodellm_orm.runtime.threads import in_thread
from nodellm_orm.runtime.tools import collect, to_spec
from nodellm_orm.runtime.underway import RoundUnderWay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from pydantic import BaseModel

    from nodellm_orm.domain.parts import ToolCallPart
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.runtime.tools import Tool, ToolContext, ToolSource

__all__ = ["PlannedCall", "ToolOutcome", "Toolbox"]

log = logging.getLogger("nodellm_orm")

_IN_THREAD = NoWorkspace("context.session is for async tools, and this one runs in a thread; write it as `async def`")
_SHOWN_NAMES = 20
_SHOWN_CHARS = 64
_TRUNCATED = (
    "This call was not run: the answer was cut off before its arguments were complete. "
    "Ask for it again, with shorter arguments."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """A call that is to run."""

    index: int
    """Place in the round, from 0."""
    call: ToolCallPart
    context: ToolContext
    """Its deadline is set when the call starts to run."""
    noted: bool = False
    """Whether something is written when it starts: that waits until no other call of the round has a transaction."""


class Toolbox:
    """The tools offered to a model, and how they run.

    Args:
        tools: what ``tools=`` was given.
        concurrency: calls of one round that run at the same time.
        timeout: seconds for one call; ``None`` means no limit.
        max_result_chars: characters the model is given of one result.
        grace: seconds that a cancelled async tool is given to clean up.

    Raises:
        ConfigurationError: for what is not a tool, illegal or repeated names, limits that are not positive.

    Example:
        >>> def get_weather(city: str) -> str:
        ...     "Current weather."
        ...     return f"sunny in {city}"
        >>> box = Toolbox([get_weather], timeout=30)
        >>> [spec.name for spec in box.specs]
        ['get_weather']
    """

    def __init__(
        self,
        tools: Iterable[ToolSource] = (),
        *,
        concurrency: int = 8,
        timeout: float | None = 120.0,
        max_result_chars: int = results.MAX_CHARS,
        grace: float = 5.0,
    ) -> None:
        """Collect the tools and describe them."""
        if concurrency < 1 or max_result_chars < 1 or (timeout is not None and timeout <= 0):
            msg = "concurrency, timeout and max_result_chars of tools must be positive (timeout=None: no limit)"
            raise ConfigurationError(msg)
        self._tools = {tool.name: tool for tool in collect(tools)}
        self._concurrency = concurrency
        self._timeout = timeout
        self._max_result_chars = max_result_chars
        self._grace = grace
        self._abandoned: set[asyncio.Future[Conclusion]] = set()
        self.specs: tuple[ToolSpec, ...] = tuple(to_spec(tool) for tool in self._tools.values())
        """What the model is told, in the order given."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools, in the order given."""
        return tuple(self._tools.values())

    def get(self, name: str) -> Tool | None:
        """The tool of exactly this name."""
        return self._tools.get(name)

    async def run_round(
        self,
        calls: Sequence[PlannedCall],
        *,
        started: Callable[[PlannedCall], Awaitable[None]] | None = None,
        finished: Callable[[PlannedCall, ToolOutcome], Awaitable[None]],
        floor: asyncio.Lock | None = None,
    ) -> None:
        """Run the calls of one round, side by side; a sequential tool runs alone, in the order of the calls.

        However the round ends, every call that came to an end of its own is reported, unless reporting itself
        failed; calls that were cancelled are not. While a call has a transaction of its own (`Workspace`), no other
        one is reported.

        Args:
            calls: in order.
            started: awaited before a call runs; not for one that is refused (bad arguments, unknown tool, cut
                off).
            finished: awaited with each outcome, in order of completion. Never two callbacks run at once.
            floor: which the calls' workspaces were made with.

        Raises:
            ToolError: a tool raised it with ``fatal=True``; the other calls have been cancelled.
            CancelledError: the round was cancelled, and with it the running tools; async ones were given the
                grace to clean up.
            Exception: whatever a callback raised; the other calls have been cancelled.
        """
        round_ = RoundUnderWay(self, self._concurrency, started, finished, floor or asyncio.Lock())
        for _, group in groupby(calls, key=self._group):
            await round_.run(list(group))

    def _group(self, planned: PlannedCall) -> int:
        """Neighbours of one group run side by side: a sequential call is a group of its own."""
        tool = self.get(planned.call.name)
        return planned.index if tool is not None and tool.sequential else -1

    def prepare(self, call: ToolCallPart) -> tuple[Tool, BaseModel] | Conclusion:
        """The tool and its validated arguments, or why the call is refused: then nothing is executed.

        Args:
            call: as the model asked for it.
        """
        if call.truncated:
            skipped = ToolOutcome(status="skipped", content=_TRUNCATED, is_error=True, error="truncated call")
            return Conclusion(outcome=skipped)
        tool = self.get(call.name)
        if tool is None:
            return Conclusion(outcome=failed(self._unknown(call.name)))
        try:
            return tool, tool.parse(checked(call.arguments))
        except ArgumentsError as error:
            problem = f"The arguments of {tool.name} were refused, and it was not run: {error}."
        except ValidationError as error:
            problem = f"The arguments of {tool.name} do not fit, and it was not run: {explain(error)}."
        except BaseException as error:  # noqa: BLE001 — a boundary: validators in a tool's Args are its author's code
            return outcomes.raised(error, self._max_result_chars)
        return Conclusion(outcome=failed(results.truncate(problem, self._max_result_chars)))

    def _unknown(self, name: str) -> str:
        shown = ascii(name if len(name) <= _SHOWN_CHARS else f"{name[:_SHOWN_CHARS]}...")
        offered = list(self._tools)
        if not offered:
            return f"There is no tool called {shown}; no tools are offered here."
        more = f" and {len(offered) - _SHOWN_NAMES} more" if len(offered) > _SHOWN_NAMES else ""
        return f"There is no tool called {shown}; there are {', '.join(offered[:_SHOWN_NAMES])}{more}."

    async def execute(self, tool: Tool, args: BaseModel, context: ToolContext) -> Conclusion:
        """Run one call to its end, its timeout or its cancellation.

        Args:
            tool: what to run.
            args: its validated arguments.
            context: without deadline.

        Raises:
            CancelledError: the caller was cancelled and the tool did not come to an end of its own.
        """
        loop = asyncio.get_running_loop()
        deadline = None if self._timeout is None else loop.time() + self._timeout
        workspace = context.workspace if tool.asynchronous else _IN_THREAD
        told = replace(context, deadline=deadline, clock=loop.time, workspace=workspace)
        work = self._start(tool, args, told)
        try:
            await asyncio.wait({work}, timeout=self._timeout)
        except asyncio.CancelledError:
            await self._stop(work, tool)
            if not work.done() or work.cancelled():
                raise
        if not work.done():
            await self._stop(work, tool)
            return Conclusion(outcome=failed(f"{tool.name} did not finish in {self._timeout:g} seconds."))
        if work.cancelled():
            # Nobody asked for it: the tool raised CancelledError or cancelled its own task.
            return outcomes.raised(asyncio.CancelledError(f"{tool.name} cancelled itself"), self._max_result_chars)
        return work.result()

    def _start(self, tool: Tool, args: BaseModel, context: ToolContext) -> asyncio.Future[Conclusion]:
        limit = self._max_result_chars
        if tool.asynchronous:
            return asyncio.create_task(_run(tool, args, context, limit), name=f"tool {tool.name}")
        return in_thread(lambda: _run_sync(tool, args, context, limit), name=f"tool {tool.name}")

    async def _stop(self, work: asyncio.Future[Conclusion], tool: Tool) -> None:
        """Cancel a running tool: a task gets the grace to clean up, a thread cannot be stopped."""
        if not work.cancel():
            return
        if not isinstance(work, asyncio.Task):
            log.warning("tool %s is not async and cannot be stopped; its thread goes on unheard", tool.name)
            return
        self._abandoned.add(work)
        work.add_done_callback(self._abandoned.discard)
        await asyncio.wait({work}, timeout=self._grace)
        if not work.done():
            log.warning("tool %s ignores its cancellation; it goes on and its result is dropped", tool.name)


async def _run(tool: Tool, args: BaseModel, context: ToolContext, limit: int) -> Conclusion:
    conclusion = await _awaited(tool, args, context, limit)
    if conclusion.failed:
        return conclusion
    try:
        await context.workspace.complete()
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 — what the tool has written may be refused only now
        return outcomes.raised(error, limit)
    return conclusion


async def _awaited(tool: Tool, args: BaseModel, context: ToolContext, limit: int) -> Conclusion:
    try:
        value = tool.invoke(args, context)
        return outcomes.returned(await value, limit)  # type: ignore[misc]  # asynchronous tools return awaitables
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 — the boundary to the tool author's code
        return outcomes.raised(error, limit)


def _run_sync(tool: Tool, args: BaseModel, context: ToolContext, limit: int) -> Conclusion:
    try:
        return outcomes.returned(tool.invoke(args, context), limit)
    except BaseException as error:  # noqa: BLE001 — the boundary to the tool author's code
        return outcomes.raised(error, limit)
