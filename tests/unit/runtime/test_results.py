"""What a tool returns becomes the same text in every process, or a readable refusal."""

from __future__ import annotations

import asyncio
import enum
import os
import subprocess
import sys
from collections import OrderedDict, deque
from collections.abc import Iterator  # noqa: TC003 — resolved at run time by pydantic
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, field_serializer, model_serializer

from nodellm_orm.domain.jsontext import loads
from nodellm_orm.runtime.results import ResultError, encode, settled, truncate

TEXTS = st.text(alphabet=st.characters(codec=None, exclude_categories=()))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


class Shade(enum.Enum):
    """Shades by number."""

    RED = 1


class Word(enum.StrEnum):
    """A string and an enum at once."""

    YES = "yes"


class Level(enum.IntEnum):
    """A number and an enum at once."""

    HIGH = 3


class Name(str):
    """A string of its own kind."""

    __slots__ = ()

    def __str__(self) -> str:
        """Not what it holds."""
        return "wrong"


class Pair(NamedTuple):
    """Two numbers."""

    a: int
    b: int


@dataclass
class Point:
    """A point with a set."""

    x: int
    tags: set[str] = field(default_factory=set)


class Frozen(BaseModel):
    """A model that may lie in a set."""

    model_config = ConfigDict(frozen=True)

    n: int
    words: frozenset[str] = frozenset()


class Everything(BaseModel):
    """A model with an alias, extras, sets of several kinds, and other values inside."""

    model_config = ConfigDict(extra="allow")

    day: date = Field(alias="theDay")
    words: set[str] = set()
    models: frozenset[Frozen] = frozenset()
    inside: list[dict[str, set[int]]] = []
    point: Point | None = None
    root: RootModel[set[str]] | None = None
    hidden: str = Field(default="no", exclude=True)


@given(VALUES.filter(lambda value: not isinstance(value, str)))
def test_json_values_survive(value: object) -> None:
    """What is JSON already is read back as it was."""
    assert loads(encode(value)) == value


@given(TEXTS)
def test_a_string_goes_as_it_is(text: str) -> None:
    """No quotes, no escapes: the model reads the tool's own words."""
    assert encode(text) == text


@pytest.mark.fault("A50")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1.50, "1.5"),
        (Name("right"), "right"),
        ([Name("right")], '["right"]'),
        (Word.YES, "yes"),
        ([Word.YES, Level.HIGH, Shade.RED], '["yes",3,1]'),
        (Shade.RED, "1"),
        ({Shade.RED: Word.YES, Word.YES: 1}, '{"1":"yes","yes":1}'),
        ({1: "a", None: "b", False: "c"}, '{"1":"a","None":"b","false":"c"}'),
        ({2.5: 1, UUID(int=1): 2}, '{"2.5":1,"00000000-0000-0000-0000-000000000001":2}'),
        (b"bytes", '"bytes"'),
        (bytearray("é", "utf-8"), '"é"'),
        ({3, 1, 2}, "[1,2,3]"),
        (frozenset({"b", "a"}), '["a","b"]'),
        ({10, 9.5, "a", "B", None, (2, 1), True}, '[9.5,10,"B","a",[2,1],null,true]'),
        ({"k": 1}.keys(), '["k"]'),
        ((1, "a"), '[1,"a"]'),
        (Pair(1, 2), "[1,2]"),
        (deque([1]), "[1]"),
        (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        (MappingProxyType({"a": (1,)}), '{"a":[1]}'),
        (datetime(2030, 1, 2, 3, 4, 5, 600, UTC), '"2030-01-02T03:04:05.000600Z"'),
        (date(2030, 1, 2), '"2030-01-02"'),
        (timedelta(seconds=90), '"PT1M30S"'),
        (Decimal("1.50"), '"1.50"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (PurePosixPath("/a/b"), '"/a/b"'),
        (Point(1, {"b", "a"}), '{"x":1,"tags":["a","b"]}'),
        ([Point(1)], '[{"x":1,"tags":[]}]'),
        (Frozen(n=1), '{"n":1,"words":[]}'),
        ({"m": Frozen(n=2)}, '{"m":{"n":2,"words":[]}}'),
        (RootModel[list[int]]([1]), "[1]"),
        ("\ud800\x00", "\ud800\x00"),
        (["\ud800\x00"], '["\ud800\\u0000"]'),
    ],
)
def test_values_have_one_form(value: object, text: str) -> None:
    """Everything JSON, pydantic or the standard library knows is written in one way."""
    assert encode(value) == text


def test_a_model_is_written_by_its_own_rules() -> None:
    """Aliases, exclusions and serialisers hold; only the order of sets is ours."""
    value = Everything(
        theDay=date(2030, 1, 2),
        words={"b", "a"},
        models=frozenset({Frozen(n=2), Frozen(n=1, words=frozenset({"y", "x"}))}),
        inside=[{"s": {2, 1}}],
        point=Point(1, {"d", "c"}),
        root=RootModel[set[str]]({"q", "p"}),
        extra={"kept": [1]},  # type: ignore[call-arg]  # extras are what is tested
    )
    assert encode(value) == (
        '{"theDay":"2030-01-02","words":["a","b"],"models":[{"n":1,"words":["x","y"]},{"n":2,"words":[]}],'
        '"inside":[{"s":[1,2]}],"point":{"x":1,"tags":["c","d"]},"root":["p","q"],"extra":{"kept":[1]}}'
    )


def test_a_serialiser_that_gives_another_shape_has_the_last_word() -> None:
    """What no longer looks like the value is left as the model wrote it."""

    class Own(BaseModel):
        words: set[str]
        sized: dict[str, set[str]]

        @field_serializer("words")
        def joined(self, words: set[str]) -> str:
            return "+".join(sorted(words))

        @field_serializer("sized")
        def counted(self, sized: dict[str, set[str]]) -> list[int]:
            return [len(words) for words in sized.values()]

    class Whole(BaseModel):
        a: int

        @model_serializer
        def told(self) -> str:
            return f"a={self.a}"

    assert encode(Own(words={"b", "a"}, sized={"x": {"y"}})) == '{"words":"a+b","sized":[1]}'
    assert encode(Whole(a=1)) == '"a=1"'
    assert settled({"a": 1}, {"b": 1, "c": 2}) == {"b": 1, "c": 2}
    assert settled([1], [1, 2]) == [1, 2]


SETS = """
from nodellm_orm.runtime.results import encode
from pydantic import BaseModel
class Bag(BaseModel):
    words: set[str]
words = {"one", "two", "three", "four", "five", "six"}
print(encode(words), encode(Bag(words=words)), encode([{"x": frozenset(words)}]))
"""


@pytest.mark.fault("A50")
def test_sets_are_the_same_text_in_every_process() -> None:
    """The hash seed does not reach what is stored and replayed."""
    told = {
        subprocess.run(  # noqa: S603 — this interpreter, on a program of this file
            [sys.executable, "-c", SETS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def _numbers() -> Iterator[int]:
    yield 1


async def _later() -> int:
    return 1


async def _stream() -> Any:
    yield 1


def _cyclic_list() -> object:
    inside: list[object] = []
    inside.append({"again": inside})
    return inside


def _cyclic_dataclass() -> object:
    @dataclass
    class Node:
        next: object = None

    node = Node()
    node.next = [node]
    return node


def _cyclic_model() -> object:
    class Node(BaseModel):
        next: Any = None

    node = Node()
    node.next = node
    return node


def _deep() -> object:
    value: object = 1
    for _ in range(10_000):
        value = [value]
    return value


class _Hostile:
    def __repr__(self) -> str:
        msg = "no repr"
        raise RuntimeError(msg)


class _Broken(dict[str, int]):
    def items(self) -> Any:
        msg = "no items today"
        raise RuntimeError(msg)


class _Nan(BaseModel):
    number: float = float("nan")


@pytest.mark.fault("A50")
@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: float("nan"), "its result holds nan, which JSON does not have; return a number, a string or None"),
        (lambda: [{"a": float("-inf")}], "its result holds -inf"),
        (_Nan, "NaN and Infinity are not allowed"),
        (lambda: 10**5000, "the int it returned has no JSON form: the integer cannot be written"),
        (_cyclic_list, "its result contains itself"),
        (_cyclic_dataclass, "its result contains itself"),
        (_cyclic_model, "Circular reference"),
        (_deep, "nested more than 200 levels deep"),
        (_numbers, "it returned a generator, not a value; the tool has to collect it into a list"),
        (lambda: map(str, [1]), "it returned a map, not a value"),
        (_stream, "it returned a async_generator, not a value"),
        (_later, "it returned a coroutine that nobody awaited; the tool has to await it"),
        (lambda: b"\xff", "the bytes it returned has no JSON form"),
        (object, "the object it returned has no JSON form"),
        (lambda: {"a": [_Hostile()]}, "the dict it returned has no JSON form"),
        (lambda: [int], "the list it returned has no JSON form"),
        (lambda: Point, "the type it returned has no JSON form"),
        (_Broken, "the _Broken it returned has no JSON form: no items today"),
        (lambda: {1: "a", "1": "b"}, "two keys are the same in JSON"),
    ],
)
def test_what_has_no_json_form_is_refused_in_words(make: Any, problem: str) -> None:
    """For the model and the author of the tool; nothing else escapes, whatever the value does."""
    with pytest.raises(ResultError) as caught:
        encode(make())
    assert problem in str(caught.value)


async def test_a_future_is_refused_too() -> None:
    """A result that is still to come is none."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    with pytest.raises(ResultError, match="nobody awaited"):
        encode({"later": future})


def test_the_same_value_twice_is_no_cycle() -> None:
    """Only what contains itself is refused."""
    shared = [1]
    assert encode([shared, shared, {"a": shared}]) == '[[1],[1],{"a":[1]}]'


@given(st.text(max_size=300), st.integers(1, 200))
def test_truncation_never_exceeds_the_limit_and_is_marked(text: str, limit: int) -> None:
    """Short texts stay, long ones keep their beginning and say that they were longer."""
    cut = truncate(text, limit)
    assert len(cut) <= limit
    if len(text) <= limit:
        assert cut == text
    elif limit > 80:
        beginning, mark, rest = cut.partition("\n[truncated: only the beginning of ")
        assert text.startswith(beginning)
        assert mark
        assert rest == f"{len(text)} characters is shown]"


@pytest.mark.fault("E17")
@pytest.mark.fault("A50")
def test_a_hundred_megabytes_are_cut() -> None:
    """What the model is given stays within the limit."""
    cut = truncate(encode("x" * 100_000_000), 1_000)
    assert len(cut) == 1_000
    assert cut.endswith("[truncated: only the beginning of 100000000 characters is shown]")
