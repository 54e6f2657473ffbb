"""Answers: the builders write exact bytes, and the spoilers spoil exactly what they say."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import get_args

import pytest

from nodellm_orm.testing import (
    LAST_CHUNK,
    Answer,
    Close,
    GzipDamage,
    Hold,
    Pause,
    Reset,
    Send,
    Stall,
    body_answer,
    cut,
    endless_answer,
    frame,
    gzip_answer,
    gzip_bomb_answer,
    head,
    json_answer,
    raw_answer,
    slowly,
    sse_answer,
    text_answer,
)


def sent(answer: Answer) -> bytes:
    """All bytes an answer sends."""
    return b"".join(step.data * step.times for step in answer if isinstance(step, Send))


def body_of(answer: Answer) -> bytes:
    """What stands below the head."""
    return sent(answer).partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("status", "line"), [(200, b"200 OK"), (404, b"404 Not Found"), (529, b"529 Unknown"), (999, b"999 Unknown")]
)
def test_a_head_ends_with_an_empty_line(status: int, line: bytes) -> None:
    """The reason is HTTP's own where it has one."""
    assert head(status) == b"HTTP/1.1 " + line + b"\r\n\r\n"
    assert head(status, content_type="a/b", headers={"X-Y": "é"}) == (
        b"HTTP/1.1 " + line + b"\r\ncontent-type: a/b\r\nX-Y: \xe9\r\n\r\n"
    )


def test_a_body_tells_its_length() -> None:
    """Unless it is to lie about it: then the connection is closed."""
    assert body_answer(b"abc", content_type=None) == (Send(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"),)
    assert body_answer(b"abc", content_type=None, content_length=9) == (
        Send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"),
        Close(),
    )


def test_json_and_text_say_what_they_are() -> None:
    """Content type, status and further headers stand in the head."""
    told = sent(json_answer({"a": "é"}, status=429, headers={"retry-after": "1"}))
    assert told.startswith(b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n")
    assert b"\r\nretry-after: 1\r\n" in told
    assert told.endswith('{"a":"é"}'.encode())
    page = sent(text_answer("<p>", content_type="text/html", status=502))
    assert b"502 Bad Gateway\r\ncontent-type: text/html\r\n" in page
    assert page.endswith(b"\r\n\r\n<p>")


def test_a_stream_is_one_chunk_an_item() -> None:
    """Steps stand where they happen; an empty piece would end the body and is left out."""
    gate = asyncio.Event()
    answer = sse_answer([b"data: a\n\n", b"", Hold(gate), b"data: b\n\n"])
    assert answer[1:] == (Send(frame(b"data: a\n\n")), Hold(gate), Send(frame(b"data: b\n\n")), Send(LAST_CHUNK))
    assert b"transfer-encoding: chunked" in sent(answer)
    assert frame(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"


def test_a_stream_can_end_without_its_end() -> None:
    """The connection is closed instead."""
    assert sse_answer([b"a"], terminated=False)[1:] == (Send(frame(b"a")), Close())


@pytest.mark.fault("A24")
@pytest.mark.fault("A25")
@pytest.mark.parametrize("damage", [None, *get_args(GzipDamage)])
def test_gzip_is_damaged_as_asked(damage: GzipDamage | None) -> None:
    """The framing stays sound; only the compressed bytes are wrong."""
    body = b'{"text":"hello"}' * 10
    answer = gzip_answer(body, damage=damage)
    packed = body_of(answer)
    assert f"content-length: {len(packed)}".encode() in sent(answer)
    assert b"content-encoding: gzip" in sent(answer)
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    match damage:
        case None:
            assert gzip.decompress(packed) == body
        case "truncated":
            assert reader.decompress(packed) == body
            assert not reader.eof
        case "trailing":
            assert reader.decompress(packed) == body
            assert reader.unused_data
        case _:
            with pytest.raises((gzip.BadGzipFile, zlib.error)):
                gzip.decompress(packed)


@pytest.mark.fault("A26")
@pytest.mark.parametrize("size", [0, 1, 65_536, 10_000_001])
def test_a_bomb_is_small_until_it_is_opened(size: int) -> None:
    """It unpacks to exactly as many zero bytes as asked for."""
    packed = body_of(gzip_bomb_answer(size))
    assert gzip.decompress(packed) == bytes(size)
    assert len(packed) < 100 + size // 500


@pytest.mark.fault("A27")
def test_an_endless_answer_repeats_its_piece() -> None:
    """As often as asked for, and without an end by default."""
    assert endless_answer(b"ab", times=3)[1:] == (Send(frame(b"ab"), 3), Send(LAST_CHUNK))
    endless = endless_answer(b"ab")[1]
    assert isinstance(endless, Send)
    assert endless.times > 10**12


def test_raw_bytes_stand_as_they_are() -> None:
    """With a last step, or none."""
    assert raw_answer(b"a", b"b") == (Send(b"a"), Send(b"b"))
    assert raw_answer(b"a", then=Reset()) == (Send(b"a"), Reset())


@pytest.mark.fault("A06")
@pytest.mark.fault("A12")
@pytest.mark.parametrize("after", range(12))
def test_an_answer_is_cut_after_exactly_so_many_bytes(after: int) -> None:
    """Steps before the cut stay, whatever comes after it is gone."""
    answer = (Send(b"abc"), Pause(0), Send(b"defg"), Stall())
    spoilt = cut(answer, after=after)
    assert sent(spoilt) == b"abcdefg"[:after]
    assert spoilt[-1] == Close()
    assert (Pause(0) in spoilt) == (after > 3)
    assert cut(answer, after=after, then=Reset())[-1] == Reset()


@pytest.mark.fault("A10")
@pytest.mark.parametrize("size", [1, 2, 100])
def test_slow_answers_send_the_same_bytes(size: int) -> None:
    """A few at a time, with a pause after each; other steps stay."""
    answer = (Send(b"abcde"), Stall(), Send(b"f"))
    slow = slowly(answer, pause=0.5, size=size)
    assert sent(slow) == b"abcdef"
    assert all(len(step.data) <= size for step in slow if isinstance(step, Send))
    assert slow.count(Pause(0.5)) == sum(isinstance(step, Send) for step in slow)
    assert Stall() in slow
