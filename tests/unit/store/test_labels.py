"""Metadata matches exactly, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nodellm_orm.domain.labels import agrees

if TYPE_CHECKING:
    from nodellm_orm.domain.jsontext import JsonValue

METADATA: dict[str, JsonValue] = {"s": "x", "i": 1, "f": 1.0, "b": True, "n": None, "o": {"a": [1, {"b": 2}], "c": 3}}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, True),
        ({"s": "x"}, True),
        ({"s": "X"}, False),
        ({"i": 1}, True),
        ({"i": 1.0}, False),
        ({"i": True}, False),
        ({"f": 1}, False),
        ({"b": 1}, False),
        ({"n": None}, True),
        ({"missing": None}, False),
        ({"o": {"c": 3, "a": [1, {"b": 2}]}}, True),
        ({"o": {"a": [1, {"b": 2}]}}, False),
        ({"o": {"a": [1, {"b": 2.0}], "c": 3}}, False),
        ({"o": {"a": [1], "c": 3}}, False),
        ({"s": "x", "i": 2}, False),
    ],
)
def test_members_must_be_equal_in_value_and_type(wanted: dict[str, JsonValue], expected: bool) -> None:  # noqa: FBT001 — a parameter
    """One, one point nought and true are three values; objects are equal in any order."""
    assert agrees(METADATA, wanted) is expected
