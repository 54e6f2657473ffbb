"""Lines of JSON: the same ones however the bytes were cut on their way."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.errors import ProtocolError
from nodellm_orm.wire.ndjson import JsonLine, NdjsonDecoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


def _lines(*pieces: bytes) -> list[JsonLine]:
    decoder = NdjsonDecoder()
    return [*(line for piece in pieces for line in decoder.feed(piece)), *decoder.close()]


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (b"", []),
        (b"\n\n \r\n", []),
        (b'{"a":1}\n', ['{"a":1}']),
        (b'\xef\xbb\xbf{"a":1}\r\n\n {"b":2} \n', ['{"a":1}', '{"b":2}']),
        ('{"a":"\u2028é"}\n'.encode(), ['{"a":"\u2028é"}']),
        (b'{"a":"\\n"}\n', ['{"a":"\\n"}']),
    ],
)
def test_lines_end_at_line_feeds_only(body: bytes, texts: list[str]) -> None:
    """LF and CRLF end a line, blank lines and a byte order mark are skipped, other separators are text."""
    assert _lines(body) == [JsonLine(text) for text in texts]


@pytest.mark.parametrize(
    ("body", "rest"),
    [(b'{"a":1}\n{"b"', '{"b"'), (b'{"a":1}\n{"b":"\xc3', '{"b":"'), (b'{"a":1}\n\xc3', ""), (b'{"a":1}\n[2]', "[2]")],
)
def test_a_line_without_its_end_is_marked(body: bytes, rest: str) -> None:
    """What is left at the end of a body is a cut line, without the half of a character that may end it."""
    assert _lines(body) == [JsonLine('{"a":1}'), JsonLine(rest, cut=True)]


_CHARACTERS = st.characters(exclude_characters="\n", codec="utf-8")


@given(
    lines=st.lists(st.text(_CHARACTERS, max_size=8), max_size=6),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.text(_CHARACTERS, max_size=5),
    chance=st.randoms(),
)
def test_any_cut_gives_the_same_lines(lines: list[str], end: str, last: str, chance: Random) -> None:
    """Wherever the bytes are cut, inside characters too, the lines are those of the whole body."""
    body = ("".join(f"{line}{end}" for line in lines) + last).encode()
    cuts = sorted(chance.choices(range(len(body) + 1), k=chance.randint(0, 8)))
    assert _lines(*(body[a:b] for a, b in pairwise([0, *cuts, len(body)]))) == _lines(body)
    assert _lines(*(body[at : at + 1] for at in range(len(body)))) == _lines(body)


def test_what_came_before_wrong_bytes_is_given_first() -> None:
    """Lines before bytes that are not UTF-8 are not lost, and every call after them raises."""
    decoder = NdjsonDecoder()
    assert decoder.feed(b'{"a":1}\n\xff\xff\n{"b":2}\n') == [JsonLine('{"a":1}')]
    calls: list[Callable[[], object]] = [lambda: decoder.feed(b""), lambda: decoder.feed(b"{}\n"), decoder.close]
    for call in calls:
        with pytest.raises(ProtocolError, match="not UTF-8"):
            call()
    with pytest.raises(ProtocolError, match="not UTF-8"):
        NdjsonDecoder().feed(b"\xff\n")


@pytest.mark.parametrize("pieces", [[b"12345678901\n"], [b"1234567890", b"1"], [b'"a"\n', b"12345678901"]])
def test_a_line_has_a_largest_size(pieces: list[bytes]) -> None:
    """A line over the limit is refused as soon as it is known to be, whether it has ended or not."""
    decoder = NdjsonDecoder(max_line_bytes=10)
    for piece in pieces[:-1]:
        decoder.feed(piece)
    with pytest.raises(ProtocolError, match="larger than 10 bytes"):
        decoder.feed(pieces[-1])
    assert NdjsonDecoder(max_line_bytes=10).feed(b"1234567890\n" * 3) == [JsonLine("1234567890")] * 3
