"""The arguments of a call: only an object that every JSON parser reads alike reaches a tool."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.jsontext import MAX_DEPTH, dumps
from nodellm_orm.runtime.arguments import MAX_CHARS, ArgumentsError, checked

TEXTS = st.text(alphabet=st.characters(codec=None, exclude_categories=()))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_sound_arguments_pass_byte_for_byte(arguments: dict[str, object]) -> None:
    """An object is handed on exactly as it was received."""
    text = dumps(arguments)
    assert checked(text) == text
    assert checked(f" \n{text}\t") == f" \n{text}\t"


@given(TEXTS)
def test_any_text_passes_or_is_refused(text: str) -> None:
    """No text of a model makes anything but an `ArgumentsError`."""
    try:
        checked(text)
    except ArgumentsError as error:
        assert str(error)  # noqa: PT017 — one of two allowed outcomes


@pytest.mark.parametrize("text", ["", " ", "\n\t"])
def test_nothing_at_all_stands_for_no_arguments(text: str) -> None:
    """Some models write it so."""
    assert checked(text) == "{}"


@pytest.mark.fault("A39")
@pytest.mark.parametrize("text", ["{", '{"a":', "{'a': 1}", "{} {}", "plain words", '{"a":1,}', "\ufeff{}"])
def test_what_is_not_json_is_refused(text: str) -> None:
    """With the parser's own words about the place."""
    with pytest.raises(ArgumentsError, match="they are not valid JSON: "):
        checked(text)


@pytest.mark.fault("A40")
@pytest.mark.parametrize("text", ["[]", "null", '"{}"', "5", "true", "[{}]"])
def test_what_is_not_an_object_is_refused(text: str) -> None:
    """Valid JSON is not enough."""
    with pytest.raises(ArgumentsError, match="not a JSON object; send an object"):
        checked(text)


@pytest.mark.fault("A40")
@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '{"x":{"y":[{"a":1,"b":2,"a":3}]}}', '{"":1,"":2}']
)
def test_repeated_keys_are_refused_at_any_depth(text: str) -> None:
    """Parsers differ in which of them counts, so neither does."""
    with pytest.raises(ArgumentsError, match="is there twice; send each key once"):
        checked(text)


@pytest.mark.fault("A40")
def test_a_repeated_key_is_shown_short_and_harmless() -> None:
    """A key of a megabyte or of control characters does not come back whole."""
    key = "\\u001b" + "k" * 1000
    with pytest.raises(ArgumentsError) as caught:
        checked(f'{{"{key}":1,"{key}":2}}')
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@pytest.mark.fault("A40")
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    """Beyond a double's range a number would reach the tool as infinity."""
    with pytest.raises(ArgumentsError, match=r"not allowed in JSON|is out of range"):
        checked(f'{{"a":[{number}]}}')


@pytest.mark.parametrize("number", ["1.50", "1e5", "-0", "12345678901234567890", "1e308", "5e-324", "0.1"])
def test_numbers_of_any_precision_pass(number: str) -> None:
    """Digits are not rounded on the way."""
    assert checked(f'{{"a":{number}}}') == f'{{"a":{number}}}'


@pytest.mark.fault("E17")
@pytest.mark.fault("A40")
def test_megabytes_are_refused_unread() -> None:
    """Ten megabytes are told to be too many, whatever they hold."""
    with pytest.raises(ArgumentsError, match="10000000 characters long, more than the 1000000 allowed; send less"):
        checked("{" * 10_000_000)
    longest = '{"a":"' + "x" * (MAX_CHARS - 8) + '"}'
    assert checked(longest) == longest


@pytest.mark.fault("E17")
@pytest.mark.fault("A40")
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 1_000, 100_000])
def test_deep_nesting_is_refused_without_recursion(depth: int) -> None:
    """However deep, it is an `ArgumentsError`; as deep as allowed passes."""
    for opening, closing in (('{"a":', "}"), ("[", "]")):
        text = '{"x":' + opening * (depth - 1) + "1" + closing * (depth - 1) + "}"
        with pytest.raises(ArgumentsError, match="nested more than 200 levels deep"):
            checked(text)
    allowed = '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH
    assert checked(allowed) == allowed
