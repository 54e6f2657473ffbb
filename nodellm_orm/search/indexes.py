"""What is asked of an index of words, on each database in its own way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from nodellm_orm.search.letters import is_plain

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

    from nodellm_orm.domain.words import WordQuery
    from nodellm_orm.store.define import Records

PARAMETER: Final = "b_words"
"""The parameter of `WordIndex.hits`."""
_MOST_WORDS: Final = 8
"""Words that the index is asked for; the longest are the rarest."""


class WordIndex(ABC):
    """The index of one set of records.

    Args:
        records: the records.
    """

    def __init__(self, records: Records) -> None:
        """Keep what it is on."""
        self.naming = records.naming
        self.tables = records.tables

    @abstractmethod
    def present(self, connection: Connection) -> Capability | None:
        """What the index can do; ``None`` when there is none that can be relied on.

        Args:
            connection: where.
        """

    @abstractmethod
    def asked(self, words: list[tuple[str, bool]]) -> str:
        """Words in the database's own language.

        Args:
            words: letters and digits only; each with whether it may go on.
        """

    @abstractmethod
    def hits(self) -> Select[Any]:
        """The keys (``chat_id``, ``position``) of the messages that may be meant; its parameter is `PARAMETER`."""

    @abstractmethod
    def create(self, connection: Connection) -> None:
        """Make the index, in place of one that is there and cannot be relied on.

        Args:
            connection: one that commits by itself.
        """

    @abstractmethod
    def drop(self, connection: Connection) -> bool:
        """Remove it with every word in it.

        Args:
            connection: one that commits by itself.

        Returns:
            Whether there was anything.
        """

    def question(self, query: WordQuery, capability: Capability) -> str | None:
        """What the index is asked, so that nothing is missed; ``None``: it cannot help.

        Args:
            query: what is looked for.
            capability: what the index can do.
        """
        words: dict[str, bool] = {}
        for term in query.terms:
            if term.excluded:
                continue
            for number, word in enumerate(term.words):
                begins = term.prefix and number == len(term.words) - 1
                if capability.finds(word, begins=begins):
                    words[word] = words.get(word, True) and begins
        longest = sorted(words.items(), key=lambda item: (-len(item[0]), item[0]))[:_MOST_WORDS]
        return self.asked(longest) if longest else None


class Capability:
    """Which words an index is sure to find.

    Args:
        beyond_ascii: whether it knows capitals beyond ASCII.
        shortest: characters of the shortest word in it.
        longest: characters of the longest one.
        common: words that it leaves out.
    """

    def __init__(
        self,
        *,
        beyond_ascii: bool = True,
        shortest: int = 1,
        longest: int | None = None,
        common: frozenset[str] = frozenset(),
    ) -> None:
        """Keep them."""
        self._beyond_ascii = beyond_ascii
        self._shortest = shortest
        self._longest = longest
        self._common = common

    def finds(self, word: str, *, begins: bool) -> bool:
        """Whether it is sure to find a word.

        Args:
            word: folded.
            begins: whether the word may go on.
        """
        if not is_plain(word, beyond_ascii=self._beyond_ascii) or len(word) < self._shortest or word in self._common:
            return False
        return self._longest is None or (len(word) <= self._longest and not begins)
