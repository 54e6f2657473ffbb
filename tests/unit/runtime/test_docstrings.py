"""Docstrings: description and arguments are told apart in every common style."""

from __future__ import annotations

import textwrap

import pytest

from nodellm_orm.runtime.docstrings import read

GOOGLE = """Find a flight.

    Looks at all airlines.

    Args:
        origin (str): Where it starts.
        stops (dict(str, int), optional): How many
            stops, and where:
            one a line.

        *rest: Further wishes.
        **options (Any): More of them.

    Returns:
        The flights.
    """
NUMPY = """Find a flight.

    Looks at all airlines.

    Parameters
    ----------
    origin : str
        Where it starts.
    stops, rest : dict of str
        How many stops,
        and where.

    **options
        More of them.

    Other Parameters
    ----------------
    seat
        Where to sit.

    Returns
    -------
    list
        The flights.
    """
SPHINX = """Find a flight.

    Looks at all airlines.

    :param origin: Where it starts.
    :param dict[str, int] stops: How many
        stops.
    :type stops: dict
    :arg rest: Further wishes.
    :param **options: More of them.
    :returns: The flights.
    """


def test_google_style() -> None:
    """Types in brackets are left out, continued lines joined, other sections kept."""
    described, told = read(GOOGLE)
    assert described == "Find a flight.\n\nLooks at all airlines.\n\nReturns:\n    The flights."
    assert told == {
        "origin": "Where it starts.",
        "stops": "How many stops, and where: one a line.",
        "rest": "Further wishes.",
        "options": "More of them.",
    }


def test_numpy_style() -> None:
    """Names on their own lines, several at once too, and the section of other parameters."""
    described, told = read(NUMPY)
    assert described == "Find a flight.\n\nLooks at all airlines.\n\nReturns\n-------\nlist\n    The flights."
    assert told == {
        "origin": "Where it starts.",
        "stops": "How many stops, and where.",
        "rest": "How many stops, and where.",
        "options": "More of them.",
        "seat": "Where to sit.",
    }


def test_sphinx_style() -> None:
    """Fields with and without a type; type fields say nothing to a model."""
    described, told = read(SPHINX)
    assert described == "Find a flight.\n\nLooks at all airlines.\n\n:returns: The flights."
    assert told == {
        "origin": "Where it starts.",
        "stops": "How many stops.",
        "rest": "Further wishes.",
        "options": "More of them.",
    }


@pytest.mark.parametrize("docstring", [None, "", "   \n  "])
def test_nothing_said_is_an_empty_description(docstring: str | None) -> None:
    """No docstring is no error."""
    assert read(docstring) == ("", {})


@pytest.mark.parametrize(
    ("docstring", "described", "told"),
    [
        ("One line.", "One line.", {}),
        ("Args:", "Args:", {}),
        ("Args:\nnot indented", "Args:\nnot indented", {}),
        ("Say.\n\nArguments:\n\n    a: after a blank line", "Say.", {"a": "after a blank line"}),
        ("Say.\n\nArgs:\n    a:\n        only below\n", "Say.", {"a": "only below"}),
        ("Say.\n\nArgs:\n    no entry at all\n    a: yes", "Say.", {"a": "yes"}),
        ("Say.\n\nArgs:\n    a (int): see (this): that", "Say.", {"a": "see (this): that"}),
        ("Parameters\nwithout a line below", "Parameters\nwithout a line below", {}),
        ("Parameters", "Parameters", {}),
        ("Say.\n\nParameters\n----------\nx\n    an x", "Say.", {"x": "an x"}),
        ("Say.\n\nParameters\n----------\n- a list\n- of words", "Say.\n\n- a list\n- of words", {}),
        ("Say.\n\nParameters\n----------\nReturns\n-------\nint", "Say.\n\nReturns\n-------\nint", {}),
        ("Say.\n\nExample:\n    Args:\n        a: b", "Say.\n\nExample:\n    Args:\n        a: b", {}),
    ],
)
def test_what_looks_like_a_section_and_is_none_stays(docstring: str, described: str, told: dict[str, str]) -> None:
    """Half-written sections neither fail nor lose words."""
    assert read(docstring) == (described, told)


def test_tabs_and_deep_indents_are_read_alike() -> None:
    """How a file is indented does not matter."""
    deep = textwrap.indent(GOOGLE, "            ")
    assert read(deep.lstrip())[1] == read(GOOGLE)[1]
    assert read("Say.\n\nArgs:\n\ta: one\n\t\tmore")[1] == {"a": "one more"}
