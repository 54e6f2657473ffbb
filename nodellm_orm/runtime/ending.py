"""How a turn ends, whatever happens in it: `loop.Turn` builds on it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.replies import Chunk, Reply
from nodellm_orm.errors import (
    ChatBusyError,
    LimitExceededError,
    NodeLLMError,
    SchemaValidationError,
    StaleChatError,
    StorageError,
    ToolLimitError,
    TurnInterruptedError,
)
from nodellm_orm.ports.entries import TurnEnded, TurnReleased
from nodellm_orm.runtime.compaction import Summarising
from nodellm_orm.runtime.dialogue import SUSPENDED, Dialogue, Released
from nodellm_orm.runtime.outcomes import summary
from nodellm_orm.runtime.restored import finish_of
from nodellm_orm.runtime.scribe import Scribe
from nodellm_orm.runtime.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from uuid import UUID

    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.journal import Journal
    from nodellm_orm.ports.ownership import Hold
    from nodellm_orm.ports.statuses import TurnStatus
    from nodellm_orm.runtime.consumer import Emit
    from nodellm_orm.runtime.conversation import Conversation
    from nodellm_orm.runtime.exchange import Engine
    from nodellm_orm.runtime.plan import Plan

log = logging.getLogger("nodellm_orm")


class Ending:
    """What a turn is, and its ways out.

    Args:
        engine: clock, ids, prices and policies.
        journal: where it is written.
        conversation: the chat as this process knows it; moved on as the turn is written.
        plan: what it is asked with.
        emit: hands a chunk to the consumer; says whether there is one.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        conversation: Conversation,
        plan: Plan,
        emit: Emit,
    ) -> None:
        """Prepare; nothing is written yet."""
        self._engine = engine
        self._journal = journal
        self._chat = conversation
        self._emit = emit
        self._plan = plan
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

    # ── what is read ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _refresh(self) -> None:
        if self._chat.stale:
            await self._load()

    async def _load(self) -> None:
        """Read as much of the chat as the plan has to know."""
        head = self._chat.head
        self._chat.refresh(await self._journal.load(head.id, head.owner, window=self._plan.reach))

    # ── ways out ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _see_through(self, work: Awaitable[Reply[Any]]) -> Reply[Any]:
        """Whatever happens in the turn, its end is written."""
        try:
            return await work
        except GeneratorExit:
            raise  # the loop is gone: nothing can be awaited any more
        except Released:
            raise self._interrupted() from None
        except asyncio.CancelledError as cancelled:
            return await self._cancelled(cancelled)
        except (StaleChatError, StorageError) as error:
            self._chat.stale = True
            error.reply = error.reply or self._unsaved(error)
            await self._closing(self._end_if_possible(error) if isinstance(error, StorageError) else self._account())
            raise
        except BaseException as error:
            # What ended the turn is told, not that its end could not be written.
            await self._closing(self._end_if_possible(error))
            raise

    async def _closing(self, write: Awaitable[None]) -> None:
        """Write what is left to write; when we cancel the turn meanwhile, what had ended it before is told."""
        try:
            await write
        except asyncio.CancelledError:  # it is written all the same
            if not self._asked_to_stop:
                raise

    async def _cancelled(self, cancelled: asyncio.CancelledError) -> Reply[Any]:
        """The turn was cancelled: by its caller, by one who closes the client, or because its lease is over."""
        if self._ended is None and not self.stopping and self.releasing and self.begun and not self.lost:
            await self._let_go()
            raise self._interrupted() from None
        if self.lost and self._ended is None:
            self._chat.stale = True
            await self._closing(self._account())
            msg = f"the lease of chat {self._chat.head.id} was lost while the turn ran; load the chat again"
            raise StaleChatError(msg, reply=self._unsaved(None)) from None
        await self._closing(self._end("cancelled", None))
        if not self._asked_to_stop:
            raise cancelled
        if not self.begun:
            msg = f"cancelled before its turn of chat {self._chat.head.id} began; nothing was stored: ask again"
            raise ChatBusyError(msg) from None
        return self._reply(finish_of(self._ended.reason) if self._ended else FinishReason.CANCELLED)

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


def _told(error: BaseException | None) -> str | None:
    """What the row says of an error: ours in its own words, a foreign one without what may be a secret in it."""
    if error is None:
        return None
    return str(error) if isinstance(error, NodeLLMError) else summary(error)
