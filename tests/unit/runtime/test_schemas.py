"""JSON Schemas: closed where strict modes demand it, the same bytes in every process, problems in plain words."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nodellm_orm.runtime.schemas import close, explain, rewrite, schema_of

STABLE = '''
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal
from pydantic import BaseModel
from nodellm_orm.runtime.tools import tool
from nodellm_orm.runtime.structured import StructuredSchema

class Shade(Enum):
    RED = "red"
    GREEN = "green"

class Inner(BaseModel):
    names: frozenset[str] = frozenset({"one", "two", "three", "four", "five"})

@dataclass
class Plain:
    words: set[str] = field(default_factory=set)

@tool
def paint(
    shade: Shade,
    tags: set[str] = {"a", "b", "c", "d", "e", "f"},
    inner: Inner = Inner(),
    nested: dict[str, list[set[str]]] = {"x": [{"p", "q", "r", "s"}]},
    plain: Plain = Plain(words={"k", "l", "m", "n"}),
    word: Literal["x", "y"] = "x",
    either: int | str | None = None,
) -> None:
    """Paint."""

print(paint.parameters)
print(StructuredSchema.of(Inner).schema)
print(StructuredSchema.of(list[Inner]).schema)
'''


def test_schemas_are_the_same_bytes_in_every_process() -> None:
    """Neither the hash seed nor the order of a set reaches the text, or prompt caches would miss."""
    told = {
        subprocess.run(  # noqa: S603 — this interpreter, on a program of this file
            [sys.executable, "-c", STABLE],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    (text,) = told
    assert b'"default":["a","b","c","d","e","f"]' in text
    assert b'["five","four","one","three","two"]' in text


def test_titles_go_and_properties_called_title_stay() -> None:
    """Generated titles are noise; a property of that name is not one."""

    class Book(BaseModel):
        title: str
        properties: dict[str, int] = {}

    assert schema_of(Book) == {
        "properties": {
            "title": {"type": "string"},
            "properties": {"additionalProperties": {"type": "integer"}, "default": {}, "type": "object"},
        },
        "required": ["title"],
        "type": "object",
    }


def test_defaults_that_are_mappings_with_a_title_are_not_touched() -> None:
    """Only places that hold schemas are walked."""

    class Book(BaseModel):
        about: dict[str, str] = {"title": "x"}
        kind: Literal["title"] = "title"

    properties: Any = schema_of(Book)["properties"]
    assert properties["about"]["default"] == {"title": "x"}
    assert properties["kind"]["const"] == "title"


def test_a_root_that_is_a_reference_is_written_out() -> None:
    """Also for type adapters; a schema without references stays as it is."""

    class Tree(BaseModel):
        children: list[Tree] = []

    told = schema_of(TypeAdapter(Tree))
    assert told["type"] == "object"
    assert "$ref" not in told
    assert schema_of(TypeAdapter(list[int])) == {"items": {"type": "integer"}, "type": "array"}


def test_every_place_that_holds_a_schema_is_walked() -> None:
    """Innermost first, lists and maps and single ones; the original is left as it is."""
    original: dict[str, object] = {
        "properties": {"a": {"n": 1}, "flag": True},
        "$defs": {"d": {"n": 2}},
        "items": [{"n": 3}, True],
        "prefixItems": [{"n": 4}],
        "additionalProperties": {"n": 5},
        "not": {"n": 6},
        "anyOf": [{"allOf": [{"n": 7}]}],
        "default": {"n": 8},
        "enum": [{"n": 9}],
        "n": 10,
    }
    seen: list[object] = []

    def note(node: dict[str, object]) -> dict[str, object]:
        if "n" in node:
            seen.append(node["n"])
        return {**node, "seen": True}

    changed = rewrite(original, note)
    assert seen == [1, 2, 3, 4, 5, 6, 7, 10]
    assert changed["default"] == {"n": 8}
    assert "seen" not in original


@pytest.mark.parametrize(
    ("schema", "closed", "strict"),
    [
        (
            {"type": "object", "properties": {"a": {"type": "integer", "default": 1}, "b": {"type": "string"}}},
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
                "required": ["a", "b"],
                "additionalProperties": False,
            },
            True,
        ),
        (
            {"properties": {"a": {"type": "null"}}},
            {"properties": {"a": {"type": "null"}}, "type": "object", "required": ["a"], "additionalProperties": False},
            True,
        ),
        ({"type": "object"}, {"type": "object"}, False),
        ({"type": ["object", "null"]}, {"type": ["object", "null"]}, False),
        ({"type": "object", "additionalProperties": False}, {"type": "object", "additionalProperties": False}, True),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            {"type": "object", "additionalProperties": {"type": "integer"}},
            False,
        ),
        ({"oneOf": [{"type": "null"}]}, {"anyOf": [{"type": "null"}]}, True),
        (
            {"oneOf": [{"type": "null"}], "anyOf": [{"type": "null"}]},
            {"oneOf": [{"type": "null"}], "anyOf": [{"type": "null"}]},
            True,
        ),
        ({"anyOf": [{"const": 1}], "discriminator": {"propertyName": "a"}}, {"anyOf": [{"const": 1}]}, True),
        (
            {"$ref": "#/$defs/A", "description": "x"},
            {"description": "x", "anyOf": [{"$ref": "#/$defs/A"}]},
            True,
        ),
        ({"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A"}, True),
        ({}, {}, False),
        ({"description": "anything"}, {"description": "anything"}, False),
        ({"allOf": [{"type": "null"}]}, {"allOf": [{"type": "null"}]}, False),
        ({"type": "array", "items": {}}, {"type": "array", "items": {}}, False),
        (
            {"type": "array", "prefixItems": [{"type": "null"}]},
            {"type": "array", "prefixItems": [{"type": "null"}]},
            False,
        ),
        (
            {"type": "object", "properties": {}, "patternProperties": {"a": {"type": "null"}}},
            {
                "type": "object",
                "properties": {},
                "patternProperties": {"a": {"type": "null"}},
                "required": [],
                "additionalProperties": False,
            },
            False,
        ),
    ],
)
def test_schemas_are_closed_where_they_have_a_closed_form(
    schema: dict[str, object], closed: dict[str, object], *, strict: bool
) -> None:
    """Objects list all properties and admit no others; what has no closed form is left and reported."""
    assert close(schema) == (closed, strict)


@given(
    st.recursive(
        st.sampled_from([{"type": "string"}, {"enum": [1]}]),
        lambda inner: st.one_of(
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(
                lambda p: {"type": "object", "properties": p}
            ),
            inner.map(lambda item: {"type": "array", "items": item}),
            st.lists(inner, min_size=1, max_size=3).map(lambda items: {"oneOf": items}),
        ),
    )
)
def test_closing_is_complete_and_changes_nothing_twice(schema: dict[str, object]) -> None:
    """What is closed is closed everywhere, and closing it again gives the same."""
    closed, strict = close(schema)
    assert strict
    assert close(closed) == (closed, True)
    open_objects: list[dict[str, object]] = []

    def note(node: dict[str, object]) -> dict[str, object]:
        if "properties" in node and (node["additionalProperties"] is not False or "required" not in node):
            open_objects.append(node)
        return node

    rewrite(closed, note)
    assert open_objects == []


class Trip(BaseModel):
    """A trip."""

    model_config = ConfigDict(extra="forbid")

    city: str
    days: list[int] = Field(default=[])


def problems(text: str) -> str:
    """What is wrong with a trip."""
    with pytest.raises(ValidationError) as caught:
        Trip.model_validate_json(text)
    return explain(caught.value)


def test_problems_are_told_field_by_field() -> None:
    """With the place, the reason and what was given."""
    assert problems('{"days":["x",2.5]}') == (
        "city: Field required; "
        "days[0]: Input should be a valid integer, unable to parse string as an integer (got 'x'); "
        "days[1]: Input should be a valid integer, got a number with a fractional part (got 2.5)"
    )
    assert problems("[]").startswith("the whole: Input should be an object")
    assert problems('{"city":null}') == "city: Input should be a valid string (got None)"


def test_broken_json_is_told_without_the_text() -> None:
    """The text may be long, and the place of the error says enough."""
    assert problems('{"city": "Os') == "the whole: Invalid JSON: EOF while parsing a string at line 1 column 12"


@pytest.mark.fault("E18")
def test_what_was_sent_is_shown_short_and_harmless() -> None:
    """Neither megabytes nor control characters of a model reach the message."""
    key = "x\r\n\x1b[31m" + "y" * 500_000
    told = problems(
        f'{{"city":"a","{key.encode("unicode_escape").decode().replace(chr(92) + "x", chr(92) + "u00")}":1}}'
    )
    assert len(told) < 500
    assert told.isprintable()
    assert len(problems('{"city":"a","days":["' + "é" * 500_000 + '"]}')) < 500
    assert len(problems('{"city":"a","days":[' + ",".join(['"x"'] * 500) + "]}")) < 2_000
    assert problems('{"city":"a","days":[' + ",".join(['"x"'] * 10) + "]}").endswith("; and 2 more")
