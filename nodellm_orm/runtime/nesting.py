"""Turns inside turns: a tool may ask another chat, but not its own one, and not without end."""

from __future__ import annotations

import weakref
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Final

from nodellm_orm.errors import LimitExceededError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from nodellm_orm.runtime.loop import Turn

DEPTH: Final = 16
"""Turns that may be inside each other: no team of agents is that deep, and a chat that asks for ever soon is."""

_OUTER: Final[ContextVar[tuple[weakref.ref[Turn], ...]]] = ContextVar("nodellm_orm_outer_turns", default=())


def _outer() -> Iterator[Turn]:
    """The turns that the running code is part of, and that have not ended: work that was left behind is in none."""
    for reference in _OUTER.get():
        turn = reference()
        if turn is not None and not turn.over:
            yield turn


def within(turn_id: UUID | None, *, besides: Turn | None = None) -> bool:
    """Whether the running code is part of a turn: who waits for its end there waits for himself.

    Args:
        turn_id: the turn.
        besides: the turn that asks, which is part of itself; it may be about to carry on the one it asks about.
    """
    return any(turn.id == turn_id for turn in _outer() if turn is not besides)


def inside(turn: Turn) -> Context:
    """The context that a new turn runs in.

    Args:
        turn: about to begin.

    Raises:
        LimitExceededError: too many turns are inside each other.
    """
    outer = list(_outer())
    if len(outer) >= DEPTH:
        msg = (
            f"{DEPTH} turns are inside each other: tools that ask chats whose tools ask chats go on without end; "
            "give the innermost chats no such tool"
        )
        raise LimitExceededError(msg)
    context = copy_context()
    context.run(_OUTER.set, (*map(weakref.ref, outer), weakref.ref(turn)))
    return context
