"""What must hold of turns: their order, their statuses, and what they were asked with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.ports.statuses import RELEASED, TurnStatus
from nodellm_orm.upkeep.digests import settings_of, texts_named

if TYPE_CHECKING:
    from nodellm_orm.store.define import Tables
    from nodellm_orm.upkeep.findings import Notebook
    from nodellm_orm.upkeep.stored import Fields, StoredChat

_STATUSES: Final = frozenset(get_args(TurnStatus))
_REASONS: Final = frozenset(reason.value for reason in FinishReason) | {RELEASED}


def check_turns(book: Notebook, tables: Tables, chat: StoredChat) -> None:
    """Turns follow each other without gaps, and each is whole in itself.

    Args:
        book: takes down what is found.
        tables: for their names.
        chat: the chat.
    """
    for place, turn in enumerate(chat.turns):
        if turn["position"] != place:
            book.damage(
                tables.turns.name,
                turn["id"],
                "turn-position",
                f"the turn's position is {turn['position']}, not {place}",
            )
            break
    for turn in chat.turns:
        _check_status(book, tables.turns.name, turn)
        _check_settings(book, tables.turns.name, turn, chat.texts)


def _check_status(book: Notebook, table: str, turn: Fields) -> None:
    status, reason = turn["status"], turn["reason"]
    if status not in _STATUSES:
        book.damage(table, turn["id"], "word", f"{status:.40} is no status of a turn")
        return
    if (status == "running") != (turn["finished_at"] is None):
        ended = "has no time of its end" if turn["finished_at"] is None else "has a time of its end"
        book.damage(table, turn["id"], "turn-end", f"the turn is {status} and {ended}")
    if status == "suspended" and reason is None:
        book.damage(table, turn["id"], "turn-reason", "the turn is suspended and does not say why")
    if reason is not None and reason not in _REASONS:
        book.note(table, turn["id"], "unknown-word", f"the reason {reason:.40} is not known to this release")


def _check_settings(book: Notebook, table: str, turn: Fields, stored: frozenset[str]) -> None:
    if settings_of(turn["settings"]) is None:
        book.damage(table, turn["id"], "settings", "what the turn was asked with is not a JSON object")
        return
    for digest in sorted(texts_named(turn["settings"]) - stored):
        book.damage(
            table, turn["id"], "text-missing", f"the text {digest:.64} that the turn was asked with is not stored"
        )


def check_turn_order(book: Notebook, tables: Tables, chat: StoredChat) -> None:
    """Messages belong to turns of the chat, and those of a turn come before those of the next one.

    Args:
        book: takes down what is found.
        tables: for their names.
        chat: the chat.
    """
    positions = {turn["id"]: turn["position"] for turn in chat.turns}
    latest = -1
    for message in chat.messages:
        if message["turn_id"] is None:
            continue
        position = positions.get(message["turn_id"])
        if position is None:
            told = f"the turn {message['turn_id']} of the message is not in the chat"
            book.damage(tables.messages.name, message["id"], "turn-missing", told)
        elif position < latest:
            told = f"the message belongs to turn {position}, and comes after one of turn {latest}"
            book.damage(tables.messages.name, message["id"], "turn-order", told)
        else:
            latest = position
