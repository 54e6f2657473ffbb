"""Parts as stored text: every part comes back as it was, and what is not understood is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.domain.codec import CodecError, decode_parts, encode_parts
from nodellm_orm.domain.jsontext import join_surrogates
from nodellm_orm.domain.parts import (
    OpaquePart,
    Part,
    RefusalPart,
    SummaryPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)

TEXTS = st.text(alphabet=st.characters(codec=None, exclude_categories=()))
MAYBE = st.none() | TEXTS
PARTS: st.SearchStrategy[Part] = st.one_of(
    st.builds(TextPart, text=TEXTS, extra=MAYBE),
    st.builds(ThinkingPart, text=TEXTS, signature=MAYBE, redacted=st.booleans(), opaque=MAYBE, field=MAYBE),
    st.builds(
        ToolCallPart, call_id=TEXTS, name=TEXTS, arguments=TEXTS, wire_id=MAYBE, truncated=st.booleans(), extra=MAYBE
    ),
    st.builds(ToolResultPart, call_id=TEXTS, name=TEXTS, content=TEXTS, is_error=st.booleans()),
    st.builds(RefusalPart, text=TEXTS),
    st.builds(SummaryPart, text=TEXTS, until=st.integers(0, 2**63 - 1)),
    st.builds(OpaquePart, payload=TEXTS),
)


@pytest.mark.fault("A47")
@given(st.lists(PARTS, max_size=5))
def test_parts_come_back_as_they_were(parts: list[Part]) -> None:
    """Any parts with any strings: signatures, NUL, lone surrogates and halves side by side included."""
    assert decode_parts(encode_parts(parts)) == tuple(parts)


@given(st.lists(PARTS, max_size=5))
def test_the_text_of_parts_is_canonical(parts: list[Part]) -> None:
    """What was read is written as it was stored."""
    text = encode_parts(parts)
    assert encode_parts(decode_parts(text)) == text


@given(TEXTS)
def test_parts_survive_bytes(text: str) -> None:
    """Through UTF-8, only two halves of one character are joined."""
    stored = encode_parts([TextPart(text=text)]).encode("utf-8", "backslashreplace").decode()
    assert decode_parts(stored) == (TextPart(text=join_surrogates(text)),)


def test_defaults_are_left_out() -> None:
    """A plain text is stored as short as it can be."""
    assert encode_parts([TextPart(text="")]) == '[{"kind":"text","text":""}]'
    assert encode_parts([ThinkingPart()]) == '[{"kind":"thinking"}]'


@pytest.mark.parametrize(
    "stored",
    [
        '{"kind":"hologram","depth":1.50,"big":1e400,"a":1,"a":2}',
        '{"kind":"text","text":"hi","mood":{"b":1e5,"a":null}}',
        '{"text":"no kind at all"}',
        '{"kind":["text"]}',
        '{"kind":null}',
    ],
)
def test_a_part_of_a_later_version_is_kept_verbatim(stored: str) -> None:
    """An unknown kind or member makes an opaque part with the same digits, key order and repeated keys."""
    parts = decode_parts(f'[{stored},{{"kind":"text","text":"after"}}]')
    assert parts == (OpaquePart(payload=f'{{"unknown_part":{stored}}}'), TextPart(text="after"))
    assert decode_parts(encode_parts(parts)) == parts


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        ("", "not JSON"),
        ("[NaN]", "not JSON"),
        ("[" * 1000, "not JSON"),
        ("{}", "not a JSON list"),
        ("null", "not a JSON list"),
        ('["text"]', "not a JSON object"),
        ('[{"kind":"text"}]', "lacks its member 'text'"),
        ('[{"kind":"text","text":null}]', "'text' of a stored text part is not a str"),
        ('[{"kind":"text","text":5}]', "is not a str"),
        ('[{"kind":"thinking","redacted":"yes"}]', "is not a bool"),
        ('[{"kind":"thinking","redacted":null}]', "is not a bool"),
        ('[{"kind":"thinking","signature":true}]', "is not a str"),
        ('[{"kind":"summary","text":"a","until":"5"}]', "'until' of a stored summary part is not a whole number"),
        ('[{"kind":"summary","text":"a","until":-1}]', "is not a whole number"),
        ('[{"kind":"summary","text":"a"}]', "lacks its member 'until'"),
        ('[{"kind":"tool_result","call_id":"1","name":"a","content":[]}]', "is not a str"),
    ],
)
def test_what_is_no_list_of_parts_is_a_codec_error(stored: str, problem: str) -> None:
    """Broken rows are one kind of error, whatever is broken about them."""
    with pytest.raises(CodecError, match=problem):
        decode_parts(stored)


def test_an_optional_member_may_be_null() -> None:
    """Another version may write the default."""
    assert decode_parts('[{"kind":"text","text":"a","extra":null}]') == (TextPart(text="a"),)
