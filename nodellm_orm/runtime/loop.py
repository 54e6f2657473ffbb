"""The one turn loop, for ``ask`` and ``stream`` alike: model, tools, model …, until the turn reaches a status.

What happens is written before anything follows from it. The durable points of a turn with one tool call::

    begin  user message · attempt 1
    write  attempt 1 closed · assistant message · call (running)
    write  call finished · result message · attempt 2
    write  attempt 2 closed · assistant message · turn completed
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from nodellm_orm.domain.events import PartReceived, TextDelta, ThinkingDelta
from nodellm_orm.domain.messages import Completion, FinishReason, Message
from nodellm_orm.domain.parts import TextPart, ThinkingPart
from nodellm_orm.domain.replies import Chunk, Reply, ToolResult
from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED
from nodellm_orm.errors import (
    ChatBusyError,
    LimitExceededError,
    NodeLLMError,
    SchemaValidationError,
    StaleChatError,
    StorageError,
    ToolLimitError,
)
from nodellm_orm.ports.journal import (
    CallAnswered,
    CallFinished,
    CallOpened,
    CallStarted,
    MessageAdded,
    Outdated,
    Take,
    TurnEnded,
    TurnOpened,
)
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.runtime import hooks as hooking
from nodellm_orm.runtime.conversation import answers, result_message
from nodellm_orm.runtime.exchange import Attempts
from nodellm_orm.runtime.identity import call_id_for, settings_digest
from nodellm_orm.runtime.scribe import Scribe
from nodellm_orm.runtime.toolbox import PlannedCall, ToolOutcome
from nodellm_orm.runtime.tools import ToolContext
from nodellm_orm.runtime.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from uuid import UUID

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.policies import Timeout
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.ports.journal import CallState, CallStatus, Entry, Journal, TurnStatus
    from nodellm_orm.runtime.conversation import Conversation
    from nodellm_orm.runtime.exchange import Answer, Engine
    from nodellm_orm.runtime.hooks import Hooks
    from nodellm_orm.runtime.model import Model
    from nodellm_orm.runtime.structured import StructuredSchema
    from nodellm_orm.runtime.toolbox import Toolbox

    Emit = Callable[[Chunk], Awaitable[bool]]

log = logging.getLogger("nodellm_orm")

UnknownPolicy = Literal["report", "retry", "fail"]
_NOT_EXECUTED = frozenset({FinishReason.CONTENT_FILTER, FinishReason.ERROR, FinishReason.LENGTH})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything about one turn that is decided before it begins."""

    model: Model
    settings: Settings
    toolbox: Toolbox
    hooks: Hooks
    worker: str
    lease: float
    timeout: Timeout
    instructions: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    """The user's message; empty when a turn is carried on."""
    stream: bool = False
    schema: StructuredSchema | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)
    idempotency_key: str | None = None
    on_limit: Literal["return", "raise"] = "return"
    abandon_pending: bool = False
    save_head: bool = False
    """The chat's head was changed in this process and is saved with the turn."""
    wait: float = 0.0
    """Seconds to wait for a busy chat."""
    unknown: UnknownPolicy = "report"


@dataclass(slots=True)
class _Call:
    """A call of the current round."""

    opened: CallOpened
    outcome: ToolOutcome | None = None
    recorded: bool = False
    attempts: int = 0


class Turn:
    """One turn of one chat, from its first durable point to its last."""

    def __init__(self, engine: Engine, journal: Journal, conversation: Conversation, plan: Plan, emit: Emit) -> None:
        """Prepare; nothing is written yet.

        Args:
            engine: clock, ids, prices and policies.
            journal: where it is written.
            conversation: the chat as this process knows it; moved on as the turn is written.
            plan: model, tools and options.
            emit: hands a chunk to the consumer; says whether there is one.
        """
        self._engine = engine
        self._journal = journal
        self._chat = conversation
        self._plan = plan
        self._emit = emit
        self._scribe = Scribe(journal, conversation)
        self._attempts = Attempts(engine, self._write, timeout=plan.timeout, headers=plan.headers)
        self._transcript = Transcript(plan.model.origin)
        self._round: list[_Call] = []
        self._rounds = 0
        self._ended = False
        self.id: UUID = engine.new_id()
        self.lost = False
        """Set by the heartbeat when the lease could not be renewed, before the turn is cancelled."""

    @property
    def scribe(self) -> Scribe:
        """The hold of this turn, for the heartbeat."""
        return self._scribe

    # ── ways in ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> Reply[Any]:
        """Ask the plan's question and see the turn through."""
        request = await self._begin()
        return await self._see_through(self._rounds_from(request))

    async def carry_on(self) -> Reply[Any]:
        """Take over the chat's last turn and see it through: nothing stored is asked for or run again."""
        state = self._chat.last_turn
        if state is None:
            msg = "the chat has no turn to carry on"
            raise AssertionError(msg)
        self.id = state.id
        await self._scribe.take_over(state.id, worker=self._plan.worker, lease=self._plan.lease)
        self._chat.refresh(await self._journal.load(self._chat.head.id, self._chat.head.owner))
        return await self._see_through(self._continue())

    async def _see_through(self, work: Awaitable[Reply[Any]]) -> Reply[Any]:
        """Whatever happens in the turn, its end is written."""
        try:
            return await work
        except asyncio.CancelledError:
            if self.lost:
                self._chat.stale = True
                msg = f"the lease of chat {self._chat.head.id} was lost while the turn ran; load the chat again"
                raise StaleChatError(msg, reply=self._reply(FinishReason.CANCELLED)) from None
            await self._end("cancelled", None)
            raise
        except (StaleChatError, StorageError) as error:
            self._chat.stale = True
            error.reply = error.reply or self._reply(FinishReason.UNKNOWN)
            if isinstance(error, StorageError):
                await self._end_if_possible(error)
            raise
        except BaseException as error:
            await self._end("failed", error)
            raise

    # ── the first point ───────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self) -> ModelRequest:
        deadline = self._engine.clock.monotonic() + self._plan.wait
        pause = 0.02
        while True:
            if self._chat.stale:
                self._chat.refresh(await self._journal.load(self._chat.head.id, self._chat.head.owner))
            try:
                return await self._try_begin()
            except Outdated:
                self._chat.stale = True
            except ChatBusyError:
                self._chat.stale = True
                left = deadline - self._engine.clock.monotonic()
                if left <= 0:
                    raise
                await self._engine.clock.sleep(min(pause, left))
                pause = min(pause * 1.5, 1.0)

    async def _try_begin(self) -> ModelRequest:
        closing = self._closing()
        closing_messages = [entry.message for entry in closing if isinstance(entry, MessageAdded)]
        message = Message(
            role="user", parts=self._plan.parts, position=self._chat.next_position + len(closing_messages)
        )
        request = await self._request([*self._chat.messages, *closing_messages, message])
        head = self._chat.head
        take = Take(
            chat_id=head.id,
            owner=head.owner,
            worker=self._plan.worker,
            lease=self._plan.lease,
            fence=self._chat.fence,
            version=head.version,
            head=head if self._plan.save_head else None,
        )
        opened = TurnOpened(
            id=self.id,
            settings=settings_digest(self._plan.model.origin, request),
            idempotency_key=self._plan.idempotency_key,
        )
        added = MessageAdded(id=self._engine.new_id(), message=message)
        attempt = self._attempts.open(self._plan.model)
        await hooking.call(self._plan.hooks.on_new_message, message)
        try:
            await self._scribe.begin(take, opened, (added, attempt), closing)
        except asyncio.CancelledError:
            if self._scribe.hold is not None:
                await self._end("cancelled", None)
            raise
        if self._plan.save_head:
            self._chat.head = replace(head, version=head.version + 1)
        self._chat.last_turn = None
        return request

    def _closing(self) -> list[Entry]:
        """Entries that answer what the last turn left open."""
        last = self._chat.last_turn
        if last is None or last.status == "completed":
            return []
        if last.status == "suspended" and last.reason == "approval" and not self._plan.abandon_pending:
            msg = (
                "calls of the last turn wait for approval: approve() or deny() them and resume(), "
                "or ask with abandon_pending=True"
            )
            raise ChatBusyError(msg, turn_id=last.id)
        return list(answers(last.calls, self._chat.next_position, self._engine.new_id))

    async def _request(self, messages: list[Message]) -> ModelRequest:
        plan = self._plan
        request = ModelRequest(
            target=plan.model.origin,
            messages=tuple(messages),
            instructions=plan.instructions,
            tools=plan.toolbox.specs,
            settings=replace(plan.settings, tool_choice=self._tool_choice()),
            profile=plan.model.profile,
            stream=plan.stream,
            params=plan.params,
        )
        changed = await hooking.transform(plan.hooks.before_request, request)
        if not isinstance(changed, ModelRequest):
            msg = "a before_request hook returned something that is not a ModelRequest"
            raise NodeLLMError(msg)
        dropped = plan.model.check(changed, self._chat.cache(plan.model.origin))
        if dropped:
            log.warning("%s does not accept %s; sent without", plan.model.origin.model, ", ".join(dropped))
        return changed

    def _tool_choice(self) -> str | None:
        """A forced choice holds until that tool has run in this turn, then the model is free again."""
        choice = self._plan.settings.tool_choice
        if choice in {None, AUTO, NONE}:
            return choice
        ran = {call.name for call in self._transcript.calls if call.status != "pending"}
        return AUTO if choice in ran or (choice == REQUIRED and ran) else choice

    # ── rounds ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _rounds_from(self, request: ModelRequest) -> Reply[Any]:
        """Ask the model, run what it calls, ask again."""
        while True:
            answer = await self._attempts.run(
                self._plan.model,
                request,
                cache=self._chat.cache(request.target),
                on_event=self._hand_on,
            )
            finish = await self._record_answer(answer)
            if finish is None:
                finish = await self._run_round()
            if finish is not None:
                return await self._finish(finish)
            request = await self._request(self._chat.messages)

    async def _hand_on(self, event: Event) -> bool:
        match event:
            case TextDelta(text=text) | PartReceived(part=TextPart(text=text)) if text:
                return await self._emit(Chunk(content=text))
            case ThinkingDelta(text=text) | PartReceived(part=ThinkingPart(text=text)) if text:
                return await self._emit(Chunk(thinking=text))
            case _:
                return False

    async def _record_answer(self, answer: Answer) -> FinishReason | None:
        """Write the answer; ``None`` means that the turn goes on."""
        changed = await hooking.transform(self._plan.hooks.after_response, answer.completion)
        completion = self._identified(changed if isinstance(changed, Completion) else answer.completion)
        executable = completion.finish_reason not in _NOT_EXECUTED
        message = self._message(completion, partial=bool(completion.tool_calls) and not executable)
        message_id = self._engine.new_id()
        entries: list[Entry] = [replace(answer.closed, message_id=message_id if message else None)]
        if message is not None:
            entries.append(
                MessageAdded(id=message_id, message=message, thinking_tokens=completion.usage.reasoning_tokens)
            )
        self._round = []
        if executable and message is not None:
            self._round = [_Call(opened) for opened in self._open_calls(completion, message_id)]
        entries += [call.opened for call in self._round]
        finish = self._finish_after(completion)
        pause = completion.finish_reason is FinishReason.PAUSE

        def written() -> None:
            self._attempts.done()
            self._transcript.answered(message, answer.closed)
            self._transcript.opened([call.opened for call in self._round])

        if finish is not None:
            entries.append(self._ending(finish))
        if pause:
            following = self._plan.model

            def written_and_open() -> None:
                self._transcript.answered(message, answer.closed)

            await self._scribe.write(*entries, self._attempts.open(following), then=written_and_open)
        else:
            await self._scribe.write(*entries, then=written)
        self._ended = finish is not None
        if message is not None:
            await hooking.call(self._plan.hooks.on_end_message, message)
        for call in self._round:
            await self._emit(Chunk(tool_call=self._transcript.call(call.opened.id)))
        return finish

    def _identified(self, completion: Completion) -> Completion:
        """Give every call an id that is unique in the chat, the provider's own where that is possible."""
        taken = set(self._chat.call_ids)
        parts: list[Part] = []
        for part in completion.parts:
            if hasattr(part, "call_id") and part in completion.tool_calls:
                call_id = call_id_for(part, taken, self._engine.new_id)
                taken.add(call_id)
                parts.append(replace(part, call_id=call_id))
            else:
                parts.append(part)
        return replace(completion, parts=tuple(parts))

    def _message(self, completion: Completion, *, partial: bool) -> Message | None:
        """The assistant message of an answer; an answer without any part leaves none."""
        if not completion.parts:
            return None
        return Message(
            role="assistant",
            parts=completion.parts,
            status="partial" if partial else "complete",
            position=self._chat.next_position,
            finish_reason=completion.finish_reason,
            raw_finish_reason=completion.raw_finish_reason,
            origin=self._plan.model.origin,
        )

    def _open_calls(self, completion: Completion, message_id: UUID) -> list[CallOpened]:
        held_back = self._rounds >= self._plan.settings.max_tool_rounds
        opened: list[CallOpened] = []
        for position, call in enumerate(completion.tool_calls):
            tool = self._plan.toolbox.get(call.name)
            status: CallStatus = "pending" if held_back else "running"
            if tool is not None and tool.requires_approval and not held_back:
                status = "awaiting_approval"
            opened.append(
                CallOpened(id=self._engine.new_id(), message_id=message_id, position=position, call=call, status=status)
            )
        return opened

    def _finish_after(self, completion: Completion) -> FinishReason | None:
        """Whether the turn ends with this answer, and how."""
        if completion.finish_reason is FinishReason.PAUSE:
            return None
        if not self._round:
            return completion.finish_reason
        if self._rounds >= self._plan.settings.max_tool_rounds:
            return FinishReason.TOOL_LIMIT
        if all(call.opened.status == "awaiting_approval" for call in self._round):
            return FinishReason.APPROVAL
        return None

    # ── tools ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run_round(self) -> FinishReason | None:
        """Run the round's calls; their results become messages together, with the next attempt's row."""
        if not self._round:
            return None
        self._rounds += 1
        runnable = [call for call in self._round if call.outcome is None and call.opened.status != "awaiting_approval"]
        planned = [self._planned(index, call) for index, call in enumerate(runnable)]
        waiting = any(call.opened.status == "awaiting_approval" for call in self._round)
        left = len(planned)

        async def started(plan: PlannedCall) -> None:
            call = runnable[plan.index]
            if call.opened.status != "running":
                await self._scribe.write(CallStarted(id=call.opened.id))
            await hooking.call(self._plan.hooks.on_tool_call_start, self._transcript.call(call.opened.id))

        async def finished(plan: PlannedCall, outcome: ToolOutcome) -> None:
            nonlocal left
            left -= 1
            call = runnable[plan.index]
            call.outcome = outcome
            self._transcript.finished(call.opened.id, outcome)
            if left or waiting:
                await self._scribe.write(self._call_finished(call), then=lambda: _recorded(call))
                await self._tell_result(call)

        await self._plan.toolbox.run_round(planned, started=started, finished=finished)
        if waiting:
            await self._scribe.write(self._ending(FinishReason.APPROVAL))
            self._ended = True
            return FinishReason.APPROVAL
        return await self._close_round()

    async def _close_round(self) -> FinishReason | None:
        last = [call for call in self._round if not call.recorded]
        finish = self._finish_after_round()
        entries: list[Entry] = [self._call_finished(call) for call in last]
        position = self._chat.next_position
        for offset, call in enumerate(sorted(self._round, key=lambda c: c.opened.position)):
            outcome = _outcome(call)
            message_id = self._engine.new_id()
            message = result_message(call.opened.call, outcome.content, position + offset, is_error=outcome.is_error)
            entries += [
                MessageAdded(id=message_id, message=message),
                CallAnswered(id=call.opened.id, result_message_id=message_id),
            ]
        entries.append(self._ending(finish) if finish else self._attempts.open(self._plan.model))

        def written() -> None:
            for call in self._round:
                call.recorded = True

        await self._scribe.write(*entries, then=written)
        self._ended = finish is not None
        for call in last:
            await self._tell_result(call)
        self._round = []
        return finish

    def _finish_after_round(self) -> FinishReason | None:
        if any(_outcome(call).status == "halted" for call in self._round):
            return FinishReason.HALT
        limit = self._plan.settings.max_cost
        if limit is not None and self._transcript.spent >= limit:
            return FinishReason.COST_LIMIT
        return None

    def _planned(self, index: int, call: _Call) -> PlannedCall:
        head, opened = self._chat.head, call.opened
        context = ToolContext(
            chat_id=head.id,
            owner=head.owner,
            call_id=opened.call.call_id,
            idempotency_key=f"{head.id}:{opened.call.call_id}",
            deadline=None,
        )
        return PlannedCall(index=index, call=opened.call, context=context)

    def _call_finished(self, call: _Call) -> CallFinished:
        outcome = _outcome(call)
        return CallFinished(id=call.opened.id, status=outcome.status, result=outcome.content, error=outcome.error)

    async def _tell_result(self, call: _Call) -> None:
        outcome = _outcome(call)
        told = self._transcript.call(call.opened.id)
        result = ToolResult(call_id=told.call_id, name=told.name, content=outcome.content, is_error=outcome.is_error)
        if outcome.is_error:
            await hooking.call(self._plan.hooks.on_tool_call_error, told, outcome.error or outcome.content)
        else:
            await hooking.call(self._plan.hooks.on_tool_call_end, told, result)
        await self._emit(Chunk(tool_result=result))

    # ── carrying on ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _continue(self) -> Reply[Any]:
        """Go on where the rows of the turn end."""
        state = self._chat.last_turn
        if state is None:
            msg = "the chat has no turn to carry on"
            raise AssertionError(msg)
        self._transcript.restore(state, self._chat.messages)
        answered = {call.message_id for call in state.calls if call.answered}
        self._rounds = len(answered)
        open_calls = [call for call in state.calls if not call.answered]
        finish: FinishReason | None = None
        if open_calls:
            self._round = [self._restored(call) for call in sorted(open_calls, key=lambda c: c.position)]
            finish = await self._run_round()
        else:
            await self._scribe.write(self._attempts.open(self._plan.model))
        if finish is not None:
            return await self._finish(finish)
        return await self._rounds_from(await self._request(self._chat.messages))

    def _restored(self, state: CallState) -> _Call:
        """A stored call: finished ones keep their result, one of unknown outcome is treated by the policy."""
        call = _Call(
            CallOpened(
                id=state.id,
                message_id=state.message_id,
                position=state.position,
                call=state.call,
                status=state.status,
            )
        )
        if state.status in {"succeeded", "failed", "denied", "skipped", "halted"}:
            call.outcome = ToolOutcome(
                status=state.status,
                content=state.result or "",
                is_error=state.status not in {"succeeded", "halted"},
                error=state.error,
            )
            call.recorded = True
        elif state.status == "unknown":
            call.outcome = self._unknown_outcome(state)
        return call

    def _unknown_outcome(self, state: CallState) -> ToolOutcome | None:
        tool = self._plan.toolbox.get(state.call.name)
        if self._plan.unknown == "retry" or (tool is not None and tool.idempotent):
            return None
        text = (
            f"The outcome of this call to {state.call.name} is unknown: the process stopped while it ran. "
            "It may or may not have taken effect; check before calling it again."
        )
        if self._plan.unknown == "fail":
            msg = (
                f"call {state.call.call_id} of {state.call.name} has an unknown outcome; "
                'resume(unknown="report") tells the model, resume(unknown="retry") runs it again'
            )
            raise NodeLLMError(msg)
        return ToolOutcome(status="unknown", content=text, is_error=True, error="interrupted")

    # ── endings ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _ending(self, finish: FinishReason) -> TurnEnded:
        suspended = finish in {FinishReason.APPROVAL, FinishReason.TOOL_LIMIT, FinishReason.COST_LIMIT}
        return TurnEnded(status="suspended" if suspended else "completed", reason=finish.value)

    async def _finish(self, finish: FinishReason) -> Reply[Any]:
        if finish in {FinishReason.APPROVAL, FinishReason.TOOL_LIMIT, FinishReason.COST_LIMIT}:
            self._chat.stale = True
        reply = self._reply(finish)
        if self._plan.on_limit == "raise":
            self._raise_limit(reply)
        if self._plan.schema is not None and finish is not FinishReason.HALT and finish not in _SUSPENDED:
            try:
                reply = replace(reply, parsed=self._plan.schema.validate(reply.content))
            except SchemaValidationError:
                await self._emit(Chunk(usage=reply.usage, finish_reason=finish))
                raise
        await self._emit(Chunk(usage=reply.usage, finish_reason=finish))
        return reply

    def _raise_limit(self, reply: Reply[Any]) -> None:
        if reply.finish_reason is FinishReason.TOOL_LIMIT:
            rounds = self._plan.settings.max_tool_rounds
            msg = f"the model asked for more than {rounds} tool rounds; raise max_tool_rounds, or resume()"
            raise ToolLimitError(msg)
        if reply.finish_reason is FinishReason.COST_LIMIT:
            msg = f"the turn has cost {reply.cost}, at or over max_cost; raise it and resume()"
            raise LimitExceededError(msg, reply=reply)

    def _reply(self, finish: FinishReason) -> Reply[Any]:
        halted = next((c.outcome for c in self._round if c.outcome and c.outcome.status == "halted"), None)
        self._transcript.halted = halted or self._transcript.halted
        return self._transcript.reply(self.id, finish)

    async def _write(self, *entries: Entry) -> None:
        await self._scribe.write(*entries)

    async def _end(self, status: TurnStatus, error: BaseException | None) -> None:
        """Close whatever is open and write the turn's end."""
        self._chat.stale = True
        if self._ended or self._scribe.hold is None:
            return
        entries: list[Entry] = [*self._attempts.closing("failed" if error else "cancelled", error)]
        partial = self._attempts.partial
        if entries and partial is not None and partial.parts:
            message = self._message(partial, partial=True)
            if message is not None:
                entries.append(MessageAdded(id=self._engine.new_id(), message=message))
        entries += [
            self._call_finished(call)
            if call.outcome is not None
            else CallFinished(id=call.opened.id, status="unknown", error="interrupted while it ran")
            for call in self._round
            if not call.recorded and call.opened.status == "running"
        ]
        entries.append(
            TurnEnded(
                status=status,
                reason=None if error else FinishReason.CANCELLED.value,
                error_type=type(error).__name__ if error else "Cancelled",
                error_message=str(error) if error else None,
            )
        )
        self._ended = True
        await self._scribe.write(*entries, then=self._attempts.done)

    async def _end_if_possible(self, error: BaseException) -> None:
        """The database failed: try once to leave a final status, else the lease ends by itself."""
        try:
            await self._end("failed", error)
        except (StorageError, StaleChatError) as again:
            log.warning("the end of turn %s could not be written: %s", self.id, again)


_SUSPENDED = frozenset({FinishReason.APPROVAL, FinishReason.TOOL_LIMIT, FinishReason.COST_LIMIT})


def _outcome(call: _Call) -> ToolOutcome:
    if call.outcome is None:
        msg = f"call {call.opened.call.call_id} has no outcome yet"
        raise AssertionError(msg)
    return call.outcome


def _recorded(call: _Call) -> None:
    call.recorded = True
