"""One turn of a chat, for ``ask`` and ``stream`` alike: how it comes to hold the chat, and how it ends.

What happens is written before anything follows from it. The durable points of a turn with one tool call::

    begin  user message · attempt 1
    write  attempt 1 closed · assistant message · call (running)
    write  call finished · result message · attempt 2
    write  attempt 2 closed · assistant message · turn completed

`dialogue.Dialogue` is what lies between the first point and the last.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from nodellm_orm.domain.jsontext import dumps, loads
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.replies import Chunk, Reply
from nodellm_orm.domain.settings import Settings
from nodellm_orm.errors import (
    ChatBusyError,
    ChatError,
    IdempotencyError,
    LimitExceededError,
    NodeLLMError,
    SchemaValidationError,
    StaleChatError,
    StorageError,
    ToolLimitError,
    TurnInterruptedError,
)
from nodellm_orm.ports.journal import (
    Exhausted,
    Outdated,
    Repeated,
    Take,
    TurnEnded,
    TurnOpened,
    TurnReleased,
)
from nodellm_orm.runtime import hooks as hooking
from nodellm_orm.runtime.compaction import Summarising, carried_on, compacted
from nodellm_orm.runtime.conversation import answers, changed_all_the_time
from nodellm_orm.runtime.dialogue import SUSPENDED, Dialogue, Released
from nodellm_orm.runtime.identity import settings_digest, texts_of
from nodellm_orm.runtime.nesting import within
from nodellm_orm.runtime.outcomes import summary
from nodellm_orm.runtime.revision import opened
from nodellm_orm.runtime.rounds import settled, undecided, what_waits
from nodellm_orm.runtime.scribe import Scribe
from nodellm_orm.runtime.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.journal import Entry, Hold, Journal, TurnState, TurnStatus
    from nodellm_orm.ports.wire import ModelRequest
    from nodellm_orm.runtime.conversation import Conversation
    from nodellm_orm.runtime.exchange import Engine
    from nodellm_orm.runtime.plan import Plan, Planner
    from nodellm_orm.runtime.revision import Revision

    Emit = Callable[[Chunk], bool]

T = TypeVar("T")

log = logging.getLogger("nodellm_orm")

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
_SURPRISES = 20
"""How often in a row a chat may turn out to have changed before that is reported."""


class Turn:
    """One turn of one chat, from its first durable point to its last.

    Args:
        engine: clock, ids, prices and policies.
        journal: where it is written.
        conversation: the chat as this process knows it; moved on as the turn is written.
        planner: gives model, tools and options for the chat's head; asked again when the head turns out to have been
            changed elsewhere.
        emit: hands a chunk to the consumer; says whether there is one.
        deadline: until when to wait for a busy chat, on the engine's clock.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        conversation: Conversation,
        planner: Planner,
        emit: Emit,
        *,
        deadline: float = 0.0,
    ) -> None:
        """Prepare; nothing is written yet."""
        self._engine = engine
        self._journal = journal
        self._chat = conversation
        self._planner = planner
        self._emit = emit
        self._deadline = deadline
        self._plan = plan = planner(conversation.wanted, None)
        self._scribe = Scribe(journal, conversation, engine.clock, self._committed, plan.durability)
        self._transcript = Transcript()
        self._dialogue = self._dialogue_of(plan)
        self._ended: TurnEnded | None = None
        self._released = False
        self.id: UUID = engine.new_id()
        self.over = False
        """Set when its task has come to its end."""
        self.lost = False
        """Set before the turn is cancelled because its lease could not be renewed."""
        self.stopping = False
        """Set before the turn is cancelled because its caller asked for it: it then ends with a reply."""
        self.releasing = False
        """Set before the turn is cancelled because its client is being closed: it is then left to other workers."""

    def _dialogue_of(self, plan: Plan) -> Dialogue:
        kind = Dialogue if plan.compaction is None else Summarising
        return kind(self._engine, self._chat, plan, self._scribe, self._transcript, self._emit)

    @property
    def lease(self) -> float:
        """Seconds after which others may take the chat over from a silent worker."""
        return self._plan.lease

    @property
    def scribe(self) -> Scribe:
        """Keeps the hold, and knows when its lease was last extended."""
        return self._scribe

    @property
    def hold(self) -> Hold | None:
        """Proof of ownership, while there is any."""
        return self._scribe.hold

    @property
    def begun(self) -> bool:
        """Whether it has held the chat: otherwise nothing of it, or nothing new, is in the rows."""
        return self._scribe.hold is not None or self._ended is not None or self._released

    def _committed(self, entries: Sequence[Entry]) -> None:
        self._transcript.committed(entries)
        self._dialogue.committed(entries)
        self._ended = next((entry for entry in entries if isinstance(entry, TurnEnded)), self._ended)
        self._released = self._released or any(isinstance(entry, TurnReleased) for entry in entries)

    def wind_down(self) -> None:
        """Let the turn finish the step it is at, and begin no other: what is left of it is for other workers."""
        self._dialogue.leaving = True

    # ── ways in ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> Reply[Any]:
        """Ask the plan's question and see the turn through."""
        return await self._see_through(self._ask())

    async def resume(self) -> Reply[Any]:
        """Carry on the chat's last turn: nothing stored is asked for or run again.

        Raises:
            ChatError: the chat has no turn yet.
            ChatBusyError: another worker still holds the turn.
        """
        return await self._see_through(self._resume())

    async def _ask(self) -> Reply[Any]:
        try:
            request = await self._patiently(self._begin)
        except Repeated as repeated:
            return await self._again(repeated.turn)
        if self._plan.compaction is None:
            await hooking.call(self._plan.hooks.on_new_message, self._chat.messages[-1])
        return await self._finish(await self._dialogue.from_request(request))

    async def _resume(self) -> Reply[Any]:
        self._chat.stale = True
        await self._refresh()
        state = self._chat.last_turn
        if state is None:
            msg = "the chat has no turn to resume; ask first"
            raise ChatError(msg)
        if self._plan.interrupted is not None and (state.id, state.status) != (self._plan.interrupted, "running"):
            raise self._taken()
        return await self._carry_on(state)

    def _taken(self) -> ChatBusyError:
        msg = (
            f"turn {self._plan.interrupted} is not interrupted any more: another worker was faster, or it was ended; "
            "leave it"
        )
        return ChatBusyError(msg, turn_id=self._plan.interrupted)

    async def _carry_on(self, state: TurnState) -> Reply[Any]:
        self._chat.refuse_unkept()
        self.id = state.id
        if state.status == "completed" or (state.status == "suspended" and settled(state.calls)):
            return self._stored(state)

        async def take_over() -> TurnState | None:
            last, plan = self._chat.last_turn, self._plan
            if last is None or last.id != state.id or last.status == "completed":
                return None
            only = plan.interrupted is not None
            if only and last.status != "running":
                return None
            limit = plan.max_takeovers
            try:
                await self._scribe.take_over(
                    state.id, worker=plan.worker, lease=plan.lease, limit=limit, interrupted=only
                )
            except Exhausted as exhausted:
                self._chat.stale = True
                raise _died_too_often(state.id, exhausted.takeovers) from None
            return last

        if await self._patiently(take_over) is None:
            if self._plan.interrupted is not None:
                raise self._taken()
            return self._ended_elsewhere(await self._journal.turn(self._chat.head.id, self._chat.head.owner, state.id))
        return await self._continue()

    async def _continue(self) -> Reply[Any]:
        """Go on where the rows of the turn end."""
        await self._load()
        state = self._chat.last_turn
        if state is None:
            msg = "the chat lost its last turn while it was taken over"
            raise AssertionError(msg)
        asked, wanted, leaving = _asked_with(state), self._chat.wanted, self._dialogue.leaving
        self._plan = carried_on(self._planner, wanted, state, asked) or self._planner(wanted, asked)
        self._dialogue = self._dialogue_of(self._plan)
        self._dialogue.leaving = leaving
        if not self._chat.covers(self._plan.reach):
            await self._load()
        # From here on it is this turn, and no longer one that was left behind: nothing of it may be closed again.
        self._chat.last_turn = None
        self._transcript.restore(state, self._by_id())
        return await self._finish(await self._dialogue.from_rows(state))

    def _by_id(self) -> dict[UUID, Message]:
        return dict(zip(self._chat.message_ids, self._chat.messages, strict=True))

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
        if state.status == "suspended":
            return self._stored(state)
        last = self._chat.last_turn
        if state.status != "completed" and (last is None or last.id != state.id):
            msg = (
                f"the turn of idempotency key {self._plan.idempotency_key!r} ended {state.status}, and the "
                "conversation went on since; ask with a new key"
            )
            raise IdempotencyError(msg)
        return await self._carry_on(state)

    def _stored(self, state: TurnState) -> Reply[Any]:
        """The reply of a turn that has ended, from its rows."""
        self.id = state.id
        self._transcript.restore(state, {**state.spoken, **self._by_id()})
        return self._checked(self._reply(_word(state.reason)))

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until it works, while the chat is busy and there is time to wait."""
        pause, surprises = _FIRST_PAUSE, 0
        while True:
            await self._refresh()
            try:
                return await _tried(attempt)
            except Outdated:
                self._chat.stale = True
                surprises += 1
                if surprises > _SURPRISES:
                    raise changed_all_the_time(self._chat.head.id) from None
                if surprises > 1:
                    await self._engine.clock.sleep(_FIRST_PAUSE)
            except ChatBusyError as busy:
                self._chat.stale = True
                left = self._deadline - self._engine.clock.monotonic()
                if left <= 0 or within(busy.turn_id, besides=self):  # whose end would never come
                    raise
                await self._engine.clock.sleep(min(pause, left))
                pause = min(pause * 1.5, _LONGEST_PAUSE)

    async def _refresh(self) -> None:
        if self._chat.stale:
            await self._load()

    async def _load(self) -> None:
        """Read as much of the chat as the plan has to know."""
        head = self._chat.head
        self._chat.refresh(await self._journal.load(head.id, head.owner, window=self._plan.reach))

    # ── the first point ───────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self) -> ModelRequest:
        if self._plan.revision is not None and not self._plan.revision.within(self._chat):
            await self._look_further(self._plan.revision)
        if undecided(self._chat.last_turn) and not self._plan.abandon_pending:
            self._chat.stale = True  # others decide and carry on, also in other processes
            await self._refresh()
        self._chat.refuse_unkept()
        head, wanted, changes = self._chat.head, self._chat.wanted, tuple(self._chat.changes)
        self._plan = self._dialogue.plan = plan = self._planner(wanted, None)
        if not self._chat.covers(plan.reach):
            await self._load()
            return await self._begin()
        closing = self._closing()
        opening, conversation = opened(plan, self._chat, closing, self._engine.new_id)
        request = self._dialogue.request(conversation)
        dropped = plan.model.check(request, self._chat.cache(plan.model.origin))
        if plan.compaction is not None and not wanted.settings.compacted:
            self._chat.changes.append(compacted)
            wanted, changes = self._chat.wanted, tuple(self._chat.changes)
        take = Take(
            chat_id=head.id,
            owner=head.owner,
            worker=plan.worker,
            lease=plan.lease,
            fence=self._chat.fence,
            version=head.version,
            position=self._chat.next_position if plan.revision is not None else None,
            labels=wanted.metadata,
            head=wanted if changes else None,
        )
        turn = TurnOpened(
            id=self.id,
            settings=settings_digest(plan.model.origin, request, self._dialogue.noted),
            texts=texts_of(request),
            idempotency_key=plan.idempotency_key,
            request_hash=plan.request_hash,
        )
        attempt = self._dialogue.attempts.open(plan.model)
        await self._scribe.begin(take, turn, (*opening, attempt), closing, changes)
        self._dialogue.tell_dropped(plan, dropped)
        return request

    async def _look_further(self, revision: Revision) -> None:
        """What is to be revised is not here: another process may have said it, or it lies before what was loaded."""
        head, key = self._chat.head, self._plan.idempotency_key
        self._chat.refresh(await self._journal.load(head.id, head.owner))
        if revision.within(self._chat):
            return
        # This very turn may have taken its place before.
        before = None if key is None else await self._journal.turn_by_key(head.id, head.owner, key)
        if before is not None:
            raise Repeated(before)
        raise revision.missing(self._chat.messages)

    def _closing(self) -> list[Entry]:
        """Entries that answer what the last turn left open."""
        last = self._chat.last_turn
        if last is None or last.status == "completed":
            return []
        if undecided(last) and not self._plan.abandon_pending:
            raise ChatBusyError(what_waits(last.calls), turn_id=last.id)
        return list(answers(last.calls, self._chat.next_position, self._engine.new_id))

    # ── ways out ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _see_through(self, work: Awaitable[Reply[Any]]) -> Reply[Any]:
        """Whatever happens in the turn, its end is written."""
        try:
            return await work
        except GeneratorExit:
            raise  # the loop is gone: nothing can be awaited any more
        except Released:
            raise self._interrupted() from None
        except asyncio.CancelledError:
            if self._ended is None and not self.stopping and self.releasing and self.begun and not self.lost:
                await self._let_go()
                raise self._interrupted() from None
            if self.lost and self._ended is None:
                self._chat.stale = True
                await self._account()
                msg = f"the lease of chat {self._chat.head.id} was lost while the turn ran; load the chat again"
                raise StaleChatError(msg, reply=self._unsaved(None)) from None
            try:
                await self._end("cancelled", None)
            except asyncio.CancelledError:  # once more, while the end was written: it is written
                if not self._asked_to_stop:
                    raise
            if not self._asked_to_stop:
                raise
            if not self.begun:
                msg = f"cancelled before its turn of chat {self._chat.head.id} began; nothing was stored: ask again"
                raise ChatBusyError(msg) from None
            return self._reply(_word(self._ended.reason) if self._ended else FinishReason.CANCELLED)
        except (StaleChatError, StorageError) as error:
            self._chat.stale = True
            error.reply = error.reply or self._unsaved(error)
            if isinstance(error, StorageError):
                await self._end_if_possible(error)
            else:
                await self._account()
            raise
        except BaseException as error:
            # What ended the turn is told, not that its end could not be written.
            await self._end_if_possible(error)
            raise

    @property
    def _asked_to_stop(self) -> bool:
        """Whether the turn was cancelled by us, so that whoever waits for it is told what became of it."""
        return self.stopping or self.releasing or self.lost

    async def _let_go(self) -> None:
        """Store what had arrived, and leave the turn to others."""
        if self._scribe.hold is None:
            return
        self._chat.stale = True
        try:
            await self._scribe.write(*self._dialogue.loose_ends(None), TurnReleased())
        except asyncio.CancelledError:  # once more, while that was written: it is written
            pass
        except (StaleChatError, StorageError) as failure:
            failure.reply = failure.reply or self._unsaved(None)
            raise

    def _interrupted(self) -> TurnInterruptedError:
        self._chat.stale = True
        msg = (
            f"the client was closed while turn {self.id} ran; what had arrived is stored: resume() carries it on, "
            "in any process"
        )
        return TurnInterruptedError(msg, turn_id=self.id, reply=self._unsaved(None))

    async def _finish(self, finish: FinishReason) -> Reply[Any]:
        if finish in SUSPENDED:
            self._chat.stale = True
            await self._refresh()  # what the turn left open is part of what comes next
        reply = self._reply(finish)
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
        if schema is None or finish is FinishReason.HALT or finish in SUSPENDED:
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
            raise ToolLimitError(msg, reply=reply)
        if reply.finish_reason is FinishReason.COST_LIMIT:
            msg = f"the turn has cost {reply.cost} dollars, at or over max_cost; raise it and resume(), or ask on"
            raise LimitExceededError(msg, reply=reply)

    def _reply(self, finish: FinishReason, transcript: Transcript | None = None) -> Reply[Any]:
        halted = self._dialogue.halted
        return (transcript or self._transcript).reply(
            self.id,
            finish,
            origin=self._dialogue.plan.model.origin,
            halted=halted.value if halted else None,
            rate_limits=self._dialogue.attempts.rate_limits,
        )

    def _unsaved(self, error: BaseException | None) -> Reply[Any]:
        """The reply with everything that arrived, also what could not be written."""
        transcript = self._transcript.with_entries(self._dialogue.loose_ends(error))
        reply = self._reply(FinishReason.UNKNOWN, transcript)
        said = reply.message.finish_reason if reply.message is not None else None
        return replace(reply, finish_reason=said or FinishReason.CANCELLED)

    async def _end(self, status: TurnStatus, error: BaseException | None) -> None:
        """Close whatever is open and write the turn's end."""
        if self._ended is not None or self._scribe.hold is None:
            return
        self._chat.stale = True
        ended = TurnEnded(
            status=status,
            reason=None if error else FinishReason.CANCELLED.value,
            error_type=type(error).__name__ if error else "Cancelled",
            error_message=_told(error),
        )
        try:
            await self._scribe.write(*self._dialogue.loose_ends(error), ended)
        except (StaleChatError, StorageError) as failure:
            failure.reply = failure.reply or self._unsaved(error)
            if isinstance(failure, StaleChatError):
                await self._account()
            raise

    async def _account(self) -> None:
        """The chat is lost; if it was deleted, what its open call has cost belongs in the ledger all the same."""
        try:
            await self._scribe.account(self._dialogue.attempts.known)
        except NodeLLMError as failure:
            log.warning("what turn %s has cost could not be written: %s", self.id, failure)

    async def _end_if_possible(self, error: BaseException) -> None:
        """Try to leave a final status; when that fails too, the lease ends by itself."""
        try:
            await self._end("failed", error)
        except NodeLLMError as again:
            log.warning("the end of turn %s could not be written: %s", self.id, again)


async def _tried(attempt: Callable[[], Awaitable[T]]) -> T:
    """Take the chat, if it can be had; a cancellation that arrived meanwhile is not lost behind the failure."""
    try:
        return await attempt()
    except (ChatBusyError, Outdated, Repeated):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from None
        raise


def _died_too_often(turn_id: UUID, takeovers: int) -> ChatError:
    msg = (
        f"turn {turn_id} was taken over {takeovers} times, and each time its worker died; it is failed now. Find out "
        "what kills them; then ask again, or resume() it once more, or raise max_takeovers"
    )
    return ChatError(msg)


def _told(error: BaseException | None) -> str | None:
    """What the row says of an error: ours in its own words, a foreign one without what may be a secret in it."""
    if error is None:
        return None
    return str(error) if isinstance(error, NodeLLMError) else summary(error)


def _word(reason: str | None) -> FinishReason:
    return FinishReason(reason) if reason in set(FinishReason) else FinishReason.UNKNOWN


def _asked_with(state: TurnState) -> Settings | None:
    """The settings of the question that began a turn, from its row."""
    stored = loads(state.settings)
    options = stored.get("options") if isinstance(stored, dict) else None
    return Settings.from_json(dumps(options)) if isinstance(options, dict) else None
