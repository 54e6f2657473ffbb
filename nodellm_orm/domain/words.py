"""What it means that a text has words in it: the one rule that every search keeps to, with an index and without one.

A text is a row of words: runs of letters and digits. In scripts that are written without spaces between words (Chinese,
Japanese, Thai …), and in Korean, whose particles are joined to words, every sign is a word of its own, so that any part
of such a text is found. Capitals and small letters are one letter where they are a pair; nothing else is the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from unicodedata import category

from nodellm_orm.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

MOST_CHARS: Final = 1000
"""Characters of a search."""
MOST_WORDS: Final = 50
"""Words of a search."""
LONGEST_WORD: Final = 80
"""Characters of a word; a longer run, such as encoded bytes, is no word, and an index of every database has room."""
_ALONE: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u303c"
    "\u3040-\u318f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\uff66-\uffdc\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
"""Signs that are words of their own: of scripts without spaces between words."""
_JOINED: Final = rf"[^\W_{_ALONE}]"
"""A letter or digit that makes a word with those beside it."""
_BETWEEN: Final = r"[\W_]"
_SIGMA, _LAST_SIGMA = "\u03c3", "\u03c2"
"""One letter, of which Greek has another form at the end of a word."""
_CHUNK: Final = re.compile(r'(-?)(?:["“”„«»]([^"“”„«»]*)["“”„«»]?|([^\s"“”„«»]+))')
_WORDS: Final = re.compile(rf"{_JOINED}+|[{_ALONE}]|[^\w\s]")


class _Folding(dict[int, int]):
    """Each character's small letter, found out when it is first met."""

    def __missing__(self, code: int) -> int:
        self[code] = folded = _folded(code)
        return folded


def _folded(code: int) -> int:
    character = chr(code)
    if character == _LAST_SIGMA:
        return ord(_SIGMA)
    lower = character.lower()
    return ord(lower) if len(lower) == 1 and lower.upper() == character else code


_FOLDING: Final = _Folding()


def folded(text: str) -> str:
    """The text with small letters in place of capitals, place for place.

    Args:
        text: any text.

    Example:
        >>> folded("ÉCOLE Straße"), folded("İ"), len(folded("İ"))
        ('école straße', 'İ', 1)
    """
    return text.lower() if text.isascii() else text.translate(_FOLDING)


@dataclass(frozen=True, slots=True)
class Term:
    """Words that must, or must not, occur one behind the other.

    Args:
        words: folded; at least one.
        prefix: whether the last word may go on.
        excluded: whether they must not occur.
    """

    words: tuple[str, ...]
    prefix: bool = False
    excluded: bool = False

    def pattern(self) -> re.Pattern[str]:
        """What finds the words in a folded text, in a time that grows with its length only."""
        parts: list[str] = []
        for number, word in enumerate(self.words):
            if number:
                # A sign that is looked for next is not skipped: there is one way to read the text, and no going back.
                parts.append(f"(?:(?!{re.escape(word)}){_BETWEEN})*+" if not word[0].isalnum() else f"{_BETWEEN}*+")
            parts.append(self._one(word, last=number == len(self.words) - 1))
        return re.compile("".join(parts))

    def _one(self, word: str, *, last: bool) -> str:
        if not re.fullmatch(f"{_JOINED}+", word):
            return re.escape(word)
        more = f"{_JOINED}{{0,{LONGEST_WORD - len(word)}}}+" if last and self.prefix else ""
        return f"(?<!{_JOINED}){re.escape(word)}{more}(?!{_JOINED})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The place in a text where words were found."""

    text: str
    """As it was written, cut on both sides."""
    hits: tuple[tuple[int, int], ...]
    """Where in ``text`` the words are, from and to, in order and apart from each other."""

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """The text in pieces, each with whether it is a hit: to be made harmless one by one, and marked."""
        at = 0
        for begin, end in self.hits:
            if at < begin:
                yield self.text[at:begin], False
            yield self.text[begin:end], True
            at = end
        if at < len(self.text):
            yield self.text[at:], False


_BEFORE: Final = 60
_EXCERPT: Final = 240
"""Characters before the first hit, and in all."""


class WordQuery:
    """What is looked for: every term must occur, and no excluded one.

    Args:
        terms: at least one that is not excluded.
    """

    def __init__(self, terms: tuple[Term, ...]) -> None:
        """Prepare the patterns."""
        self.terms = terms
        self._wanted = [(_Quick(term), term.pattern()) for term in terms if not term.excluded]
        self._unwanted = [(_Quick(term), term.pattern()) for term in terms if term.excluded]

    @classmethod
    def parse(cls, text: object) -> WordQuery:
        """Read what a person typed: words, ``"words in a row"``, ``beginning*`` and ``-without``; nothing is an error.

        Args:
            text: as typed.

        Raises:
            ConfigurationError: there is nothing in it to look for, or too much.
        """
        if not isinstance(text, str):
            msg = f"what to search for is a text, not {type(text).__name__}"
            raise ConfigurationError(msg)
        if len(text) > MOST_CHARS:
            msg = f"a search has at most {MOST_CHARS} characters, this one has {len(text)}; use its rarest words"
            raise ConfigurationError(msg)
        terms: dict[Term, None] = {}
        for minus, phrase, word in _CHUNK.findall(text):
            if words := _words(phrase or word):
                # The sign for a beginning stands right behind a letter: what "C#*" would begin with is unclear.
                begins = word.endswith("*") and word[-2:-1].isalnum()
                terms[Term(words, prefix=begins, excluded=bool(minus))] = None
        _refuse(terms)
        return cls(tuple(terms))

    def matches(self, text: str) -> bool:
        """Whether a text has what is looked for.

        Args:
            text: any text.
        """
        return self._found(text) is not None

    def excerpt(self, text: str) -> Excerpt | None:
        """The place where a text has what is looked for, ``None`` where it has not.

        Args:
            text: any text.
        """
        found = self._found(text)
        if found is None:
            return None
        small, first = found
        begin = max(0, first - _BEFORE)
        end = min(len(text), begin + _EXCERPT)
        spans = sorted(span for _, pattern in self._wanted for span in _spans(pattern, small, begin, end))
        cut = [("…" if begin else ""), text[begin:end], ("…" if end < len(text) else "")]
        move = len(cut[0]) - begin
        return Excerpt(text="".join(cut), hits=tuple((start + move, stop + move) for start, stop in _apart(spans)))

    def _found(self, text: str) -> tuple[str, int] | None:
        """The folded text, and where the first hit is."""
        rough = _rough(text)
        if not all(quick.may_be_in(rough) for quick, _ in self._wanted):
            return None
        small = folded(text)
        first = len(text)
        for _, pattern in self._wanted:
            match = pattern.search(small)
            if match is None:
                return None
            first = min(first, match.start())
        if any(quick.may_be_in(rough) and pattern.search(small) for quick, pattern in self._unwanted):
            return None
        return small, first


class _Quick:
    """What tells of most texts, without reading them word by word, that a term is not in them."""

    def __init__(self, term: Term) -> None:
        self._rough = tuple(_rough(word) for word in term.words)

    def may_be_in(self, rough: str) -> bool:
        return all(word in rough for word in self._rough)


def _rough(text: str) -> str:
    """Small letters as Python has them; whatever `folded` makes equal is equal in it, too."""
    return text.lower() if text.isascii() else text.lower().replace(_LAST_SIGMA, _SIGMA)


def _words(text: str) -> tuple[str, ...]:
    """The words of what was typed; a mark that belongs to a letter (an accent of its own) is one, too."""
    found = _WORDS.findall(folded(text))
    return tuple(word for word in found if word[0].isalnum() or category(word[0]).startswith("M"))


def _refuse(terms: Collection[Term]) -> None:
    for term in terms:
        for word in term.words:
            if len(word) > LONGEST_WORD:
                msg = f"a word has at most {LONGEST_WORD} characters, not {len(word)}; longer runs are not searched"
                raise ConfigurationError(msg)
    if (count := sum(len(term.words) for term in terms)) > MOST_WORDS:
        msg = f"a search has at most {MOST_WORDS} words, this one has {count}; use its rarest"
        raise ConfigurationError(msg)
    if not terms:
        msg = 'there is no word to search for; give words, "words in a row", or the beginning of one: word*'
        raise ConfigurationError(msg)
    if all(term.excluded for term in terms):
        msg = "only words to leave out were given (those after a minus); give one to look for, too"
        raise ConfigurationError(msg)


def _spans(pattern: re.Pattern[str], text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Hits that begin in a part of a text, cut at its end."""
    # Beyond the end, so that a word which goes on there is seen to go on.
    for match in pattern.finditer(text, begin, min(len(text), end + MOST_CHARS)):
        if match.start() >= end:
            return
        yield match.start(), min(match.end(), end)


def _apart(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same places, those that overlap joined."""
    joined: list[tuple[int, int]] = []
    for begin, end in spans:
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return joined
