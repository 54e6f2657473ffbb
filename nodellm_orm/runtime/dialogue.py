"""The model and the tools by turns, until there is an answer: every step a durable point.

What is known here (the round, the open attempt, the growing message) is a fold over the entries that were committed.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from nodellm_orm.domain.events import PartReceived, RefusalDelta, TextDelta, ThinkingDelta
from nodellm_orm.domain.media import named_by_digest
from nodellm_orm.domain.messages import FinishReason, Message
from nodellm_orm.domain.parts import TextPart, ThinkingPart, ToolCallPart
from nodellm_orm.domain.replies import Chunk, ToolResult
from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED
from nodellm_orm.domain.windows import sent
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.journal import (
    CallFinished,
    CallOpened,
    CallStarted,
    MessageAdded,
    MessageRevised,
    MessageSuperseded,
    TurnEnded,
    TurnReleased,
)
from nodellm_orm.ports.wire import ModelRequest
from nodellm_orm.ports.workspace import Withdrawn
from nodellm_orm.runtime import hooks as hooking
from nodellm_orm.runtime.exchange import Attempts, Leg
from nodellm_orm.runtime.fallback import carried_on, detours, name_of
from nodellm_orm.runtime.identity import call_id_for
from nodellm_orm.runtime.outcomes import Conclusion, withdrawn
from nodellm_orm.runtime.rounds import RoundCall, discarded, opened_calls, planned, restored_calls, result_entries
from nodellm_orm.runtime.scribe import durably

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from uuid import UUID

    from nodellm_orm.domain.events import Event, PartKey
    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.parts import Part
    from nodellm_orm.domain.profile import ModelProfile
    from nodellm_orm.domain.replies import ToolCall
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.errors import ProviderError
    from nodellm_orm.ports.journal import Entry, TurnState
    from nodellm_orm.ports.workspace import Workspace
    from nodellm_orm.runtime.conversation import Conversation
    from nodellm_orm.runtime.exchange import Answer, Engine
    from nodellm_orm.runtime.outcomes import ToolOutcome
    from nodellm_orm.runtime.plan import Plan
    from nodellm_orm.runtime.scribe import Scribe
    from nodellm_orm.runtime.toolbox import PlannedCall
    from nodellm_orm.runtime.transcript import Transcript

    Emit = Callable[[Chunk], bool]

T = TypeVar("T")

log = logging.getLogger("nodellm_orm")

SUSPENDED = frozenset({FinishReason.APPROVAL, FinishReason.TOOL_LIMIT, FinishReason.COST_LIMIT})
"""Finish reasons of turns that can be carried on."""
_NOT_EXECUTED = frozenset({FinishReason.CONTENT_FILTER, FinishReason.ERROR, FinishReason.LENGTH})


class Released(Exception):  # noqa: N818 — a signal to the turn, never seen by users
    """The worker has let go of the turn between two steps."""


def ending(finish: FinishReason) -> TurnEnded:
    """The entry with which a turn ends in good order."""
    return TurnEnded(status="suspended" if finish in SUSPENDED else "completed", reason=finish.value)


def model_request(plan: Plan, messages: Sequence[Message], tool_choice: str | None) -> ModelRequest:
    """One call of the model.

    Args:
        plan: what the turn is asked with.
        messages: the conversation.
        tool_choice: as it is by now.
    """
    return ModelRequest(
        target=plan.model.origin,
        messages=tuple(messages),
        instructions=plan.instructions,
        tools=plan.toolbox.specs,
        settings=replace(plan.settings, tool_choice=tool_choice),
        profile=plan.model.profile,
        stream=plan.stream or is_long(plan.settings, plan.model.profile),
        params=plan.params,
    )


def is_long(settings: Settings, profile: ModelProfile) -> bool:
    """Whether an answer may take so long that it is asked for as a stream.

    Args:
        settings: of the request.
        profile: of the model.
    """
    asked = settings.max_tokens or profile.default_max_tokens
    return profile.stream_above is not None and asked is not None and asked > profile.stream_above


class Dialogue:
    """Asks the model, runs what it calls, asks again.

    Args:
        engine: clock, ids, prices and policies.
        conversation: the chat as this process knows it.
        plan: what the turn is asked with; may be set anew until the turn has begun.
        scribe: writes the durable points.
        transcript: what has come of the turn so far.
        emit: hands a chunk to the consumer; says whether there is one.
    """

    def __init__(
        self,
        engine: Engine,
        conversation: Conversation,
        plan: Plan,
        scribe: Scribe,
        transcript: Transcript,
        emit: Emit,
    ) -> None:
        """Prepare; nothing is asked yet."""
        self._engine = engine
        self._chat = conversation
        self._scribe = scribe
        self._transcript = transcript
        self._emit = emit
        self.plan = plan
        self.attempts = Attempts(engine, scribe.write, timeout=plan.timeout)
        self._round: list[RoundCall] = []
        self._rounds = 0
        self._heard: set[PartKey] = set()
        self._growing: tuple[UUID, int] | None = None
        """Id and position of the message that holds the answer while it grows."""
        self._grown_at: float | None = None
        self.leaving = False
        """No further step is to begin: the turn is let go of after the one it is at."""
        self.halted: ToolOutcome | None = None
        """The outcome that ended the turn without asking the model again."""

    def committed(self, entries: Sequence[Entry]) -> None:
        """Take in entries that are now durable."""
        self.attempts.committed(entries)
        opened = [RoundCall(entry) for entry in entries if isinstance(entry, CallOpened)]
        self._round = opened or self._round
        finished = {entry.id for entry in entries if isinstance(entry, CallFinished)}
        for call in self._round:
            call.recorded = call.recorded or call.opened.id in finished
        for entry in entries:
            match entry:
                case MessageAdded(message=message) if message.role == "assistant" and message.status == "partial":
                    self._growing = (entry.id, message.position or 0)
                case MessageRevised(message=Message(status="complete")):
                    self._growing = None
                case _:
                    pass

    # ── asking ────────────────────────────────────────────────────────────────────────────────────────────────────

    def request(self, messages: Sequence[Message]) -> ModelRequest:
        """The next call of the model, with as much of the conversation as its window shows."""
        return model_request(self.plan, sent(messages, self.plan.settings.history_window), self._tool_choice())

    @property
    def noted(self) -> Mapping[str, JsonValue]:
        """What the turn's row says of it beyond what it is asked with."""
        return {}

    def _tool_choice(self) -> str | None:
        """A forced choice holds until that tool has run in this turn, then the model is free again.

        It holds no longer than the turn has rounds: a model that never gets the arguments right ends at that limit.
        """
        choice = self.plan.settings.tool_choice
        if choice in {None, AUTO, NONE}:
            return choice
        ran = {call.name for call in self._transcript.calls if call.status != "pending" and not self._refused(call)}
        return AUTO if choice in ran or (choice == REQUIRED and ran) else choice

    def _refused(self, call: ToolCall) -> bool:
        """Whether a call failed before it could run: its arguments do not fit, or there is no such tool."""
        asked = ToolCallPart(call_id=call.call_id, name=call.name, arguments=call.arguments)
        return call.status == "failed" and isinstance(self.plan.toolbox.prepare(asked), Conclusion)

    async def from_request(self, request: ModelRequest) -> FinishReason:
        """Go on from a request whose attempt is open, until the turn has ended in the rows."""
        while True:
            self._heard.clear()
            answer = await self.attempts.run(
                await self._leg(self.plan, request),
                on_event=self._hand_on,
                detour=partial(self._detour, request),
                moved=self._move,
            )
            finish = await self._record_answer(answer)
            if finish is None and self._round:
                finish = await self._run_round()
            if finish is not None:
                return finish
            request = self.request(self._chat.messages)

    async def _leg(self, plan: Plan, request: ModelRequest) -> Leg:
        hooked = await self._hooked(request)
        # Messages that a hook has put in their place are not the chat's: they are rendered for this once.
        cache = self._chat.cache(hooked.target) if hooked.messages is request.messages else None
        return Leg(plan=plan, request=hooked, cache=cache)

    async def _detour(self, request: ModelRequest, error: ProviderError) -> Leg | None:
        """The same request to the next model that is meant for this error and can take it."""
        for plan in detours(self.plan, error):
            leg = await self._leg(plan, model_request(plan, request.messages, request.settings.tool_choice))
            asked, name = name_of(self.plan.model.origin), name_of(plan.model.origin)
            try:
                dropped = plan.model.check(leg.request, leg.cache)
            except ConfigurationError as refusal:
                error.add_note(f"{name} was not asked: {refusal}")
                continue
            self.tell_dropped(plan, dropped)
            log.warning("%s did not answer (%s); asking %s", asked, type(error).__name__, name)
            return leg
        return None

    def _move(self, leg: Leg) -> None:
        self.plan = leg.plan

    def tell_dropped(self, plan: Plan, dropped: tuple[str, ...]) -> None:
        """Tell the log, once a chat, of settings that a model does not accept.

        Args:
            plan: with the model.
            dropped: their names.
        """
        if dropped and dropped not in self._chat.told:
            self._chat.told.add(dropped)
            log.warning("%s does not accept %s; sent without", plan.model.origin.model, ", ".join(dropped))

    async def _hooked(self, request: ModelRequest) -> ModelRequest:
        hooked = await hooking.transform(self.plan.hooks.before_request, request)
        if hooked.target != request.target:
            msg = "a before_request hook changed the target; use with_model() or with_provider() to ask another model"
            raise ConfigurationError(msg)
        return hooked

    async def _hand_on(self, event: Event) -> bool:
        handed = self._tell(event)
        if self.plan.checkpoint is not None:
            await self._checkpoint(self.plan.checkpoint)
        return handed

    def _tell(self, event: Event) -> bool:
        match event:
            case TextDelta(index=index, text=text) | RefusalDelta(index=index, text=text) if text:
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

    async def _checkpoint(self, interval: float) -> None:
        """Store the text so far, so that it survives the process and others can show it."""
        now = self._engine.clock.monotonic()
        self._grown_at = now if self._grown_at is None else self._grown_at
        arrived = self.attempts.arrived
        if now - self._grown_at < interval or arrived is None:
            return
        self._grown_at = now
        entry = self._message_entry(self._identified(arrived), partial=True)
        if entry is not None:
            await self._scribe.write(entry)

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _record_answer(self, answer: Answer) -> FinishReason | None:
        """Write the answer; ``None`` means that the turn goes on."""
        completion = self._identified(await hooking.transform(self.plan.hooks.after_response, answer.completion))
        executable = completion.finish_reason not in _NOT_EXECUTED
        added = self._message_entry(completion, partial=bool(completion.tool_calls) and not executable)
        entries: list[Entry] = [replace(answer.closed, message_id=added.id if added else None)]
        if added is not None:
            entries.append(added)
        held_back, leaving = self._rounds >= self.plan.settings.max_tool_rounds, self.leaving
        calls = (
            opened_calls(completion, added.id, self.plan.toolbox, self._engine.new_id, held_back=held_back or leaving)
            if executable and added is not None
            else []
        )
        entries += [call.opened for call in calls]
        finish = self._finish_after(completion, answer, calls, held_back=held_back)
        if finish is not None:
            entries.append(ending(finish))
        elif leaving:
            entries.append(TurnReleased())
        elif not calls:
            # The provider paused: the same history, its own words included, is sent again.
            self._rounds += 1
            entries.append(self.attempts.open(self.plan.model))
        await self._scribe.write(*entries)
        self._grown_at = None
        if added is not None:
            await hooking.call(self.plan.hooks.on_end_message, added.message)
        for call in self._round:
            self._emit(Chunk(tool_call=self._transcript.call(call.opened.id)))
        if leaving and finish is None:
            raise Released
        return finish

    def _identified(self, completion: Completion) -> Completion:
        """Give every call an id that is unique in the chat, the provider's own where that is possible.

        Where only a part of the chat was loaded, nobody knows which ids the rest has: all are new ones.
        """
        taken = set(self._chat.call_ids)
        known = self._chat.since == 0
        parts: list[Part] = []
        for part in completion.parts:
            if isinstance(part, ToolCallPart):
                call_id = call_id_for(part if known else replace(part, wire_id=None), taken, self._engine.new_id)
                taken.add(call_id)
                parts.append(replace(part, call_id=call_id))
            else:
                parts.append(part)
        return replace(completion, parts=tuple(parts))

    def _message_entry(self, completion: Completion, *, partial: bool) -> MessageAdded | MessageRevised | None:
        """How the assistant's message enters the rows; an answer without any part leaves none."""
        if not completion.parts:
            return None
        growing = self._growing
        message = Message(
            role="assistant",
            parts=named_by_digest(completion.parts),
            status="partial" if partial else "complete",
            position=growing[1] if growing else self._chat.next_position,
            finish_reason=completion.finish_reason,
            raw_finish_reason=completion.raw_finish_reason,
            origin=self.plan.model.origin,
        )
        tokens = completion.usage.reasoning_tokens
        if growing is not None:
            return MessageRevised(id=growing[0], message=message, thinking_tokens=tokens)
        return MessageAdded(id=self._engine.new_id(), message=message, thinking_tokens=tokens)

    def _finish_after(
        self, completion: Completion, answer: Answer, calls: Sequence[RoundCall], *, held_back: bool
    ) -> FinishReason | None:
        """Whether the turn ends with this answer, and how."""
        paused = completion.finish_reason is FinishReason.PAUSE and not calls
        if not calls and not paused:
            calls_dropped = completion.finish_reason is FinishReason.TOOL_CALL
            return FinishReason.STOP if calls_dropped else completion.finish_reason
        if calls and all(call.waiting for call in calls):
            return FinishReason.APPROVAL
        if held_back:
            return FinishReason.TOOL_LIMIT
        if paused and self._too_dear(answer):
            return FinishReason.COST_LIMIT
        return None

    def _too_dear(self, answer: Answer | None = None) -> bool:
        limit = self.plan.settings.max_cost
        if limit is None:
            return False
        price = answer.closed.cost.total if answer is not None else None
        if self._transcript.unpriced or (answer is not None and price is None):
            log.warning(
                "the price of %s is not known, so that max_cost cannot be kept; give it with create_llm(prices=...)",
                self.plan.model.origin.model,
            )
        return self._transcript.spent + (price or 0) >= limit

    # ── tools ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run_round(self) -> FinishReason | None:
        """Run the round's calls; their results become messages together, with the next attempt's row."""
        self._rounds += 1
        waiting = any(call.waiting for call in self._round)
        runnable = [call for call in self._round if call.outcome is None and not call.waiting]
        try:
            await self._run_calls(runnable, waiting=waiting)
            return await (self._suspend_round() if waiting else self._close_round())
        except GeneratorExit:
            raise  # the loop is gone: nothing can be awaited any more
        except BaseException:
            await self._clear(runnable)
            raise

    async def _run_calls(self, runnable: Sequence[RoundCall], *, waiting: bool) -> None:
        """Run calls, and record each as it ends; the last one waits to be recorded with the round."""
        left, floor = len(runnable), asyncio.Lock()
        for call in runnable:
            call.workspace = self._scribe.workspace(floor)

        async def started(plan: PlannedCall) -> None:
            call = runnable[plan.index]
            if call.opened.status != "running":
                await self._scribe.write(CallStarted(id=call.opened.id))
            call.started = True
            await hooking.call(self.plan.hooks.on_tool_call_start, self._transcript.call(call.opened.id))

        async def finished(plan: PlannedCall, outcome: ToolOutcome) -> None:
            nonlocal left
            left -= 1
            call = runnable[plan.index]
            call.outcome = outcome
            if outcome.status == "halted":
                self.halted = outcome
            if left or waiting:
                await self._record(call)
                await self._tell_result(call)

        calls = planned(runnable, self._chat.head, hooked=bool(self.plan.hooks.on_tool_call_start))
        await self.plan.toolbox.run_round(calls, started=started, finished=finished, floor=floor)

    async def _record(self, call: RoundCall) -> None:
        await self._with_writes_of(call, lambda within: self._scribe.write(call.finished(), within=within))

    async def _with_writes_of(self, call: RoundCall | None, write: Callable[[Workspace | None], Awaitable[T]]) -> T:
        """Write a point that has a call's outcome, in the transaction in which its tool has written, if there is one.

        Once that has failed, the only outcome that may be recorded is that nothing was written: should the transaction
        have been committed after all, its step has been taken, and no other point can take it.
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

    async def _clear(self, calls: Sequence[RoundCall]) -> None:
        """The round was broken off: record the call that waited to be recorded with it, and undo what others wrote."""
        try:
            for call in calls:
                if call.outcome is not None and not call.recorded and call.workspace.used:
                    await self._record(call)
        except Exception as error:  # noqa: BLE001 — the error that stops the round goes on, not this one
            log.warning("the result of a call could not be recorded: %s", error)
        finally:
            await durably(lambda _: discarded(calls))

    async def _suspend_round(self) -> FinishReason:
        refused = [call for call in self._round if call.refused]
        await self._scribe.write(*(call.finished() for call in refused), ending(FinishReason.APPROVAL))
        for call in refused:
            await self._tell_result(call)
        return FinishReason.APPROVAL

    async def _close_round(self) -> FinishReason | None:
        untold = [call for call in self._round if not call.recorded]
        last = next((call for call in untold if call.workspace.used), None)
        finish, leaving = await self._with_writes_of(last, self._write_round)
        for call in untold:
            await self._tell_result(call)
        self._round = []
        if leaving and finish is None:
            raise Released
        return finish

    async def _write_round(self, within: Workspace | None) -> tuple[FinishReason | None, bool]:
        """Write what has come of the round, and what follows: how the turn ends, and whether it is let go of."""
        finish, leaving = self._finish_after_round(), self.leaving
        following: Entry = TurnReleased() if leaving else self.attempts.open(self.plan.model)
        last = ending(finish) if finish else following
        results = result_entries(self._round, self._chat.next_position, self._engine.new_id)
        await self._scribe.write(*results, last, within=within)
        return finish, leaving

    def _finish_after_round(self) -> FinishReason | None:
        if any(call.result.status == "halted" for call in self._round):
            return FinishReason.HALT
        return FinishReason.COST_LIMIT if self._too_dear() else None

    async def _tell_result(self, call: RoundCall) -> None:
        outcome, told = call.result, self._transcript.call(call.opened.id)
        result = ToolResult(call_id=told.call_id, name=told.name, content=outcome.content, is_error=outcome.is_error)
        if outcome.is_error:
            await hooking.call(self.plan.hooks.on_tool_call_error, told, outcome.error or outcome.content)
        else:
            await hooking.call(self.plan.hooks.on_tool_call_end, told, result)
        self._emit(Chunk(tool_result=result))

    # ── carrying on ───────────────────────────────────────────────────────────────────────────────────────────────

    async def from_rows(self, state: TurnState) -> FinishReason:
        """Go on where the rows of the turn end.

        Args:
            state: the turn as it was taken over.
        """
        spoken = [message for message in self._chat.messages if (message.position or 0) >= state.first_position]
        whole = (m for m in reversed(spoken) if m.role == "assistant" and m.status == "complete")
        self.plan = carried_on(self.plan, next(whole, None))
        self._rounds = len({call.message_id for call in state.calls if call.answered})
        self._round = restored_calls(state.calls, self.plan.toolbox, self.plan.unknown)
        for call in self._round:
            if call.refused:
                told = (call.opened.call.call_id, call.opened.call.name, call.result.error)
                log.warning("call %s of %r is not run: %s", *told)  # the name is what the rows have, whoever wrote them
        finish: FinishReason | None = None
        if self._round:
            finish = await self._run_round()
        elif (finish := self._answered(state)) is not None:
            await self._scribe.write(ending(finish))
        else:
            await self._scribe.write(*self._broken_off(state), self.attempts.open(self.plan.model))
        if finish is not None:
            return finish
        return await self.from_request(self.request(self._chat.messages))

    def _last_words(self, state: TurnState) -> Message | None:
        """The model's message at the end of the turn, if there is one."""
        last = self._chat.messages[-1] if self._chat.messages else None
        if last is None or last.role != "assistant" or (last.position or 0) < state.first_position:
            return None
        return last

    def _answered(self, state: TurnState) -> FinishReason | None:
        """How a turn ends whose rows end with a complete answer of the model."""
        last = self._last_words(state)
        if last is None or last.status != "complete" or last.tool_calls:
            return None
        return None if last.finish_reason is FinishReason.PAUSE else last.finish_reason

    def _broken_off(self, state: TurnState) -> list[Entry]:
        """A broken-off answer at the end of the turn: the one asked for now takes its place."""
        last = self._last_words(state)
        if last is None or last.status != "partial":
            return []
        return [MessageSuperseded(id=self._chat.message_ids[-1])]

    # ── leaving ───────────────────────────────────────────────────────────────────────────────────────────────────

    def loose_ends(self, error: BaseException | None) -> list[Entry]:
        """Entries that close what is open: the attempt with all that arrived of its answer, and the calls.

        Args:
            error: what ends the turn; ``None`` when it is cancelled.
        """
        entries: list[Entry] = []
        closed = self.attempts.closing("failed" if error else "cancelled", error)
        if closed is not None:
            arrived = self.attempts.arrived
            added = (
                self._message_entry(self._identified(arrived), partial=not arrived.complete or bool(arrived.tool_calls))
                if arrived is not None
                else None
            )
            entries.append(replace(closed, message_id=added.id if added else None))
            if added is not None:
                entries.append(added)
        entries += [
            call.interrupted() if call.outcome is None else call.finished()
            for call in self._round
            if not call.recorded and not call.waiting
        ]
        return entries
