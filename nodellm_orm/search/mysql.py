"""MySQL and MariaDB: a column with the words of each message, kept by the database, and a full-text index on it.

The messages' own column compares bytes, so that an index on it would tell capitals from small letters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Text, bindparam, literal_column, select, text
from sqlalchemy.dialects.mysql import match

from nodellm_orm.domain.words import LONGEST_WORD
from nodellm_orm.search.indexes import PARAMETER, Capability, WordIndex
from nodellm_orm.search.letters import KNOWN, UNSURE
from nodellm_orm.store.sealed import TEXT_MARK
from nodellm_orm.store.wordtables import COLUMN, index_name

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

_STATE: Final = """
    SELECT @@innodb_ft_min_token_size AS shortest, @@innodb_ft_max_token_size AS longest
    FROM information_schema.statistics
    WHERE table_schema = coalesce(:schema, database()) AND table_name = :name AND index_name = :index_name
"""
_COLUMN: Final = """
    SELECT count(*) FROM information_schema.columns
    WHERE table_schema = coalesce(:schema, database()) AND table_name = :name AND column_name = :column_name
"""
_COMMON: Final = """
    a about an are as at be by com de en for from how i in is it la of on or that the this to was what when where
    who will with und www
"""
"""Words that InnoDB leaves out unless it is told otherwise, as we do; in case somebody else made the index again."""


def _words(column: str) -> str:
    """A message's text with nothing between words that the database takes for a letter; nothing of an encrypted one."""
    unsure = f"CASE WHEN {column} REGEXP '[^{KNOWN}]' THEN ' {UNSURE}' ELSE '' END"
    sealed = f"LEFT({column}, 2) = '{TEXT_MARK}'"
    return f"CASE WHEN {sealed} THEN '' ELSE CONCAT(REPLACE({column}, '_', ' '), {unsure}) END"


class MySQLIndex(WordIndex):
    """See `WordIndex`."""

    def present(self, connection: Connection) -> Capability | None:
        """Looks into the catalogue, and for the lengths of words that the server indexes."""
        state = connection.execute(text(_STATE), self._names()).first()
        if state is None:
            return None
        # With words as long as ours in it, the beginnings of all of them are.
        longest = None if state.longest >= LONGEST_WORD else int(state.longest)
        return Capability(shortest=int(state.shortest), longest=longest, common=frozenset(_COMMON.split()))

    def asked(self, words: list[tuple[str, bool]]) -> str:
        """All of them, or whatever has to be read in any case."""
        wanted = " ".join(f"+{word}{'*' if begins else ''}" for word, begins in words)
        return f"({wanted}) {UNSURE}"

    def hits(self) -> Select[Any]:
        """By the full-text index."""
        messages = self.tables.messages
        column: Any = literal_column(COLUMN, Text())
        found = match(column, against=bindparam(PARAMETER, type_=Text())).in_boolean_mode()
        return select(messages.c.chat_id, messages.c.position).where(found)

    def create(self, connection: Connection) -> None:
        """The table is copied for the column, and cannot be written to for that time."""
        if self.present(connection) is not None:
            return
        self.drop(connection)
        # No word is too common to be looked for; it is kept with the index.
        before = connection.scalar(text("SELECT @@SESSION.innodb_ft_enable_stopword"))
        connection.exec_driver_sql("SET SESSION innodb_ft_enable_stopword = OFF")
        try:
            kind = "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci"
            made = f"{COLUMN} {kind} GENERATED ALWAYS AS ({_words('content')}) STORED"
            connection.exec_driver_sql(f"ALTER TABLE {self._table(connection)} ADD COLUMN {made}")
            name = connection.dialect.identifier_preparer.quote(index_name(self.naming))
            connection.exec_driver_sql(f"ALTER TABLE {self._table(connection)} ADD FULLTEXT INDEX {name} ({COLUMN})")
        finally:
            connection.exec_driver_sql(f"SET SESSION innodb_ft_enable_stopword = {int(before)}")

    def drop(self, connection: Connection) -> bool:
        """With the column."""
        names = self._names()
        has_index = connection.execute(text(_STATE), names).first() is not None
        has_column = bool(connection.scalar(text(_COLUMN), names))
        name = connection.dialect.identifier_preparer.quote(index_name(self.naming))
        if has_index:
            connection.exec_driver_sql(f"ALTER TABLE {self._table(connection)} DROP INDEX {name}")
        if has_column:
            connection.exec_driver_sql(f"ALTER TABLE {self._table(connection)} DROP COLUMN {COLUMN}")
        return has_index or has_column

    def _table(self, connection: Connection) -> str:
        return connection.dialect.identifier_preparer.format_table(self.tables.messages)

    def _names(self) -> dict[str, str | None]:
        return {
            "schema": self.naming.schema,
            "name": self.tables.messages.name,
            "index_name": index_name(self.naming),
            "column_name": COLUMN,
        }
