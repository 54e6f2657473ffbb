"""Frames of AWS event streams: the same ones however they are cut, and none that was damaged."""

from __future__ import annotations

import importlib
import struct
import zlib
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodellm_orm.errors import ProtocolError, StreamInterruptedError
from nodellm_orm.testing import event_frame
from nodellm_orm.wire.eventstream import EventFrame, EventStreamDecoder
from tests.unit.wire.recordings import Interaction, interactions, needs_recordings

DELTA = bytes.fromhex(
    "0000009d00000057b9bbf89f0b3a6576656e742d74797065070011636f6e74656e74426c6f636b44656c74610d3a636f6e74656e742d7479"
    "70650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d74797065070005"
    "6576656e747b22636f6e74656e74426c6f636b496e646578223a302c2264656c7461223a7b2274657874223a224869227d2c2270223a2261"
    "62227d8b38b268"
)
EXCEPTION = bytes.fromhex(
    "00000090000000618e91a9b70f3a657863657074696f6e2d747970650700137468726f74746c696e67457863657074696f6e0d3a636f6e74"
    "656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d74797065070009657863657074696f6e7b226d"
    "657373616765223a22546f6f206d616e79207265717565737473227de67f8005"
)
EVERY_TYPE = (
    (b"yes", b"\x00", True),
    (b"no", b"\x01", False),
    (b"byte", b"\x02" + struct.pack(">b", -5), -5),
    (b"short", b"\x03" + struct.pack(">h", -500), -500),
    (b"integer", b"\x04" + struct.pack(">i", -70_000), -70_000),
    (b"long", b"\x05" + struct.pack(">q", -(2**40)), -(2**40)),
    (b"bytes", b"\x06" + struct.pack(">H", 3) + b"\x00\xff\x01", b"\x00\xff\x01"),
    (b"text", b"\x07" + struct.pack(">H", 3) + "é!".encode(), "é!"),
    (b"time", b"\x08" + struct.pack(">q", 1_700_000_000_123), 1_700_000_000_123),
    (b"uuid", b"\x09" + bytes(range(16)), bytes(range(16))),
)

headers = st.dictionaries(st.text(max_size=20).filter(lambda t: 0 < len(t.encode()) < 256), st.text(max_size=40))
frames = st.lists(st.tuples(headers, st.binary(max_size=60)), max_size=5)


def raw_frame(packed: bytes, payload: bytes = b"", *, sizes: tuple[int, int] | None = None) -> bytes:
    """A frame with sound checksums around any headers and any claimed sizes."""
    head = struct.pack(">II", *(sizes or (len(packed) + len(payload) + 16, len(packed))))
    body = head + struct.pack(">I", zlib.crc32(head)) + packed + payload
    return body + struct.pack(">I", zlib.crc32(body))


def decoded(*pieces: bytes) -> list[EventFrame]:
    """All frames of a whole body."""
    decoder = EventStreamDecoder()
    return [frame for piece in pieces for frame in decoder.feed(piece)] + decoder.close()


def read_to_the_end(body: bytes, found: list[EventFrame]) -> None:
    """Collect frames until the body has ended, or is refused."""
    decoder = EventStreamDecoder()
    found += decoder.feed(body)
    found += decoder.feed(b"")
    found += decoder.close()


def by_botocore(body: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """The same body, read by another implementation."""
    buffer = importlib.import_module("botocore.eventstream").EventStreamBuffer()
    buffer.add_data(body)
    return [(dict(message.headers), message.payload) for message in buffer]


def as_pairs(found: list[EventFrame]) -> list[tuple[dict[str, Any], bytes]]:
    return [(dict(frame.headers), frame.payload) for frame in found]


def test_known_frames() -> None:
    """Two frames that others have made and checked read as what they are."""
    event, exception = decoded(DELTA + EXCEPTION)
    assert event.text(":event-type") == "contentBlockDelta"
    assert event.payload == b'{"contentBlockIndex":0,"delta":{"text":"Hi"},"p":"ab"}'
    assert exception.text(":message-type") == "exception"
    assert exception.text(":exception-type") == "throttlingException"
    assert event.text(":exception-type") == ""


def test_headers_of_every_type() -> None:
    """Each of the ten types is read, and text of another type is no text."""
    packed = b"".join(bytes([len(name)]) + name + raw for name, raw, _ in EVERY_TYPE)
    (frame,) = decoded(raw_frame(packed, b"payload"))
    assert frame.headers == {name.decode(): value for name, _, value in EVERY_TYPE}
    assert frame.payload == b"payload"
    assert frame.text("long") == ""
    assert as_pairs([frame]) == by_botocore(raw_frame(packed, b"payload"))


@given(frames=frames, cuts=st.lists(st.integers(min_value=0, max_value=600), max_size=8))
def test_any_cut_gives_the_same_frames(frames: list[tuple[dict[str, str], bytes]], cuts: list[int]) -> None:
    """Frames are what was put into them, in whatever pieces they arrive, and as another implementation reads them."""
    body = b"".join(event_frame(*frame) for frame in frames)
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [body[a:b] for a, b in pairwise(edges)]
    assert as_pairs(decoded(*pieces)) == frames == as_pairs(decoded(body)) == by_botocore(body)


@given(frames=frames.filter(bool), data=st.data())
def test_a_flipped_bit_is_never_read(frames: list[tuple[dict[str, str], bytes]], data: st.DataObject) -> None:
    """Whichever bit is wrong, the frames before it are given and then the stream is refused or incomplete."""
    body = bytearray(b"".join(event_frame(*frame) for frame in frames))
    place = data.draw(st.integers(min_value=0, max_value=len(body) * 8 - 1))
    body[place // 8] ^= 1 << place % 8
    found: list[EventFrame] = []
    with pytest.raises((ProtocolError, StreamInterruptedError)):
        read_to_the_end(bytes(body), found)
    assert as_pairs(found) == frames[: len(found)]
    assert len(found) < len(frames)


def test_each_bit_of_a_frame_is_checked() -> None:
    """No bit of a frame can be another one without being noticed at once: its checksums cover all of it."""
    for at in range(len(DELTA) * 8):
        damaged = bytearray(DELTA)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(ProtocolError, match="ask again"):
            EventStreamDecoder().feed(bytes(damaged))


def test_a_body_that_ends_in_a_frame_is_interrupted() -> None:
    """What is missing of the last frame is not guessed at, wherever the bytes end."""
    for size in range(1, len(DELTA)):
        decoder = EventStreamDecoder()
        assert len(decoder.feed(EXCEPTION + DELTA[:size])) == 1
        with pytest.raises(StreamInterruptedError):
            decoder.close()


def test_frames_before_a_damaged_one_are_given_first() -> None:
    """An error does not take back what came before it in the same bytes, and every later call repeats it."""
    decoder = EventStreamDecoder()
    assert len(decoder.feed(DELTA + DELTA[:-1] + b"\x00")) == 1
    for _ in range(2):
        with pytest.raises(ProtocolError):
            decoder.feed(b"")
    with pytest.raises(ProtocolError):
        decoder.close()


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"data: {}\n\n data: {}\n\n", "not a stream of events"),
        (raw_frame(b"", sizes=(15, 0)), "not a stream of events"),
        (raw_frame(b"", sizes=(16, 1)), "not a stream of events"),
        (raw_frame(b"", sizes=(2**31, 128 * 1024 + 1)), "not a stream of events"),
        (raw_frame(b"", sizes=(2**31, 0)), "larger than"),
        (raw_frame(b"\x05ab"), "headers"),
        (raw_frame(b"\x01a"), "headers"),
        (raw_frame(b"\x01a\x0a"), "headers"),
        (raw_frame(b"\x01a\x07\x00\x05ab"), "headers"),
        (raw_frame(b"\x01a\x05\x00"), "headers"),
        (raw_frame(b"\x01a\x07\x00\x01\xff"), "headers"),
        (raw_frame(b"\x01\xff\x00"), "headers"),
    ],
)
def test_what_is_no_frame_is_refused(frame: bytes, words: str) -> None:
    """Another protocol, impossible sizes and headers that run over their end are errors with a remedy."""
    with pytest.raises(ProtocolError, match=words):
        EventStreamDecoder().feed(frame)


@needs_recordings
@pytest.mark.recordings
@pytest.mark.parametrize("item", interactions("bedrock", "/converse-stream"), ids=str)
def test_recorded_streams(item: Interaction) -> None:
    """Recorded bodies read the same whole, byte by byte, and in another implementation."""
    whole = decoded(item.body)
    assert as_pairs(whole) == by_botocore(item.body)
    assert decoded(*(item.body[at : at + 1] for at in range(len(item.body)))) == whole
