"""Structured answers: any type becomes a schema that providers take, and the answer a value of that type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

import pytest
from pydantic import BaseModel, Field, TypeAdapter, field_validator
from typing_extensions import TypedDict

from nodellm_orm.domain.jsontext import loads
from nodellm_orm.errors import ConfigurationError, SchemaValidationError
from nodellm_orm.runtime.structured import StructuredSchema

T = TypeVar("T")


class City(BaseModel):
    """A city."""

    name: str
    size: int = 0


@dataclass
class Point:
    """A point."""

    x: int
    y: int = 1


class Trip(TypedDict):
    """A trip."""

    to: str
    by: NotRequired[str]


class Tree(BaseModel):
    """A tree."""

    children: list[Tree] = []


@dataclass
class Chain:
    """A chain."""

    next: Chain | None = None


class Box(BaseModel, Generic[T]):
    """A box."""

    inside: T


class Cat(BaseModel):
    """A cat."""

    kind: Literal["cat"]


class Dog(BaseModel):
    """A dog."""

    kind: Literal["dog"]


@pytest.mark.parametrize(
    ("source", "name", "answer", "value"),
    [
        (City, "City", '{"name":"Oslo"}', City(name="Oslo")),
        (Point, "Point", '{"x":2,"y":3}', Point(2, 3)),
        (Trip, "Trip", '{"to":"Oslo"}', {"to": "Oslo"}),
        (Tree, "Tree", '{"children":[{"children":[]}]}', Tree(children=[Tree()])),
        (Chain, "Chain", '{"next":{"next":null}}', Chain(Chain())),
        (Box[int], "Box_int", '{"inside":1}', Box[int](inside=1)),
        (dict[str, int], "dict", '{"a":1}', {"a": 1}),
        (TypeAdapter(City), "answer", '{"name":"Oslo"}', City(name="Oslo")),
    ],
)
def test_object_types_are_asked_for_as_they_are(source: object, name: str, answer: str, value: object) -> None:
    """Models, dataclasses, TypedDicts, recursive and generic types, maps: the root is the type itself."""
    form = StructuredSchema.of(source)
    told: Any = loads(form.schema)
    assert form.name == name
    assert told["type"] == "object"
    assert "value" not in told.get("properties", {})
    assert form.validate(answer) == value


@pytest.mark.parametrize(
    ("source", "answer", "value"),
    [
        (list[int], "[1,2]", [1, 2]),
        (int, "7", 7),
        (City | Point, '{"x":1,"y":2}', Point(1, 2)),
        (Cat | Dog, '{"kind":"dog"}', Dog(kind="dog")),
        (Annotated[Cat | Dog, Field(discriminator="kind")], '{"kind":"cat"}', Cat(kind="cat")),
        (Literal["yes", "no"], '"yes"', "yes"),
        (City | None, "null", None),
        (tuple[int, str], '[1,"a"]', (1, "a")),
        (TypeAdapter(list[City]), '[{"name":"Oslo"}]', [City(name="Oslo")]),
    ],
)
def test_other_types_are_asked_for_in_an_object(source: object, answer: str, value: object) -> None:
    """Providers want an object: the value is its only member, and a bare value is taken as well."""
    form = StructuredSchema.of(source)
    told: Any = loads(form.schema)
    assert (told["type"], list(told["properties"]), told["required"]) == ("object", ["value"], ["value"])
    assert form.validate(f'{{"value":{answer}}}') == value
    assert form.validate(answer) == value


def test_schemas_are_strict_where_all_of_them_can_be_closed() -> None:
    """Every property is required and no other admitted; a map of free keys has no closed form."""
    city = StructuredSchema.of(City)
    assert city.strict
    assert city.schema == (
        '{"description":"A city.","properties":{"name":{"type":"string"},"size":{"type":"integer"}},'
        '"required":["name","size"],"type":"object","additionalProperties":false}'
    )
    assert StructuredSchema.of(Tree).strict
    assert StructuredSchema.of(list[City]).strict
    assert not StructuredSchema.of(dict[str, int]).strict
    assert not StructuredSchema.of(list[dict[str, Any]]).strict


def test_a_form_of_its_own_is_taken_as_it_is() -> None:
    """Making a form of a form changes nothing."""
    form = StructuredSchema.of(City)
    assert StructuredSchema.of(form) is form


@pytest.mark.parametrize(
    ("source", "name", "answer", "value"),
    [
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, "answer", '{"a":1.50}', {"a": 1.5}),
        ({"title": "My answer!", "properties": {"a": {"type": "integer"}}}, "My_answer", '{"a":1}', {"a": 1}),
        ({"title": "列", "type": "array", "items": {"type": "integer"}}, "answer", '{"value":[1]}', [1]),
        ({"type": "array", "items": {"type": "integer"}}, "answer", "[1]", [1]),
        ({"enum": ["a", "b"]}, "answer", '{"value":"a"}', "a"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "null"}}}, "answer", '{"value":null}', None),
        ({"title": 5, "type": "null"}, "answer", '{"value":1,"more":2}', {"value": 1, "more": 2}),
    ],
)
def test_a_json_schema_gives_parsed_json(source: dict[str, Any], name: str, answer: str, value: object) -> None:
    """A dict is a JSON Schema; what is no object is asked for in one, its definitions at the root."""
    form = StructuredSchema.of(source)
    told: Any = loads(form.schema)
    assert form.name == name
    assert told["type"] == "object"
    assert form.validate(answer) == value
    if "$defs" in source:
        assert "$defs" in told


def test_an_answer_that_is_no_object_does_not_fit_an_object_schema() -> None:
    """Parsed JSON is checked for being an object at least."""
    with pytest.raises(SchemaValidationError, match="does not fit answer: it is not a JSON object"):
        StructuredSchema.of({"type": "object", "properties": {}}).validate("[]")


@pytest.mark.parametrize("name", ["x" * 100, "a b", "Ünïcode", "!!!"])
def test_names_are_legal_for_every_provider(name: str) -> None:
    """Letters, digits, underscore and hyphen, at most 64."""
    legal = StructuredSchema.of({"title": name, "type": "object", "properties": {}}).name
    assert 1 <= len(legal) <= 64
    assert legal.isascii()
    assert legal.replace("_", "").isalnum()


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "  {}\n",
        "\ufeff{}",
        "```json\n{}\n```",
        "```\n{}\n```",
        "``` JSON \r\n{}\r\n```  ",
        "\n```json5+x\n\n{}\n\n   ```\n",
        "```json\n{}```",
    ],
)
def test_white_space_and_a_code_fence_are_tolerated(around: str) -> None:
    """Models without native structured output like to wrap their answer."""
    answer = '{"name":"```\\n{}\\n```"}'
    assert StructuredSchema.of(City).validate(around.replace("{}", answer)) == City(name="```\n{}\n```")


@pytest.mark.parametrize(
    "text",
    [
        "Here it is:\n```json\n{}\n```",
        "```json\n{}",
        "```json\n{}\n``` I hope it helps",
        "``````",
        "```",
        "```json```",
        "```not a language\n{}\n```",
        "{} {}",
        "Sure!",
    ],
)
def test_words_around_the_answer_are_not_guessed_away(text: str) -> None:
    """What is not JSON is an error that carries the text as received."""
    with pytest.raises(SchemaValidationError, match="the answer is not the JSON of City") as caught:
        StructuredSchema.of(City).validate(text)
    assert caught.value.text == text


def test_a_fence_that_never_ends_costs_no_more_than_its_length() -> None:
    """A model that fell into writing blanks does not hold up the process."""
    text = "```json\n" + " " * 2_000_000 + "x"
    with pytest.raises(SchemaValidationError) as caught:
        StructuredSchema.of(City).validate(text)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["", "   ", "```\n```", "\ufeff"])
def test_an_empty_answer_is_told_apart(text: str) -> None:
    """The finish reason says why it is empty."""
    with pytest.raises(SchemaValidationError, match=r"is empty where City was asked for.*reply\.finish_reason"):
        StructuredSchema.of(City).validate(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"size":1}', "does not fit City: name: Field required"),
        ('{"name":1}', r"name: Input should be a valid string \(got 1\)"),
        ('{"name":"\ud800"}', "does not fit City"),
        ('{"name":NaN}', "not the JSON of City: NaN is not allowed"),
        ("[" * 100_000, "nested more than 200 levels"),
        ('{"name":"a","size":1e999}', "is out of range"),
    ],
)
def test_answers_that_do_not_fit_say_why_and_carry_the_text(text: str, problem: str) -> None:
    """Whatever is wrong, the error is ours and holds the answer."""
    with pytest.raises(SchemaValidationError, match=problem) as caught:
        StructuredSchema.of(City).validate(text)
    assert caught.value.text == text
    assert "ask again, or read error.text" in str(caught.value)


def test_an_error_of_the_types_own_code_carries_the_text() -> None:
    """A validator that fails in its own way does not lose an answer that was paid for."""

    class Strict(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def known(cls, name: str) -> str:
            return {"Oslo": "NO"}[name]

    @dataclass
    class Picky:
        name: str

        def __post_init__(self) -> None:
            msg = "not that one"
            raise RuntimeError(msg)

    for source, problem in ((Strict, "KeyError: 'Rome'"), (Picky, "RuntimeError: not that one")):
        with pytest.raises(SchemaValidationError, match=problem) as caught:
            StructuredSchema.of(source).validate('{"name":"Rome"}')
        assert caught.value.text == '{"name":"Rome"}'


class Strange:
    """No type that pydantic knows."""


@pytest.mark.parametrize(
    "source",
    [None, "City", b"{}", City(name="x"), 5, Strange, {"a": {1}}, {1: 2}, {"a": float("nan")}, list["Nowhere"],  # type: ignore[name-defined]  # noqa: F821
     Annotated[str, Field(pattern="[")]],
)  # fmt: skip
def test_what_is_no_schema_is_refused_at_once(source: object) -> None:
    """Before anything is sent, with what was given."""
    with pytest.raises(ConfigurationError, match=r"schema=.*(is not a schema|cannot be described)|is not JSON"):
        StructuredSchema.of(source)
