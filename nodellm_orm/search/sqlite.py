"""SQLite: a full-text table beside the messages, kept up by triggers.

It holds words only, no second copy of the texts. Its rows are numbered by a table of our own, because SQLite gives the
rows of the messages other numbers whenever it tidies up.
"""
# ruff: noqa: S608 — SQLite takes no parameters in what makes tables; all names are ours, with a checked prefix

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BigInteger, Text, bindparam, column, literal_column, select, table, text

from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.search.indexes import PARAMETER, Capability, WordIndex
from nodellm_orm.search.letters import KNOWN, UNSURE
from nodellm_orm.store.types import Count, Id
from nodellm_orm.store.wordtables import KEYS, TRIGGERS, WORDS, trigger_name

if TYPE_CHECKING:
    from sqlalchemy import BindParameter, Connection, Select

_TOKENIZER: Final = "unicode61 remove_diacritics 0 categories 'Lu Ll Lt Nd'"
_KNOWN: Final = f"{KNOWN}\u3041-\u3096\u30a1-\u30fa"
"""A message that has other signs is always read."""
_SECURE_SINCE: Final = (3, 42, 0)


class SqliteIndex(WordIndex):
    """See `WordIndex`."""

    def present(self, connection: Connection) -> Capability | None:
        """Looks into the schema; without its triggers, which go with a table that is made anew, it is out of date."""
        return Capability() if self._parts(connection) == self._names() else None

    def asked(self, words: list[tuple[str, bool]]) -> str:
        """All of them, or whatever has to be read in any case."""
        wanted = " AND ".join(f'"{word}"{" *" if begins else ""}' for word, begins in words)
        return f'({wanted}) OR "{UNSURE}"'

    def hits(self) -> Select[Any]:
        """By the full-text table."""
        words = table(self.naming.table(WORDS), column("rowid", BigInteger()), schema=self.naming.schema)
        keys = table(
            self.naming.table(KEYS),
            column("id", BigInteger()),
            column("chat_id", Id()),
            column("position", Count()),
            schema=self.naming.schema,
        )
        found = literal_column(self.naming.table(WORDS)).op("MATCH", is_comparison=True)(
            bindparam(PARAMETER, type_=Text())
        )
        return (
            select(keys.c.chat_id, keys.c.position)
            .select_from(words)
            .join(keys, keys.c.id == words.c.rowid)
            .where(found)
        )

    def create(self, connection: Connection) -> None:
        """In one transaction, which others who write wait for; one that is there is tidied up.

        Raises:
            UnsupportedFeatureError: this SQLite has no full-text search, or the tables are in an attached database.
        """
        if self.naming.schema is not None:
            msg = "an index of words cannot be made in an attached SQLite database; searches work without one"
            raise UnsupportedFeatureError(msg)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            if self.present(connection) is not None:
                connection.exec_driver_sql(f"INSERT INTO {self._words} ({self._words}) VALUES ('optimize')")
            else:
                self._drop(connection)
                self._make(connection)
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")

    def drop(self, connection: Connection) -> bool:
        """With its triggers."""
        there = bool(self._parts(connection))
        self._drop(connection)
        return there

    def _make(self, connection: Connection) -> None:
        run = connection.exec_driver_sql
        words, keys, messages = self._words, self._keys, self.tables.messages.name
        if not connection.scalar(text("SELECT sqlite_compileoption_used('ENABLE_FTS5')")):
            msg = "this SQLite was built without full-text search (FTS5); searches work without an index"
            raise UnsupportedFeatureError(msg)
        run(
            f"CREATE TABLE {keys} (id INTEGER PRIMARY KEY, chat_id CHAR(32) NOT NULL, position BIGINT NOT NULL, "
            "UNIQUE (chat_id, position))"
        )
        run(f"CREATE VIRTUAL TABLE {words} USING fts5(content, content='', tokenize=\"{_TOKENIZER}\")")
        if sqlite3.sqlite_version_info >= _SECURE_SINCE:
            # What is deleted leaves the index at once, not when its parts are next joined.
            run(f"INSERT INTO {words} ({words}, rank) VALUES ('secure-delete', 1)")
        run(f"INSERT INTO {keys} (chat_id, position) SELECT chat_id, position FROM {messages}")
        place = "m.chat_id = k.chat_id AND m.position = k.position"
        run(
            f"INSERT INTO {words} (rowid, content) SELECT k.id, {_text('m.content')} FROM {keys} k "
            f"JOIN {messages} m ON {place}"
        )
        row = f"(SELECT id FROM {keys} WHERE chat_id = {{0}}.chat_id AND position = {{0}}.position)"
        remove = (
            f"INSERT INTO {words} ({words}, rowid, content) "
            f"VALUES ('delete', {row.format('old')}, {_text('old.content')});"
        )
        forget = f"DELETE FROM {keys} WHERE chat_id = old.chat_id AND position = old.position;"
        number = f"INSERT INTO {keys} (chat_id, position) VALUES (new.chat_id, new.position);"
        add = f"INSERT INTO {words} (rowid, content) VALUES ({row.format('new')}, {_text('new.content')});"
        when = {
            "insert": ("INSERT", number + add),
            "update": ("UPDATE OF chat_id, position, content", remove + forget + number + add),
            "delete": ("DELETE", remove + forget),
        }
        for event in TRIGGERS:
            what, steps = when[event]
            name = trigger_name(self.naming, event)
            run(f"CREATE TRIGGER {name} AFTER {what} ON {messages} BEGIN {steps} END")

    def _drop(self, connection: Connection) -> None:
        for event in TRIGGERS:
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger_name(self.naming, event)}")
        for name in (self._words, self._keys):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {name}")

    @property
    def _words(self) -> str:
        return self.naming.table(WORDS)

    @property
    def _keys(self) -> str:
        return self.naming.table(KEYS)

    def _names(self) -> set[str]:
        return {self._words, self._keys, *(trigger_name(self.naming, event) for event in TRIGGERS)}

    def _parts(self, connection: Connection) -> set[str]:
        names: BindParameter[str] = bindparam("names", expanding=True)
        schema = text("SELECT name FROM sqlite_master WHERE name IN :names").bindparams(names)
        return set(connection.scalars(schema, {"names": sorted(self._names())}))


def _text(content: str) -> str:
    """The text of a message, as it is indexed: nothing of an encrypted one."""
    unsure = f"CASE WHEN {content} GLOB '*[^{_KNOWN}]*' THEN ' {UNSURE}' ELSE '' END"
    return f"CASE WHEN substr({content}, 1, 2) = char(64976) || 's' THEN '' ELSE {content} || {unsure} END"
