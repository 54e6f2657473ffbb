"""One turn of a chat, for ``ask`` and ``stream`` alike: how it comes to hold the chat; `ending` is how it ends.

What happens is written before anything follows from it. The durable points of a turn with one tool call::

    begin  user message · attempt 1
    write  attempt 1 closed · assistant message · call (running)
    write  call finished · result message · attempt 2
    write  attempt 2 closed · assistant message · turn completed

`dialogue.Dialogue` is what lies between the first point and the last.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from nodellm_orm.errors import ChatBusyError, ChatError, IdempotencyError
from nodellm_orm.ports.entries import TurnOpened
from nodellm_orm.ports.ownership import Exhausted, Outdated, Repeated, Take
from nodellm_orm.runtime import hooks as hooking
from nodellm_orm.runtime.compaction import carried_on, compacted
from nodellm_orm.runtime.conversation import SURPRISES, answers, changed_all_the_time
from nodellm_orm.runtime.ending import Ending
from nodellm_orm.runtime.identity import settings_digest, texts_of
from nodellm_orm.runtime.nesting import within
from nodellm_orm.runtime.restored import asked_with, finish_of
from nodellm_orm.runtime.revision import opened
from nodellm_orm.runtime.rounds import settled, undecided, what_waits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.replies import Reply
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.states import TurnState
    from nodellm_orm.ports.wire import ModelRequest
    from nodellm_orm.runtime.consumer import Emit
    from nodellm_orm.runtime.conversation import Conversation
    from nodellm_orm.runtime.exchange import Engine
    from nodellm_orm.runtime.plan import Planner
    from nodellm_orm.runtime.revision import Revision

T = TypeVar("T")

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0


class Turn(Ending):
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
        super().__init__(engine, journal, conversation, planner(conversation.wanted, None), emit)
        self._planner = planner
        self._deadline = deadline

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
        asked, wanted, leaving = asked_with(state), self._chat.wanted, self._dialogue.leaving
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
        return self._checked(self._reply(finish_of(state.reason)))

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
                if surprises > SURPRISES:
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
        closing = self._left_open()
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
            step=self._chat.step,
            version=head.version,
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

    def _left_open(self) -> list[Entry]:
        """Entries that answer what the last turn left open."""
        last = self._chat.last_turn
        if last is None or last.status == "completed":
            return []
        if undecided(last) and not self._plan.abandon_pending:
            raise ChatBusyError(what_waits(last.calls), turn_id=last.id)
        return list(answers(last.calls, self._chat.next_position, self._engine.new_id))


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
