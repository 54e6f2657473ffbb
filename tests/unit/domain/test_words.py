"""What a search finds: words, words in a row, beginnings, and what must not be there."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.words import LONGEST_WORD, MOST_CHARS, WordQuery, folded
from nodellm_orm.errors import ConfigurationError

FOUND: Final = [
    ("loop event", "The EVENT loop runs."),
    ('"event loop"', "The event-loop runs."),
    ("event-loop", "The event loop runs."),
    ("“event loop”", "an event\nloop"),
    ('"event loop', "an event loop"),
    ("don't", "I DON'T know"),
    ("max_tokens", "set max_tokens=3"),
    ("tokens", "set max_tokens=3"),
    ("example.com", "see https://www.example.com/a"),
    ("C++", "in c++ it is"),
    ("deploy*", "Deployment"),
    ("loop -thread", "an event loop"),
    ('loop -"event thread"', "an event loop, a thread"),
    ("école", "L'ÉCOLE"),
    ("дом", "ДОМ"),
    ("οδος", "ΟΔΟΣ"),
    ("日本", "これは日本語です"),
    ("python", "Pythonで書く"),
    ("서울", "서울에서"),
    ("हिन्दी", "यह हिन्दी है"),
    ("cafe\u0301", "a cafe\u0301!"),
    ("OR AND NOT", "not, and, or"),
    ("a:* & ! ( b", "a b"),
    ("x", "\ud800x\x00y"),
    ("'; DROP TABLE--", "drop table"),
]
NOT_FOUND: Final = [
    ("event", "events"),
    ("loop", "looped"),
    ('"event loop"', "the loop of an event"),
    ('"event loop"', "event and loop"),
    ("deploy*", "redeploy"),
    ('"deploy*"', "deployment"),
    ("loop -event", "an event loop"),
    ("ecole", "école"),
    ("strasse", "Straße"),
    ("日本", "日の本"),
    ("हिन्दी", "हनद"),
    ("a%", "abc"),
    ("a_c", "abc"),
    ("b", "\ufdd00062"),
]


@pytest.mark.parametrize(("typed", "text"), FOUND)
def test_is_found(typed: str, text: str) -> None:
    """A text that has every term and none that is excluded is found, whatever signs were typed beside them."""
    query = WordQuery.parse(typed)
    excerpt = query.excerpt(text)
    assert query.matches(text)
    assert excerpt is not None
    assert excerpt.text == text
    assert excerpt.hits


@pytest.mark.parametrize(("typed", "text"), NOT_FOUND)
def test_is_not_found(typed: str, text: str) -> None:
    """Parts of words, words out of order, other accents and texts with excluded words are not found."""
    assert not WordQuery.parse(typed).matches(text)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "no word to search for"),
        ("  \n", "no word to search for"),
        ('"', "no word to search for"),
        ("*** -- ++", "no word to search for"),
        ("-loop", "only words to leave out"),
        ('-"event loop" -x', "only words to leave out"),
        ("x" * (LONGEST_WORD + 1), "at most 80 characters, not 81"),
        ("x " * MOST_CHARS, "at most 1000 characters"),
        (" ".join(f"w{number}" for number in range(51)), "at most 50 words, this one has 51"),
        ("日" * 51, "at most 50 words"),
        (None, "a text, not NoneType"),
        (b"loop", "a text, not bytes"),
    ],
)
def test_nothing_to_look_for_is_an_error(typed: object, why: str) -> None:
    """Only what names no word that is to be there, or too much, is refused, and the error says what to give."""
    with pytest.raises(ConfigurationError, match=why):
        WordQuery.parse(typed)


LETTERS: Final = st.sampled_from(
    ["a", "A", "b", "é", "É", "ß", "7", "日", "で", " ", "-", "_", "'", ".", "\x00", "\ud800"]
)


def plain_words(text: str) -> list[str]:
    """The words of a text, in the most obvious way."""
    words = [""]
    for character in text:
        small = character.lower()
        if character in "日で":
            words += [character, ""]
        elif character.isalnum():
            words[-1] += small
        else:
            words.append("")
    return [word for word in words if word]


@given(st.text(LETTERS, max_size=30), st.text(LETTERS, min_size=1, max_size=6).filter(plain_words))
def test_a_phrase_is_found_where_its_words_are_in_a_row(text: str, phrase: str) -> None:
    """The same as cutting both into words, and looking for the one row in the other."""
    wanted, there = plain_words(phrase), plain_words(text)
    expected = any(there[at : at + len(wanted)] == wanted for at in range(len(there)))
    assert WordQuery.parse(f'"{phrase}"').matches(text) is expected


@given(st.text(max_size=60), st.text(max_size=300))
def test_anything_can_be_typed(typed: str, text: str) -> None:
    """Whatever is typed is searched for, or refused in our own words; an excerpt is part of the text."""
    try:
        query = WordQuery.parse(typed)
    except ConfigurationError:
        return
    excerpt = query.excerpt(text)
    assert query.matches(text) is (excerpt is not None)
    if excerpt is not None:
        assert excerpt.text.removeprefix("…").removesuffix("…") in text
        edges = [0, *(edge for hit in excerpt.hits for edge in hit), len(excerpt.text)]
        assert all(left <= right for left, right in pairwise(edges))
        assert "".join(piece for piece, _ in excerpt.pieces()) == excerpt.text


def test_an_excerpt_is_short_and_begins_before_the_first_hit() -> None:
    """Of a long text 240 characters are shown around the first hit; a word that the cut divides is no false hit."""
    text = f"{'so ' * 500}the needle, needles and a needle {'and on ' * 500}"
    excerpt = WordQuery.parse("needle").excerpt(text)
    assert excerpt is not None
    assert len(excerpt.text) == 242
    assert [excerpt.text[begin:end] for begin, end in excerpt.hits] == ["needle", "needle"]
    assert next(excerpt.pieces())[0].startswith("…")
    cut = "needle " + "x" * 227 + " needles"
    found = WordQuery.parse("needle").excerpt(cut)
    assert found is not None
    assert found.hits == ((0, 6),)


def test_folding_keeps_every_character_at_its_place() -> None:
    """Capitals become small letters where both are a pair, and the length never changes."""
    every = "".join(map(chr, range(0x110000)))
    assert len(folded(every)) == len(every)
    assert folded("ÀÉŸŽ ДЖ ẠẸ") == "àéÿž дж ạẹ"
    assert folded("\u03a3\u03c3\u03c2") == "\u03c3" * 3  # one letter, though a word ends with another form of it
    alone = "\u0130 \u1e9e \u212a \ufb01"  # dotted I, capital sharp S, Kelvin, a ligature: no pairs
    assert folded(alone) == alone


def test_every_letter_and_digit_finds_itself() -> None:
    """There is no sign that counts as part of a word and cannot be looked for."""
    every = [character for character in map(chr, range(0x110000)) if character.isalnum()]
    for at in range(0, len(every), 2000):
        some = every[at : at + 2000]
        text = " ".join(some)
        for character in (some[0], some[len(some) // 2], some[-1]):
            assert WordQuery.parse(character).matches(text), hex(ord(character))
        assert WordQuery.parse('"' + " ".join(some[:50]) + '"').matches(text.upper() if at == 0 else text)


def test_reading_takes_time_by_length_only() -> None:
    """Long runs of marks, letters and signs are read once: none of these would end if each place were tried again."""
    assert not WordQuery.parse('"' + "\u0301" * 49 + 'x"').matches("\u0301" * 50_000)
    assert not WordQuery.parse("a*").matches("a" * 500_000)
    assert not WordQuery.parse('"a b"').matches("a" + "! " * 300_000)
