"""What an index is asked: only words that it is sure to find, in the database's own language."""

from __future__ import annotations

from typing import Final

import pytest

from nodellm_orm.domain.words import WordQuery
from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.search.choosing import has_kind, index_of
from nodellm_orm.search.indexes import Capability
from nodellm_orm.search.letters import UNSURE
from nodellm_orm.store.records import RECORDS

EVERYTHING: Final = Capability()
ASCII_ONLY: Final = Capability(beyond_ascii=False)
LIKE_MYSQL: Final = Capability(shortest=3, common=frozenset({"the"}))
SHORT_WORDS: Final = Capability(longest=10)


def asked(dialect: str, typed: str, capability: Capability) -> str | None:
    """What the index of a database is asked."""
    return index_of(RECORDS, dialect).question(WordQuery.parse(typed), capability)


@pytest.mark.fault("E12")
@pytest.mark.parametrize(
    ("dialect", "typed", "expected"),
    [
        ("postgresql", "needle école*", f"('xneedle' & 'xécole':*) | '{UNSURE}'"),
        ("postgresql", "'; DROP & | ! <-> :*", f"('xdrop') | '{UNSURE}'"),
        ("sqlite", 'needle "event loop"', f'("needle" AND "event" AND "loop") OR "{UNSURE}"'),
        ("sqlite", 'AND* NEAR(x, 2) -"y"', f'("near" AND "and" * AND "2" AND "x") OR "{UNSURE}"'),
        ("mysql", "needle loop* +x -y >z ~(", f"(+needle +loop* +x +z) {UNSURE}"),
        ("mariadb", "needle", f"(+needle) {UNSURE}"),
    ],
)
def test_words_are_asked_for_and_nothing_else(dialect: str, typed: str, expected: str) -> None:
    """All words that must be there, the longest first; signs that mean something to a database are not among them."""
    assert asked(dialect, typed, EVERYTHING) == expected


@pytest.mark.parametrize(
    ("typed", "capability", "words"),
    [
        ("日本 needle", EVERYTHING, ["needle"]),
        ("日本", EVERYTHING, None),
        ("οδος", EVERYTHING, None),
        ("needle -thimble", EVERYTHING, ["needle"]),
        ('"needle point*"', EVERYTHING, ["needle", "point"]),
        ("needle needle*", EVERYTHING, ["needle"]),
        ("école needle", ASCII_ONLY, ["needle"]),
        ("école", ASCII_ONLY, None),
        ("the ab needle", LIKE_MYSQL, ["needle"]),
        ("the ab*", LIKE_MYSQL, None),
        ("needle* thimbles longer10chars", SHORT_WORDS, ["thimbles"]),
        (" ".join(f"word{number}" for number in range(20)), EVERYTHING, [f"word{n}" for n in (10, 11, 12, 13)]),
    ],
)
def test_words_that_it_may_not_have_are_left_to_reading(
    typed: str, capability: Capability, words: list[str] | None
) -> None:
    """Other scripts, short and common words, beginnings of words too long for it; never an excluded one."""
    question = asked("mysql", typed, capability)
    if words is None:
        assert question is None
    else:
        assert question is not None
        found = question.partition(")")[0].removeprefix("(").split()
        assert found[: len(words)] == [f"+{word}" for word in words]
        assert len(found) <= 8


def test_a_database_without_an_index_says_so() -> None:
    """For others there is none; searches do not ask for it."""
    assert not has_kind("oracle")
    with pytest.raises(UnsupportedFeatureError, match="searches work without one"):
        index_of(RECORDS, "oracle")
