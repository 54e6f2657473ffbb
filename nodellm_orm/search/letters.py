"""Which words an index of a database is sure to find, so that nothing is missed that reading would find.

Databases cut text into words each in its own way. So what they are given is made alike first, or it is noted with a
message that a database may see other words in it. What an index gives is read by our own rule: it may find too much,
never too little. A word with other letters than those below is looked for by the words beside it, or by reading.
"""

from __future__ import annotations

from functools import cache
from typing import Final
from unicodedata import category

from nodellm_orm.domain.words import folded

_BLOCKS: Final = (range(0xC0, 0x250), range(0x400, 0x514), range(0x1E00, 0x1E9C), range(0x1EA0, 0x1EFA))
"""Latin with its accents, and Cyrillic, as far as every database knows their capitals."""
ASCII_LETTERS: Final = "0-9A-Za-z"
KNOWN: Final = (
    "\t-\u02ff\u0384-\u038a\u038e-\u03a1\u03a3-\u0482\u048a-\u0513\u1e00-\u1eff\u2000-\u2063\u20a0-\u20b9\u2100-\u2189"
    "\u2190-\u23f3\u2460-\u26ff\u2701-\u27bf\u3000-\u3003\u3008-\u3020\uff01-\uff5e"
)
"""Signs, as ranges, that SQLite and MySQL take for letters only if they are. Others they may take for a part of the
word beside them: new emoji, Chinese characters, accents of their own."""
UNSURE: Final = "nodellm0unsure"
"""A word that is put into the index with a message that may hold more than its index says: it is always read."""


@cache
def letters() -> frozenset[str]:
    """Letters beyond ASCII that every database takes for letters, each with its capital or small one."""
    found = {chr(code) for block in _BLOCKS for code in block if category(chr(code)) in {"Lu", "Ll"}}
    return frozenset(letter for letter in found if _forms(letter) <= found)


def _forms(letter: str) -> set[str]:
    upper = letter.upper()
    return {letter, folded(letter)} | ({upper} if len(upper) == 1 and folded(upper) == letter else set())


@cache
def letter_ranges() -> tuple[tuple[str, str], ...]:
    """The same as ranges, first and last."""
    ranges: list[tuple[str, str]] = []
    for letter in sorted(letters()):
        if ranges and ord(ranges[-1][1]) == ord(letter) - 1:
            ranges[-1] = ranges[-1][0], letter
        else:
            ranges.append((letter, letter))
    return tuple(ranges)


def is_plain(word: str, *, beyond_ascii: bool = True) -> bool:
    """Whether a word has only letters and digits that an index is sure to know.

    Args:
        word: folded.
        beyond_ascii: whether the database knows capitals beyond ASCII.
    """
    if word.isascii():
        return word.isalnum()
    return beyond_ascii and all(c in letters() or (c.isascii() and c.isalnum()) for c in word)
