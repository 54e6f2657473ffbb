"""How far a stored turn got, and what it was asked with: what its rows say to whoever carries it on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.domain.jsontext import dumps, loads
from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.settings import Settings
from nodellm_orm.errors import ChatError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.ports.states import TurnState


def last_words(messages: Sequence[Message], state: TurnState) -> Message | None:
    """The model's message at the end of a turn, if there is one.

    Args:
        messages: of the chat, to its end.
        state: its last turn.
    """
    last = messages[-1] if messages else None
    if last is None or last.role != "assistant" or (last.position or 0) < state.first_position:
        return None
    return last


def answered(messages: Sequence[Message], state: TurnState) -> FinishReason | None:
    """How a turn ends whose rows end with a complete answer of the model; ``None``: they do not.

    Args:
        messages: of the chat, to its end.
        state: its last turn.
    """
    last = last_words(messages, state)
    if last is None or last.status != "complete" or last.tool_calls:
        return None
    return None if last.finish_reason is FinishReason.PAUSE else last.finish_reason


def refuse_answered(messages: Sequence[Message], state: TurnState) -> None:
    """Refuse to ask behind an answer that was added since the turn was left: no question is open any more.

    Args:
        messages: of the chat, to its end.
        state: its last turn.

    Raises:
        ChatError: the conversation ends with such an answer.
    """
    last = last_words(messages, state)
    if last is not None and last.status == "complete" and last.finish_reason is None:
        msg = (
            f"an assistant's message was added behind turn {state.id}, so that nothing is left to answer; ask again, "
            "or regenerate() for an answer in its place"
        )
        raise ChatError(msg)


def finish_of(reason: str | None) -> FinishReason:
    """The finish reason in a turn's row.

    Args:
        reason: as stored.
    """
    return FinishReason(reason) if reason in set(FinishReason) else FinishReason.UNKNOWN


def asked_with(state: TurnState) -> Settings | None:
    """The settings of the question that began a turn, from its row.

    Args:
        state: the turn.
    """
    stored = loads(state.settings)
    options = stored.get("options") if isinstance(stored, dict) else None
    return Settings.from_json(dumps(options)) if isinstance(options, dict) else None
