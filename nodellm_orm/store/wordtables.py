"""What the optional index of words is called in a database, so that whatever looks after the tables knows it.

On PostgreSQL it is an index of the messages, on MySQL a column and an index, on SQLite two tables and three triggers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nodellm_orm.store.naming import Naming

COLUMN: Final = "search_words"
"""On MySQL, the column of the messages that the index is on."""
WORDS: Final = "words"
"""On SQLite, the full-text table, without the prefix."""
KEYS: Final = "word_keys"
"""On SQLite, the table that says which message a row of the full-text table stands for."""
TRIGGERS: Final = ("insert", "update", "delete")
"""On SQLite, when the index is kept up, by one trigger each."""
SUFFIXES: Final = (KEYS, WORDS, *(f"{WORDS}_{part}" for part in ("data", "idx", "docsize", "config", "content")))
"""On SQLite, all tables that there may be, without the prefix."""


def index_name(naming: Naming) -> str:
    """The index's name, on PostgreSQL and MySQL."""
    return f"ix_{naming.table('messages')}_{WORDS}"


def trigger_name(naming: Naming, event: str) -> str:
    """A trigger's name, on SQLite."""
    return naming.table(f"{WORDS}_{event}")
