"""PostgreSQL: a GIN index on the words of the messages, built while they are in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Text, bindparam, cast, func, literal_column, select, text
from sqlalchemy.dialects.postgresql import TSQUERY

from nodellm_orm.domain.words import folded
from nodellm_orm.search.indexes import PARAMETER, Capability, WordIndex
from nodellm_orm.search.letters import ASCII_LETTERS, UNSURE, letter_ranges, letters
from nodellm_orm.store.wordtables import index_name

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row, Select

_INDEXED: Final = 100_000
"""Characters of a message that are indexed: PostgreSQL refuses to store rows with more than a megabyte of words."""
_LETTER: Final = "x"
_STATE: Final = """
    SELECT i.indisvalid AND i.indisready AS usable, lower(:capitals) = :small AS beyond_ascii,
        CAST(CAST(c.oid AS regclass) AS text) AS name
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = to_regclass(:table) AND c.relname = :name
"""
_PARTITIONED: Final = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass(:table)"


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04X}"


def _words(column: str) -> str:
    """The words of a message's text, as the index has them; nothing of an encrypted one."""
    others = ASCII_LETTERS + "".join(f"{_escaped(a)}-{_escaped(b)}" for a, b in letter_ranges())
    plain = f"regexp_replace(left({column}, {_INDEXED}), '\\uFDD0[0-9a-f]{{4}}', ' ', 'g')"
    # Each begins with a letter of ours: "1e5e" would be taken for a number and a word.
    words = f"'{_LETTER}' || regexp_replace({plain}, '[^{others}]+', ' {_LETTER}', 'g')"
    unsure = f"CASE WHEN length({column}) > {_INDEXED} THEN ' {UNSURE}' ELSE '' END"
    sealed = f"left({column}, 2) = chr(64976) || 's'"
    return f"to_tsvector('simple'::regconfig, CASE WHEN {sealed} THEN '' ELSE {words} || {unsure} END)"


class PostgresIndex(WordIndex):
    """See `WordIndex`."""

    def present(self, connection: Connection) -> Capability | None:
        """Looks into the catalogue; an index whose making was broken off is none."""
        state = self._state(connection)
        return Capability(beyond_ascii=state.beyond_ascii) if state is not None and state.usable else None

    def asked(self, words: list[tuple[str, bool]]) -> str:
        """All of them, or whatever has to be read in any case."""
        wanted = " & ".join(f"'{_LETTER}{word}'{':*' if begins else ''}" for word, begins in words)
        return f"({wanted}) | '{UNSURE}'"

    def hits(self) -> Select[Any]:
        """The very expression that is indexed."""
        messages = self.tables.messages
        # Cast, not parsed: no word is taken to pieces again.
        question = cast(func.lower(bindparam(PARAMETER, type_=Text())), TSQUERY())
        matches = literal_column(_words("content")).op("@@", is_comparison=True)(question)
        return select(messages.c.chat_id, messages.c.position).where(matches)

    def create(self, connection: Connection) -> None:
        """Without a lock on the table; a partitioned one cannot be indexed so."""
        if self.present(connection) is not None:
            return
        self.drop(connection)
        name = connection.dialect.identifier_preparer.quote(index_name(self.naming))
        index = f"{self._way(connection)} {name} ON {self._table(connection)} USING gin ({_words('content')})"
        connection.exec_driver_sql(f"CREATE INDEX {index}")

    def drop(self, connection: Connection) -> bool:
        """Also one whose making was broken off."""
        state = self._state(connection)
        if state is None:
            return False
        connection.exec_driver_sql(f"DROP INDEX {self._way(connection)} IF EXISTS {state.name}")
        return True

    def _state(self, connection: Connection) -> Row[Any] | None:
        # Whether this database has small letters for all capitals depends on its locale.
        capitals = "".join(sorted(letter for letter in letters() if folded(letter) != letter))
        names = {"table": self._table(connection), "name": index_name(self.naming)}
        state = connection.execute(text(_STATE), {"capitals": capitals, "small": folded(capitals), **names})
        found: Row[Any] | None = state.first()
        return found

    def _way(self, connection: Connection) -> str:
        partitioned = connection.scalar(text(_PARTITIONED), {"table": self._table(connection)})
        return "" if partitioned else "CONCURRENTLY"

    def _table(self, connection: Connection) -> str:
        return connection.dialect.identifier_preparer.format_table(self.tables.messages)
