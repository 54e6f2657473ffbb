"""Schemas in the subset that constrained decoding takes."""

from __future__ import annotations

import pytest

from nodellm_orm.domain.jsontext import JsonValue, dumps, loads
from nodellm_orm.errors import UnsupportedFeatureError
from nodellm_orm.wire.constrained import closed


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object"}, {"type": "object", "additionalProperties": False}),
        ({"type": ["object", "null"]}, {"type": ["object", "null"], "additionalProperties": False}),
        ({"properties": {"a": {}}}, {"properties": {"a": {}}, "additionalProperties": False}),
        (
            {"type": "string", "minLength": 2, "pattern": "^a", "description": "A name."},
            {"type": "string", "description": 'A name.\n(minLength: 2; pattern: "^a")'},
        ),
        ({"type": "string", "format": "email"}, {"type": "string", "format": "email"}),
        ({"type": "string", "format": "binary"}, {"type": "string", "description": '(format: "binary")'}),
        ({"type": "array", "items": {"type": "integer", "maximum": 9}, "minItems": 1},
         {"type": "array", "items": {"type": "integer", "description": "(maximum: 9)"}, "minItems": 1}),
        ({"type": "array", "minItems": 3, "maxItems": 4},
         {"type": "array", "description": "(minItems: 3; maxItems: 4)"}),
        ({"oneOf": [{"type": "object"}, {"const": 1}]},
         {"anyOf": [{"type": "object", "additionalProperties": False}, {"const": 1}]}),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"enum": [1]}}, "$schema": "x", "examples": [1]},
         {"$ref": "#/$defs/a", "$defs": {"a": {"enum": [1]}}}),
        ({"properties": {"minLength": {"type": "string"}}},
         {"properties": {"minLength": {"type": "string"}}, "additionalProperties": False}),
    ],
)  # fmt: skip
def test_a_schema_is_closed_and_its_limits_told(schema: JsonValue, expected: JsonValue) -> None:
    """Objects are closed at every level, and limits that decoding ignores move to the description."""
    assert closed(dumps(schema)) == expected


def test_a_schema_always_gives_the_same_one() -> None:
    """Closing is a function of the text, and a closed schema stays as it is."""
    text = dumps({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]})
    assert dumps(closed(text)) == dumps(closed(text))
    assert closed(dumps(closed(text))) == loads(dumps(closed(text)))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": True},
        {"type": "array", "items": {"type": "object", "title": "Map", "additionalProperties": {"type": "integer"}}},
    ],
)
def test_free_keys_are_refused(schema: JsonValue) -> None:
    """An object with free keys would come back empty."""
    with pytest.raises(UnsupportedFeatureError, match="free keys"):
        closed(dumps(schema))
