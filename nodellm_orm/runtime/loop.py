"""The one turn loop, for ``ask`` and ``stream`` alike: model, tools, model …, until the turn reaches a status.

What happens is written before anything follows from it. The durable points of a turn with one tool call::

    begin  user message · attempt 1
    write  attempt 1 closed · assistant message · call (running)
    write  call finished · result message · attempt 2
    write  attempt 2 closed · assistant message · turn completed

What is known of the turn (its transcript, its round, its open attempt) is a fold over the entries that were committed.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from nodellm_orm.domain.events import PartReceived, TextDelta, ThinkingDelta
from nodellm_orm.domain.messages import Completion, FinishReason, Message
from nodellm_orm.domain.parts import TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.domain.replies import Chunk, Reply, ToolResult
from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED
from nodellm_orm.errors import (
    ChatBusyError,
    ChatError,
    ChatNotFoundError,
    IdempotencyError,
    LimitExceededError,
    NodeLLMError,
    SchemaValidationError,
    StaleChatError,
    StorageError,
    ToolLimitError,
)
from nodellm_orm.ports.journal import (
    CallFinished,
    CallStarted,
    MessageAdded,
    Outdated,
    Repeated,
    Take,
    TurnEnded,
    TurnOpened,
)
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.runtime import hooks as hooking
from nodellm_orm.runtime.conversation import answers
from nodellm_orm.runtime.exchange import Attempts
from nodellm_orm.runtime.identity import call_id_for, settings_digest, texts_of
from nodellm_orm.runtime.rounds import RoundCall, opened_calls, planned, restored_calls, result_entries
from nodellm_orm.runtime.scribe import Scribe
from nodellm_orm.runtime.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from nodellm_orm.domain.events import Event, PartKey
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.ports.journal import ChatHead, Entry, Hold, Journal, TurnState, TurnStatus
    from nodellm_orm.runtime.conversation import Conversation
    from nodellm_orm.runtime.exchange import Answer, Engine
    from nodellm_orm.runtime.outcomes import ToolOutcome
    from nodellm_orm.runtime.plan import Plan
    from nodellm_orm.runtime.toolbox import PlannedCall

    Emit = Callable[[Chunk], bool]

T = TypeVar("T")

log = logging.getLogger("nodellm_orm")

_NOT_EXECUTED = frozenset({FinishReason.CONTENT_FILTER, FinishReason.ERROR, FinishReason.LENGTH})
_SUSPENDED = frozenset({FinishReason.APPROVAL, FinishReason.TOOL_LIMIT, FinishReason.COST_LIMIT})
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0


class Turn:
    """One turn of one chat, from its first durable point to its last."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        conversation: Conversation,
        planner: Callable[[ChatHead], Plan],
        emit: Emit,
    ) -> None:
        """Prepare; nothing is written yet.

        Args:
            engine: clock, ids, prices and policies.
            journal: where it is written.
            conversation: the chat as this process knows it; moved on as the turn is written.
            planner: gives model, tools and options for the chat's head; asked again when the head turns out to have
                been changed elsewhere.
            emit: hands a chunk to the consumer; says whether there is one.
        """
        self._engine = engine
        self._journal = journal
        self._chat = conversation
        self._planner = planner
        self._plan = plan = planner(conversation.wanted)
        self._emit = emit
        self._scribe = Scribe(journal, conversation, self._committed, plan.durability)
        self._attempts = Attempts(engine, self._scribe.write, timeout=plan.timeout, headers=plan.headers)
        self._transcript = Transcript()
        self._round: list[RoundCall] = []
        self._rounds = 0
        self._halted: ToolOutcome | None = None
        self._final: Reply[Any] | None = None
        self._heard: set[PartKey] = set()
        self._ended = False
        self.id: UUID = engine.new_id()
        self.lost = False
        """Set before the turn is cancelled because its lease could not be renewed."""
        self.stopping = False
        """Set before the turn is cancelled because its caller asked for it: it then ends with a reply."""

    @property
    def lease(self) -> float:
        """Seconds after which others may take the chat over from a silent worker."""
        return self._plan.lease

    @property
    def hold(self) -> Hold | None:
        """Proof of ownership, while there is any."""
        return self._scribe.hold

    def _committed(self, entries: Sequence[Entry]) -> None:
        self._transcript.committed(entries)
        self._attempts.committed(entries)
        finished = {entry.id for entry in entries if isinstance(entry, CallFinished)}
        for call in self._round:
            call.recorded = call.recorded or call.opened.id in finished
        self._ended = self._ended or any(isinstance(entry, TurnEnded) for entry in entries)

    # ── ways in ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> Reply[Any]:
        """Ask the plan's question and see the turn through."""
        try:
            request = await self._patiently(self._begin)
        except Repeated as repeated:
            return await self._again(repeated.turn)
        except asyncio.CancelledError:
            if not self.stopping:
                raise
            return self._reply(FinishReason.CANCELLED)
        return await self._see_through(self._opening(request))

    async def resume(self) -> Reply[Any]:
        """Carry on the chat's last turn: nothing stored is asked for or run again.

        Raises:
            ChatError: the chat has no turn yet.
            ChatBusyError: another worker still holds the turn.
        """
        self._chat.stale = True
        await self._refresh()
        state = self._chat.last_turn
        if state is None:
            msg = "the chat has no turn to resume; ask first"
            raise ChatError(msg)
        return await self._carry_on(state)

    async def _carry_on(self, state: TurnState) -> Reply[Any]:
        self.id = state.id
        if state.status == "completed":
            return self._stored(state)

        async def take_over() -> TurnState | None:
            await self._refresh()
            last = self._chat.last_turn
            if last is None or last.id != state.id or last.status == "completed":
                return None
            try:
                await self._scribe.take_over(state.id, worker=self._plan.worker, lease=self._plan.lease)
            except ChatNotFoundError:
                # It was there a moment ago: its holder has ended it since. Loading says how, or that the chat is gone.
                raise Outdated from None
            return last

        if await self._patiently(take_over) is None:
            return self._ended_elsewhere(await self._journal.turn(self._chat.head.id, self._chat.head.owner, state.id))
        return await self._see_through(self._continue())

    def _ended_elsewhere(self, state: TurnState) -> Reply[Any]:
        """The reply of a turn that its holder has ended while we waited.

        Raises:
            ChatError: it was not completed, and another turn has begun since.
        """
        if state.status != "completed":
            msg = f"turn {state.id} ended {state.status}, and the conversation went on since; ask again"
            raise ChatError(msg)
        return self._stored(state)

    async def _again(self, state: TurnState) -> Reply[Any]:
        """The idempotency key was used before."""
        if state.request_hash != self._plan.request_hash:
            msg = (
                f"idempotency key {self._plan.idempotency_key!r} was used in this chat for another request; "
                "use a new key for a new question"
            )
            raise IdempotencyError(msg)
        self._chat.stale = True
        await self._refresh()
        last = self._chat.last_turn
        if state.status != "completed" and (last is None or last.id != state.id):
            msg = (
                f"the turn of idempotency key {self._plan.idempotency_key!r} ended {state.status}, and the "
                "conversation went on since; ask with a new key"
            )
            raise IdempotencyError(msg)
        return await self._carry_on(state)

    def _stored(self, state: TurnState) -> Reply[Any]:
        """The reply of a completed turn, from its rows."""
        self._transcript.restore(state, dict(zip(self._chat.message_ids, self._chat.messages, strict=True)))
        words = set(FinishReason)
        finish = FinishReason(state.reason) if state.reason in words else FinishReason.UNKNOWN
        return self._checked(self._transcript.reply(state.id, finish, origin=self._plan.model.origin))

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it works, while the chat is busy and there is time to wait."""
        deadline = self._engine.clock.monotonic() + self._plan.wait
        pause = _FIRST_PAUSE
        while True:
            await self._refresh()
            try:
                return await attempt()
            except Outdated:
                self._chat.stale = True
            except ChatBusyError:
                self._chat.stale = True
                left = deadline - self._engine.clock.monotonic()
                if left <= 0:
                    raise
                await self._engine.clock.sleep(min(pause, left))
                pause = min(pause * 1.5, _LONGEST_PAUSE)

    async def _refresh(self) -> None:
        if self._chat.stale:
            self._chat.refresh(await self._journal.load(self._chat.head.id, self._chat.head.owner))

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
            if not self.stopping:
                raise
            return self._final or self._reply(FinishReason.CANCELLED)
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
        head, wanted, changes = self._chat.head, self._chat.wanted, tuple(self._chat.changes)
        self._plan = plan = self._planner(wanted)
        closing = self._closing()
        closing_messages = [entry.message for entry in closing if isinstance(entry, MessageAdded)]
        position = self._chat.next_position + len(closing_messages)
        message = Message(role="user", parts=plan.parts, position=position)
        request = self._request([*self._chat.messages, *closing_messages, message])
        dropped = plan.model.check(request, self._chat.cache(plan.model.origin))
        take = Take(
            chat_id=head.id,
            owner=head.owner,
            worker=plan.worker,
            lease=plan.lease,
            fence=self._chat.fence,
            version=head.version,
            labels=wanted.metadata,
            head=wanted if changes else None,
        )
        opened = TurnOpened(
            id=self.id,
            settings=settings_digest(plan.model.origin, request),
            texts=texts_of(request),
            idempotency_key=plan.idempotency_key,
            request_hash=plan.request_hash,
        )
        added = MessageAdded(id=self._engine.new_id(), message=message)
        try:
            await self._scribe.begin(take, opened, (added, self._attempts.open(plan.model)), closing)
        except asyncio.CancelledError:
            if self._scribe.hold is not None:
                await self._end("cancelled", None)
            raise
        if changes:
            self._chat.saved(replace(wanted, version=head.version + 1), changes)
        self._chat.last_turn = None
        if dropped:
            log.warning("%s does not accept %s; sent without", plan.model.origin.model, ", ".join(dropped))
        return request

    def _closing(self) -> list[Entry]:
        """Entries that answer what the last turn left open."""
        last = self._chat.last_turn
        if last is None or last.status == "completed":
            return []
        if last.status == "suspended" and last.reason == FinishReason.APPROVAL and not self._plan.abandon_pending:
            msg = (
                "calls of the last turn wait for approval: approve() or deny() them and resume(), "
                "or ask with abandon_pending=True"
            )
            raise ChatBusyError(msg, turn_id=last.id)
        return list(answers(last.calls, self._chat.next_position, self._engine.new_id))

    def _request(self, messages: Sequence[Message]) -> ModelRequest:
        plan = self._plan
        return ModelRequest(
            target=plan.model.origin,
            messages=tuple(messages),
            instructions=plan.instructions,
            tools=plan.toolbox.specs,
            settings=replace(plan.settings, tool_choice=self._tool_choice()),
            profile=plan.model.profile,
            stream=plan.stream,
            params=plan.params,
        )

    def _tool_choice(self) -> str | None:
        """A forced choice holds until that tool has run in this turn, then the model is free again."""
        choice = self._plan.settings.tool_choice
        if choice in {None, AUTO, NONE}:
            return choice
        ran = {call.name for call in self._transcript.calls if call.status != "pending"}
        return AUTO if choice in ran or (choice == REQUIRED and ran) else choice

    # ── rounds ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _opening(self, request: ModelRequest) -> Reply[Any]:
        await hooking.call(self._plan.hooks.on_new_message, self._chat.messages[-1])
        return await self._rounds_from(request)

    async def _rounds_from(self, request: ModelRequest) -> Reply[Any]:
        """Ask the model, run what it calls, ask again."""
        while True:
            self._heard.clear()
            hooked = await hooking.transform(self._plan.hooks.before_request, request)
            answer = await self._attempts.run(
                self._plan.model, hooked, cache=self._chat.cache(hooked.target), on_event=self._hand_on
            )
            finish = await self._record_answer(answer)
            if finish is None and self._round:
                finish = await self._run_round()
            if finish is not None:
                return await self._finish(finish)
            request = self._request(self._chat.messages)

    async def _hand_on(self, event: Event) -> bool:
        match event:
            case TextDelta(index=index, text=text) if text:
                self._heard.add(index)
                return self._emit(Chunk(content=text))
            case ThinkingDelta(index=index, text=text) if text:
                self._heard.add(index)
                return self._emit(Chunk(thinking=text))
            # The final form of a part that came in pieces says nothing new.
            case PartReceived(index=index, part=TextPart(text=text)) if text and index not in self._heard:
                return self._emit(Chunk(content=text))
            case PartReceived(index=index, part=ThinkingPart(text=text)) if text and index not in self._heard:
                return self._emit(Chunk(thinking=text))
            case _:
                return False

    async def _record_answer(self, answer: Answer) -> FinishReason | None:
        """Write the answer; ``None`` means that the turn goes on."""
        completion = self._identified(await hooking.transform(self._plan.hooks.after_response, answer.completion))
        executable = completion.finish_reason not in _NOT_EXECUTED
        message = self._message(completion, partial=bool(completion.tool_calls) and not executable)
        message_id = self._engine.new_id()
        entries: list[Entry] = [replace(answer.closed, message_id=message_id if message else None)]
        if message is not None:
            tokens = completion.usage.reasoning_tokens
            entries.append(MessageAdded(id=message_id, message=message, thinking_tokens=tokens))
        held_back = self._rounds >= self._plan.settings.max_tool_rounds
        self._round = (
            opened_calls(completion, message_id, self._plan.toolbox, self._engine.new_id, held_back=held_back)
            if executable
            else []
        )
        entries += [call.opened for call in self._round]
        finish = self._finish_after(completion, held_back=held_back)
        if finish is not None:
            entries.append(_ending(finish))
        elif not self._round:
            # The provider paused: the same history, its own words included, is sent again.
            self._rounds += 1
            entries.append(self._attempts.open(self._plan.model))
        await self._scribe.write(*entries)
        if message is not None:
            await hooking.call(self._plan.hooks.on_end_message, message)
        for call in self._round:
            self._emit(Chunk(tool_call=self._transcript.call(call.opened.id)))
        return finish

    def _identified(self, completion: Completion) -> Completion:
        """Give every call an id that is unique in the chat, the provider's own where that is possible."""
        taken = set(self._chat.call_ids)
        parts: list[Part] = []
        for part in completion.parts:
            if isinstance(part, ToolCallPart):
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

    def _finish_after(self, completion: Completion, *, held_back: bool) -> FinishReason | None:
        """Whether the turn ends with this answer, and how."""
        paused = completion.finish_reason is FinishReason.PAUSE and not self._round
        if not self._round and not paused:
            return completion.finish_reason
        if held_back:
            return FinishReason.TOOL_LIMIT
        if self._round and all(call.waiting for call in self._round):
            return FinishReason.APPROVAL
        return None

    # ── tools ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run_round(self) -> FinishReason | None:
        """Run the round's calls; their results become messages together, with the next attempt's row."""
        self._rounds += 1
        waiting = any(call.waiting for call in self._round)
        runnable = [call for call in self._round if call.outcome is None and not call.waiting]
        left = len(runnable)

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
                self._halted = outcome
            if left or waiting:
                await self._scribe.write(call.finished())
                await self._tell_result(call)

        await self._plan.toolbox.run_round(planned(runnable, self._chat.head), started=started, finished=finished)
        if waiting:
            await self._scribe.write(_ending(FinishReason.APPROVAL))
            return FinishReason.APPROVAL
        return await self._close_round()

    async def _close_round(self) -> FinishReason | None:
        untold = [call for call in self._round if not call.recorded]
        finish = self._finish_after_round()
        last = _ending(finish) if finish else self._attempts.open(self._plan.model)
        results = result_entries(self._round, self._chat.next_position, self._engine.new_id)
        await self._scribe.write(*results, last)
        for call in untold:
            await self._tell_result(call)
        self._round = []
        return finish

    def _finish_after_round(self) -> FinishReason | None:
        if any(call.result.status == "halted" for call in self._round):
            return FinishReason.HALT
        limit = self._plan.settings.max_cost
        return FinishReason.COST_LIMIT if limit is not None and self._transcript.spent >= limit else None

    async def _tell_result(self, call: RoundCall) -> None:
        outcome, told = call.result, self._transcript.call(call.opened.id)
        result = ToolResult(call_id=told.call_id, name=told.name, content=outcome.content, is_error=outcome.is_error)
        if outcome.is_error:
            await hooking.call(self._plan.hooks.on_tool_call_error, told, outcome.error or outcome.content)
        else:
            await hooking.call(self._plan.hooks.on_tool_call_end, told, result)
        self._emit(Chunk(tool_result=result))

    # ── carrying on ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _continue(self) -> Reply[Any]:
        """Go on where the rows of the turn end."""
        self._chat.refresh(await self._journal.load(self._chat.head.id, self._chat.head.owner))
        state = self._chat.last_turn
        if state is None:
            msg = "the chat lost its last turn while it was taken over"
            raise AssertionError(msg)
        # From here on it is this turn, and no longer one that was left behind: nothing of it may be closed again.
        self._chat.last_turn = None
        self._plan = self._planner(self._chat.wanted)
        self._transcript.restore(state, dict(zip(self._chat.message_ids, self._chat.messages, strict=True)))
        self._rounds = len({call.message_id for call in state.calls if call.answered})
        self._round = restored_calls(state.calls, self._plan.toolbox, self._plan.unknown)
        finish: FinishReason | None = None
        if self._round:
            finish = await self._run_round()
        elif (finish := self._answered(state)) is not None:
            await self._scribe.write(_ending(finish))
        else:
            await self._scribe.write(self._attempts.open(self._plan.model))
        if finish is not None:
            return await self._finish(finish)
        return await self._rounds_from(self._request(self._chat.messages))

    def _answered(self, state: TurnState) -> FinishReason | None:
        """How a turn ends whose rows end with a complete answer of the model."""
        last = self._chat.messages[-1] if self._chat.messages else None
        own = last is not None and (last.position or 0) >= state.first_position
        if last is None or not own or last.role != "assistant" or last.status != "complete" or last.tool_calls:
            return None
        return None if last.finish_reason is FinishReason.PAUSE else last.finish_reason

    # ── endings ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _finish(self, finish: FinishReason) -> Reply[Any]:
        if finish in _SUSPENDED:
            self._chat.stale = True
        self._final = reply = self._reply(finish)
        self._emit(Chunk(usage=reply.usage, finish_reason=finish))
        if self._plan.on_limit == "raise":
            self._raise_limit(reply)
        return self._checked(reply)

    def _checked(self, reply: Reply[Any]) -> Reply[Any]:
        """The reply with its structured value, where one was asked for.

        Raises:
            SchemaValidationError: the answer does not fit; it is stored all the same.
        """
        schema, finish = self._plan.schema, reply.finish_reason
        if schema is None or finish is FinishReason.HALT or finish in _SUSPENDED:
            return reply
        try:
            return replace(reply, parsed=schema.validate(reply.content))
        except SchemaValidationError as error:
            error.reply = reply
            raise

    def _raise_limit(self, reply: Reply[Any]) -> None:
        if reply.finish_reason is FinishReason.TOOL_LIMIT:
            rounds = self._plan.settings.max_tool_rounds
            msg = f"the model asked for more than {rounds} tool rounds; raise max_tool_rounds and resume(), or ask on"
            raise ToolLimitError(msg)
        if reply.finish_reason is FinishReason.COST_LIMIT:
            msg = f"the turn has cost {reply.cost} dollars, at or over max_cost; raise it and resume(), or ask on"
            raise LimitExceededError(msg, reply=reply)

    def _reply(self, finish: FinishReason) -> Reply[Any]:
        halted = self._halted.value if self._halted else None
        return self._transcript.reply(self.id, finish, origin=self._plan.model.origin, halted=halted)

    async def _end(self, status: TurnStatus, error: BaseException | None) -> None:
        """Close whatever is open and write the turn's end."""
        self._chat.stale = True
        if self._ended or self._scribe.hold is None:
            return
        entries: list[Entry] = []
        for closed in self._attempts.closing("failed" if error else "cancelled", error):
            partial = self._attempts.partial
            message = self._message(self._identified(partial), partial=True) if partial else None
            message_id = self._engine.new_id()
            entries.append(replace(closed, message_id=message_id if message else None))
            if message is not None:
                entries.append(MessageAdded(id=message_id, message=message))
        entries += [
            call.interrupted() if call.outcome is None else call.finished()
            for call in self._round
            if not call.recorded and not call.waiting
        ]
        entries.append(
            TurnEnded(
                status=status,
                reason=None if error else FinishReason.CANCELLED.value,
                error_type=type(error).__name__ if error else "Cancelled",
                error_message=str(error) if error else None,
            )
        )
        await self._scribe.write(*entries)

    async def _end_if_possible(self, error: BaseException) -> None:
        """The database failed: try once to leave a final status, else the lease ends by itself."""
        try:
            await self._end("failed", error)
        except NodeLLMError as again:
            log.warning("the end of turn %s could not be written: %s", self.id, again)


def _ending(finish: FinishReason) -> TurnEnded:
    return TurnEnded(status="suspended" if finish in _SUSPENDED else "completed", reason=finish.value)
