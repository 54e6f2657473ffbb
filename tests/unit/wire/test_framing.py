"""Server-sent events come out of bytes the same way however the bytes were cut."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.errors import ProtocolError
from nodellm_orm.wire.framing import ServerEvent, SseDecoder, is_cut

if TYPE_CHECKING:
    from collections.abc import Iterable


def decoded(pieces: Iterable[bytes], cap: int = 1000) -> list[ServerEvent | str]:
    """The events, and the word ``error`` where the decoder refused to go on."""
    decoder = SseDecoder(max_event_bytes=cap)
    events: list[ServerEvent | str] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.close()
    except ProtocolError:
        events.append("error")
    return events


def single(stream: bytes) -> list[ServerEvent | str]:
    return decoded([stream[at : at + 1] for at in range(len(stream))])


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_every_line_end_ends_a_line(end: bytes) -> None:
    """LF, CRLF and CR all end lines, and an empty line ends the event."""
    stream = end.join([b"event: note", b"data: one", b"data: two", b"", b"data: three", b"", b""])
    expected = [ServerEvent("note", "one\ntwo"), ServerEvent(None, "three")]
    assert decoded([stream]) == expected
    assert single(stream) == expected


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data:x\n\n", [ServerEvent(None, "x")]),
        (b"data:  x\n\n", [ServerEvent(None, " x")]),
        (b"data\n\n", [ServerEvent(None, "")]),
        (b"data: a:b\n\n", [ServerEvent(None, "a:b")]),
        (b": note\ndata: x\n: note\n\n", [ServerEvent(None, "x")]),
        (b"id: 7\nretry: 10\nother: y\ndata: x\n\n", [ServerEvent(None, "x")]),
        (b"event: lonely\n\ndata: x\n\n", [ServerEvent(None, "x")]),
        (b"event:\ndata: x\n\n", [ServerEvent(None, "x")]),
        (b"\n\n\n: only comments\n\n", []),
        (b"\xef\xbb\xbfdata: x\n\n", [ServerEvent(None, "x")]),
        (b"data: \xef\xbb\xbfx\n\n", [ServerEvent(None, "\ufeffx")]),
        (b"data: \xf0\x9f\x98\x80\n\n", [ServerEvent(None, "😀")]),
        (b"", []),
    ],
)
def test_fields_are_read_as_the_standard_says(stream: bytes, expected: list[ServerEvent]) -> None:
    """Spaces, comments, unknown fields, names, a byte order mark and empty data each have their meaning."""
    assert decoded([stream]) == expected
    assert single(stream) == expected


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: x\n", [ServerEvent(None, "x")]),
        (b"data: x", [ServerEvent(None, "x", cut=True)]),
        (b"data: x\ndat", [ServerEvent(None, "x", cut=True)]),
        (b"data: x\n: comm", [ServerEvent(None, "x")]),
        (b"data: x\r", [ServerEvent(None, "x")]),
        (b"data: \xf0\x9f\x98", [ServerEvent(None, "", cut=True)]),
        (b"data: a\n\nevent: e", [ServerEvent(None, "a")]),
    ],
)
def test_a_body_that_ends_inside_an_event_gives_it_and_says_so(stream: bytes, expected: list[ServerEvent]) -> None:
    """A missing blank line is no cut; a line without its end is."""
    assert decoded([stream]) == expected
    assert single(stream) == expected


@pytest.mark.fault("A15")
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x9f"])
def test_bytes_that_are_not_utf8_are_refused_after_what_came_before(bad: bytes) -> None:
    """The events before them are given, also when they came in the same piece."""
    stream = b"data: good\n\ndata: " + bad + b"\n\ndata: never\n\n"
    assert decoded([stream]) == [ServerEvent(None, "good"), "error"]
    assert single(stream) == [ServerEvent(None, "good"), "error"]


def test_a_fault_stays() -> None:
    """After wrong bytes nothing is read any more."""
    decoder = SseDecoder()
    with pytest.raises(ProtocolError, match="not UTF-8"):
        decoder.feed(b"data: \xff\n\n")
    decoder = SseDecoder()
    assert decoder.feed(b"data: x\n\ndata: \xff\n\n") == [ServerEvent(None, "x")]
    for _ in range(2):
        with pytest.raises(ProtocolError, match="not UTF-8"):
            decoder.feed(b"data: y\n\n")
    with pytest.raises(ProtocolError, match="not UTF-8"):
        decoder.close()


@pytest.mark.fault("A28")
@pytest.mark.parametrize("start", [b"data: ", b": ", b"unknown"])
def test_an_endless_line_is_refused(start: bytes) -> None:
    """A line that goes on beyond the limit is refused before it ends."""
    assert decoded([start, *[b"x"] * 80], cap=100) == ([ServerEvent(None, "x" * 80, cut=True)] * start.startswith(b"d"))
    decoder = SseDecoder(max_event_bytes=100)
    decoder.feed(start + b"x" * (100 - len(start)))
    with pytest.raises(ProtocolError, match="larger than 100 bytes"):
        decoder.feed(b"x")


@pytest.mark.parametrize("line", [b"data: xxxxxxxxx\n", b"data\n"])
def test_an_endless_event_is_refused(line: bytes) -> None:
    """Many small lines without a blank one are refused as well, empty ones included."""
    assert decoded([line] * 102, cap=100) == ["error"]
    assert len(decoded([line] * 5, cap=100)) == 1


def test_the_limit_is_of_one_event() -> None:
    """Any number of events within the limit pass."""
    assert len(decoded([b"data: xxxx\n\n" * 500], cap=20)) == 500


_LINES = st.sampled_from(
    [
        b"data: x",
        b"data:y ",
        b"data: \xf0\x9f\x98\x80\xe2\x82\xac",
        b"data",
        b"event: e",
        b"event:\xc3\xa9",
        b": c",
        b"id: 1",
        b"",
        b"",
        b"\xef\xbb\xbfdata: b",
        b"data: \xff",
        b"data: " + b"z" * 60,
    ]
)
_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@pytest.mark.fault("A16")
@given(
    lines=st.lists(st.tuples(_LINES, _ENDS), max_size=14),
    tail=st.sampled_from([b"", b"data: t", b"da", b":", b"data: \xe2\x82"]),
    data=st.data(),
)
def test_any_cut_gives_the_same_events(lines: list[tuple[bytes, bytes]], tail: bytes, data: st.DataObject) -> None:
    """Pieces of any size, cut inside characters and line ends too, give what the whole body gives."""
    stream = b"".join(line + end for line, end in lines) + tail
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]
    whole = decoded([stream], cap=100)
    assert decoded(pieces, cap=100) == whole
    assert decoded([stream[at : at + 1] for at in range(len(stream))], cap=100) == whole


def test_a_megabyte_in_single_bytes_is_read() -> None:
    """One line of a million bytes may come byte by byte: work that grew with the square would never end."""
    decoder = SseDecoder()
    stream = b"data: " + b"x" * 1_000_000 + b"\n\n"
    events = [event for at in range(len(stream)) for event in decoder.feed(stream[at : at + 1])]
    assert [len(event.data) for event in events] == [1_000_000]


@pytest.mark.parametrize(
    ("body", "cut"),
    [
        (b'{"a": [1, 2', True),
        (b'{"a": "b', True),
        (b' {"a": "}}}}"', True),
        (b'{"a": "\\"}', True),
        (b'{"a": 1}}', False),
        (b'{"a": nul}', False),
        (b"<html>", False),
        (b"", False),
        (b"[1,", False),
    ],
)
def test_a_cut_object_is_told_from_a_wrong_one(body: bytes, cut: bool) -> None:  # noqa: FBT001 — the expectation
    """Only an object whose end is missing counts as cut; braces inside strings do not."""
    assert is_cut(body) is cut
