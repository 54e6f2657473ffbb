"""The line of revisions."""

from __future__ import annotations

import pytest

from nodellm_orm.errors import ConfigurationError
from nodellm_orm.store import revisions
from nodellm_orm.store.naming import Naming, usable
from nodellm_orm.store.records import RECORDS


def test_there_is_one_head() -> None:
    """Two branches merged without a thought would show here."""
    assert len(revisions.scripts().get_heads()) == 1


def test_revisions_form_one_line_from_the_first() -> None:
    """Each revision follows the one before it, and all are reached from the base."""
    below = [revisions.scripts().get_revision(name).down_revision for name in revisions.known()]

    assert below == [None, *revisions.known()[:-1]]
    assert revisions.known() == tuple(sorted(revisions.known()))


def test_every_revision_goes_both_ways_and_says_what_it_is() -> None:
    """A script without a way back, or without a word about itself, is not finished."""
    for script in revisions.scripts().walk_revisions():
        assert callable(script.module.upgrade)
        assert callable(script.module.downgrade)
        assert script.doc


@pytest.mark.parametrize("prefix", ["", "1_", "with space_", "quo'te_", "a" * 25, "é_"])
def test_a_prefix_that_cannot_be_used_is_refused(prefix: str) -> None:
    """What would need quoting, or make names too long for PostgreSQL, or share Alembic's own table, is refused."""
    with pytest.raises(ConfigurationError, match="such as 'llm_'"):
        usable(Naming(prefix))


def test_the_longest_prefix_leaves_every_name_short_enough() -> None:
    """PostgreSQL cuts names at 63 characters without a word."""
    longest = usable(Naming("a" * 24))
    names = [
        *(table.name for table in RECORDS.tables),
        *(str(index.name) for table in RECORDS.tables for index in table.indexes),
        *(str(constraint.name) for table in RECORDS.tables for constraint in table.constraints),
    ]

    assert max(len(name) for name in names) + len(longest.prefix) - len("llm_") <= 63


def test_an_unknown_revision_is_refused_with_the_known_ones() -> None:
    """A typing error in a revision says what could have been meant."""
    with pytest.raises(ConfigurationError, match="0001, 0002"):
        revisions.resolved("0815")
