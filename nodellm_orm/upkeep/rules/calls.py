"""What must hold between calls and their results: each is answered once, before the model speaks again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, get_args

from nodellm_orm.ports.keeping import RESULT_NOT_KEPT
from nodellm_orm.ports.statuses import CallStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from nodellm_orm.domain.parts import ToolResultPart
    from nodellm_orm.store.define import Tables
    from nodellm_orm.upkeep.findings import Notebook
    from nodellm_orm.upkeep.rules.messages import Read
    from nodellm_orm.upkeep.stored import Fields, StoredChat

_STATUSES: Final = frozenset(get_args(CallStatus))
_UNFINISHED: Final = frozenset({"pending", "awaiting_approval", "running"})
"""Statuses of calls that have no result yet."""


def check_pairs(book: Notebook, tables: Tables, chat: StoredChat, read: Mapping[UUID, Read]) -> None:
    """In what is replayed, every call has exactly one result before the model's next message, or may still get it.

    Args:
        book: takes down what is found.
        tables: for their names.
        chat: the chat.
        read: its messages.
    """
    if len(read) != len(chat.messages):
        return  # one of them cannot be read: whatever is missing may be in it
    pairs = _Pairs(book, tables, chat, read)
    for message in read.values():
        if message.live:
            pairs.take(message)
    pairs.end()


@dataclass(slots=True)
class _Pairs:
    """The calls that wait for results, message by message."""

    book: Notebook
    tables: Tables
    chat: StoredChat
    read: Mapping[UUID, Read]
    waiting: dict[str, Read] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)

    def take(self, message: Read) -> None:
        """Go on by one message."""
        if message.row["role"] == "assistant":
            self._unanswered()
            if message.asks:
                self.waiting = {call.call_id: message for call in message.message.tool_calls}
        for result in message.message.tool_results:
            if result.call_id in self.waiting:
                del self.waiting[result.call_id]
                self.answered.add(result.call_id)
            else:
                self._unasked(message, result)

    def end(self) -> None:
        """What waits at the end may do so if the last turn can still be carried on."""
        last = self.chat.turns[-1] if self.chat.turns else None
        may_wait = last is not None and last["status"] != "completed"
        self.waiting = {
            call_id: message
            for call_id, message in self.waiting.items()
            if not (may_wait and last is not None and message.row["turn_id"] == last["id"])
        }
        self._unanswered()

    def _unanswered(self) -> None:
        for call_id, message in self.waiting.items():
            superseded = self._superseded_result(call_id)
            rule = "superseded" if superseded else "call-unanswered"
            why = "has a result that is superseded" if superseded else "has no result"
            self.book.damage(
                self.tables.messages.name, message.id, rule, f"the call {call_id:.80} of the message {why}"
            )
        self.waiting = {}

    def _unasked(self, message: Read, result: ToolResultPart) -> None:
        rule, told = "result-unasked", f"the message answers {result.call_id:.80}, which is not waiting for a result"
        if result.call_id in self.answered:
            rule, told = "result-twice", f"the message answers {result.call_id:.80} once more"
        elif self._superseded_call(result.call_id):
            rule, told = "superseded", f"the message answers {result.call_id:.80}, whose message is superseded"
        self.book.damage(self.tables.messages.name, message.id, rule, told)

    def _superseded_result(self, call_id: str) -> bool:
        return any(
            not m.live and any(result.call_id == call_id for result in m.message.tool_results)
            for m in self.read.values()
        )

    def _superseded_call(self, call_id: str) -> bool:
        return any(
            not m.live and any(call.call_id == call_id for call in m.message.tool_calls) for m in self.read.values()
        )


def check_calls(book: Notebook, tables: Tables, chat: StoredChat, read: Mapping[UUID, Read]) -> None:
    """The rows of calls agree with the messages that carry their results, and with their turns.

    Args:
        book: takes down what is found.
        tables: for their names.
        chat: the chat.
        read: its messages.
    """
    table = tables.tool_calls.name
    turns = {turn["id"]: turn["status"] for turn in chat.turns}
    results = _results(read)
    present = {row["id"] for row in chat.messages}
    for call in chat.calls:
        status, linked = call["status"], call["result_message_id"]
        if status not in _STATUSES:
            book.damage(table, call["id"], "word", f"{status:.40} is no status of a call")
            continue
        # The turn of a call that was copied is in the chat that it was copied from.
        if status == "running" and turns.get(call["turn_id"], "running") != "running":
            told = f"the call is running, and its turn is {turns[call['turn_id']]:.20}"
            book.damage(table, call["id"], "call-status", told)
        if linked is None:
            if call["call_id"] in results:
                book.damage(table, call["id"], "result-unlinked", "the call has a result that its row does not name")
        elif linked not in present:
            book.damage(table, call["id"], "result-message", f"the message {linked} of the result is not in the chat")
        elif linked in read:
            _check_result(book, table, call, read[linked])


def _results(read: Mapping[UUID, Read]) -> frozenset[str]:
    return frozenset(
        result.call_id for message in read.values() if message.live for result in message.message.tool_results
    )


def _check_result(book: Notebook, table: str, call: Fields, message: Read) -> None:
    result = next((r for r in message.message.tool_results if r.call_id == call["call_id"]), None)
    if result is None:
        book.damage(table, call["id"], "result-message", f"the message {message.id} does not answer the call")
        return
    if call["status"] in _UNFINISHED:
        book.damage(table, call["id"], "call-status", f"the call is {call['status']} and has a result")
    # A call that was never run has no text of its own: what the model reads was written when the turn was left.
    if call["result"] is not None and result.content not in {call["result"], RESULT_NOT_KEPT}:
        told = f"the result differs from the message {message.id}, which is what is replayed"
        book.damage(table, call["id"], "result-differs", told)
