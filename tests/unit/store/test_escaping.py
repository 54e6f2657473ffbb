"""The escape that lets every string into every database, and back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.store.escaping import escape, escape_json, escape_key, unescape, unescape_json

ANY_TEXT = st.text(st.characters(codec=None))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(ANY_TEXT)
def test_any_text_comes_back(text: str) -> None:
    """Whatever a string consists of, it is read back equal."""
    assert unescape(escape(text)) == text
    assert unescape(escape_key(text)) == text


@given(ANY_TEXT)
def test_what_is_stored_can_be_stored(text: str) -> None:
    """What is stored has no NUL and is valid UTF-8; a key does not end in a space either."""
    for stored in (escape(text), escape_key(text)):
        assert "\x00" not in stored
        assert stored.encode("utf-8").decode("utf-8") == stored
    assert not escape_key(text).endswith(" ")


@given(ANY_TEXT, ANY_TEXT)
def test_different_texts_stay_different(left: str, right: str) -> None:
    """No two strings are stored as the same one."""
    assert (escape(left) == escape(right)) == (left == right)
    assert (escape_key(left) == escape_key(right)) == (left == right)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00\ufdd0")))
def test_ordinary_text_is_stored_as_it_stands(text: str) -> None:
    """Only what databases cannot hold is changed."""
    assert escape(text) == text


@given(JSON)
def test_any_json_comes_back(value: object) -> None:
    """Strings and keys of a JSON value are escaped at any depth, and read back equal."""
    assert unescape_json(escape_json(value)) == value  # type: ignore[arg-type]  # JSON values all of them
