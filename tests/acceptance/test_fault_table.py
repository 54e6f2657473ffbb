"""The page of faults says what is tried, all of it, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.acceptance.fault_catalogue import ELSEWHERE, FAULTS, GROUPS
from tests.acceptance.fault_table import PAGE, collected, coverage, has_collected_everything, page

if TYPE_CHECKING:
    from collections.abc import Mapping

SENTENCE: Final = re.compile(r"[A-Z`].{30,}\.")


@pytest.fixture(scope="module")
def covered(request: pytest.FixtureRequest) -> Mapping[str, list[str]]:
    """The tests of each label, as the test runner finds them: this run, if it has found all, or one for the purpose."""
    return collected(request.session) if has_collected_everything(request.session) else coverage()


@pytest.mark.timeout(300)
def test_every_mark_names_a_fault(covered: Mapping[str, list[str]]) -> None:
    """A label that is not in the catalogue is a typing error."""
    assert sorted(covered.keys() - FAULTS.keys()) == []


def test_every_fault_is_shown_or_explained(covered: Mapping[str, list[str]]) -> None:
    """Each label has a test, or a sentence that says why there is none and what protects all the same."""
    assert [label for label in FAULTS if label not in covered and label not in ELSEWHERE] == []


def test_no_explanation_is_left_over(covered: Mapping[str, list[str]]) -> None:
    """What is explained is in the catalogue, has no test, and is explained in a sentence."""
    assert [label for label in ELSEWHERE if label not in FAULTS or label in covered] == []
    assert [label for label, said in ELSEWHERE.items() if not SENTENCE.fullmatch(said)] == []


def test_the_catalogue_fits_into_its_table() -> None:
    """Labels are in order, in groups that have a title, and no line breaks the page's tables."""
    assert list(FAULTS) == sorted(FAULTS)
    assert {label[0] for label in FAULTS} == GROUPS.keys()
    assert [label for label, texts in FAULTS.items() if any(c in text for text in texts for c in "|\n")] == []


def test_the_page_is_up_to_date(covered: Mapping[str, list[str]]) -> None:
    """Run ``python -m tests.acceptance.fault_table`` when this fails: a test was marked, moved or taken away."""
    assert PAGE.read_text("utf-8") == page(covered)
