"""Compaction: the model is asked for a summary, which from then on is sent in place of what it covers.

It is a turn like any other (owned, fenced, an attempt in the ledger before it is sent), but that its messages are one:
the summary. Until that is written, the conversation is as it was, and so it stays when the turn fails or its worker
dies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.domain.jsontext import loads
from nodellm_orm.domain.messages import FinishReason, Message, user
from nodellm_orm.domain.parts import SummaryPart
from nodellm_orm.domain.tools import NONE
from nodellm_orm.domain.windows import is_summary, sent, summarised, turns_of
from nodellm_orm.errors import ChatError, ConfigurationError
from nodellm_orm.ports.entries import MessageAdded
from nodellm_orm.runtime import hooks as hooking
from nodellm_orm.runtime.dialogue import Dialogue, ending
from nodellm_orm.runtime.refusals import refuse_text
from nodellm_orm.runtime.requests import model_request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nodellm_orm.domain.jsontext import JsonValue
    from nodellm_orm.domain.messages import Completion
    from nodellm_orm.domain.settings import Settings
    from nodellm_orm.ports.entries import Entry
    from nodellm_orm.ports.states import ChatHead, TurnState
    from nodellm_orm.ports.wire import ModelRequest
    from nodellm_orm.runtime.exchange import Answer
    from nodellm_orm.runtime.plan import Plan, Planner

OPERATION: Final = "compact"
"""What the ledger calls it."""
WORDS: Final = (
    "Summarise the conversation so far. Its beginning will be left out from now on, and your summary will stand in its "
    "place. Keep everything that is needed to go on: what the user wants and prefers, decisions and their reasons, "
    "names, numbers, dates and other facts, what tools have found, and what is still open. Leave out greetings and "
    "detours. Write in the language of the conversation. Answer with the summary alone."
)
"""What the model is asked with, where the caller has no words of his own."""
_REMEDIES: Final = {
    FinishReason.LENGTH: "the summary was cut off: raise max_tokens",
    FinishReason.CONTENT_FILTER: "the provider's filter stopped it: ask another model with model=",
}
_ENOUGH: Final = frozenset({FinishReason.STOP, FinishReason.UNKNOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """What is to be summarised, and how it is asked for."""

    keep: int = 2
    """How many of the last turns stay as they are."""
    words: str | None = None
    """What the model is asked with, in place of `WORDS`."""
    until: int | None = None
    """Position of the last message to summarise; ``None``: the last before the turns that stay."""

    def covered(self, messages: Sequence[Message]) -> tuple[list[Message], int]:
        """The messages that the model is to summarise, an earlier summary among them, and the last one's position.

        Args:
            messages: all of the conversation.

        Raises:
            ChatError: there are none.
        """
        until = self._end(messages) if self.until is None else self.until
        return [m for m in messages if is_summary(m) or (m.position or 0) <= until], until

    def _end(self, messages: Sequence[Message]) -> int:
        _, rest = summarised(messages)
        starts = [*turns_of(rest), len(rest)]
        end = starts[max(len(starts) - 1 - self.keep, 0)]
        if end == 0:
            turns = len(starts) - 1
            msg = (
                f"there is nothing to compact: of {turns} turns that are not summarised yet, keep={self.keep} keeps "
                "all; compact later, or keep fewer"
            )
            raise ChatError(msg)
        return rest[end - 1].position or 0

    def noted(self, until: int) -> dict[str, JsonValue]:
        """What the row of the turn says of it, so that another process can carry it on.

        Args:
            until: position of the last message to summarise.
        """
        own: dict[str, JsonValue] = {} if self.words is None else {"words": self.words}
        return {"operation": OPERATION, "until": until, **own}


def checked_compaction(keep: object, words: object) -> Compaction:
    """A compaction as a caller asks for it.

    Args:
        keep: how many turns stay.
        words: what the model is asked with.

    Raises:
        ConfigurationError: it cannot be meant.
    """
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
        msg = f"keep is a number of turns, 0 or more, not {keep!r:.100}"
        raise ConfigurationError(msg)
    refuse_text("instructions", words)
    return Compaction(keep=keep, words=words if isinstance(words, str) else None)


def planned(plan: Plan, compaction: Compaction, max_tokens: int | None) -> Plan:
    """The plan of a question made that of a compaction: no tool is called, and no form is asked for.

    Tools stay in the request, so that it goes on where the last one ended, and caches of the provider hold.

    Args:
        plan: what a question would be asked with.
        compaction: what is to be summarised.
        max_tokens: of the summary; the chat's own limit is one for answers.
    """
    return replace(plan, settings=_settings(plan.settings, max_tokens), schema=None, compaction=compaction)


def _settings(settings: Settings, max_tokens: int | None) -> Settings:
    plain: dict[str, Any] = {"schema": None, "schema_name": None, "parallel_tool_calls": None, "history_window": None}
    return replace(settings, max_tokens=max_tokens, tool_choice=NONE, max_cost=None, **plain)


def carried_on(planner: Planner, head: ChatHead, state: TurnState, asked: Settings | None) -> Plan | None:
    """The plan with which a compaction is carried on: of the model that was asked; ``None``: the turn is none.

    Args:
        planner: plans for the chat's head.
        head: as it is now.
        state: the turn.
        asked: the settings that it was asked with.
    """
    stored = loads(state.settings)
    if not isinstance(stored, dict) or stored.get("operation") != OPERATION:
        return None
    names: dict[str, Any] = {name: stored.get(name) for name in ("provider", "model", "api")}
    plan = planner(replace(head, **names), asked)
    until, words = stored.get("until"), stored.get("words")
    compaction = Compaction(
        until=until if isinstance(until, int) else None, words=words if isinstance(words, str) else None
    )
    return planned(plan, compaction, plan.settings.max_tokens)


def compacted(head: ChatHead) -> ChatHead:
    """The head of a chat that may have a summary: whoever loads a part of it looks for one."""
    return head if head.settings.compacted else replace(head, settings=replace(head.settings, compacted=True))


class Summarising(Dialogue):
    """Asks the model for a summary, once."""

    operation = OPERATION
    _until = 0
    """Position of the last message that the request had."""

    @property
    def _compaction(self) -> Compaction:
        compaction = self.plan.compaction
        if compaction is None:
            msg = "a summary is asked for by a plan that says of what"
            raise AssertionError(msg)
        return compaction

    @property
    def noted(self) -> Mapping[str, JsonValue]:
        """What the turn's row says of it."""
        return self._compaction.noted(self._until)

    def request(self, messages: Sequence[Message]) -> ModelRequest:
        """The one call of the model.

        Raises:
            ChatError: there is nothing to summarise.
        """
        covered, self._until = self._compaction.covered(messages)
        return model_request(self.plan, [*sent(covered), user(self._compaction.words or WORDS)], NONE)

    async def from_rows(self, state: TurnState) -> FinishReason:
        """Ask again: what had arrived before was not kept."""
        del state
        request = self.request(self._chat.messages)
        await self._scribe.write(self.attempts.open(self.plan.model))
        return await self.from_request(request)

    async def _record_answer(self, answer: Answer) -> FinishReason | None:
        completion = await hooking.transform(self.plan.hooks.after_response, answer.completion)
        message = Message(
            role="assistant",
            parts=(SummaryPart(text=_text(completion), until=self._until),),
            position=self._chat.next_position,
            finish_reason=FinishReason.SUMMARY,
            raw_finish_reason=completion.raw_finish_reason,
            origin=self.plan.model.origin,
        )
        added = MessageAdded(id=self._engine.new_id(), message=message)
        await self._scribe.write(replace(answer.closed, message_id=added.id), added, ending(FinishReason.STOP))
        await hooking.call(self.plan.hooks.on_end_message, message)
        return FinishReason.STOP

    def loose_ends(self, error: BaseException | None) -> list[Entry]:
        """What closes the attempt; half a summary is none."""
        closed = self.attempts.closing("failed" if error else "cancelled", error)
        return [] if closed is None else [closed]


def _text(completion: Completion) -> str:
    """The summary in an answer.

    Raises:
        ChatError: there is none, or not all of it.
    """
    text, reason = completion.text.strip(), completion.finish_reason
    if text and reason in _ENOUGH and not completion.tool_calls:
        return text
    remedy = _REMEDIES.get(reason, "try again, or ask another model with model=")
    msg = f"the model gave no summary ({reason.value}): {remedy}; the chat is as it was"
    raise ChatError(msg)
