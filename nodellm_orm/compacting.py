"""Compacting: the beginning of a long chat is sent as a summary from now on, and stays in the rows."""

from __future__ import annotations

from dataclasses import replace as altered
from typing import TYPE_CHECKING

from nodellm_orm.asking import Asking, awaited
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.settings import Settings
from nodellm_orm.errors import ChatError
from nodellm_orm.runtime.compaction import checked_compaction, planned
from nodellm_orm.runtime.loop import Turn
from nodellm_orm.runtime.options import Options
from nodellm_orm.runtime.refusals import refuse_key

if TYPE_CHECKING:
    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.states import ChatHead
    from nodellm_orm.runtime.plan import Plan


class Compacting(Asking):
    """The summaries of a chat."""

    async def compact(
        self,
        *,
        keep: int = 2,
        instructions: str | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        wait: float = 0,
    ) -> Message:
        """Have everything before the last turns summarised; from then on the summary is sent in its place.

        The messages themselves stay: in the rows, in `messages` and in `history`. The summary is one more message
        behind them. It is a turn of its own, whose row in the ledger has the operation ``compact``; as long as it has
        not succeeded, the chat is as it was. Compacting again summarises the earlier summary with what came after it.

        Args:
            keep: how many of the last turns stay as they are; a turn is a question and all that came of it.
            instructions: what the model is asked with, in place of our own words.
            model: the model that summarises, at the chat's provider; the chat's own when omitted.
            max_tokens: of the summary.
            wait: seconds to wait for a busy chat.

        Returns:
            The message with the summary; its ``content`` is the text.

        Raises:
            ChatError: there is nothing before the turns to keep, the model's answer is no whole summary, or `cancel`
                was called.
            ChatBusyError: a turn of this chat is running, or calls of the last one wait for approval.
            ProviderError: the model could not answer.

        Example:
            >>> summary = await chat.compact(keep=4, max_tokens=1000)
            >>> print(summary.content)
        """
        compaction = checked_compaction(keep, instructions)
        refuse_key("model", model)
        limit = Options(max_tokens=max_tokens).over(Settings()).max_tokens
        base = self._planner((), None, {"wait": wait}, stream=False)

        def planner(head: ChatHead, asked: Settings | None) -> Plan:
            return planned(base(head if model is None else altered(head, model=model), asked), compaction, limit)

        drive = await self._run(planner, Turn.run, heard=False, wait=wait)
        reply = await awaited(drive)
        if reply.finish_reason is FinishReason.CANCELLED:
            msg = "the compaction was cancelled; the chat is as it was: resume() finishes it"
            raise ChatError(msg)
        if reply.message is None:
            msg = f"turn {reply.turn_id} was completed without its summary"
            raise AssertionError(msg)
        return reply.message
