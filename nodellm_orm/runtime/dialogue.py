"""The model and the tools by turns, until there is an answer: every step a durable point.

What is known here (the round, the open attempt, the growing message) is a fold over the entries that were committed.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.parts import ToolCallPart
from nodellm_orm.domain.tools import AUTO, NONE, REQUIRED
from nodellm_orm.domain.windows import sent
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.entries import CallFinished, CallOpened, MessageSuperseded, TurnEnded, TurnReleased
from nodellm_orm.runtime import hooks as hooking
from nodellm_orm.runtime.consumer import Consumer
from nodellm_orm.runtime.draft import Draft
from nodellm_orm.runtime.exchange import Attempts, Leg
from nodellm_orm.runtime.execution import Execution
from nodellm_orm.runtime.fallback import carried_on, detours, name_of
from nodellm_orm.runtime.outcomes import Conclusion
from nodellm_orm.runtime.requests import model_request
from nodellm_orm.runtime.restored import answered, last_words, refuse_answered
from nodellm_orm.runtime.rounds import RoundCall, opened_calls, restored_calls, result_entries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nodellm_orm.domain.events import Event
    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.domain.messages import Completion, Message
    from nodellm_orm.domain.replies import ToolCall
    from nodellm_orm.errors import ProviderError
    from nodellm_orm.ports.entries import Entry, MessageAdded, MessageRevised
    from nodellm_orm.ports.states import TurnState
    from nodellm_orm.ports.wire import ModelRequest
    from nodellm_orm.ports.workspace import Workspace
    from nodellm_orm.runtime.consumer import Emit
    from nodellm_orm.runtime.conversation import Conversation
    from nodellm_orm.runtime.exchange import Answer, Engine
    from nodellm_orm.runtime.outcomes import ToolOutcome
    from nodellm_orm.runtime.plan import Plan
    from nodellm_orm.runtime.scribe import Scribe
    from nodellm_orm.runtime.transcript import Transcript

log = logging.getLogger("nodellm_orm")

SUSPENDED = frozenset({FinishReason.APPROVAL, FinishReason.TOOL_LIMIT, FinishReason.COST_LIMIT})
"""Finish reasons of turns that can be carried on."""
_NOT_EXECUTED = frozenset({FinishReason.CONTENT_FILTER, FinishReason.ERROR, FinishReason.LENGTH})


class Released(Exception):  # noqa: N818 — a signal to the turn, never seen by users
    """The worker has let go of the turn between two steps."""


def ending(finish: FinishReason) -> TurnEnded:
    """The entry with which a turn ends in good order."""
    return TurnEnded(status="suspended" if finish in SUSPENDED else "completed", reason=finish.value)


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

    operation: ClassVar[str] = "chat"
    """What the ledger calls its attempts."""

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
        self._consumer = Consumer(emit)
        self._draft = Draft(conversation, engine.new_id)
        self.plan = plan
        self.attempts = Attempts(engine, scribe.write, timeout=plan.timeout, operation=self.operation)
        self._round: list[RoundCall] = []
        self._rounds = 0
        self._execution: Execution | None = None
        """Of the last round that was run here."""
        self.leaving = False
        """No further step is to begin: the turn is let go of after the one it is at."""

    @property
    def halted(self) -> ToolOutcome | None:
        """The outcome that ended the turn without asking the model again."""
        return self._execution.halted if self._execution is not None else None

    def committed(self, entries: Sequence[Entry]) -> None:
        """Take in entries that are now durable."""
        self.attempts.committed(entries)
        opened = [RoundCall(entry) for entry in entries if isinstance(entry, CallOpened)]
        self._round = opened or self._round
        finished = {entry.id for entry in entries if isinstance(entry, CallFinished)}
        for call in self._round:
            call.recorded = call.recorded or call.opened.id in finished
        self._draft.committed(entries)

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
            self._consumer.expect_answer()
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
        handed = self._consumer.arrived(event)
        if self.plan.checkpoint is not None:
            await self._checkpoint(self.plan.checkpoint)
        return handed

    async def _checkpoint(self, interval: float) -> None:
        """Store the text so far, so that it survives the process and others can show it."""
        arrived = self.attempts.arrived
        if not self._draft.due(arrived, self._engine.clock.monotonic(), interval) or arrived is None:
            return
        entry = self._draft.entry(self._draft.identified(arrived), self.plan.model.origin, partial=True)
        if entry is not None:
            await self._scribe.write(entry)

    # ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _record_answer(self, answer: Answer) -> FinishReason | None:
        """Write the answer; ``None`` means that the turn goes on."""
        completion = await hooking.transform(self.plan.hooks.after_response, answer.completion)
        completion = self._draft.identified(completion)
        executable = completion.finish_reason not in _NOT_EXECUTED
        cut_off = bool(completion.tool_calls) and not executable
        added = self._draft.entry(completion, self.plan.model.origin, partial=cut_off)
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
        self._draft.written()
        if added is not None:
            await hooking.call(self.plan.hooks.on_end_message, added.message)
        for call in self._round:
            self._consumer.called(self._transcript.call(call.opened.id))
        if leaving and finish is None:
            raise Released
        return finish

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
        self._execution = execution = Execution(
            self._round, self.plan, self._chat.head, self._scribe, self._transcript, self._consumer
        )
        try:
            await execution.run()
            return await (self._suspend_round(execution) if execution.waits else self._close_round(execution))
        except GeneratorExit:
            raise  # the loop is gone: nothing can be awaited any more
        except BaseException:
            await execution.clear()
            raise

    async def _suspend_round(self, execution: Execution) -> FinishReason:
        refused = [call for call in self._round if call.refused]
        await self._scribe.write(*(call.finished() for call in refused), ending(FinishReason.APPROVAL))
        for call in refused:
            await execution.tell(call)
        return FinishReason.APPROVAL

    async def _close_round(self, execution: Execution) -> FinishReason | None:
        untold = [call for call in self._round if not call.recorded]
        last = next((call for call in untold if call.workspace.used), None)
        finish, leaving = await execution.with_writes_of(last, self._write_round)
        for call in untold:
            await execution.tell(call)
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
        elif (finish := answered(self._chat.messages, state)) is not None:
            await self._scribe.write(ending(finish))
        else:
            refuse_answered(self._chat.messages, state)
            await self._scribe.write(*self._broken_off(state), self.attempts.open(self.plan.model))
        if finish is not None:
            return finish
        return await self.from_request(self.request(self._chat.messages))

    def _broken_off(self, state: TurnState) -> list[Entry]:
        """A broken-off answer at the end of the turn: the one asked for now takes its place."""
        last = last_words(self._chat.messages, state)
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
            added = self._all_that_arrived(arrived) if arrived is not None else None
            entries.append(replace(closed, message_id=added.id if added else None))
            if added is not None:
                entries.append(added)
        entries += [
            call.interrupted() if call.outcome is None else call.finished()
            for call in self._round
            if not call.recorded and not call.waiting
        ]
        return entries

    def _all_that_arrived(self, arrived: Completion) -> MessageAdded | MessageRevised | None:
        cut_off = not arrived.complete or bool(arrived.tool_calls)
        return self._draft.entry(self._draft.identified(arrived), self.plan.model.origin, partial=cut_off)
