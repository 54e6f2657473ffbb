"""Tools in a replay: a call that was recorded gets its recorded result, and nothing runs that was not asked for."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from nodellm_orm.domain.jsontext import JsonTextError, dumps, loads
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.runtime.outcomes import Conclusion, ToolOutcome, failed
from nodellm_orm.runtime.toolbase import NoArguments, Tool
from nodellm_orm.runtime.toolbox import Toolbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic import BaseModel

    from nodellm_orm.domain.jsontext import JsonText
    from nodellm_orm.domain.parts import ToolCallPart, ToolResultPart
    from nodellm_orm.domain.tools import ToolSpec
    from nodellm_orm.ports.statuses import CallStatus
    from nodellm_orm.replay.record import Exchange, Record
    from nodellm_orm.runtime.toolbase import ToolContext
    from nodellm_orm.store.details import CallDetails

Results: TypeAlias = Literal["recorded", "live", "recorded-or-live"]
"""Where the results of tools come from."""

UNRECORDED: Final = (
    "This call was not run: the conversation is being replayed, and no call of this tool with these arguments was "
    "recorded."
)
GUARDED: Final = (
    "This call was not run: the conversation is being replayed, and the tool needs the approval of a person, which a "
    "replay does not ask for."
)
NOT_RUN: Final = (UNRECORDED, GUARDED)
WAITING: Final = (
    "This call was not run: it waits for the approval of a person in the conversation that is being replayed, which "
    "ends this turn."
)
APPROVAL: Final = FinishReason.APPROVAL.value
_REFUSED: Final = ("The arguments of ", "There is no tool called ")
"""How the results of calls begin that were refused before they ran."""

_RAN: Final = {"succeeded", "failed", "halted", "unknown"}

Key: TypeAlias = tuple[str, str]
"""A tool's name and its arguments as JSON values, whatever bytes they were written in."""


def key_of(name: str, arguments: JsonText) -> Key:
    """What makes two calls the same.

    Args:
        name: the tool's.
        arguments: as received.
    """
    try:
        return name, dumps(_sorted(loads(arguments)))
    except JsonTextError:
        return name, arguments


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list) else value


class RecordedResults:
    """The results of a stored conversation, by call; a call that was made several times gets them in order.

    Args:
        record: the stored chat.
        made: what a replay of it that was broken off has called already.
    """

    def __init__(self, record: Record, made: Iterable[Exchange] = ()) -> None:
        """Collect them."""
        self._outcomes: defaultdict[Key, list[ToolOutcome]] = defaultdict(list)
        for exchange in record.exchanges:
            for key, outcome in _outcomes(exchange):
                self._outcomes[key].append(outcome)
        self._taken: defaultdict[Key, int] = defaultdict(int)
        self._given: dict[str, ToolOutcome] = {}
        for exchange in made:
            for call in exchange.calls:
                if call.result is not None:
                    self._taken[key_of(call.name, call.arguments)] += 1

    def has(self, call: ToolCallPart) -> bool:
        """Whether a call was recorded."""
        return bool(self._outcomes.get(key_of(call.name, call.arguments)))

    def first(self, call: ToolCallPart) -> ToolOutcome:
        """What the next one of these calls came to; it is not used up by looking."""
        key = key_of(call.name, call.arguments)
        outcomes = self._outcomes[key]
        return outcomes[min(self._taken[key], len(outcomes) - 1)]

    def take(self, call: ToolCallPart) -> ToolOutcome:
        """What a call came to: the same when it is asked for again; the last one serves for calls beyond it."""
        if call.call_id not in self._given:
            self._given[call.call_id] = self.first(call)
            self._taken[key_of(call.name, call.arguments)] += 1
        return self._given[call.call_id]


def _outcomes(exchange: Exchange) -> Iterable[tuple[Key, ToolOutcome]]:
    told = {result.call_id: result for said in exchange.said for result in said.message.tool_results}
    waiting = _waiting(exchange)
    for call in exchange.calls:
        result = told.get(call.call_id)
        content = result.content if result is not None else call.result
        if call in waiting or (result is not None and waited(call, result)):
            words = content or WAITING
            yield (
                key_of(call.name, call.arguments),
                ToolOutcome(status="halted", content=words, is_error=True, error=words, value=words),
            )
            continue
        if content is None:
            continue
        is_error = result.is_error if result is not None else call.status not in {"succeeded", "halted"}
        status: CallStatus = "failed" if is_error else "halted" if call.status == "halted" else "succeeded"
        error = (call.error or content) if is_error else None
        value = content if status == "halted" else None
        yield (
            key_of(call.name, call.arguments),
            ToolOutcome(status=status, content=content, is_error=is_error, error=error, value=value),
        )


def _waiting(exchange: Exchange) -> Sequence[CallDetails]:
    """The calls that a turn ended with because nobody had decided on them: the model was not told of their results."""
    turn = exchange.turn
    if turn is None or turn.status != "suspended" or turn.reason != APPROVAL:
        return ()
    asking = [said.calls for said in exchange.said if said.calls]
    return [call for call in asking[-1] if call.status not in _RAN] if asking else ()


def waited(call: CallDetails, result: ToolResultPart) -> bool:
    """Whether a call of a replay has ended its turn as one does that waits for somebody: no tool can do that.

    Args:
        call: of a stored turn.
        result: what the model was told of it.
    """
    return call.status == "halted" and result.is_error


def _waits(outcome: ToolOutcome) -> bool:
    """Whether this is what becomes of a call that nobody had decided on."""
    return outcome.status == "halted" and outcome.is_error


class StandIn(Tool):
    """What is offered in place of a tool: it looks the same and runs nothing, so that it may be asked again.

    Args:
        spec: what the model is told of it.
        sequential: whether it stands for one that runs alone.
    """

    idempotent = True

    def __init__(self, spec: ToolSpec, *, sequential: bool = False) -> None:
        """Look like the tool."""
        self.name, self.description, self.sequential = spec.name, spec.description, sequential
        self._schema = spec.parameters

    @property
    def parameters(self) -> JsonText:
        """JSON Schema of the arguments."""
        return self._schema


class _Unguarded(Tool):
    """A tool that runs without anybody's approval, for its caller said so."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool
        self.name, self.description = tool.name, tool.description
        self.idempotent, self.sequential = tool.idempotent, tool.sequential
        self.Args = tool.Args

    @property
    def parameters(self) -> JsonText:
        """See the tool."""
        return self._tool.parameters

    @property
    def asynchronous(self) -> bool:
        """See the tool."""
        return self._tool.asynchronous

    def parse(self, arguments: JsonText) -> BaseModel:
        """See the tool."""
        return self._tool.parse(arguments)

    def invoke(self, args: BaseModel, context: ToolContext) -> object:
        """See the tool."""
        return self._tool.invoke(args, context)


class ReplayToolbox(Toolbox):
    """The tools that a replay offers.

    Args:
        tools: those that were given; they run where results are live.
        specs: what was offered in the record, where no tools are given.
        recorded: the results of the record.
        results: where results come from.
        approved: tools that need approval may run all the same.
        timeout: seconds for one call.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        specs: Sequence[ToolSpec],
        recorded: RecordedResults,
        *,
        results: Results,
        approved: bool,
        timeout: float | None,
    ) -> None:
        """Offer what looks the same, and runs only where it may."""
        self._recorded = recorded if results != "live" else None
        live = results != "recorded"
        self._guarded = frozenset(tool.name for tool in tools if live and tool.requires_approval and not approved)
        self._live = frozenset(tool.name for tool in tools if live and tool.name not in self._guarded)
        offered: list[Tool] = [self._offered(tool) for tool in tools] or [StandIn(spec) for spec in specs]
        super().__init__(offered, timeout=timeout)

    def _offered(self, tool: Tool) -> Tool:
        if tool.name not in self._live:
            return StandIn(Toolbox([tool]).specs[0], sequential=tool.sequential)
        return _Unguarded(tool) if tool.requires_approval else tool

    def prepare(self, call: ToolCallPart) -> tuple[Tool, BaseModel] | Conclusion:
        """See `Toolbox.prepare`: a recorded call is not looked at again.

        Args:
            call: as the model asked for it.
        """
        if not call.truncated and self._recorded is not None and self._recorded.has(call):
            known = self._recorded.first(call)
            if _waits(known) and call.name in self._live:
                return super().prepare(call)
            if known.is_error and known.content.startswith(_REFUSED):
                return Conclusion(outcome=self._recorded.take(call))
            return _Recorded(self._recorded, call), NoArguments()
        tool = self.get(call.name)
        if call.truncated or tool is None or call.name in self._live:
            return super().prepare(call)
        return Conclusion(outcome=failed(GUARDED if call.name in self._guarded else UNRECORDED))

    async def execute(self, tool: Tool, args: BaseModel, context: ToolContext) -> Conclusion:
        """See `Toolbox.execute`: a recorded call has its outcome already."""
        if isinstance(tool, _Recorded):
            return Conclusion(outcome=tool.taken())
        return await super().execute(tool, args, context)


class _Recorded(Tool):
    """One call that has its result already."""

    def __init__(self, recorded: RecordedResults, call: ToolCallPart) -> None:
        self.name, self.description = call.name, ""
        self._recorded, self._call = recorded, call

    def taken(self) -> ToolOutcome:
        """What it came to."""
        return self._recorded.take(self._call)


def unrecorded(exchanges: Iterable[Exchange]) -> int:
    """How many calls of a replay were told that they are not in the record.

    Args:
        exchanges: of the replay.
    """
    return sum(call.result in NOT_RUN for exchange in exchanges for call in exchange.calls)
