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
from nodellm_orm.domain.messages import FinishReason, asked_of
from nodellm_orm.domain.replies import Chunk, Reply
from nodellm_orm.domain.settings import Settings
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
from nodellm_orm.ports.journal import MessageAdded, Outdated, Repeated, Take, TurnEnded, TurnOpened
from nodellm_orm.runtime import hooks as hooking
from nodellm_orm.runtime.conversation import answers, changed_all_the_time
from nodellm_orm.runtime.dialogue import SUSPENDED, Dialogue
from nodellm_orm.runtime.identity import settings_digest, texts_of
from nodellm_orm.runtime.outcomes import summary
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
    from nodellm_orm.runtime.plan import Planner

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
        self._dialogue = Dialogue(engine, conversation, plan, self._scribe, self._transcript, emit)
        self._ended: TurnEnded | None = None
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
        return self._scribe.hold is not None or self._ended is not None

    def _committed(self, entries: Sequence[Entry]) -> None:
        self._transcript.committed(entries)
        self._dialogue.committed(entries)
        self._ended = next((entry for entry in entries if isinstance(entry, TurnEnded)), self._ended)

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
        await hooking.call(self._plan.hooks.on_new_message, self._chat.messages[-1])
        return await self._finish(await self._dialogue.from_request(request))

    async def _resume(self) -> Reply[Any]:
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
        return await self._continue()

    async def _continue(self) -> Reply[Any]:
        """Go on where the rows of the turn end."""
        self._chat.refresh(await self._journal.load(self._chat.head.id, self._chat.head.owner))
        state = self._chat.last_turn
        if state is None:
            msg = "the chat lost its last turn while it was taken over"
            raise AssertionError(msg)
        # From here on it is this turn, and no longer one that was left behind: nothing of it may be closed again.
        self._chat.last_turn = None
        self._plan = self._dialogue.plan = self._planner(self._chat.wanted, _asked_with(state))
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
        self._transcript.restore(state, self._by_id())
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
            except ChatBusyError:
                self._chat.stale = True
                left = self._deadline - self._engine.clock.monotonic()
                if left <= 0:
                    raise
                await self._engine.clock.sleep(min(pause, left))
                pause = min(pause * 1.5, _LONGEST_PAUSE)

    async def _refresh(self) -> None:
        if self._chat.stale:
            self._chat.refresh(await self._journal.load(self._chat.head.id, self._chat.head.owner))

    # ── the first point ───────────────────────────────────────────────────────────────────────────────────────────

    async def _begin(self) -> ModelRequest:
        head, wanted, changes = self._chat.head, self._chat.wanted, tuple(self._chat.changes)
        self._plan = self._dialogue.plan = plan = self._planner(wanted, None)
        closing = self._closing()
        closing_messages = [entry.message for entry in closing if isinstance(entry, MessageAdded)]
        position = self._chat.next_position + len(closing_messages)
        message = asked_of(plan.model.origin, plan.parts, position)
        request = self._dialogue.request([*self._chat.messages, *closing_messages, message])
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
        attempt = self._dialogue.attempts.open(plan.model)
        await self._scribe.begin(take, opened, (added, attempt), closing, changes)
        self._dialogue.tell_dropped(plan, dropped)
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

    # ── ways out ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _see_through(self, work: Awaitable[Reply[Any]]) -> Reply[Any]:
        """Whatever happens in the turn, its end is written."""
        try:
            return await work
        except GeneratorExit:
            raise  # the loop is gone: nothing can be awaited any more
        except asyncio.CancelledError:
            if self.lost:
                self._chat.stale = True
                msg = f"the lease of chat {self._chat.head.id} was lost while the turn ran; load the chat again"
                raise StaleChatError(msg, reply=self._unsaved(None)) from None
            try:
                await self._end("cancelled", None)
            except asyncio.CancelledError:  # once more, while the end was written: it is written
                if not self.stopping:
                    raise
            if not self.stopping:
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
            raise
        except BaseException as error:
            # What ended the turn is told, not that its end could not be written.
            await self._end_if_possible(error)
            raise

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
            raise

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
