"""All rules of one chat, applied to its rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodellm_orm.upkeep.findings import Notebook
from nodellm_orm.upkeep.rules.calls import check_calls, check_pairs
from nodellm_orm.upkeep.rules.heads import check_active, check_head
from nodellm_orm.upkeep.rules.messages import check_positions, read_messages
from nodellm_orm.upkeep.rules.projections import check_projections
from nodellm_orm.upkeep.rules.turns import check_turn_order, check_turns

if TYPE_CHECKING:
    from nodellm_orm.store.define import Tables
    from nodellm_orm.upkeep.stored import StoredChat


def check_chat(tables: Tables, chat: StoredChat) -> Notebook:
    """What does not hold in a chat.

    Where a value is not even what its column holds, that is all that is told: the other rules need it.

    Args:
        tables: for their names.
        chat: the chat.
    """
    book = Notebook(chat_id=chat.id)
    table = tables.chats.name
    if chat.deleting:
        book.note(table, chat.id, "deleting", "the chat's deletion has begun and not ended; the next purge finishes it")
        return book
    for trouble in chat.troubles:
        book.damage(trouble.table, trouble.id, trouble.rule, trouble.message)
    if book.findings:
        return book
    check_active(book, tables, chat)
    check_turn_order(book, tables, chat)
    check_positions(book, tables, chat)
    if chat.locked:
        keys = ", ".join(sorted(chat.locked))
        told = f"the content is encrypted with {keys:.200}, and was not checked; pass encryption= with that key"
        book.note(table, chat.id, "encrypted", told)
        return book
    check_head(book, tables, chat)
    check_turns(book, tables, chat)
    read = read_messages(book, tables, chat)
    check_projections(book, tables, chat, read)
    check_pairs(book, tables, chat, read)
    check_calls(book, tables, chat, read)
    return book
