"""Approving: a person's decisions on the calls of a chat that wait for one, made in any process."""

from __future__ import annotations

from dataclasses import replace as altered
from typing import TYPE_CHECKING

from nodellm_orm.asking import Asking
from nodellm_orm.errors import ConfigurationError
from nodellm_orm.ports.approvals import Decision
from nodellm_orm.runtime.refusals import refuse_key, refuse_text
from nodellm_orm.runtime.transcript import told_of

if TYPE_CHECKING:
    from nodellm_orm.domain.replies import ToolCall
    from nodellm_orm.ports.states import CallState


class Approving(Asking):
    """The decisions on calls of tools with ``requires_approval``: none of them asks a model or runs anything."""

    @property
    def pending_approvals(self) -> tuple[ToolCall, ...]:
        """The calls of the last turn that wait for a decision, in order, as this process knows them.

        Example:
            >>> chat = await load_chat(engine, llm, chat_id, tools=[refund])
            >>> for call in chat.pending_approvals:
            ...     print(call.call_id, call.name, call.arguments)
        """
        last = self._chat.last_turn
        calls = () if last is None else last.calls
        return tuple(told_of(call) for call in calls if call.status == "awaiting_approval")

    async def approve(self, call_id: str, by: str | None = None) -> ToolCall:
        """Let a call run that waits for a decision; it runs when the turn is resumed.

        The approval is bound to the call's name and its exact arguments: if they are changed in the rows afterwards,
        nothing runs. Approving again changes nothing; who approved first stays on the row.

        Args:
            call_id: the ``call_id`` of one of `pending_approvals`, or of a reply's ``tool_calls``.
            by: who decided, in 255 characters at most: for the row (``decided_by``) and the tool
                (``context.approved_by``).

        Returns:
            The call as it is now.

        Raises:
            ChatNotFoundError: the chat is gone, or has no such call; the message names those that wait.
            ChatError: the call was denied, or does not wait for a decision.
            ChatBusyError: a turn of the chat is running.

        Example:
            >>> await chat.approve(reply.tool_calls[0].call_id, by="ada")
            >>> reply = await chat.resume()
        """
        return await self._decide(call_id, None, by)

    async def deny(self, call_id: str, reason: str, by: str | None = None) -> ToolCall:
        """Refuse a call that waits for a decision: it never runs, and the model reads the reason instead of a result.

        Denying again changes nothing; the first reason stands.

        Args:
            call_id: as for `approve`.
            reason: what the model reads when the turn is resumed.
            by: as for `approve`.

        Returns:
            The call as it is now.

        Raises:
            ChatNotFoundError: the chat is gone, or has no such call; the message names those that wait.
            ChatError: the call was approved, or does not wait for a decision.
            ChatBusyError: a turn of the chat is running.

        Example:
            >>> await chat.deny(call.call_id, "Refunds over 100 euros are made by phone.", by="ada")
            >>> reply = await chat.resume()
        """
        if reason is None or (isinstance(reason, str) and not reason.strip()):
            msg = "reason is what the model reads instead of a result; say why the call is denied"
            raise ConfigurationError(msg)
        refuse_text("reason", reason)
        return await self._decide(call_id, reason, by)

    async def _decide(self, call_id: str, denial: str | None, by: str | None) -> ToolCall:
        if call_id is None or (isinstance(call_id, str) and not call_id.strip()):
            msg = "call_id is the id of a call, as in chat.pending_approvals; give one of these"
            raise ConfigurationError(msg)
        refuse_key("call_id", call_id)
        refuse_key("by", by)
        await self._quiet(self._host.engine.clock.monotonic(), take_leave=False)
        await self._journal.settle()
        decision = Decision(call_id=call_id, denial=denial, by=by)
        call = await self._journal.decide(self.id, self.owner, decision)
        await self._know(call)
        return told_of(call)

    async def _know(self, call: CallState) -> None:
        """Remember a decision that is now in the rows; the next turn loads the chat again."""
        last = self._chat.last_turn
        known = {state.id for state in last.calls} if last is not None else set()
        if last is None or call.id not in known:
            snapshot = await self._journal.load(self.id, self.owner)
            if self._drive is None or self._drive.over:  # a turn that has begun since knows the chat better
                self._chat.refresh(snapshot)
            return
        calls = tuple(call if state.id == call.id else state for state in last.calls)
        self._chat.last_turn = altered(last, calls=calls)
        self._chat.stale = True
