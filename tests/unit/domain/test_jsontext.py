"""JSON as text: nothing is lost between reading and writing, and nothing foreign gets in."""

from __future__ import annotations

import json
import sys
from collections import deque
from enum import IntEnum, StrEnum
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.jsontext import (
    MAX_DEPTH,
    JsonTextError,
    Number,
    Pairs,
    RawJson,
    dumps,
    encode,
    join_surrogates,
    loads,
    loads_verbatim,
)

TEXTS = st.text(alphabet=st.characters(codec=None, exclude_categories=()))
"""Any string of Python: NUL and lone surrogates included."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
DOCUMENTS = st.recursive(
    NUMBERS | st.sampled_from(["true", "false", "null"]) | TEXTS.map(dumps),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(st.sampled_from(['"a"', '"b"', '"é"']), inner), max_size=4).map(
            lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=20,
)
"""Compact JSON text, with digits of every kind and keys that repeat."""


def nested(depth: int, leaf: str = "") -> str:
    """Arrays inside arrays."""
    return "[" * depth + leaf + "]" * depth


@given(VALUES)
def test_what_is_written_is_read_again(value: object) -> None:
    """Any JSON value survives writing and reading, whatever characters its strings hold."""
    assert loads(dumps(value)) == value


@given(VALUES)
def test_what_is_written_is_json_for_every_other_reader(value: object) -> None:
    """The bytes are UTF-8 and plain JSON, and equal the value once surrogate halves have found each other."""
    assert json.loads(encode(dumps(value)).decode()) == json.loads(json.dumps(value))


@given(DOCUMENTS)
def test_digits_order_and_repeated_keys_survive(text: str) -> None:
    """A compact document is written back byte for byte."""
    assert dumps(loads_verbatim(text)) == text


@given(DOCUMENTS)
def test_raw_json_goes_in_as_it_stands(text: str) -> None:
    """A piece of text embedded in a document is not touched."""
    assert dumps({"a": [RawJson(text)]}) == f'{{"a":[{text}]}}'


@given(TEXTS)
def test_encode_takes_any_string(text: str) -> None:
    """Encoding never fails, and gives UTF-8."""
    encode(text).decode("utf-8")


@given(TEXTS)
def test_a_string_encoded_is_the_string_read(text: str) -> None:
    """Through bytes, only two adjacent halves of a surrogate pair become the one character they stand for."""
    assert loads(encode(dumps(text))) == join_surrogates(text)


@given(TEXTS)
def test_joining_surrogates_is_idempotent_and_keeps_the_code_units(text: str) -> None:
    """Joined text has the same UTF-16 code units, and joining again changes nothing."""
    joined = join_surrogates(text)
    assert joined.encode("utf-16-le", "surrogatepass") == text.encode("utf-16-le", "surrogatepass")
    assert join_surrogates(joined) == joined


def test_a_lone_surrogate_goes_out_as_its_escape() -> None:
    r"""What came in as ``\ud800`` leaves as ``\ud800``."""
    assert encode(dumps(loads('"\\ud800"'))) == b'"\\ud800"'


def test_members_stay_in_the_order_given() -> None:
    """Nothing is sorted."""
    assert dumps({"b": 1, "a": 2}) == '{"b":1,"a":2}'


def test_every_container_and_scalar_is_written() -> None:
    """Mappings, sequences, enums, numbers with digits of their own and pairs are all JSON."""
    colour = StrEnum("colour", {"RED": "red"})
    level = IntEnum("level", {"HIGH": 3})
    value: MappingProxyType[str, object] = MappingProxyType(
        {
            "tuple": (1, 2),
            "deque": deque([True]),
            "range": range(2),
            "empty": [{}, [], ()],
            "enum": [colour.RED, level.HIGH],
            "number": Number("1.50"),
            "pairs": Pairs([("a", 1), ("a", 2)]),
            "none": None,
            "float": 1e300,
        }
    )
    assert dumps(value) == (
        '{"tuple":[1,2],"deque":[true],"range":[0,1],"empty":[{},[],[]],"enum":["red",3],"number":1.50,'
        '"pairs":{"a":1,"a":2},"none":null,"float":1e+300}'
    )


@pytest.mark.fault("A40")
@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", '{"a":[NaN]}'])
def test_words_that_are_not_numbers_are_refused(word: str) -> None:
    """NaN and Infinity are read by nobody, verbatim or not."""
    for read in (loads, loads_verbatim):
        with pytest.raises(JsonTextError, match="is not allowed in JSON"):
            read(word)


@pytest.mark.parametrize("digits", ["1e999", "-1e999", "1" + "0" * 400 + ".0"])
def test_a_number_beyond_a_double_is_no_infinity(digits: str) -> None:
    """It is refused where a float would be made of it, and kept where its digits are."""
    with pytest.raises(JsonTextError, match="out of range"):
        loads(digits)
    assert loads_verbatim(digits) == Number(digits)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_infinite_floats_are_not_written(value: object) -> None:
    """Writing refuses what reading refuses."""
    with pytest.raises(JsonTextError, match="NaN and Infinity"):
        dumps(value)


def test_an_integer_of_thousands_of_digits_is_refused_for_what_it_is() -> None:
    """The message speaks of the integer, not of NaN."""
    with pytest.raises(JsonTextError, match="send it as a string"):
        dumps(10**5000)
    with pytest.raises(JsonTextError, match="4300"):
        loads("1" * 5000)


@pytest.mark.parametrize("text", ["", "{", "[1,]", "{'a': 1}", "1 2", "\ufeff{}", '{"a"}'])
def test_what_is_not_one_document_is_refused(text: str) -> None:
    """Broken JSON is a `JsonTextError`, which is a `ValueError`."""
    for read in (loads, loads_verbatim):
        with pytest.raises(JsonTextError):
            read(text)
    assert issubclass(JsonTextError, ValueError)


@pytest.mark.fault("A15")
@pytest.mark.parametrize("data", [b'"\xff"', b'"\xed\xa0\x80"', '"a"'.encode("utf-16")])
def test_bytes_are_utf8_and_nothing_else(data: bytes) -> None:
    """No encoding is guessed, and encoded surrogates do not pass."""
    for read in (loads, loads_verbatim):
        with pytest.raises(JsonTextError):
            read(data)


def test_a_byte_order_mark_before_bytes_is_skipped() -> None:
    """Some servers send one."""
    assert loads(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


@pytest.mark.fault("A40")
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_the_depth_limit_is_the_same_in_and_out(opening: str) -> None:
    """As deep as allowed is read and written; one level more is refused both ways."""
    closing = "]" if opening == "[" else "}"
    allowed = opening * MAX_DEPTH + "1" + closing * MAX_DEPTH
    assert dumps(loads(allowed)) == allowed
    assert dumps(loads_verbatim(allowed)) == allowed
    beyond = opening * (MAX_DEPTH + 1) + "1" + closing * (MAX_DEPTH + 1)
    for read in (loads, loads_verbatim):
        with pytest.raises(JsonTextError, match="nested more than 200 levels"):
            read(beyond)
    value: object = json.loads(beyond)
    with pytest.raises(JsonTextError, match="nested more than 200 levels"):
        dumps(value)


def test_empty_containers_count_as_levels() -> None:
    """An empty array at the bottom is a level like any other."""
    assert dumps(loads(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(JsonTextError, match="nested"):
        loads(nested(MAX_DEPTH + 1))


def test_many_containers_side_by_side_are_not_deep() -> None:
    """Width is no depth, and brackets inside strings are neither."""
    wide = "[" + ",".join(["[]"] * 1000) + "]"
    assert dumps(loads(wide)) == wide
    assert loads(dumps("[" * 5000)) == "[" * 5000


@pytest.mark.fault("A40")
@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_no_recursion_error_escapes_from_reading(depth: int) -> None:
    """However deep, it is a `JsonTextError`."""
    for text in (nested(depth), nested(depth, "1"), "[" * depth, '{"a":' * depth):
        for read in (loads, loads_verbatim):
            with pytest.raises(JsonTextError):
                read(text)


def test_no_recursion_error_escapes_from_writing() -> None:
    """A value that holds itself is refused, and so is a sound one when the caller has used up the stack."""
    cyclic: list[object] = []
    cyclic.append(cyclic)
    with pytest.raises(JsonTextError, match="nested"):
        dumps(cyclic)

    sound = json.loads(nested(MAX_DEPTH))

    def deep_in_the_stack(left: int) -> str:
        return deep_in_the_stack(left - 1) if left else dumps(sound)

    used = 0
    frame = sys._getframe()
    while frame.f_back is not None:
        frame, used = frame.f_back, used + 1
    with pytest.raises(JsonTextError, match="nested"):
        deep_in_the_stack(sys.getrecursionlimit() - used - 60)


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), bytearray(b"x"), {"a": 1j}])
def test_what_json_does_not_have_is_refused_by_name(value: object) -> None:
    """The message names the type."""
    with pytest.raises(JsonTextError, match="is not a JSON value; convert it"):
        dumps(value)


@pytest.mark.parametrize("key", [1, None, ("a",), b"a"])
def test_keys_are_strings(key: object) -> None:
    """A key of another type is refused, not turned into text."""
    with pytest.raises(JsonTextError, match="keys are strings"):
        dumps({key: 1})
