"""How much of a conversation is sent: its last whole turns, behind a summary of what was before them.

A turn is a user's message and everything until the next one; what comes before the first of them is a turn as well.
Calls and their results lie within one turn, so that whole turns never split them. Where a history is cut depends on
what it holds up to the last user's message only: while that is being answered, the cut stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, assert_never

from nodellm_orm.domain.parts import (
    MediaPart,
    OpaquePart,
    RefusalPart,
    SummaryPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodellm_orm.domain.messages import Message
    from nodellm_orm.domain.parts import Part

BYTES_PER_TOKEN: Final = 4
"""UTF-8 bytes that are taken for one token."""
TOKENS_PER_MESSAGE: Final = 4
"""Tokens of a message beside its content."""
TOKENS_PER_FILE: Final = 1500
"""Tokens of a file, whatever it is."""

_SUMMARY: Final = (
    "The beginning of this conversation is left out here. This summary stands for it:\n\n"
    "<summary>\n{text}\n</summary>\n\nThe conversation goes on from there."
)
_SUMMARIES_KEPT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How much of a chat is sent with a question; with both limits, the tighter one holds.

    Args:
        turns: the last turns that are sent, the new question included; ``None``: any number.
        tokens: the tokens that what is sent may have up to the new question, by `estimate`; ``None``: any number.

    Raises:
        ConfigurationError: a limit is no whole number of at least 1.

    Example:
        >>> Window(turns=20, tokens=50_000)
        Window(turns=20, tokens=50000)
    """

    turns: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no limit."""
        for name in ("turns", "tokens"):
            value: Any = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                msg = f"{name} of a history window is a whole number of at least 1, not {value!r:.100}"
                raise ConfigurationError(msg)

    def within(self, other: Window) -> bool:
        """Whether it never reaches further back than another one.

        Args:
            other: the other one.
        """
        limits = ((self.turns, other.turns), (self.tokens, other.tokens))
        return all(wide is None or (narrow is not None and narrow <= wide) for narrow, wide in limits)


EVERYTHING: Final = Window()
"""No limit."""


def estimate(message: Message) -> int:
    """The tokens of a message, estimated: the same for ever, whatever model is asked.

    One for every four bytes of what is said, thought, called and answered in it, four for the message itself, and 1500
    for each file.

    Args:
        message: any.
    """
    size = sum(_size(text) for part in message.parts for text in _texts(part))
    files = sum(isinstance(part, MediaPart) for part in message.parts)
    return TOKENS_PER_MESSAGE + -(-size // BYTES_PER_TOKEN) + files * TOKENS_PER_FILE


def _size(text: str) -> int:
    """UTF-8 bytes; what goes out as an escape (NUL, a lone surrogate) has the six of that."""
    return len(text.encode("utf-8", "backslashreplace")) + 5 * text.count("\0")


def _texts(part: Part) -> tuple[str, ...]:
    match part:
        case TextPart() | ThinkingPart() | RefusalPart() | SummaryPart():
            return (part.text,)
        case ToolCallPart():
            return (part.name, part.arguments)
        case ToolResultPart():
            return (part.content,)
        case OpaquePart():
            return (part.payload,)
        case MediaPart():
            return ()
        case _:
            assert_never(part)


# ── what is sent ──────────────────────────────────────────────────────────────────────────────────────────────────────


def sent(messages: Sequence[Message], window: Window | None = None) -> tuple[Message, ...]:
    """What of a conversation is sent: the last summary as a text, and behind it the last whole turns that fit.

    The last turn is sent whole, however large it is.

    Args:
        messages: the conversation, in order; those that are sent stay the same objects.
        window: how much; everything when omitted.
    """
    summary, rest = summarised(messages)
    if summary is None:
        return tuple(rest[first_kept(rest, window or EVERYTHING) :])
    told = _told(summary)
    return (told, *rest[first_kept(rest, window or EVERYTHING, beside=estimate(told)) :])


def summarised(messages: Sequence[Message]) -> tuple[Message | None, list[Message]]:
    """The last summary, and the messages that it does not cover.

    Args:
        messages: a conversation, in order.
    """
    place = last_summary(messages)
    summary = None if place is None else messages[place]
    until = -1 if summary is None else _until(summary)
    rest = [m for m in messages if not is_summary(m) and (m.position is None or m.position > until)]
    return summary, rest


def last_summary(messages: Sequence[Message]) -> int | None:
    """The place of the last summary among messages, if there is one."""
    return next((place for place in reversed(range(len(messages))) if is_summary(messages[place])), None)


def is_summary(message: Message) -> bool:
    """Whether a message is the summary of others."""
    return any(isinstance(part, SummaryPart) for part in message.parts)


def _until(summary: Message) -> int:
    return next(part.until for part in summary.parts if isinstance(part, SummaryPart))


@lru_cache(maxsize=_SUMMARIES_KEPT)
def _told(summary: Message) -> Message:
    """The summary as every model reads it; the same object each time, so that its rendered bytes are kept."""
    text = _SUMMARY.format(text=summary.content)
    return replace(summary, role="user", parts=(TextPart(text=text),), finish_reason=None, origin=None)


# ── where it is cut ───────────────────────────────────────────────────────────────────────────────────────────────────


def turns_of(messages: Sequence[Message]) -> list[int]:
    """The places at which turns begin.

    Args:
        messages: a conversation, in order.
    """
    return [place for place, message in enumerate(messages) if place == 0 or message.role == "user"]


def first_kept(messages: Sequence[Message], window: Window, *, beside: int = 0) -> int:
    """The place of the first message that is sent.

    Args:
        messages: what might be sent, in order.
        window: how much is.
        beside: tokens of what is sent in any case.
    """
    starts = turns_of(messages)
    if not starts:
        return 0
    first = 0 if window.turns is None else starts[-min(window.turns, len(starts))]
    if window.tokens is None:
        return first
    spent, kept = beside, starts[-1]
    for start, end in zip(reversed(starts), [starts[-1] + 1, *reversed(starts[1:])], strict=True):
        # Of the last turn only its question counts: what is added while it is answered must not move the cut.
        spent += sum(estimate(message) for message in messages[start:end] if not is_summary(message))
        if spent > window.tokens:
            break
        kept = start
    return max(first, kept)


def first_loaded(messages: Sequence[Message], window: Window, needed: int | None) -> int:
    """The place of the first message that a process has to know, to go on with a chat under a window.

    Args:
        messages: of the chat, in order, from the beginning of some turn on.
        window: how much is sent.
        needed: position from which on everything is needed: where the chat's last turn begins.
    """
    first = first_kept(messages, window)
    if needed is None:
        return first
    known = [start for start in turns_of(messages) if (messages[start].position or 0) <= needed]
    return min(first, known[-1]) if known else first
