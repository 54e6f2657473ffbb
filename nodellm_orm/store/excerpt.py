"""Where a part of a chat begins that is loaded under a window: found in the database, whatever lies before it.

The estimate that counts (`domain.windows.estimate`) is made of the parts, which the database cannot read; what it
weighs messages by is never more than that, so that nothing is missed. Whoever loads leaves out what is too much.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, case, func, literal, or_, select

from nodellm_orm.domain.messages import FinishReason
from nodellm_orm.domain.windows import TOKENS_PER_MESSAGE
from nodellm_orm.store.guard import CACHED

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import ColumnElement, Connection, RowMapping, ScalarSelect, Select, Table

    from nodellm_orm.domain.windows import Window
    from nodellm_orm.store.define import Tables

_WEIGHTS_PER_TOKEN: Final = 8
"""Half of what four bytes a token make: an escaped or encrypted text is longer than it was, and less than twice as long
but for `_ENVELOPE`."""
_ENVELOPE: Final = 256
"""Characters that encryption may add to a text, however short it is."""


def first_position(
    connection: Connection, tables: Tables, until: dict[str, Any], window: Window, needed: int | None
) -> int:
    """The position from which on messages are read: where a turn begins, and never later than the window needs.

    Args:
        connection: where.
        tables: the records' tables.
        until: parameters ``b_chat`` and ``b_until``: the chat, and the position behind its last message.
        window: how much is sent.
        needed: position from which on everything is needed in any case.
    """
    statement = _beginnings(
        tables.messages,
        turns=window.turns is not None,
        tokens=window.tokens is not None,
        needed=needed is not None,
        encrypted=tables.sealer.encrypts,
    )
    parameters = dict(until)
    if window.turns is not None:
        parameters["b_turns_before"] = window.turns - 1
    if window.tokens is not None:
        parameters |= {
            "b_weight": window.tokens * _WEIGHTS_PER_TOKEN,
            "b_most": window.tokens // TOKENS_PER_MESSAGE + 1,
        }
    if needed is not None:
        parameters["b_needed"] = needed
    found = connection.execute(statement, parameters).one()
    first = max(found.by_turns or 0, (found.last_question if found.by_tokens is None else found.by_tokens) or 0)
    return first if needed is None else min(first, found.before_needed or 0)


def summary_row(
    connection: Connection, columns: list[ColumnElement[Any]], chat_id: UUID, before: int
) -> RowMapping | None:
    """The row of the last summary before a position; looked for only where there has been one.

    Args:
        connection: where.
        columns: those of the table of messages that are read.
        chat_id: the chat.
        before: the position.
    """
    statement = _summary(tuple(columns))
    return connection.execute(statement, {"b_chat": chat_id, "b_before": before}).mappings().first()


# ── statements ────────────────────────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=CACHED)
def _beginnings(messages: Table, *, turns: bool, tokens: bool, needed: bool, encrypted: bool) -> Select[Any]:
    """Positions by each of the limits, in one row."""
    question = and_(_live(messages), messages.c.role == "user")
    last = select(func.max(messages.c.position)).where(question).scalar_subquery()
    nothing = literal(None, messages.c.position.type)
    by_turns = (
        select(messages.c.position)
        .where(question)
        .order_by(messages.c.position.desc())
        .limit(1)
        .offset(bindparam("b_turns_before"))
        .scalar_subquery()
    )
    before = select(func.max(messages.c.position)).where(question, messages.c.position <= bindparam("b_needed"))
    return select(
        (by_turns if turns else nothing).label("by_turns"),
        (_by_tokens(messages, last, encrypted=encrypted) if tokens else literal(0)).label("by_tokens"),
        last.label("last_question"),
        (before.scalar_subquery() if needed else nothing).label("before_needed"),
    )


def _by_tokens(messages: Table, last: ScalarSelect[Any], *, encrypted: bool) -> ScalarSelect[Any]:
    """Where the first turn begins that the database believes to fit; of the last turn only the question counts."""
    text = messages.c.content
    length: ColumnElement[int] = func.length(text)
    if encrypted:
        length = case((length > _ENVELOPE, length - _ENVELOPE), else_=0)
    weight = case(
        (messages.c.finish_reason == FinishReason.SUMMARY.value, 0),
        else_=length + _WEIGHTS_PER_TOKEN * TOKENS_PER_MESSAGE,
    )
    recent = (
        select(messages.c.position, messages.c.role, weight.label("weight"))
        .where(_live(messages), messages.c.position <= last)
        .order_by(messages.c.position.desc())
        # No message counts for less than its own tokens: further back none can be needed.
        .limit(bindparam("b_most"))
        .subquery("recent")
    )
    total = func.sum(recent.c.weight).over(order_by=recent.c.position.desc())
    weighed = select(recent.c.position, recent.c.role, total.label("total")).subquery("weighed")
    begins = or_(weighed.c.role == "user", weighed.c.position == 0)
    return (
        select(func.min(weighed.c.position)).where(weighed.c.total <= bindparam("b_weight"), begins).scalar_subquery()
    )


def _live(messages: Table) -> ColumnElement[bool]:
    return and_(
        messages.c.chat_id == bindparam("b_chat"),
        messages.c.position < bindparam("b_until"),
        messages.c.superseded_at.is_(None),
    )


@lru_cache(maxsize=CACHED)
def _summary(columns: tuple[ColumnElement[Any], ...]) -> Select[Any]:
    messages = columns[0].table
    return (
        select(*columns)
        .where(
            messages.c.chat_id == bindparam("b_chat"),
            messages.c.position < bindparam("b_before"),
            messages.c.finish_reason == FinishReason.SUMMARY.value,
            messages.c.superseded_at.is_(None),
        )
        .order_by(messages.c.position.desc())
        .limit(1)
    )
