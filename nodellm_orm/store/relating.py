"""The relationships between records: for reading only, loaded only when asked for, nothing cascades."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Table, and_, inspect
from sqlalchemy.orm import foreign, relationship

from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Relationship

    from nodellm_orm.store.define import Records


def table_of(record: type) -> Table:
    """The table that a record is mapped to.

    Args:
        record: the mapped class.

    Raises:
        TypeError: it is mapped to something else.
    """
    table: object = inspect(record, raiseerr=True).local_table
    if not isinstance(table, Table):
        msg = f"{record.__name__} is not mapped to a table"
        raise TypeError(msg)
    return table


def relate(records: Records) -> None:
    """Add the relationships.

    Args:
        records: the classes, mapped.
    """
    t = records.tables
    _one(records.turn, "chat", records.chat, t.chats.c.id == foreign(t.turns.c.chat_id))
    _one(records.message, "chat", records.chat, t.chats.c.id == foreign(t.messages.c.chat_id))
    _one(records.tool_call, "message", records.message, _within_chat(t.messages, t.tool_calls, "message_id"))
    _many(records.chat, "turns", records.turn, t.chats.c.id == foreign(t.turns.c.chat_id), "position")
    _many(records.chat, "messages", records.message, t.chats.c.id == foreign(t.messages.c.chat_id), "position")
    of_turn: tuple[tuple[str, type, str], ...] = (
        ("messages", records.message, "position"),
        ("tool_calls", records.tool_call, "id"),
        ("requests", records.request, "id"),
    )
    for name, record, order in of_turn:
        _many(records.turn, name, record, _within_chat(t.turns, table_of(record), "turn_id"), order)
    of_message: tuple[tuple[str, type], ...] = (
        ("tool_calls", records.tool_call),
        ("thinking", records.thinking),
        ("attachments", records.attachment),
    )
    for name, record in of_message:
        _many(records.message, name, record, _within_chat(t.messages, table_of(record), "message_id"), "position")


def _many(owner: type, name: str, target: type, join: ColumnElement[bool], order: str) -> None:
    rows = relationship(
        target, primaryjoin=join, order_by=table_of(target).c[order], viewonly=True, lazy="raise", uselist=True
    )
    _add(owner, name, rows)


def _one(owner: type, name: str, target: type, join: ColumnElement[bool]) -> None:
    row = relationship(target, primaryjoin=join, viewonly=True, lazy="raise", uselist=False)
    _add(owner, name, row)


def _add(owner: type, name: str, related: Relationship[object]) -> None:
    if hasattr(owner, name):
        msg = f"a mixin or the base defines {name}, which is a relationship of {owner.__name__}; give it another name"
        raise ConfigurationError(msg)
    inspect(owner, raiseerr=True).add_property(name, related)


def _within_chat(parent: Table, child: Table, reference: str) -> ColumnElement[bool]:
    return and_(parent.c.chat_id == foreign(child.c.chat_id), parent.c.id == foreign(child.c[reference]))
